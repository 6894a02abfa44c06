"""Write the files of deliveries that were given up, and only then let them leave the journal.

One thread writes, up to 64 letters a round. What cannot be written (no room, a folder that is not ours) stays dying in
the journal and is tried again; it blocks nobody else. Bodies wait in the journal, not here, once there are many.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from sidecar.clock import Clock
from sidecar.journal.types import Counters, Settlement
from sidecar.lifecycle import Change
from sidecar.log import bug_text, get_logger
from sidecar.metrics import Metrics
from sidecar.model import Delivery
from sidecar.outbound.deadletter import DeadLetters, Written

__all__ = ["BuryJournal", "Undertaker"]

log = get_logger("outbound")

T = TypeVar("T")

ROUND = 64
QUEUED_MOST = 256
QUEUED_BYTES = 8 << 20
UNSETTLED_MOST = 1024
AGAIN_S = 5.0  # for a folder that could not be written; doubled while that goes on
AGAIN_MOST_S = 60.0
REFRESH_S = 600.0  # people add and remove files by hand


class BuryJournal(Protocol):
    """What is needed of the journal."""

    def settle(self, settlement: Settlement, /) -> None:
        """Say that a delivery has its file."""
        ...

    async def dying(self, destination: str, /, *, limit: int, skip: Collection[int]) -> list[Delivery]:
        """Read deliveries whose file is still to be written."""
        ...

    def counters(self) -> Counters:
        """The durable counters."""
        ...


class Undertaker:
    """Takes over dying deliveries.

    Args:
        journal: Where they come from and are settled.
        metrics: For ``dead_letters_waiting``.
        clock: Dates the letters and times the rounds.
        letters: The directory, already open.
        progress: Told after each round.
    """

    def __init__(
        self, journal: BuryJournal, metrics: Metrics, clock: Clock, letters: DeadLetters, progress: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._letters = letters
        self._progress = progress
        self._queue: deque[Delivery] = deque()
        self._queued_bytes = 0
        self._taken: dict[str, set[int]] = {}  # by destination: queued, being written, or not yet committed
        self._unsettled = 0
        self._left: dict[str, float] = {}  # destinations with dying ones in the journal, and when to look (monotonic)
        self._missed: set[str] = set()  # of those, the ones that got another since they were last read
        self._stuck_s: dict[str, float] = {}  # destinations whose letters cannot be written, and the last wait
        self._wake = asyncio.Event()
        self._refresh_at_s = clock.monotonic_s() + REFRESH_S
        self._thread: ThreadPoolExecutor | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def waiting(self) -> int:
        """How many are in memory here."""
        return sum(len(seqs) for seqs in self._taken.values())

    @property
    def busy(self) -> bool:
        """Whether something is being written or could be at once."""
        now_s = self._clock.monotonic_s()
        return bool(self.waiting) or any(at_s <= now_s for at_s in self._left.values())

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, with what a former process left."""
        for destination, count in self._journal.counters().dying.items():
            if count:
                self._left.setdefault(destination, 0.0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dead-letters")
        self._task = loop.create_task(self._run())

    async def stop(self) -> None:
        """Let the round under way end; what is left stays in the journal. Safe to call twice, and before ``start``."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait((self._task,))  # leaves it alone when we are cancelled: a second stop waits for it, too
            self._task = None
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    def bury(self, delivery: Delivery) -> None:
        """Take over one delivery that was given up just now: the journal has it as dying."""
        last = delivery.log[-1] if delivery.log else None
        log.limited(
            f"dead {delivery.destination}",
            "warning",
            "a delivery was given up",
            destination=delivery.destination,
            source=delivery.event.source,
            event_id=delivery.event.id,
            reason=delivery.reason,
            error=(last.error or None) if last is not None else None,
        )
        name, size = delivery.destination, len(delivery.event.body)
        many = len(self._queue) >= QUEUED_MOST or (self._queue and self._queued_bytes + size > QUEUED_BYTES)
        if name in self._left or many:
            self._left.setdefault(name, 0.0)
            self._missed.add(name)
            if name in self._stuck_s:
                self._count_waiting(name)
        else:
            self._take(delivery)
        self._wake.set()

    def _take(self, delivery: Delivery) -> None:
        taken = self._taken.setdefault(delivery.destination, set())
        if delivery.event.seq not in taken:
            taken.add(delivery.event.seq)
            self._queue.append(delivery)
            self._queued_bytes += len(delivery.event.body)

    async def _run(self) -> None:
        while not self._stopping:
            try:
                if not await self._round():
                    await self._rest()
            except Exception as e:  # noqa: BLE001 - the journal's trouble, or a bug: never the end of this
                log.limited("bury", "error", "writing dead letters failed", error=bug_text(e))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wait_for_stop(), AGAIN_S)

    async def _wait_for_stop(self) -> None:
        while not self._stopping:
            self._wake.clear()
            await self._wake.wait()

    async def _rest(self) -> None:
        """Sleep until there is something to do."""
        now_s = self._clock.monotonic_s()
        until_s = (
            min([self._refresh_at_s, *self._left.values()]) if self._unsettled < UNSETTLED_MOST else now_s + AGAIN_S
        )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(0.01, until_s - now_s))
        self._wake.clear()

    async def _round(self) -> bool:
        """Write up to 64 letters; False when there was nothing to do."""
        now_s = self._clock.monotonic_s()
        if self._unsettled >= UNSETTLED_MOST:
            return False
        if not self._queue:
            await self._fetch(now_s)
        batch = [self._queue.popleft() for _ in range(min(ROUND, len(self._queue)))]
        self._queued_bytes -= sum(len(d.event.body) for d in batch)
        if batch:
            died_at_ms = self._clock.wall_ms()
            try:
                results = await self._on_thread(lambda: self._letters.write_many([(d, died_at_ms) for d in batch]))
            except Exception:  # no memory, no thread: the journal has them still, and they are fetched again
                for delivery in batch:
                    self._forget(delivery)
                    self._left[delivery.destination] = now_s + AGAIN_S
                raise
            self._account(batch, results)
        if now_s >= self._refresh_at_s or self._letters.oldest_unsure:
            self._refresh_at_s = now_s + REFRESH_S
            await self._on_thread(self._letters.refresh)
        self._progress()
        return bool(batch)

    async def _fetch(self, now_s: float) -> None:
        """Bring dying ones out of the journal, from the destinations whose time it is."""
        for name in [n for n, at_s in self._left.items() if at_s <= now_s]:
            self._missed.discard(name)
            found = await self._journal.dying(name, limit=ROUND, skip=frozenset(self._taken.get(name, ())))
            if not found and name not in self._missed:
                del self._left[name]
                self._stuck_s.pop(name, None)
                self._metrics.dead_letters_waiting.set(0, name)
            for delivery in found:
                self._take(delivery)
            if self._queue:
                return

    def _account(self, batch: list[Delivery], results: list[Written]) -> None:
        stuck: dict[str, Written] = {}
        for delivery, written in zip(batch, results, strict=True):
            if written.done:
                self._unsettled += 1
                self._stuck_s.pop(delivery.destination, None)
                self._journal.settle(Settlement(delivery, Change.BURY, done=self._settled))
            else:
                self._forget(delivery)
                stuck[delivery.destination] = written
        now_s = self._clock.monotonic_s()
        for name, written in stuck.items():
            if name in self._stuck_s and self._left.get(name, 0.0) > now_s:
                continue  # what was queued behind it met the same trouble; that is no reason to wait for longer
            wait_s = self._stuck_s[name] = min(self._stuck_s.get(name, AGAIN_S / 2) * 2, AGAIN_MOST_S)
            self._left[name] = now_s + wait_s
            waiting = self._count_waiting(name)
            why = "dead_letters.max_size is reached" if written.full and not written.error else written.error
            log.limited(
                f"bury {name}",
                "error",
                "dead letters cannot be written",
                destination=name,
                waiting=waiting,
                folder=self._letters.options.path,
                why=why,
            )

    def _count_waiting(self, name: str) -> int:
        waiting = self._journal.counters().dying.get(name, 0)
        self._metrics.dead_letters_waiting.set(waiting, name)
        return waiting

    def _settled(self, settlement: Settlement, applied: bool) -> None:
        self._unsettled -= 1
        self._forget(settlement.delivery)
        if settlement.delivery.destination in self._stuck_s:
            self._count_waiting(settlement.delivery.destination)
        if not applied:
            # Whoever changed it has decided about its file, too.
            delivery = settlement.delivery
            log.warning(
                "a dead letter was written for a delivery that is not dying any more",
                destination=delivery.destination,
                event_id=delivery.event.id,
            )
        self._wake.set()
        self._progress()

    def _forget(self, delivery: Delivery) -> None:
        taken = self._taken.get(delivery.destination)
        if taken is not None:
            taken.discard(delivery.event.seq)
            if not taken:
                del self._taken[delivery.destination]

    async def _on_thread(self, work: Callable[[], T]) -> T:
        assert self._thread is not None
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
