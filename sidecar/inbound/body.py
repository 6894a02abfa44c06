"""Bodies in memory: one that is coming in, and the budget that all of them share.

``connection`` fills these; a body counts from its first byte until the application has answered it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sidecar.inbound.application import Head, ServerOptions
from sidecar.inbound.chunked import ChunkReader
from sidecar.model import Refusal

__all__ = ["SMALL_BODY", "Body", "Budget"]

SMALL_BODY = 64 * 1024  # bytes; half of the budget is kept for bodies up to this size
_MERGE_BELOW = 1024  # bytes; smaller pieces are merged as they come, so that 1-byte reads do not cost 40 bytes each
_WINDOW_STEPS = 5
_GRACE_S = 1.0  # so long a body may be the slowest without being blamed for it


class Body:
    """One body that is still incomplete.

    Attributes:
        head: The request's head.
        context: The application's.
        length: Declared bytes; None when chunked.
        chunks: Reader of the body's framing, if it is chunked.
        keep: Whether the connection goes on behind this request.
        received: Payload bytes so far, all of them counted in the budget.
        large: Counted against the half for bodies over ``SMALL_BODY``.
        started_s: Monotonic time when the head was complete.
        starve: Called by the budget: give up this body with 408, now.
    """

    __slots__ = (
        "_parts",
        "_samples",
        "chunks",
        "context",
        "head",
        "keep",
        "large",
        "length",
        "received",
        "started_s",
        "starve",
    )

    def __init__(
        self, head: Head, context: object, limit: int, now_s: float, *, keep: bool, starve: Callable[[], None]
    ) -> None:
        self.head = head
        self.context = context
        self.length = head.length
        self.chunks = ChunkReader(limit)
        self.keep = keep
        self.received = 0
        self.large = (head.length or 0) > SMALL_BODY
        self.started_s = now_s
        self.starve = starve
        self._parts: list[bytes | bytearray] = []
        self._samples = deque([0], _WINDOW_STEPS + 1)

    def add(self, part: bytes) -> None:
        """Append payload that the budget has room for."""
        self.received += len(part)
        parts = self._parts
        if len(part) >= _MERGE_BELOW:
            parts.append(part)
        elif parts and type(parts[-1]) is bytearray:
            parts[-1] += part
        else:
            parts.append(bytearray(part))

    def whole(self) -> bytes:
        """All payload, as one object."""
        return b"".join(self._parts)

    def rate(self, now_s: float) -> float:
        """Bytes per second since the head was complete."""
        return self.received / (now_s - self.started_s + 0.001)

    def next_check_s(self, options: ServerOptions, now_s: float) -> float | None:
        """Look at the clock: when to look again, or None when this body has come too slowly."""
        end_s = self.started_s + options.body_timeout_s
        samples = self._samples
        if now_s > self.started_s:
            samples.append(self.received)
        full = len(samples) > _WINDOW_STEPS
        if now_s >= end_s or (full and samples[-1] - samples[0] < options.body_window_bytes):
            return None
        return min(end_s, now_s + options.body_window_s / _WINDOW_STEPS)


class Budget:
    """Body bytes of all connections of a listener.

    Ensures: ``used`` never exceeds ``cap`` and ``large`` never exceeds half of it.

    Attributes:
        used: Bytes held.
        large: Those of them that belong to bodies over ``SMALL_BODY``.
        incomplete: Bodies that hold some of it and have not all come in.
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.large_cap = cap // 2
        self.used = 0
        self.large = 0
        self.incomplete: dict[Body, None] = {}

    def take(self, size: int, large: bool) -> bool:
        """Hold ``size`` more bytes if there is room."""
        if self.used + size > self.cap:
            return False
        if large:
            if self.large + size > self.large_cap:
                return False
            self.large += size
        self.used += size
        return True

    def give(self, size: int, large: bool) -> None:
        """Give back what ``take`` held."""
        self.used -= size
        if large:
            self.large -= size

    def claim(self, size: int, now_s: float, large: bool, body: Body | None = None) -> Refusal | None:
        """Hold ``size`` more bytes, at the cost of slower bodies if need be.

        The slowest incomplete body gets 408 before anybody gets 503. Nobody is sacrificed in vain: only if
        that makes room.

        Args:
            size: Bytes.
            now_s: Monotonic time.
            large: Whether they belong to a body over ``SMALL_BODY``.
            body: The incomplete body that wants them; None for one that came in one piece.

        Returns:
            None when they are held; else why not.
        """
        while not self.take(size, large):
            short_of_large = large and self.used + size <= self.cap
            others = [b for b in self.incomplete if b is not body and (b.large or not short_of_large)]
            free = self.large_cap - self.large if short_of_large else self.cap - self.used
            if size > free + sum(b.received for b in others) or (large and size > self.large_cap):
                return Refusal.OVERLOADED
            slowest = min(others, key=lambda b: b.rate(now_s))
            if body is not None and body.rate(now_s) < slowest.rate(now_s):
                return Refusal.TIMEOUT if now_s - body.started_s > _GRACE_S else Refusal.OVERLOADED
            slowest.starve()
        return None

    def grow(self, body: Body, size: int, now_s: float) -> Refusal | None:
        """Hold ``size`` more bytes of an incomplete body; a chunked one turns large when it passes ``SMALL_BODY``."""
        if not body.large and body.received + size > SMALL_BODY:
            refusal = self._enlarge(body, now_s)
            if refusal is not None:
                return refusal
        refusal = self.claim(size, now_s, body.large, body)
        if refusal is None:
            self.incomplete[body] = None
        return refusal

    def _enlarge(self, body: Body, now_s: float) -> Refusal | None:
        self.give(body.received, False)
        refusal = self.claim(body.received, now_s, True, body)
        if refusal is None:
            body.large = True
        else:  # its bytes are still held until the caller drops the body, and so still counted
            self.used += body.received
        return refusal

    def drop(self, body: Body) -> None:
        """Give back all that an incomplete body holds."""
        self.settle(body)
        self.give(body.received, body.large)

    def settle(self, body: Body) -> None:
        """Note that a body is complete: from here on its request's answer gives the bytes back."""
        self.incomplete.pop(body, None)
