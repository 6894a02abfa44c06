"""[P] What every kind of destination offers, and what one try brings back.

The dispatcher knows nothing else about a kind: it hands over a delivery, gets a handle, and later one ``Result``,
which ``outbound.retry.judge`` turns into an outcome. Nothing here knows a wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from sidecar.model import Delivery

__all__ = ["Destination", "Done", "Failure", "Handle", "Result"]

Failure = Literal["", "connect", "tls", "timeout", "reset", "garbage", "interrupted"]
"""Why there is no usable answer; "" when there is one.

``connect`` and ``tls``: nothing of the request reached the backend. ``timeout``, ``reset`` and ``garbage``: it may
have, so the try is ambiguous. ``interrupted``: we stopped it ourselves.
"""


class Result(msgspec.Struct):
    """What one try brought back, not yet judged.

    Attributes:
        status: Status code of the answer, 200 to 999; None when ``failure`` is set.
        failure: Why there is no usable answer.
        error: Short text for people, made by us or by the operating system; never bytes from the backend.
        retry_after: The answer's Retry-After as received; empty when there was none.
        duration_ms: From the start of the try to its end.
        started_at_ms: Wall clock, UTC.
    """

    status: int | None = None
    failure: Failure = ""
    error: str = ""
    retry_after: bytes = b""
    duration_ms: int = 0
    started_at_ms: int = 0


Done = Callable[[Result], None]
"""Called exactly once per try, on the event loop: never inside ``attempt`` itself, possibly inside ``cancel``."""


class Handle(Protocol):
    """One running try."""

    def cancel(self) -> None:
        """Stop it now: ``done`` gets failure ``interrupted`` before this returns. Too late or twice: nothing."""
        ...


class Destination(Protocol):
    """One configured backend of some kind. Every method belongs to the event loop's thread."""

    def attempt(self, delivery: Delivery, resigned: Sequence[tuple[bytes, bytes]], done: Done) -> Handle:
        """Try once to hand the delivery over.

        Args:
            delivery: What is owed; this is try number ``delivery.attempts + 1`` of round ``delivery.round``.
            resigned: Headers that replace same-named ones of the event, because its signature is too old to be
                accepted by the backend; empty for most.
            done: Gets the result.
        """
        ...

    async def close(self) -> None:
        """Interrupt running tries, give up every connection, and wait until they are gone. Again: nothing."""
        ...
