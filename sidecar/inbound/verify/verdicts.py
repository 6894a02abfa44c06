"""[P] What the schemes share: fixed verdicts, and how headers are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.inbound.verify.request import Rejected, Request, Secret
from sidecar.model import RejectReason

__all__ = [
    "MALFORMED",
    "MALFORMED_BODY",
    "MAX_ENTRY_BYTES",
    "MISSING",
    "MISSING_FIELD",
    "NO_URL",
    "TOO_MANY",
    "TWICE",
    "UNCOVERED_BODY",
    "UNSUPPORTED",
    "first_value",
    "no_match",
    "present_name",
]

MAX_ENTRY_BYTES: Final = 1024

MISSING = Rejected(RejectReason.MISSING_HEADER)
MALFORMED = Rejected(RejectReason.MALFORMED_SIGNATURE)
UNSUPPORTED = Rejected(RejectReason.UNSUPPORTED_VERSION)
TOO_MANY = Rejected(RejectReason.TOO_MANY_SIGNATURES)
MALFORMED_BODY = Rejected(RejectReason.MALFORMED_BODY)
MISSING_FIELD = Rejected(RejectReason.MISSING_SIGNATURE, "the body has none")
TWICE = Rejected(RejectReason.MALFORMED_SIGNATURE, "what is signed is there twice")
UNCOVERED_BODY = Rejected(RejectReason.BODY_NOT_COVERED)
NO_URL = Rejected(RejectReason.MISSING_HEADER, "no public URL")


def first_value(request: Request, names: tuple[bytes, ...]) -> bytes:
    """Value of the first of these headers that is there; an empty one is not."""
    for name in names:
        value = request.headers.get(name)
        if value:
            return value
    return b""


def no_match(secrets: Sequence[Secret], retired: bool, now_ms: int) -> Rejected:
    """Say why no active secret matched; ``retired`` when one did that no longer counts, or not yet."""
    if retired:
        return Rejected(RejectReason.RETIRED_SECRET)
    if not any(s.active(now_ms) for s in secrets):
        return Rejected(RejectReason.NO_ACTIVE_SECRET)
    return Rejected(RejectReason.WRONG_SECRET)


def present_name(request: Request, names: tuple[str, ...]) -> bytes:
    """The one of these header names that the request uses, else the first."""
    return next((n for n in names if n.lower().encode() in request.headers), names[0]).encode()
