"""What all connections of one listener share: limits, the application, the budget, and who has waited longest.

``server`` makes one; ``connection`` uses it. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Callable, Collection
from email.utils import formatdate
from typing import Protocol

from sidecar import log
from sidecar.clock import Clock
from sidecar.inbound.application import Application, ServerOptions
from sidecar.inbound.body import Budget
from sidecar.metrics import Metrics

__all__ = ["NEVER", "Member", "Shared"]

NEVER = float("inf")
FILES_LOW = 8  # the last descriptors below our limit are for journal, deliveries and dead letters
FILES_AGAIN_S = 60.0

_log = log.get_logger("inbound")


class Member(Protocol):
    """What the listener needs to know of a connection."""

    deadline_s: float

    @property
    def owed(self) -> Collection[object]:
        """Requests whose answers have not gone out."""

    def shed(self) -> None:
        """Be closed at once, to make room."""

    def expire(self, now_s: float) -> None:
        """Be told that ``deadline_s`` has passed."""

    def leave(self) -> bool:
        """Close if nothing is owed and nothing has begun; otherwise say False."""

    def abort(self) -> None:
        """Be cut off."""


class Shared:
    """The state behind all connections of one listener.

    Attributes:
        options: Limits.
        app: Who decides about requests.
        now: The monotonic clock, in seconds.
        budget: Body bytes in memory.
        received: The values of ``received_bytes_total``, bound for the hot path.
        order: Open connections; the one longest without a complete request comes first.
        refusing: From now on every answer ends its connection.
        closing: From now on nobody is let in: one that was accepted just before the listening socket was closed, too.
        date: The current Date line, complete; refreshed by ``tick``.
        idle_until_s: When a connection that is idle from now on may be closed; refreshed by ``tick``.
        on_first: Called before the first of the connections comes in: from now on somebody has to ``tick``.
    """

    def __init__(
        self, options: ServerOptions, app: Application, metrics: Metrics, clock: Clock, *, tick_s: float
    ) -> None:
        self.options = options
        self.app = app
        self.now: Callable[[], float] = clock.monotonic_s
        self.budget = Budget(options.max_buffered_bytes)
        self.received = metrics.received_bytes.values
        self.order: OrderedDict[Member, None] = OrderedDict()
        self.refusing = False
        self.closing = False
        self.date = b""
        self.idle_until_s = NEVER
        self.on_first: Callable[[], None] = lambda: None
        self._clock = clock
        self._metrics = metrics
        self._tick_s = tick_s
        self._date_s = -1
        self._files = NEVER  # how many we may have open
        self._files_said_s = -NEVER
        self._empty = asyncio.Event()
        self._empty.set()
        self.touch = self.order.move_to_end
        self.tick()

    def tick(self) -> None:
        """Look at the clocks, and tell connections whose time is up."""
        now_s = self.now()
        self.idle_until_s = now_s + self._tick_s + self.options.keepalive_timeout_s
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # it may be changed from outside
        self._files = limit if limit != resource.RLIM_INFINITY else NEVER
        wall_s = self._clock.wall_ms() // 1000
        if wall_s != self._date_s:
            self._date_s = wall_s
            self.date = b"Date: %b\r\n" % formatdate(wall_s, usegmt=True).encode()
        for member in [m for m in self.order if m.deadline_s <= now_s]:
            member.expire(now_s)

    def admit(self, member: Member, file: int) -> bool:
        """Take a new connection in; at the cap, or with one of the last descriptors, in the place of another.

        The one longest without a complete request has to go.

        Args:
            member: The connection.
            file: The number of its descriptor; -1 when it has none.

        Returns:
            False when every connection there is waits for an answer of ours, or we close: then the new one has to go.
        """
        if self.closing:
            return False
        if not self.order:
            self.on_first()
        low = file >= self._files - FILES_LOW
        if low:
            self._warn_of_files()
        if self.order and (low or len(self.order) >= self.options.max_connections):
            self._metrics.connections_shed.inc()
            oldest = next((m for m in self.order if not m.owed), None)
            if oldest is None:
                return False
            oldest.shed()
        self.order[member] = None
        self._empty.clear()
        self._metrics.connections.set(len(self.order))
        return True

    def _warn_of_files(self) -> None:
        now_s = self.now()
        if now_s - self._files_said_s >= FILES_AGAIN_S:
            self._files_said_s = now_s
            _log.warning("almost no file descriptors are left: connections are cut", limit=self._files)

    def demote(self, member: Member) -> None:
        """Let a connection that is as good as closed be the first to go."""
        if member in self.order:
            self.order.move_to_end(member, last=False)

    def forget(self, member: Member) -> None:
        """Note that a connection is gone. Safe to call twice."""
        self.order.pop(member, None)
        self._metrics.connections.set(len(self.order))
        if not self.order:
            self._empty.set()

    async def wait_empty(self) -> None:
        """Wait until no connection is open."""
        await self._empty.wait()
