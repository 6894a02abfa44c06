"""[P] Twilio: HMAC over the public URL and the decoded form fields, sorted; or over the URL with the body's hash in it.

Source: https://www.twilio.com/docs/usage/security and the request validator of Twilio's own libraries.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

from sidecar.inbound.verify.bespoke import Claimed, KeyedVerifier
from sidecar.inbound.verify.digests import decode_digest, digest_pattern, encode_digest
from sidecar.inbound.verify.form import first_field, is_form, parse_form
from sidecar.inbound.verify.keys import Keys
from sidecar.inbound.verify.options import Algorithm, TwilioOptions
from sidecar.inbound.verify.request import Headers, Rejected, Request, Secret
from sidecar.inbound.verify.verdicts import MALFORMED, MALFORMED_BODY, MISSING, NO_URL, UNCOVERED_BODY, UNSUPPORTED

__all__ = ["TwilioVerifier"]

_SIGNATURE: Final = b"x-twilio-signature"
_SETTINGS: Final = b"x-twilio-webhooks-signature-settings"
_ALGORITHMS: Final[dict[bytes, Algorithm]] = {b"HMAC_SHA1": "sha1", b"HMAC_SHA256": "sha256"}
_PATTERNS: Final = {algorithm: digest_pattern("base64", algorithm) for algorithm in _ALGORITHMS.values()}
_URL: Final = re.compile(rb"(https?)://([^/?#:\[]+|\[[^\]]*\])(:[0-9]+)?(.*)", re.DOTALL)


class TwilioVerifier(KeyedVerifier):
    """Judges Twilio's webhooks; see ``TwilioOptions``."""

    reads = frozenset({_SIGNATURE, _SETTINGS})
    needs_url = True

    def __init__(self, options: TwilioOptions) -> None:
        del options
        super().__init__(Keys(lambda value: value or "is empty"))

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """Refuse what the head decides; see ``Verifier``."""
        del secrets, now_ms
        found = _signature(request)
        return found if isinstance(found, Rejected) else None

    def claimed(self, request: Request, now_ms: int) -> list[Claimed] | Rejected:
        """The URL in each spelling that Twilio's back ends use, with the fields behind it."""
        del now_ms
        found = _signature(request)
        if isinstance(found, Rejected):
            return found
        algorithm, signature = found
        fields = _fields(request)
        if isinstance(fields, Rejected):
            return fields
        return [Claimed(algorithm, [(tuple(url + fields for url in _spellings(request.url or b"")), signature)])]

    def covered(self, request: Request) -> bytes | None:
        """The fields of a form, whatever their order and escapes; see ``KeyedVerifier``."""
        fields = _fields(request) if is_form(request.headers.get(b"content-type", b"")) else None
        return fields if isinstance(fields, bytes) else None

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """Sign forms as Twilio does; other bodies only where the query has their hash."""
        del now_ms
        fields = _fields(request)
        if request.url is None or isinstance(fields, Rejected):
            return []
        mac = hmac.digest(secret.value, request.url + fields, "sha1")
        return [(b"X-Twilio-Signature", encode_digest("base64", mac))]


def _signature(request: Request) -> tuple[Algorithm, bytes] | Rejected:
    if request.url is None:
        return NO_URL
    text = request.headers.get(_SIGNATURE)
    if not text:
        return MISSING
    named = b"HMAC_SHA1"
    for part in request.headers.get(_SETTINGS, b"").split(b","):
        name, _, value = part.partition(b"=")
        if name.strip() == b"algorithm" and value.strip():
            named = value.strip()
    algorithm = _ALGORITHMS.get(named)
    if algorithm is None:
        return UNSUPPORTED
    return (algorithm, decode_digest("base64", text)) if _PATTERNS[algorithm].fullmatch(text) else MALFORMED


def _fields(request: Request) -> bytes | Rejected:
    """What is signed behind the URL. A body that neither the fields nor a hash covers is refused."""
    wanted = first_field(request.query, b"bodySHA256")
    if wanted is not None:
        digest = hashlib.sha256(request.body).hexdigest().encode()
        if not hmac.compare_digest(digest, wanted.lower()):
            return UNCOVERED_BODY
    if is_form(request.headers.get(b"content-type", b"")):
        fields = parse_form(request.body)
        if fields is None:
            return MALFORMED_BODY
        return b"".join([name + value for name, value in sorted(set(fields))])
    return b"" if wanted is not None or not request.body else UNCOVERED_BODY


def _spellings(url: bytes) -> tuple[bytes, ...]:
    """The URL as it is, without a port, and with the default port."""
    found = _URL.fullmatch(url)
    if found is None:
        return (url,)
    scheme, host, port, rest = found.groups()
    default = b":443" if scheme == b"https" else b":80"
    other = b"" if port else default
    return (url, b"%b://%b%b%b" % (scheme, host, other, rest))
