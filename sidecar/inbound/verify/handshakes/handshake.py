"""[P] What a handshake is: a request by which a provider tries a URL, and the answer that it wants to see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from sidecar.inbound.verify.jsonfield import read_field
from sidecar.inbound.verify.request import Rejected, Request, Secret, Verifier
from sidecar.model import Refusal

__all__ = [
    "BRAINTREE_CHALLENGE",
    "MAX_BYTES",
    "NOSNIFF",
    "TOKEN",
    "Handshake",
    "HandshakeAnswer",
    "HandshakeTerms",
    "Response",
    "echo",
    "field",
    "json_answer",
]

MAX_BYTES: Final = 8192
"""Of the body of a handshake; real ones have a few hundred. An unsigned one may not be larger."""

NOSNIFF: Final = ((b"X-Content-Type-Options", b"nosniff"),)
TOKEN: Final = re.compile(r"[A-Za-z0-9_+/=.~:-]{1,512}")
"""What a challenge looks like: nothing in it could be read as a body or a page."""


BRAINTREE_CHALLENGE: Final = re.compile(rb"[0-9a-f]{20,32}")
"""What we sign for anybody who asks, so it must never be taken for a payload."""


class HandshakeAnswer(msgspec.Struct, frozen=True):
    """What the provider wants to see.

    Attributes:
        body: As it is sent.
        content_type: Empty = no such header.
        headers: Further ones.
        status: Of the answer.
        learned: A secret that arrived: it must be on disk before this goes out, and only when it is expected.
        confirm: An address to call that confirms a subscription; the scheme has checked its host.
    """

    body: bytes
    content_type: bytes = b"text/plain"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    status: int = 200
    learned: bytes = b""
    confirm: str = ""


class HandshakeTerms(msgspec.Struct, frozen=True):
    """What the source's configuration says about handshakes.

    Attributes:
        verifier: The source's.
        token: A token that the provider repeats (Meta's verify token); empty = none is set.
        allowed: What a handshake may be about: topics of WebSub, origins of CloudEvents.
    """

    verifier: Verifier | None = None
    token: bytes = b""
    allowed: frozenset[str] = frozenset()


Response = HandshakeAnswer | Rejected | Refusal | None


class Handshake(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's handshake.

    Attributes:
        name: As presets and ``handshake`` of a source refer to it.
        respond: Makes the answer from a request, the secrets that are active, and the source's terms; None = an
            ordinary webhook; a refusal = a handshake that is not answered.
        methods: Methods allowed besides the source's own.
        signed: Whether the request is verified first.
        unsigned_head: For one that comes unsigned by the source's own method: whether this head may be one. Such a
            request is read up to ``MAX_BYTES`` without being verified; if it turns out to be none, it is verified.
        signs: What it signs with the source's secret for anybody who asks: a webhook whose whole body has this shape is
            refused, since its signature may be our own.
        about: For people, one line.
    """

    name: str
    respond: Callable[[Request, Sequence[Secret], HandshakeTerms], Response]
    methods: tuple[str, ...] = ()
    signed: bool = True
    unsigned_head: Callable[[Request], bool] | None = None
    signs: re.Pattern[bytes] | None = None
    about: str = ""


def field(request: Request, name: str) -> str | int | None:
    """Read one member of a small JSON body."""
    return read_field(request.body, (name,)) if len(request.body) <= MAX_BYTES else None


def echo(text: object) -> HandshakeAnswer | None:
    """Send a challenge back as plain text; None when it is not shaped like one."""
    return HandshakeAnswer(text.encode(), headers=NOSNIFF) if isinstance(text, str) and TOKEN.fullmatch(text) else None


def json_answer(**members: object) -> HandshakeAnswer:
    """Answer with a JSON object."""
    return HandshakeAnswer(json.dumps(members, separators=(",", ":")).encode(), b"application/json", NOSNIFF)
