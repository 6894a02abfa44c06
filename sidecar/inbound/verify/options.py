"""[P] What a scheme can be told: the configuration keys of ``[sources.NAME.verify]`` and of every preset.

Wherever an option names a header, ``A|B`` means that both names are read: all of them for signatures, the first one
present otherwise. ``{n}`` in a signature header stands for 1, 2, ... (DocuSign's numbered headers).
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "Algorithm",
    "BasicOptions",
    "Encoding",
    "EntryOptions",
    "HmacOptions",
    "NoneOptions",
    "SchemeOptions",
    "TimestampOptions",
    "TokenOptions",
    "Unit",
]

Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]
Encoding = Literal["hex", "base64", "base64url"]
SecretEncoding = Literal["text", "hex", "base64"]
Unit = Literal["s", "ms", "rfc3339", "http-date"]


class TimestampOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the signed timestamp is and how old it may be. Exactly one of the three places is set.

    Attributes:
        header: A header of its own.
        entry: Label of an entry in the signature header (``t`` of ``t=...,v1=...``).
        json: JSON pointer into the body; checked after the signature, and never renewed on late deliveries.
        unit: ``s`` and ``ms`` count from the Unix epoch; ``rfc3339``; ``http-date`` is the fixed form of RFC 9110.
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
            ``{path}`` (raw, without the query), ``{query}`` (raw, without "?") and text; a brace of the text is doubled.
        timestamp: None when nothing limits replays.
        secret_encoding: How the key is made of the secret's text.
        secret_prefix: Cut off before that, where present.
        secret_unprefixed: Encoding of a secret without the prefix; None = the same.
        key_header: A header that must name the ``id`` of the secret to use (Pusher).
        require: Headers that must have exactly this value, such as a signature version.
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
    require: dict[str, str] = {}
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


SchemeOptions = HmacOptions | TokenOptions | BasicOptions | NoneOptions
