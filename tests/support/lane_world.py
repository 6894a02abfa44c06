"""A small world round a lane: a scripted journal with delays of its own, and backends that answer as they are told.

The journal is a model of the real one's order of things, not of its storage: commits are atomic, callbacks come after
the commit in one piece, and a read may answer with a snapshot that is older than what the loop knows by then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from sidecar.feed import Feed
from sidecar.journal.types import Counters, DueWindow, FreshWindow, Settlement
from sidecar.lifecycle import Change, next_state
from sidecar.metrics import Metrics
from sidecar.model import Attempt, Delivery, Event, State, format_event_id
from sidecar.outbound.budget import Budget
from sidecar.outbound.deliver import Done, HttpOptions, Result
from sidecar.outbound.lane import Lane
from sidecar.outbound.retry import RetryPolicy
from sidecar.outbound.surroundings import DestinationOptions, Outlet, Surroundings
from tests.support.virtual import VirtualClock, VirtualLoop

OK = Result(200)
REFUSED = Result(failure="connect", error="connection refused")
TIMEOUT = Result(failure="timeout", error="no answer in time")


@dataclass
class Row:
    """One delivery as the journal has it."""

    event: Event
    state: State = State.PENDING
    round: int = 0
    attempts: int = 0
    due_at_ms: int = 0
    started_at_ms: int = 0
    reason: str = ""
    log: list[Attempt] = field(default_factory=list)

    def claim(self, destination: str) -> Delivery:
        return Delivery(
            self.event,
            destination,
            self.state,
            self.round,
            self.attempts,
            self.started_at_ms,
            self.due_at_ms,
            self.reason,
            tuple(self.log),
        )


class ModelJournal:
    """Deliveries of any destinations, in memory."""

    def __init__(self, loop: VirtualLoop, clock: VirtualClock, rand: random.Random, delay_s: float = 0.002) -> None:
        self.loop, self.clock, self.rand, self.delay_s = loop, clock, rand, delay_s
        self.rows: dict[str, dict[int, Row]] = {}
        self.next_seq = 1
        self.last_seq = 0
        self.noted: dict[str, int] = {}
        self.stale: list[Settlement] = []
        self.on_batch: Callable[[list[Event], int], None] = lambda events, seq: None
        self.on_due: Callable[[str], None] = lambda name: None
        self.reads = 0
        self.read_error: Exception | None = None
        self._last_commit_s = 0.0

    def clock_ms(self) -> int:
        return self.clock.boot_ms()

    def fresh_from(self, destination: str) -> int:
        return self.noted.get(destination, 0)

    def note_fresh_from(self, destination: str, seq: int) -> None:
        lowest = min(
            (s for s, r in self.rows.get(destination, {}).items() if r.state is State.PENDING and not r.due_at_ms),
            default=seq,
        )
        assert lowest >= seq, "a restart would lose a fresh delivery"
        self.noted[destination] = seq

    def _commit(self, work: Callable[[], Callable[[], None]]) -> None:
        """Do something in one commit; what it returns is called on the loop a little later, in order of commits."""
        at = max(self._last_commit_s + 1e-6, self.loop.now_s + self.rand.random() * self.delay_s)
        self._last_commit_s = at

        def commit() -> None:
            after = work()
            self.loop.call_at(max(at, self.loop.now_s) + self.delay_s, after)

        self.loop.call_at(at, commit)

    def append(self, *destinations: str, body: bytes = b"{}", source: str = "s", verified: bool = False) -> Event:
        """Accept an event; it is committed a little later."""
        seq = self.next_seq
        self.next_seq += 1
        now = self.clock.wall_ms()
        event = Event(source, destinations, now, b"POST", b"/p", b"", [], body, verified=verified)
        event.seq, event.id, event.accepted_at_ms = seq, format_event_id(now, 7, seq), self.clock_ms()

        def commit() -> Callable[[], None]:
            for name in destinations:
                self.rows.setdefault(name, {})[seq] = Row(event, started_at_ms=event.accepted_at_ms)
            self.last_seq = seq
            return lambda: self.on_batch([event], seq)

        self._commit(commit)
        return event

    def preload(self, destination: str, count: int, body: bytes = b"{}") -> None:
        """Put a backlog there as if it were old."""
        for _ in range(count):
            seq = self.next_seq
            self.next_seq += 1
            event = Event("s", (destination,), self.clock.wall_ms(), b"POST", b"/p", b"", [], body)
            event.seq, event.id, event.accepted_at_ms = seq, format_event_id(0, 7, seq), self.clock_ms()
            self.rows.setdefault(destination, {})[seq] = Row(event, started_at_ms=event.accepted_at_ms)
            self.last_seq = seq

    def settle(self, settlement: Settlement) -> None:
        def commit() -> Callable[[], None]:
            d = settlement.delivery
            row = self.rows[d.destination][d.event.seq]
            to = next_state(row.state, settlement.change)
            applied = to is not None and (row.round, row.attempts) == (d.round, d.attempts)
            if applied:
                assert to is not None
                row.state = to
                row.due_at_ms = settlement.due_at_ms if settlement.change is Change.RETRY else 0
                row.reason = settlement.reason or row.reason
                if settlement.attempt is not None:
                    row.attempts += 1
                    row.log.append(settlement.attempt)
            else:
                self.stale.append(settlement)
            return lambda: settlement.done(settlement, applied) if settlement.done else None

        self._commit(commit)

    def operate(self, destination: str, seq: int, change: Change) -> None:
        """Do what an operator does."""

        def commit() -> Callable[[], None]:
            row = self.rows[destination][seq]
            to = next_state(row.state, change)
            if to is None:
                return lambda: None
            row.state = to
            row.due_at_ms = 0
            if to is State.PENDING:
                row.round, row.attempts, row.due_at_ms = row.round + 1, 0, self.clock_ms()
                row.started_at_ms = self.clock_ms()
                return lambda: self.on_due(destination)
            return lambda: None

        self._commit(commit)

    async def _snapshot(self) -> None:
        self.reads += 1
        if self.read_error is not None:
            raise self.read_error
        await asyncio.sleep(self.rand.random() * self.delay_s)

    async def _late(self) -> None:
        await asyncio.sleep(self.rand.random() * self.delay_s * 3)

    async def window(
        self, destination: str, from_seq: int, *, max_events: int, max_bytes: int, skip: Collection[int]
    ) -> FreshWindow:
        await self._snapshot()
        last_seq, found, size, covered = self.last_seq, [], 0, from_seq - 1
        for seq, row in self.rows.get(destination, {}).items():
            if seq < from_seq or row.state is not State.PENDING or row.round or row.attempts or seq in skip:
                continue
            if found and size + len(row.event.body) > max_bytes:
                break
            found.append(row.claim(destination))
            size += len(row.event.body)
            covered = seq
            if len(found) >= max_events or size >= max_bytes:
                break
        else:
            await self._late()
            return FreshWindow(found, max(covered, last_seq), at_end=True)
        await self._late()
        return FreshWindow(found, covered, at_end=False)

    async def due(self, destination: str, *, max_events: int, max_bytes: int, skip: Collection[int]) -> DueWindow:
        now_ms = self.clock_ms()
        await self._snapshot()
        waiting = sorted(
            (row.due_at_ms, seq)
            for seq, row in self.rows.get(destination, {}).items()
            if row.state is State.PENDING and row.due_at_ms
        )
        found: list[Delivery] = []
        size, after = 0, None
        for due_at_ms, seq in waiting:
            if due_at_ms > now_ms:
                after = due_at_ms
                break
            if seq in skip:
                continue
            if len(found) >= max_events or size >= max_bytes:
                after = due_at_ms
                break
            found.append(self.rows[destination][seq].claim(destination))
            size += len(found[-1].event.body)
        await self._late()
        return DueWindow(found, after)

    async def dying(self, destination: str, *, limit: int, skip: Collection[int]) -> list[Delivery]:
        rows = self.rows.get(destination, {})
        return [r.claim(destination) for s, r in rows.items() if r.state is State.DYING and s not in skip][:limit]

    async def oldest_pending_ms(self, destination: str) -> int | None:
        rows = self.rows.get(destination, {}).values()  # in the order in which they were accepted
        return next((r.event.accepted_at_ms for r in rows if r.state.is_open), None)

    def counters(self) -> Counters:
        enqueued = {("s", d): len(rows) for d, rows in self.rows.items()}
        settled = {(d, "x"): sum(not r.state.is_open for r in rows.values()) for d, rows in self.rows.items()}
        scheduled = {d: sum(r.due_at_ms > 0 for r in rows.values()) for d, rows in self.rows.items()}
        dying = {d: sum(r.state is State.DYING for r in rows.values()) for d, rows in self.rows.items()}
        return Counters(enqueued, settled, scheduled, dying)

    def states(self, destination: str) -> list[str]:
        return [row.state.word for row in self.rows.get(destination, {}).values()]

    def count(self, destination: str, state: State) -> int:
        return sum(row.state is state for row in self.rows.get(destination, {}).values())


Script = Callable[[Delivery, int], tuple[float, Result]]


class _Try:
    def __init__(self, backend: ModelBackend, seq: int, done: Done, started_ms: int) -> None:
        self.backend, self.seq, self.done, self.started_ms = backend, seq, done, started_ms
        self.timer: asyncio.TimerHandle | None = None

    def end(self, result: Result) -> None:
        if self.seq in self.backend.running:
            del self.backend.running[self.seq]
            self.done(result)

    def cancel(self) -> None:
        assert self.timer is not None
        self.timer.cancel()
        self.end(Result(failure="interrupted"))


class ModelBackend:
    """A destination that answers by a script and remembers every try as (time, seq, attempt number)."""

    def __init__(self, loop: VirtualLoop, clock: VirtualClock, script: Script) -> None:
        self.loop, self.clock, self.script = loop, clock, script
        self.tries: list[tuple[float, int, int]] = []
        self.headers: list[Sequence[tuple[bytes, bytes]]] = []
        self.running: dict[int, _Try] = {}
        self.most_at_once = 0
        self.most_bytes = 0
        self.closed = False

    def attempt(self, delivery: Delivery, resigned: Sequence[tuple[bytes, bytes]], done: Done) -> _Try:
        seq = delivery.event.seq
        assert seq not in self.running, "the same delivery is tried twice at once"
        assert not self.closed
        self.tries.append((self.loop.now_s, seq, delivery.attempts + 1))
        self.headers.append(resigned)
        delay_s, result = self.script(delivery, len(self.tries))
        result = Result(
            result.status, result.failure, result.error, result.retry_after, int(delay_s * 1000), self.clock.wall_ms()
        )
        running = self.running[seq] = _Try(self, seq, done, self.clock.wall_ms())
        running.timer = self.loop.call_later(delay_s, running.end, result)
        self.most_at_once = max(self.most_at_once, len(self.running))
        return running

    async def close(self) -> None:
        self.closed = True
        for running in list(self.running.values()):
            running.cancel()

    def seqs(self) -> list[int]:
        return [seq for _, seq, _ in self.tries]


class World:
    """One lane, or several, with everything they need."""

    def __init__(self, seed: int = 1, max_buffered: int = 1 << 20, delay_s: float = 0.002) -> None:
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.rand = random.Random(seed)
        self.journal = ModelJournal(self.loop, self.clock, self.rand, delay_s)
        self.metrics = Metrics()
        self.feed = Feed()
        self.budget = Budget(max_buffered)
        self.buried: list[Delivery] = []
        self.retired: list[Outlet] = []
        self.resigned: list[tuple[str, int]] = []
        self.fresh_headers: list[tuple[bytes, bytes]] | None = None
        self.around = Surroundings(
            self.journal,
            self.metrics,
            self.feed,
            self.clock,
            self.budget,
            self._resign,
            lambda: 0.5,
            self.buried.append,
            lambda: None,
        )
        self.lanes: dict[str, Lane] = {}
        self.journal.on_batch = self._on_batch
        self.journal.on_due = lambda name: self.lanes[name].on_due()

    def _resign(self, event: Event, now_ms: int) -> list[tuple[bytes, bytes]] | None:
        self.resigned.append((event.id, now_ms))
        return self.fresh_headers

    def _on_batch(self, events: list[Event], last_seq: int) -> None:
        for name, lane in self.lanes.items():
            lane.on_batch([e for e in events if name in e.destinations], last_seq)

    def lane(
        self,
        script: Script | Result = OK,
        name: str = "d",
        *,
        retry: RetryPolicy | None = None,
        concurrency: int = 4,
        hold_after: int = 20,
        signature: str = "fresh",
        start: bool = True,
    ) -> tuple[Lane, ModelBackend]:
        answer = script if callable(script) else (lambda d, n: (0.01, script))
        backend = ModelBackend(self.loop, self.clock, answer)
        http = HttpOptions(url="http://x", concurrency=concurrency)
        options = DestinationOptions(
            name=name,
            http=http,
            retry=retry or RetryPolicy(jitter=0.0),
            hold_after=hold_after,
            signature=signature,  # type: ignore[arg-type]
        )
        lane = self.lanes.get(name)
        if lane is None:
            lane = self.lanes[name] = Lane(name, self.around, self.retired.append)
            self.budget.share_out(set(self.lanes), self.budget._max_bytes)
        lane.configure(Outlet(options, backend))
        if start:
            lane.start(self.loop)
        return lane, backend
