"""What the listener and the application behind it say to each other.

``connection`` speaks these; ``receive`` answers. No bytes of HTTP framing cross this border.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from sidecar.inbound.ack import Answer
from sidecar.model import Refusal

__all__ = ["Admit", "Application", "Head", "ServerOptions"]


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one listener.

    Attributes:
        max_connections: Open connections, from the accept on; at the cap the one longest without a complete request goes first.
        max_buffered_bytes: Body bytes received or waiting for their answer, all connections together. Bodies
            over 64 KiB get at most half of it.
        header_timeout_s: From the first byte of a head (on a new connection: from accepting it) to its last.
            A TLS handshake has the same time, from the accept to its end.
        body_timeout_s: From the end of the head to the last byte of the body.
        keepalive_timeout_s: From an answer to the first byte of the next request.
        body_window_s: Over any such stretch of a body ...
        body_window_bytes: ... at least so many bytes must come (1 kB/s).
        authorities: Lower-case ``host[:port]`` accepted in absolute-form targets; empty = the one Host names.
    """

    max_connections: int = 1024
    max_buffered_bytes: int = 64 << 20
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    keepalive_timeout_s: float = 75.0
    body_window_s: float = 5.0
    body_window_bytes: int = 5000
    authorities: frozenset[bytes] = frozenset()


class Head(msgspec.Struct, gc=False):
    """A complete, well-framed request head.

    Attributes:
        method: As received; one of the methods of RFC 9110 or PATCH.
        target: As received.
        path: Raw path, no decoding; ``*`` for the asterisk form.
        query: Raw, without "?"; empty when there was none.
        headers: As received: order, case, repeats; white space around values is not part of them.
        lower: Lower-case name to value; a repeated name keeps the first value.
        repeated: Lower-case names seen more than once.
        length: Declared length of the body, 0 when there is none; None when chunked.
        peer: Address of the client, or ``unix``.
        secure: TLS on our own listener.
        started_s: Monotonic clock at the first byte.
        ascii: Nothing in it is beyond ASCII.
    """

    method: bytes
    target: bytes
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    lower: dict[bytes, bytes]
    repeated: frozenset[bytes]
    length: int | None
    peer: str
    secure: bool
    started_s: float
    ascii: bool


class Admit(msgspec.Struct):
    """The application takes this request.

    Attributes:
        max_body: Bytes its body may have.
        context: Handed back with the body, or when the request ends early.
    """

    max_body: int
    context: object = None


class Application(Protocol):
    """Who decides about requests. All calls come on the event loop and must not block."""

    def head(self, head: Head) -> Admit | Answer:
        """Judge a head before any byte of its body; an Answer closes the connection if a body was announced."""

    def complete(self, head: Head, context: object, body: bytes, reply: Callable[[Answer], None]) -> None:
        """Take a complete request; call ``reply`` exactly once, now or later, on the loop."""

    def refused(self, context: object | None, head: Head | None, code: Refusal) -> None:
        """Count a request that the listener itself refused; context and head as far as they were known."""

    def aborted(self, context: object | None) -> None:
        """Count a request that ended before it was complete: the client went away, or the cap took its connection."""
