"""[P] Providers that put the signature into the body: Adyen's payments, Mailgun, Braintree.

Only the fields named here are covered by their signatures; the rest of the body is not, and no receiver can help it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from sidecar.inbound.verify.bespoke import Claimed, KeyedVerifier
from sidecar.inbound.verify.digests import decode_digest, digest_pattern, encode_digest
from sidecar.inbound.verify.form import first_field, is_form, parse_form
from sidecar.inbound.verify.handshakes.handshake import BRAINTREE_CHALLENGE
from sidecar.inbound.verify.jsonfield import read_document
from sidecar.inbound.verify.keys import Keys, derive_key
from sidecar.inbound.verify.options import (
    AdyenOptions,
    BraintreeOptions,
    HmacOptions,
    MailgunOptions,
    TimestampOptions,
)
from sidecar.inbound.verify.request import Headers, Rejected, Request, Secret
from sidecar.inbound.verify.timestamp import AgeLimit
from sidecar.inbound.verify.verdicts import MALFORMED, MALFORMED_BODY, MISSING_FIELD

__all__ = ["AdyenVerifier", "BraintreeVerifier", "MailgunVerifier"]

_BASE64_SHA256: Final = digest_pattern("base64", "sha256")
_HEX_SHA256: Final = digest_pattern("hex", "sha256")
_HEX_SHA1: Final = digest_pattern("hex", "sha1")
_MAX_ITEMS: Final = 100


class _InBody(KeyedVerifier):
    """The head decides nothing and takes no signature."""

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """Everything is in the body."""
        del request, secrets, now_ms
        return None

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """The signature is in the body: see ``sign_body``."""
        del request, secret, now_ms
        return []


class AdyenVerifier(_InBody):
    """Judges Adyen's payment notifications; see ``AdyenOptions``.

    Source: https://docs.adyen.com/development-resources/webhooks/secure-webhooks/verify-hmac-signatures
    """

    def __init__(self, options: AdyenOptions) -> None:
        del options
        hexadecimal = HmacOptions(header="HmacSignature", secret_encoding="hex")  # noqa: S106 - an encoding
        super().__init__(Keys(lambda value: derive_key(hexadecimal, value)))

    def claimed(self, request: Request, now_ms: int) -> list[Claimed] | Rejected:
        """Each item with the signature inside it."""
        del now_ms
        items = _adyen_items(read_document(request.body))
        if not items:
            return MALFORMED_BODY
        pairs: list[tuple[tuple[bytes, ...], bytes]] = []
        for item in items:
            extra = item.get("additionalData")
            text = extra.get("hmacSignature") if isinstance(extra, dict) else None
            if not isinstance(text, str):
                return MISSING_FIELD
            if not _BASE64_SHA256.fullmatch(text.encode()):
                return MALFORMED
            pairs.append(((_adyen_message(item),), decode_digest("base64", text.encode())))
        return [Claimed("sha256", pairs)]

    def covered(self, request: Request) -> bytes | None:
        """The texts of all items; see ``KeyedVerifier``."""
        return b"\n".join(sorted(map(_adyen_message, _adyen_items(read_document(request.body)))))

    def sign_body(self, body: bytes, secret: Secret, now_ms: int) -> bytes:
        """Put a signature into every item."""
        del now_ms
        document, key = read_document(body), self._keys.of(secret.value)
        items = _adyen_items(document)
        if isinstance(key, str) or not items:
            return body
        for item in items:
            mac = hmac.digest(key, _adyen_message(item), "sha256")
            item["additionalData"] = {"hmacSignature": encode_digest("base64", mac).decode()}
        return json.dumps(document, separators=(",", ":")).encode()


def _adyen_items(document: Any) -> list[dict[str, Any]]:
    """All items; none when one of them is not of the documented form."""
    rows = document.get("notificationItems") if isinstance(document, dict) else None
    if not isinstance(rows, list) or len(rows) > _MAX_ITEMS:
        return []
    items = [row.get("NotificationRequestItem") if isinstance(row, dict) else None for row in rows]
    found = [item for item in items if isinstance(item, dict)]
    return found if len(found) == len(rows) else []


def _adyen_message(item: dict[str, Any]) -> bytes:
    amount = item.get("amount")
    money = amount if isinstance(amount, dict) else {}
    values = [
        *(item.get(n) for n in ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")),
        *(money.get(n) for n in ("value", "currency")),
        *(item.get(n) for n in ("eventCode", "success")),
    ]
    return ":".join(map(_text, values)).encode()


def _text(value: Any) -> str:
    # Only what the dedup key is read from as well: what is signed and no key would be a new event each time it comes.
    return str(value) if type(value) in (str, int) else ""


class MailgunVerifier(_InBody):
    """Judges Mailgun's webhooks; see ``MailgunOptions``.

    Source: https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks
    """

    def __init__(self, options: MailgunOptions) -> None:
        super().__init__(Keys(lambda value: value or "is empty"))
        self._age = AgeLimit(TimestampOptions(tolerance=options.tolerance))

    def claimed(self, request: Request, now_ms: int) -> list[Claimed] | Rejected:
        """The signature of this account, and the parent account's where there is one, over the same time and token."""
        part = _mailgun_part(request)
        if part is None:
            return MALFORMED_BODY
        stamp, token, *texts = (_text(part.get(name)).encode() for name in _MAILGUN_NAMES)
        if not (stamp and token and any(texts)):
            return MISSING_FIELD
        stale = self._age.check(stamp, now_ms)
        if stale is not None:
            return stale
        found = [decode_digest("hex", text) for text in texts if _HEX_SHA256.fullmatch(text)]
        return [Claimed("sha256", [((stamp + token,), signature)]) for signature in found] or MALFORMED

    def covered(self, request: Request) -> bytes | None:
        """Timestamp and token, in a form as in JSON; see ``KeyedVerifier``."""
        part = _mailgun_part(request) or {}
        return b"".join(_text(part.get(name)).encode() for name in _MAILGUN_NAMES[:2])

    def sign_body(self, body: bytes, secret: Secret, now_ms: int) -> bytes:
        """Put a fresh signature over the body's own token into it."""
        document = read_document(body)
        if not isinstance(document, dict):
            return body
        old = document.get("signature")
        token = _text(old.get("token") if isinstance(old, dict) else "") or hashlib.sha256(body).hexdigest()
        stamp = str(now_ms // 1000)
        mac = hmac.digest(secret.value, (stamp + token).encode(), "sha256")
        document["signature"] = {"timestamp": stamp, "token": token, "signature": mac.hex()}
        return json.dumps(document, separators=(",", ":")).encode()


_MAILGUN_NAMES: Final = ("timestamp", "token", "signature", "parent-signature")


def _mailgun_part(request: Request) -> dict[str, Any] | None:
    """What has time, token and signatures in it; None for a body that is not Mailgun's."""
    if is_form(request.headers.get(b"content-type", b"")):
        fields = parse_form(request.body)
        if fields is None:
            return None
        # The first of a name that is there twice would be another one for the app than for us.
        names = [name for name, _ in fields if name.decode("latin-1") in _MAILGUN_NAMES]
        if len(names) != len(set(names)):
            return None
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}
    document = read_document(request.body)
    if not isinstance(document, dict):
        return None
    part = document.get("signature")
    return part if isinstance(part, dict) else {}


class BraintreeVerifier(_InBody):
    """Judges Braintree's notifications; see ``BraintreeOptions``.

    Source: https://developer.paypal.com/braintree/docs/guides/webhooks and Braintree's own libraries.
    """

    _payload = re.compile(rb"[A-Za-z0-9+/=\n]+")

    def __init__(self, options: BraintreeOptions) -> None:
        self.public_key = options.public_key.encode()
        super().__init__(Keys(_braintree_key))

    def claimed(self, request: Request, now_ms: int) -> list[Claimed] | Rejected:
        """The payload with the signature of the pair that is ours."""
        del now_ms
        fields = parse_form(request.body)
        named = dict(fields or ())
        if fields is None or len(named) != len(fields):
            return MALFORMED_BODY
        payload, pairs = named.get(b"bt_payload", b""), named.get(b"bt_signature", b"")
        if not payload or not pairs:
            return MISSING_FIELD
        if not self._payload.fullmatch(payload) or BRAINTREE_CHALLENGE.fullmatch(payload.strip()):
            return MALFORMED_BODY
        ours = [pair[2] for pair in (p.partition(b"|") for p in pairs.split(b"&")) if pair[0] == self.public_key]
        found = [decode_digest("hex", text) for text in ours[:8] if _HEX_SHA1.fullmatch(text)]
        return [Claimed("sha1", [((payload, payload + b"\n"), signature)]) for signature in found] or MALFORMED

    def covered(self, request: Request) -> bytes | None:
        """The payload, with or without its last line end; see ``KeyedVerifier``."""
        return (first_field(request.body, b"bt_payload") or b"").rstrip(b"\n")

    def sign_body(self, body: bytes, secret: Secret, now_ms: int) -> bytes:
        """Wrap XML as Braintree does."""
        del now_ms
        payload = base64.encodebytes(body)
        text = b"%b|%b" % (self.public_key, self._mac(secret, payload))
        return urlencode({"bt_signature": text, "bt_payload": payload}).encode()

    def answer_challenge(self, secret: Secret, challenge: bytes) -> bytes:
        """What Braintree wants to see when it tries a URL; the caller has restricted the challenge to hex digits."""
        return b"%b|%b" % (self.public_key, self._mac(secret, challenge))

    def _mac(self, secret: Secret, message: bytes) -> bytes:
        return (
            hmac.new(hashlib.sha1(secret.value, usedforsecurity=False).digest(), message, "sha1").hexdigest().encode()
        )


def _braintree_key(value: bytes) -> bytes | str:
    return hashlib.sha1(value, usedforsecurity=False).digest() if value else "is empty"
