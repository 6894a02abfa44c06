"""Deliver what the journal owes: a bounded lane per destination, and the one place that knows them all.

The journal tells of each commit (``on_batch``) and of what operators made due (``on_due``); configuration comes and goes
while it runs. Lanes share a byte budget and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from sidecar.clock import Clock
from sidecar.feed import Feed
from sidecar.log import get_logger
from sidecar.metrics import Metrics
from sidecar.model import Event
from sidecar.outbound.budget import Budget
from sidecar.outbound.bury import BuryJournal, Undertaker
from sidecar.outbound.deadletter import DeadLetters
from sidecar.outbound.deliver import KINDS, Destination, HttpOptions
from sidecar.outbound.lane import Lane
from sidecar.outbound.surroundings import DestinationOptions, LaneJournal, Outlet, Surroundings

__all__ = ["DestinationOptions", "DispatchJournal", "Dispatcher", "LaneStatus", "MakeDestination"]

log = get_logger("outbound")

MakeDestination = Callable[[str, HttpOptions, Clock], Destination]


class DispatchJournal(LaneJournal, BuryJournal, Protocol):
    """What the dispatcher needs of the journal."""


class LaneStatus(msgspec.Struct, frozen=True):
    """How one destination is doing.

    Attributes:
        name: The destination.
        configured: False for one that was removed and still has deliveries, or had when the process started.
        held: It gets nothing but probes, or is not configured.
        held_for_s: Since when; None when not held.
        last_error: Of the last failure that spoke about the backend, or of the last probe.
        next_probe_in_s: While held, when it is tried again at the earliest; else None.
        paused_for_s: How much longer it asked to be left alone; 0 = not.
        behind: Deliveries wait in the journal that are not in memory.
        in_memory: Deliveries in memory.
        pending: Deliveries owed; the sum of the next four.
        ready: Could be tried now.
        scheduled: Wait for a due time.
        in_flight: Being tried, or settled and not yet committed.
        dying: Given up; the file is to be written.
    """

    name: str
    configured: bool
    held: bool
    held_for_s: float | None
    last_error: str
    next_probe_in_s: float | None
    paused_for_s: float
    behind: bool
    in_memory: int
    pending: int
    ready: int
    scheduled: int
    in_flight: int
    dying: int


class Dispatcher:
    """All lanes.

    Args:
        journal: Open, and registered with every destination that is configured.
        metrics: Where to count.
        feed: Where to tell those who watch.
        clock: The machine's clocks.
        max_buffered_bytes: Bodies in memory on their way out, all destinations together; each may always hold one.
        deadletters: The DLQ directory, already open.
        resign: Fresh signature headers for an event at a wall-clock time in ms, where that is needed and possible.
        rand: Uniform in [0, 1).
        kinds: How destinations are made.
    """

    def __init__(
        self,
        journal: DispatchJournal,
        metrics: Metrics,
        feed: Feed,
        clock: Clock,
        *,
        max_buffered_bytes: int,
        deadletters: DeadLetters,
        resign: Callable[[Event, int], list[tuple[bytes, bytes]] | None],
        rand: Callable[[], float],
        kinds: Mapping[str, MakeDestination] = KINDS,
    ) -> None:
        self.lanes: dict[str, Lane] = {}
        self._journal = journal
        self._clock = clock
        self._kinds = kinds
        self._max_buffered_bytes = max_buffered_bytes
        self._budget = Budget(max_buffered_bytes)
        self._undertaker = Undertaker(journal, metrics, clock, deadletters, self._tell)
        self._around = Surroundings(
            journal, metrics, feed, clock, self._budget, resign, rand, self._undertaker.bury, self._tell
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False
        self._waiting: set[asyncio.Event] = set()  # one for each that waits for the lanes: drains, a stop
        self._retired: set[Outlet] = set()  # no longer configured, with tries that still run
        self._closing: set[asyncio.Task[None]] = set()
        self._warned: set[str] = set()

    # --- configuration

    def configure(
        self,
        destinations: Sequence[DestinationOptions],
        *,
        routes: Mapping[str, Iterable[str]] | None = None,
        max_buffered_bytes: int | None = None,
    ) -> None:
        """Add, change and remove destinations, also while running: all of it or, on an error, nothing.

        Args:
            destinations: All there are now. One that is gone keeps its pending deliveries, held, until it returns.
            routes: By destination, the sources that send to it, to make their metrics visible at zero.
            max_buffered_bytes: Changed limit; None = as before.

        Raises:
            ValueError: a destination's options cannot be used. The configuration's own check says so earlier.
            OSError: a file that they name cannot be read.
        """
        self.take_over(self.prepare(destinations), routes=routes, max_buffered_bytes=max_buffered_bytes)

    def prepare(self, destinations: Sequence[DestinationOptions]) -> list[tuple[DestinationOptions, Outlet]]:
        """Make what destinations need, for ``take_over``; nothing shows yet. Raises what ``configure`` raises."""
        prepared = []
        for options in destinations:
            lane = self.lanes.get(options.name)
            old = lane.outlet if lane is not None else None
            if old is not None and (old.options.kind, old.options.http) == (options.kind, options.http):
                prepared.append((options, old))
            else:
                made = self._kinds[options.kind](options.name, options.http, self._clock)
                prepared.append((options, Outlet(options, made)))
        return prepared

    def take_over(
        self,
        prepared: Sequence[tuple[DestinationOptions, Outlet]],
        *,
        routes: Mapping[str, Iterable[str]] | None = None,
        max_buffered_bytes: int | None = None,
    ) -> None:
        """Put what ``prepare`` made in force; see ``configure``. There is nothing in it that can fail."""
        outlets: dict[str, Outlet] = {}
        for options, outlet in prepared:
            outlet.options = options
            outlets[options.name] = outlet
        if max_buffered_bytes is not None:
            self._max_buffered_bytes = max_buffered_bytes
        for name, lane in self.lanes.items():
            if lane.outlet is not None and lane.outlet is not outlets.get(name) and lane.outlet.running:
                self._retired.add(lane.outlet)
        owing = self._owing()
        for name in [n for n in self.lanes if n not in outlets]:
            lane = self.lanes[name]
            lane.configure(None)
            if name not in owing and not len(lane.hand):
                lane.stop()
                del self.lanes[name]
                self._around.metrics.held.drop(lambda labels, gone=name: labels != (gone,))  # type: ignore[misc]
        for name, outlet in outlets.items():
            sources = (routes or {}).get(name, ())
            self._lane(name).configure(outlet, sources)
            self._warned.discard(name)
        for name, count in owing.items():
            if name not in outlets:
                self._lane(name).configure(None)
                self._warn(name, count)
        self._budget.share_out(set(outlets), self._max_buffered_bytes)

    def _owing(self) -> dict[str, int]:
        """What each destination is owed, by the durable books."""
        counters = self._journal.counters()
        names = {d for _, d in counters.enqueued}
        return {name: count for name in names if (count := counters.pending(name)) > 0}

    def _lane(self, name: str) -> Lane:
        lane = self.lanes.get(name)
        if lane is None:
            lane = self.lanes[name] = Lane(name, self._around, self._retire)
            if self._loop is not None and not self._stopped:
                lane.start(self._loop)
        return lane

    def _warn(self, name: str, count: int) -> None:
        if name not in self._warned:
            self._warned.add(name)
            log.warning(
                "destination is not configured, its deliveries are held; bring it back, or discard or redirect them",
                destination=name,
                pending=count,
            )

    def _retire(self, outlet: Outlet) -> None:
        """Close a backend that is no longer used."""
        self._retired.discard(outlet)
        if self._loop is None:
            return  # never started: nothing was opened
        task = self._loop.create_task(outlet.destination.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # --- life

    def start(self) -> None:
        """Begin to deliver. On the event loop, after the journal's own start."""
        self._loop = asyncio.get_running_loop()
        self._undertaker.start(self._loop)
        for lane in self.lanes.values():
            lane.start(self._loop)

    async def drain(self, wait_s: float) -> int:
        """Deliver on until nothing can be delivered any more, or the time is over.

        What is held, paused, not configured or due later than that is not waited for. Nothing is stopped: a drain may
        end without a shutdown.

        Args:
            wait_s: How long at most.

        Returns:
            Deliveries that are still owed.
        """
        end_s = self._clock.monotonic_s() + wait_s
        end_ms = self._journal.clock_ms() + int(wait_s * 1000)
        await self._until(lambda: self._idle(end_ms), end_s)
        return sum(self._owing().values())

    def _idle(self, until_ms: int) -> bool:
        return not self._undertaker.busy and not any(lane.ready(until_ms) for lane in self.lanes.values())

    async def stop(self, grace_s: float = 0.0) -> None:
        """Begin no more tries; running ones may end within the grace, then they are interrupted, using no attempt.

        Args:
            grace_s: How long to wait for running tries.
        """
        self._stopped = True
        for lane in self.lanes.values():
            lane.stop()
        if grace_s > 0:
            end_s = self._clock.monotonic_s() + grace_s
            await self._until(lambda: not any(lane.in_flight for lane in self.lanes.values()), end_s)
        outlets = [*self._retired, *(lane.outlet for lane in self.lanes.values() if lane.outlet is not None)]
        await asyncio.gather(*(outlet.destination.close() for outlet in outlets), *self._closing)
        await self._undertaker.stop()
        for lane in self.lanes.values():
            lane.stop()  # reports once more where a restart begins, now that nothing runs

    async def _until(self, condition: Callable[[], bool], end_s: float) -> None:
        """Wait for something that lanes tell of."""
        progress = asyncio.Event()
        self._waiting.add(progress)
        try:
            while not condition():
                left_s = end_s - self._clock.monotonic_s()
                if left_s <= 0:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(progress.wait(), left_s)
                progress.clear()
        finally:
            self._waiting.discard(progress)

    def _tell(self) -> None:
        for progress in self._waiting:
            progress.set()

    # --- what the journal tells

    def on_batch(self, events: Sequence[Event], last_seq: int) -> None:
        """Hear of a commit that brought events; in order, on the event loop."""
        owed: dict[str, list[Event]] = {name: [] for name in self.lanes}
        for event in events:
            for name in event.destinations:
                if name in owed:
                    owed[name].append(event)
                else:  # removed while this event was on its way into the journal
                    self._lane(name).configure(None)
                    self._warn(name, 1)
                    owed[name] = [event]
        for name, own in owed.items():
            self.lanes[name].on_batch(own, last_seq)

    def on_due(self, destination: str) -> None:
        """Hear that an operator, or a repeat, made something due."""
        lane = self.lanes.get(destination)
        if lane is None:
            lane = self._lane(destination)
            lane.configure(None)
            self._warn(destination, 1)
        lane.on_due()

    def on_withdrawn(self, destination: str) -> None:
        """Hear that an operator took pending deliveries away."""
        lane = self.lanes.get(destination)
        if lane is not None:
            lane.on_withdrawn()

    # --- looking in

    def status(self) -> list[LaneStatus]:
        """How every destination is doing, by name."""
        return [self._status(lane) for _, lane in sorted(self.lanes.items())]

    def _status(self, lane: Lane) -> LaneStatus:
        counters, now_s, hold = self._journal.counters(), self._clock.monotonic_s(), lane.hold
        name, configured = lane.name, lane.outlet is not None
        pending = counters.pending(name)
        dying = counters.dying.get(name, 0)
        in_flight = min(lane.in_flight + lane.unsettled, max(0, pending - dying))
        scheduled = max(0, counters.scheduled.get(name, 0) - lane.in_flight_due)
        scheduled = min(scheduled, max(0, pending - dying - in_flight))
        return LaneStatus(
            name=name,
            configured=configured,
            held=hold.held or not configured,
            held_for_s=now_s - hold.held_since_s if hold.held else None,
            last_error=hold.last_error,
            next_probe_in_s=max(0.0, hold.opens_at_s() - now_s) if hold.held and configured else None,
            paused_for_s=max(0.0, hold.paused_until_s - now_s),
            behind=lane.hand.behind,
            in_memory=len(lane.hand),
            pending=pending,
            ready=pending - dying - in_flight - scheduled,
            scheduled=scheduled,
            in_flight=in_flight,
            dying=dying,
        )
