"""The dispatcher's world for a simulation: a journal that forgets what it had not committed when the process dies.

Everything the dispatcher does goes through a port (journal, backend, clock, randomness), and each port call may be the
last one of a process. What an earlier process still does afterwards reaches nobody.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from typing import Any

from sidecar.journal.types import Counters, DueWindow, FreshWindow, Settlement
from sidecar.lifecycle import Change
from sidecar.model import Delivery
from sidecar.outbound.retry import RetryPolicy
from tests.support.lane_world import ModelBackend, ModelJournal, Script
from tests.support.virtual import VirtualClock, VirtualLoop

__all__ = ["SimBackend", "SimJournal", "SimPort"]

_LATE_MS, _LATE_SHARE = 1000, 0.05


class SimJournal(ModelJournal):
    """The model journal, with lives.

    Attributes:
        life: Number of the process that runs; a commit that was not made when it ends is never made.
        until_death: Port calls left in this life; negative = no death planned.
        died: Set when a life ends.
        acked: Seqs whose senders were answered.
        wrong: What should not have happened.
    """

    def __init__(self, loop: VirtualLoop, clock: VirtualClock, rand: random.Random, delay_s: float) -> None:
        super().__init__(loop, clock, rand, delay_s)
        self.life = 0
        self.until_death = -1
        self.died = asyncio.Event()
        self.acked: set[int] = set()
        self.wrong: list[str] = []
        self.noted_later: dict[str, int] = {}

    def port_call(self) -> None:
        """Something crosses a port: the process may die right here."""
        if self.until_death >= 0:
            self.until_death -= 1
            if self.until_death < 0:
                self.life += 1
                self.noted_later.clear()
                self.died.set()

    def _commit(self, work: Callable[[], Callable[[], None]]) -> None:
        life = self.life

        def alive_only() -> Callable[[], None]:
            if self.life != life:
                return lambda: None  # it was never on disk
            for name, seq in self.noted_later.items():
                self.note_fresh_from(name, seq)
            self.noted_later.clear()
            after = work()
            self.port_call()  # on disk, and nobody may ever hear of it
            return lambda: after() if self.life == life else None

        super()._commit(alive_only)


class SimPort:
    """The journal as one process sees it.

    Attributes:
        up_at_ms: When the process began, by the journal's clock.
        settled: What it put off itself, as settlements name it afterwards.
    """

    def __init__(self, journal: SimJournal, policies: dict[str, RetryPolicy]) -> None:
        self._journal, self._life, self.policies = journal, journal.life, policies
        self.up_at_ms = journal.clock_ms()
        self.settled: set[tuple[str, tuple[int, int, int]]] = set()

    @property
    def alive(self) -> bool:
        """Whether this process still runs."""
        return self._journal.life == self._life

    def clock_ms(self) -> int:
        return self._journal.clock_ms()

    def counters(self) -> Counters:
        return self._journal.counters()

    def fresh_from(self, destination: str) -> int:
        return self._journal.fresh_from(destination)

    def note_fresh_from(self, destination: str, seq: int) -> None:
        if self.alive:
            self._journal.noted_later[destination] = seq

    def settle(self, settlement: Settlement) -> None:
        if not self.alive:
            return
        self._journal.port_call()
        if not self.alive:
            return
        d = settlement.delivery
        if settlement.change is Change.RETRY:
            policy = self.policies[d.destination]
            least_s = min(policy.max_delay_s, policy.base_s * policy.factor**d.attempts) * (1 - policy.jitter)
            wait_ms = settlement.due_at_ms - self.clock_ms()
            if wait_ms < least_s * 1000 - 2:
                self._journal.wrong.append(f"{d.destination}/{d.event.seq}: waits {wait_ms} ms, not {least_s} s")
            self.settled.add((d.destination, (d.event.seq, d.round, d.attempts + 1)))
        self._journal.settle(settlement)

    async def window(
        self, destination: str, from_seq: int, *, max_events: int, max_bytes: int, skip: Collection[int]
    ) -> FreshWindow:
        self._journal.port_call()
        found = await self._journal.window(destination, from_seq, max_events=max_events, max_bytes=max_bytes, skip=skip)
        return found if self.alive else FreshWindow([], from_seq - 1, at_end=True)

    async def due(self, destination: str, *, max_events: int, max_bytes: int, skip: Collection[int]) -> DueWindow:
        self._journal.port_call()
        found = await self._journal.due(destination, max_events=max_events, max_bytes=max_bytes, skip=skip)
        return found if self.alive else DueWindow([], None)

    async def dying(self, destination: str, *, limit: int, skip: Collection[int]) -> list[Delivery]:
        self._journal.port_call()
        found = await self._journal.dying(destination, limit=limit, skip=skip)
        return found if self.alive else []

    async def oldest_pending_ms(self, destination: str) -> int | None:
        return await self._journal.oldest_pending_ms(destination)


class SimBackend(ModelBackend):
    """A backend that a dead process cannot reach, and that notices tries which come at the wrong time.

    Args:
        timed: Tries that come too late are wrong too: nothing keeps the lane from making them in time.
    """

    def __init__(self, journal: SimJournal, port: SimPort, name: str, script: Script, *, timed: bool) -> None:
        super().__init__(journal.loop, journal.clock, script)
        self._journal, self.port, self._name, self._timed = journal, port, name, timed

    def attempt(self, delivery: Delivery, resigned: Any, done: Any) -> Any:
        if self.port.alive:
            self._journal.port_call()
        if not self.port.alive:
            return _Nothing()
        row = self._journal.rows[self._name][delivery.event.seq]
        now_ms = self._journal.clock_ms()
        if row.due_at_ms and row.due_at_ms > now_ms + 1:
            self._journal.wrong.append(
                f"{self._name}/{delivery.event.seq}: tried {row.due_at_ms - now_ms} ms too early"
            )
        if self._timed and row.due_at_ms and row.log:
            late_ms = now_ms - max(row.due_at_ms, self.port.up_at_ms)
            waited_ms = row.due_at_ms - row.log[-1].started_at_ms
            slow_ms = 5000 * self._journal.delay_s  # the journal itself may be slow: a commit and a read
            if late_ms > max(_LATE_MS, _LATE_SHARE * waited_ms) + slow_ms:
                self._journal.wrong.append(f"{self._name}/{delivery.event.seq}: tried {late_ms} ms too late")
        return super().attempt(delivery, resigned, done)


class _Nothing:
    started_ms = 0

    def cancel(self) -> None:
        """There is nothing to end."""
