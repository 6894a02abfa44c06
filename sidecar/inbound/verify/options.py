"""[P] What a scheme can be told: the configuration keys of ``[sources.NAME.verify]`` and of every preset.

Wherever an option names a header, ``A|B`` means that both names are read: all of them for signatures, the first one
present otherwise. ``{n}`` in a signature header stands for 1, 2, ... (DocuSign's numbered headers).
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "AdyenOptions",
    "Algorithm",
    "AnyOptions",
    "BasicOptions",
    "BraintreeOptions",
    "EcdsaOptions",
    "Ed25519Options",
    "Encoding",
    "EntryOptions",
    "HmacOptions",
    "JwtOptions",
    "MailgunOptions",
    "NoneOptions",
    "PaypalOptions",
    "Rfc9421Options",
    "SchemeOptions",
    "SecretEncoding",
    "SnsOptions",
    "TimestampOptions",
    "TokenOptions",
    "TwilioOptions",
    "Unit",
]

Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]
Encoding = Literal["hex", "base64", "base64url"]
SecretEncoding = Literal["text", "hex", "base64"]
Unit = Literal["s", "ms", "unix", "rfc3339", "http-date"]


class TimestampOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the signed timestamp is and how old it may be. Exactly one of the three places is set.

    Attributes:
        header: A header of its own.
        entry: Label of an entry in the signature header (``t`` of ``t=...,v1=...``).
        json: JSON pointer into the body; checked after the signature, and never renewed on late deliveries.
        unit: ``s`` and ``ms`` count from the Unix epoch, ``unix`` is either of them, told by its length; ``rfc3339``;
            ``http-date`` is the fixed form of RFC 9110.
        tolerance: Seconds into the past.
        future: Seconds into the future; None = as ``tolerance``.
        past_only: Any future time is fine, as in some providers' own libraries.
    """

    header: str = ""
    entry: str = ""
    json: str = ""
    unit: Unit = "s"
    tolerance: float = 300.0
    future: float | None = None
    past_only: bool = False


class EntryOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signature header is a list of labelled entries, such as ``t=1,v1=aa,v1=bb`` or ``v1,aa v1,bb``.

    Attributes:
        key: Label of the entries that count; all others are skipped, whatever they hold.
        separator: Between entries; blanks round it are tolerated only where it has one itself.
        assign: Between label and value.
    """

    key: str
    separator: str = ","
    assign: str = "="


class HmacOptions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="hmac"
):
    """A keyed hash over parts of the request.

    Attributes:
        algorithm: The hash.
        algorithms: Closed list to choose from by ``{algorithm}`` in ``prefix``, instead of ``algorithm`` (WebSub).
        header: Where the signature is.
        prefix: Before each signature, such as ``sha256=``.
        encoding: Of the digest; hex in either case, base64 with its padding, base64url with or without.
        entries: Set when the header is a list of labelled entries.
        signed: What is signed: ``{body}``, ``{header:NAME}``, ``{timestamp}`` (as received), ``{url}``, ``{method}``,
            ``{path}`` (raw, without the query), ``{query}`` (raw, without "?"), ``{query:NAME}`` (one decoded value),
            ``{target}`` (path and query), ``{encoded-target}`` (as Contentful escapes it), ``{headers:NAME}`` (those that NAME lists, as ``name:value`` joined by ";")
            and text; a brace of the text is doubled. ``{?text{part}text}`` is left out where the part is missing.
        timestamp: None when nothing limits replays.
        secret_encoding: How the key is made of the secret's text.
        secret_prefix: Cut off before that, where present.
        secret_unprefixed: Encoding of a secret without the prefix; None = the same.
        key_header: A header that must name the ``id`` of the secret to use (Pusher).
        secret_headers: For secrets of these ids only this signature header counts (Box); for others any does.
        require: Headers that must have exactly this value, such as a signature version.
        form_field: In a form body this field, decoded, stands for ``{body}`` (Gitea); a form with any other is refused.
        url_decode: Characters whose percent-escapes in the URL are decoded for a second try (HubSpot).
        keyed: ``hmac``; ``prefix`` is the plain hash of secret and message, which some old schemes use.
        max_signatures: More entries than this are refused unread.
    """

    header: str
    algorithm: Algorithm = "sha256"
    algorithms: tuple[Algorithm, ...] = ()
    prefix: str = ""
    encoding: Encoding = "hex"
    entries: EntryOptions | None = None
    signed: str = "{body}"
    timestamp: TimestampOptions | None = None
    secret_encoding: SecretEncoding = "text"  # noqa: S105 - an encoding
    secret_prefix: str = ""
    secret_unprefixed: SecretEncoding | None = None
    key_header: str = ""
    secret_headers: dict[str, str] = {}
    require: dict[str, str] = {}
    form_field: str = ""
    url_decode: str = ""
    keyed: Literal["hmac", "prefix"] = "hmac"
    max_signatures: int = 8


class TokenOptions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="token"
):
    """A header that equals the secret.

    Attributes:
        header: Its name.
        prefix: Before the token, such as ``Bearer`` and a blank; compared exactly.
    """

    header: str
    prefix: str = ""


class BasicOptions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="basic"
):
    """HTTP Basic authentication; the secret is ``user:password``."""


class NoneOptions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="none"
):
    """Nothing is proven: whoever reaches the path is believed.

    Attributes:
        allow_unverified: Must be true; says that this is meant.
    """

    allow_unverified: bool = False


class AnyOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="any"):
    """Several forms of a keyed hash, told apart by their headers.

    Attributes:
        forms: The first whose signature header is there, with the ``require`` it asks for, decides alone.
    """

    forms: tuple[HmacOptions, ...]


class TwilioOptions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="twilio"
):
    """Twilio: the URL and the sorted form fields, or the URL with the body's hash in it."""


class AdyenOptions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="adyen"
):
    """Adyen payments: eight fields of every item of the body, signed inside the item."""


class MailgunOptions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="mailgun"
):
    """Mailgun: timestamp and token inside the body, signed inside the body; the event itself is not covered.

    Attributes:
        tolerance: Seconds into the past and the future.
    """

    tolerance: float = 900.0


class BraintreeOptions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="braintree"
):
    """Braintree: a form with a payload and pairs of public key and signature.

    Attributes:
        public_key: Which pair is ours; the secret is the private key.
    """

    public_key: str = ""


class Ed25519Options(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="ed25519"
):
    """An Ed25519 signature over parts of the request; the secret is the provider's public key.

    Attributes:
        header: Where the signatures are.
        prefix: Before the signature.
        encoding: How it is written.
        entries: When the header is a list.
        signed: As for ``hmac``.
        timestamp: As for ``hmac``.
        secret_encoding: How the public key (32 bytes) is written.
        secret_prefix: Cut off before that, where present.
    """

    header: str
    prefix: str = ""
    encoding: Encoding = "hex"
    entries: EntryOptions | None = None
    signed: str = "{timestamp}{body}"
    timestamp: TimestampOptions | None = None
    secret_encoding: SecretEncoding = "hex"  # noqa: S105 - an encoding
    secret_prefix: str = ""


class EcdsaOptions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="ecdsa"
):
    """An ECDSA signature (P-256, SHA-256, DER) over parts of the request; the secret is the public key, SPKI or PEM.

    Attributes:
        header: Where the signature is.
        encoding: How it is written.
        signed: As for ``hmac``.
        timestamp: As for ``hmac``.
    """

    header: str
    encoding: Encoding = "base64"
    signed: str = "{timestamp}{body}"
    timestamp: TimestampOptions | None = None


JwtAlgorithm = Literal["HS256", "HS384", "HS512", "RS256", "ES256"]


class JwtOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="jwt"):
    """A JSON Web Token in a header. The secret is the shared secret (HS...), or a JWKS document with public keys.

    Attributes:
        header: Where the token is.
        prefix: Before it; compared without regard to case.
        algorithm: The only one taken, whatever the token says.
        issuers: Accepted ``iss``; empty = any.
        audience: Required ``aud``; empty = the source's public URL where ``needs_audience``, else any.
        needs_audience: Refuse a token without the right ``aud``.
        email: Required ``email``, which must be verified; empty = any.
        body_claim: Claim with the SHA-256 of the body in hex; empty = the token does not cover the body.
        max_age: Age of ``iat`` in either direction; 0s = not looked at.
        needs_expiry: Refuse a token without ``exp``; one that has it must not be past it.
        jwks_url: Where the public keys are published; https only.
        key_api: Plaid's own way: asked for each key by its id, with the secret ``client_id:secret``.
    """

    header: str = "Authorization"
    prefix: str = "Bearer "
    algorithm: JwtAlgorithm = "RS256"
    issuers: tuple[str, ...] = ()
    audience: str = ""
    needs_audience: bool = False
    email: str = ""
    body_claim: str = ""
    max_age: float = 0.0
    needs_expiry: bool = False
    jwks_url: str = ""
    key_api: str = ""


MessageAlgorithm = Literal["hmac-sha256", "ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512", "rsa-v1_5-sha256"]


class Rfc9421Options(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="rfc9421"
):
    """HTTP Message Signatures; the secret is the shared key in base64, or the public key (PEM, SPKI or raw base64).

    Attributes:
        alg: The only algorithm taken, whatever the signature says.
        keyid: Required ``keyid``; empty = any.
        covered: Components that must be signed, such as ``@method`` or ``x-event``.
        require_content_digest: A request with a body must sign ``content-digest``, which is computed again.
        max_age: Age of ``created``; a signature without it is refused, unless this is 0s.
    """

    alg: MessageAlgorithm = "hmac-sha256"
    keyid: str = ""
    covered: tuple[str, ...] = ()
    require_content_digest: bool = True
    max_age: float = 300.0


class SnsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="sns"):
    """AWS SNS: fields of the body, signed by the certificate that the body names. A secret pins a certificate (PEM).

    Attributes:
        topics: ARNs of the topics that are ours; empty = any topic of anybody, and no subscription is confirmed.
        max_age: Age of ``Timestamp``.
    """

    topics: tuple[str, ...] = ()
    max_age: float = 3600.0


class PaypalOptions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="scheme", tag="paypal"
):
    """PayPal: headers and the body's checksum, signed by the certificate they name. A secret pins a certificate (PEM).

    Attributes:
        webhook_id: The id that PayPal shows for this webhook; it is signed.
        max_age: Age of the transmission; 0s = not looked at. PayPal's own retries keep the first time.
    """

    webhook_id: str = ""
    max_age: float = 0.0


SchemeOptions = (
    HmacOptions
    | TokenOptions
    | BasicOptions
    | AnyOptions
    | Ed25519Options
    | EcdsaOptions
    | JwtOptions
    | Rfc9421Options
    | TwilioOptions
    | AdyenOptions
    | MailgunOptions
    | BraintreeOptions
    | SnsOptions
    | PaypalOptions
    | NoneOptions
)
