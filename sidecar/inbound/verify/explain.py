"""[P] Why a request is refused, for the owner of the source and for nobody else.

``suspect`` looks for the usual causes behind "wrong secret": a body that something on the way has rewritten, an
address that is not the one that was signed. ``outline`` shows what was signed and what should have come of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from sidecar.inbound.verify.keyed_hash import HmacVerifier
from sidecar.inbound.verify.request import Accepted, Rejected, Request, Secret, Verifier
from sidecar.model import RejectReason

__all__ = ["ADVICE", "MAX_SUSPECT_BYTES", "outline", "suspect"]

MAX_SUSPECT_BYTES: Final = 64 * 1024
"""A larger body is not tried in other spellings: that would cost a stranger nothing and us a lot."""

ADVICE: Final[dict[RejectReason, str]] = {
    RejectReason.MISSING_HEADER: "the signature or a signed header did not arrive: is the secret set at the provider, "
    "is the preset the right one, does a proxy drop headers?",
    RejectReason.MISSING_SIGNATURE: "the body carries no signature: is signing switched on at the provider?",
    RejectReason.MALFORMED_SIGNATURE: "the signature has another form than this provider's: is the preset right?",
    RejectReason.MALFORMED_TIMESTAMP: "the time is not written as this provider writes it: is the preset right?",
    RejectReason.MALFORMED_BODY: "the body is not what this provider signs: did something rewrite it?",
    RejectReason.TOO_MANY_SIGNATURES: "no provider sends so many: somebody is guessing",
    RejectReason.WRONG_SECRET: "copy the secret from the provider's page again, whole and without quotes, and look "
    "whether it is that of this endpoint",
    RejectReason.STALE_TIMESTAMP: "look at this machine's clock, and at what holds requests back in front of it",
    RejectReason.FUTURE_TIMESTAMP: "look at this machine's clock: it is behind",
    RejectReason.RETIRED_SECRET: "this secret is past its not_after or before its not_before: switch the provider to "
    "the new one, or move the date",
    RejectReason.NO_ACTIVE_SECRET: "no secret of the source counts at this moment",
    RejectReason.UNSUPPORTED_VERSION: "the request is signed in a form that this source does not take",
    RejectReason.BODY_NOT_COVERED: "the signature does not cover this body, or covers another one",
    RejectReason.BODY_MODIFIED_SUSPECTED: "something between the provider and us rewrites bodies: a proxy, a framework "
    "that parses and writes JSON, an editor that adds a line end",
    RejectReason.WRONG_CLAIM: "the signature is right and speaks of something else: see the name behind the reason",
    RejectReason.FORBIDDEN_KEY_SOURCE: "the message names a certificate at an address that is not the provider's",
    RejectReason.UNKNOWN_KEY: "the key that the request names is not among the provider's keys",
    RejectReason.KEY_UNAVAILABLE: "the provider's key could not be fetched: may this machine call out over https?",
    RejectReason.HANDSHAKE_NOT_EXPECTED: "a secret arrived that nobody expects: webhook-sidecar handshake expect SOURCE",
}
"""What to do about each reason."""


def suspect(verifier: Verifier, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
    """Find out whether the request would have been accepted with a body or an address that is only written otherwise.

    Returns:
        None when nothing of that kind explains the refusal.
    """
    if len(request.body) > MAX_SUSPECT_BYTES:
        return None
    for what, changed in _spellings(request, verifier.needs_url):
        if isinstance(verifier.verify(changed, secrets, now_ms), Accepted):
            return Rejected(RejectReason.BODY_MODIFIED_SUSPECTED, what)
    return None


def _spellings(request: Request, needs_url: bool) -> Iterator[tuple[str, Request]]:
    seen = {request.body}
    for what, body in _bodies(request.body):
        if body not in seen:
            seen.add(body)
            yield what, msgspec.structs.replace(request, body=body, parsed=None)
    if needs_url and request.url is not None:
        for what, url in _urls(request.url):
            yield what, msgspec.structs.replace(request, url=url, parsed=None)


def _bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "line ends were added at the end", body.rstrip(b"\r\n")
    yield "a line end at the end was lost", body + b"\n"
    yield "CR LF at the end was lost", body + b"\r\n"
    yield "CR LF became LF", body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    yield "LF became CR LF", body.replace(b"\r\n", b"\n")
    yield "a byte order mark was added", body.removeprefix(b"\xef\xbb\xbf")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return
    for ascii_only in (True, False):
        for separators in ((",", ":"), (", ", ": ")):
            text = json.dumps(parsed, ensure_ascii=ascii_only, separators=separators)
            yield "JSON was written anew", text.encode("utf-8", "surrogatepass")


def _urls(url: bytes) -> Iterator[tuple[str, bytes]]:
    scheme, _, rest = url.partition(b"://")
    other = b"http" if scheme == b"https" else b"https"
    yield "public_url: the sender signed " + other.decode(), other + b"://" + rest
    address, mark, query = url.partition(b"?")
    slashed = address[:-1] if address.endswith(b"/") else address + b"/"
    yield "public_url: the slash at the end", slashed + mark + query


def outline(verifier: Verifier, request: Request, secrets: Sequence[Secret], now_ms: int) -> list[str]:
    """Say what was signed and, for each secret, what signature it would make; empty for schemes without such a text."""
    if not isinstance(verifier, HmacVerifier):
        return []
    missing = verifier.missing(request)
    if missing:
        gone = [f"missing, and signed: {name.decode()}" for name in missing]
        return gone + [f"got: {text}" for text in verifier.shown_signatures(request)]
    lines = []
    stamp = verifier.timestamp_of(request)
    for message in verifier.messages(request, stamp):
        head, found, tail = message.partition(request.body) if request.body else (message, b"", b"")
        parts = [repr(part.decode("utf-8", "replace")) for part in (head,) if part]
        if found:
            digest = hashlib.sha256(request.body).hexdigest()
            parts.append(f"<body: {len(request.body):,} bytes, SHA-256 {digest[:16]}...>")
        parts += [repr(part.decode("utf-8", "replace")) for part in (tail,) if part]
        lines.append(f"signed: {' + '.join(parts)}  ({len(message):,} bytes)")
    lines += [f"got: {text}" for text in verifier.shown_signatures(request)]
    if verifier.can_sign:
        for secret in secrets:
            expected = verifier.expected(request, secret, stamp)
            lines.append(
                f"expected with secret {secret.id}: {expected}" + ("" if secret.active(now_ms) else "  (not active)")
            )
    return lines
