"""What a scrape reads off the parts: the journal's totals, the lanes, the dead letters, the log."""

from __future__ import annotations

from collections.abc import Callable

from sidecar import log
from sidecar.clock import Clock
from sidecar.config.settings import Settings
from sidecar.journal import Journal
from sidecar.metrics import Metrics
from sidecar.model import State
from sidecar.outbound.deadletter import DeadLetters
from sidecar.outbound.dispatch import Dispatcher

__all__ = ["Gauges"]


class Gauges:
    """The gauges, and the counters that something durable counts.

    Args:
        metrics: Where they are.
        journal: Counts events and deliveries.
        dispatcher: Knows the lanes.
        dead_letters: Knows the files.
        clock: The machine's clocks.
        in_force: The settings that name whose rows are there at zero.
    """

    def __init__(
        self,
        metrics: Metrics,
        journal: Journal,
        dispatcher: Dispatcher,
        dead_letters: DeadLetters,
        clock: Clock,
        in_force: Callable[[], Settings],
    ) -> None:
        self._metrics = metrics
        self._journal = journal
        self._dispatcher = dispatcher
        self._dead_letters = dead_letters
        self._clock = clock
        self._in_force = in_force

    def refresh(self) -> None:
        """Bring those up to date that are in memory; called at each scrape."""
        m, journal = self._metrics, self._journal
        settings = self._in_force()
        stats, counters = journal.stats(), journal.counters()
        m.journal_used.set(stats.used_bytes)
        m.journal_capacity.set(stats.capacity_bytes)
        m.journal_disk_free.set(stats.disk_free_bytes)
        for source in settings.sources:
            m.dedup_evicted_early.create(source.name)
            for name in source.destinations:
                m.enqueued.create(source.name, name)
        for (source_name, name), n in counters.enqueued.items():
            m.enqueued.set_total(n, source_name, name)
        for source_name, n in journal.dedup_evicted_early().items():
            m.dedup_evicted_early.set_total(n, source_name)
        lanes = self._dispatcher.status()
        # One that is gone has no lane, and its enqueued ones are shown all the same: without its settled ones they would
        # look as if they were owed for ever.
        current = {lane.name for lane in lanes}
        for name in current | {name for _, name in counters.enqueued}:
            for outcome in (State.DELIVERED, State.DEAD, State.DISCARDED, State.REDIRECTED):
                m.settled.set_total(counters.settled.get((name, outcome.word), 0), name, outcome.word)
        # Rows of lanes and folders that are gone would keep what they showed last, and an alert on it would ring for ever.
        m.pending.drop(lambda labels: labels[0] in current)
        for lane in lanes:
            m.pending.set(lane.ready, lane.name, "ready")
            m.pending.set(lane.scheduled, lane.name, "scheduled")
            m.pending.set(lane.in_flight, lane.name, "in_flight")
            m.pending.set(lane.dying, lane.name, "dying")
        now_ms = self._clock.wall_ms()
        total_bytes = 0
        totals = self._dead_letters.totals()
        shown = {d.name for d in settings.destinations} | set(totals)
        m.dead_letters.drop(lambda labels: labels[0] in shown)
        m.oldest_dead_letter.drop(lambda labels: labels[0] in shown)
        for name in shown:
            t = totals.get(name)
            m.dead_letters.set(t.count if t else 0, name)
            oldest_ms = t.oldest_ms if t else None
            m.oldest_dead_letter.set(max(0, now_ms - oldest_ms) / 1000 if oldest_ms else 0, name)
            total_bytes += t.bytes if t else 0
        m.dead_letters_bytes.set(total_bytes)
        dropped, suppressed = log.counts()
        m.log_dropped.set_total(dropped)
        m.log_suppressed.set_total(suppressed)

    async def look(self) -> None:
        """Bring the gauges up to date that take a look into the journal: how old is the oldest that is owed."""
        now_ms = self._journal.clock_ms()
        for name in self._journal.destinations():
            oldest_ms = await self._journal.oldest_pending_ms(name)
            self._metrics.oldest_pending.set(0 if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000, name)
