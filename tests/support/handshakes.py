"""One request put to one handshake."""

from __future__ import annotations

import json
from typing import Any

from sidecar.inbound.verify.handshakes import HANDSHAKES, HandshakeTerms, Response
from sidecar.inbound.verify.request import Request, Secret

SECRET = Secret("a", b"yK8Rb3vJT4WkXh1e_zoom")


def respond(
    name: str,
    body: object = b"",
    *,
    query: bytes = b"",
    method: bytes = b"POST",
    secrets: tuple[Secret, ...] = (SECRET,),
    terms: HandshakeTerms | None = None,
    **headers: bytes,
) -> Any:
    """What the handshake says; a body that is not bytes is sent as JSON, ``x_y`` is the header ``x-y``."""
    sent = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    request = Request(method, b"/", query, sent, body if isinstance(body, bytes) else json.dumps(body).encode())
    said: Response = HANDSHAKES[name].respond(request, secrets, terms or HandshakeTerms())
    return said
