"""Fetch deliveries from the journal into a lane's hand: one read at a time, on its reader thread.

The rules of what to read are the hand's (``hand.py``); here is the waiting. That there is only one read at a time is
what makes it safe to leave out what was in hand when it began: nothing else comes into the hand from there meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from sidecar.clock import Clock
from sidecar.log import bug_text, get_logger
from sidecar.model import Delivery
from sidecar.outbound.hand import Hand, Read
from sidecar.outbound.retry import RetryPolicy
from sidecar.outbound.surroundings import LaneJournal
from sidecar.outbound.sweep import Sweep

__all__ = ["Claim", "Claimant"]

log = get_logger("outbound")

_AGAIN_S = 1.0  # after a read that failed


class Claimant(Protocol):
    """The lane, as far as it matters here."""

    policy: RetryPolicy

    def wants(self, *, probing: bool) -> bool:
        """Whether what a read for this purpose brings is still wanted."""
        ...

    def expire(self, delivery: Delivery) -> None:
        """Give up what is too old."""
        ...

    def look(self) -> None:
        """Something has changed."""
        ...


class Claim:
    """The read under way, if any.

    Args:
        lane: Who wants deliveries.
        hand: Where they go.
        journal: Where they come from.
        clock: For waiting after a failure.
    """

    def __init__(self, lane: Claimant, hand: Hand, journal: LaneJournal, clock: Clock) -> None:
        self.sweep = Sweep(hand)
        self.not_before_s = 0.0  # monotonic; after a failure
        self._lane = lane
        self._hand = hand
        self._journal = journal
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a read is under way."""
        return self._task is not None

    def stop(self) -> None:
        """Forget the read under way."""
        if self._task is not None:
            self._task.cancel()

    def fetch(self, loop: asyncio.AbstractEventLoop, read: Read) -> None:
        """Make a read that the hand has planned."""
        self._task = loop.create_task(self._fetch(read))
        self._task.add_done_callback(self._given_up)

    def _given_up(self, task: asyncio.Task[None]) -> None:
        # Here and not in the task: one that is cancelled before its first step never runs at all.
        if task.cancelled():
            self._hand.read_failed()
            self._task = None

    def look_for_old(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a look at whether something is too old."""
        self._task = loop.create_task(self._sweep())

    async def _fetch(self, read: Read) -> None:
        hand, name = self._hand, self._hand.name
        limits = {"max_events": read.max_events, "max_bytes": read.max_bytes}
        try:
            if read.due:
                hand.take_due(await self._journal.due(name, **limits, skip=read.skip))
            else:
                hand.take_window(await self._journal.window(name, read.from_seq, **limits, skip=read.skip))
        except Exception as e:  # noqa: BLE001 - the journal's trouble; it is asked again
            hand.read_failed()
            self._failed(e)
        self._task = None
        if not self._lane.wants(probing=read.probing):
            hand.let_go()
        self._lane.look()

    async def _sweep(self) -> None:
        try:
            for delivery in await self.sweep.look(self._journal, self._lane.policy):
                self._lane.expire(delivery)
        except Exception as e:  # noqa: BLE001 - as in _fetch
            self._failed(e)
        finally:
            self._task = None
        self.sweep.plan_next(self._clock.monotonic_s())
        self._lane.look()

    def _failed(self, e: Exception) -> None:
        self.not_before_s = self._clock.monotonic_s() + _AGAIN_S
        log.limited("read", "error", "reading deliveries failed", destination=self._hand.name, error=bug_text(e))
