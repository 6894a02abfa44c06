"""[P] Requests by which a provider tries a new URL: answered by us, never journaled.

A signed handshake is verified like any webhook first. An unsigned one comes by a method of its own, which is
allowed for that purpose only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from sidecar.inbound.verify.jsonfield import read_field
from sidecar.inbound.verify.request import Request, Secret

__all__ = ["HANDSHAKES", "Handshake", "HandshakeAnswer"]

_MAX_BYTES = 8192  # of a whole handshake; real ones have a few hundred
_MAX_CHALLENGE = 1024


class HandshakeAnswer(msgspec.Struct, frozen=True):
    """What the provider wants to see, always with status 200."""

    body: bytes
    content_type: bytes = b"text/plain"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Handshake(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's handshake.

    Attributes:
        name: As presets refer to it.
        respond: Makes the answer from a request and the secrets that are active; None = an ordinary webhook.
        methods: Methods allowed besides the source's own.
        signed: Whether the request is verified first.
    """

    name: str
    respond: Callable[[Request, Sequence[Secret]], HandshakeAnswer | None]
    methods: tuple[str, ...] = ()
    signed: bool = True


def _slack(request: Request, secrets: Sequence[Secret]) -> HandshakeAnswer | None:
    """Echo the challenge of ``url_verification``.

    Source: https://docs.slack.dev/reference/events/url_verification
    """
    del secrets
    body = request.body
    if len(body) > _MAX_BYTES or b"url_verification" not in body:
        return None
    if read_field(body, ("type",)) != "url_verification":
        return None
    challenge = read_field(body, ("challenge",))
    if not isinstance(challenge, str) or not 0 < len(challenge) <= _MAX_CHALLENGE:
        return None
    return HandshakeAnswer(challenge.encode(), headers=((b"X-Content-Type-Options", b"nosniff"),))


#: Handshake name -> handshake. Adding one is one entry.
HANDSHAKES: dict[str, Handshake] = {
    "slack": Handshake(name="slack", respond=_slack),
}
