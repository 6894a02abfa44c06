"""The real journal against a small model, through any sequence of its verbs, restarts and crashes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.journal.types import Appended, Duplicate, EventQuery, Ref
from sidecar.lifecycle import Change
from sidecar.model import Delivery, State
from tests.support.clocks import FakeClock
from tests.support.journals import DESTINATIONS, Books, make_claim, make_event

TTL_MS = 3_600_000
RETENTION_S = 7200.0
KEYS = [f"key-{i}" for i in range(5)]


@dataclass
class Row:
    """What the model knows of one delivery."""

    state: State = State.PENDING
    round: int = 0
    attempts: int = 0
    due_at_ms: int = 0  # 0 = fresh
    started_ms: int = 0


@dataclass
class Known:
    """What the model knows of one event."""

    body: bytes
    rows: dict[str, Row] = field(default_factory=dict)


class JournalModel(RuleBasedStateMachine):
    """Rules are the journal's verbs; the model is two dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.path = tempfile.mkdtemp(prefix="journal-model-")
        self.clock = FakeClock()
        self.events: dict[str, Known] = {}
        self.keys: dict[str, tuple[str, int]] = {}  # key -> (event id, expires on the journal clock)
        self.n = 0
        self.enqueued = dict.fromkeys(DESTINATIONS, 0)
        self.claimed: list[Delivery] = []

    def teardown(self) -> None:
        self.run(self.books.journal.aclose())
        self.loop.close()
        shutil.rmtree(self.path)

    def run(self, work):
        return self.loop.run_until_complete(work)

    async def open(self) -> None:
        self.books = Books.open(self.path, self.clock, max_size_bytes=64 << 20, retention_s=RETENTION_S)
        # Pruning on the side of commits is enough here; in idle moments it would come at any time, and the same
        # steps would not give the same run.
        writer = self.books.journal._writer
        writer._retention.has_work = lambda *_, **__: False
        writer._dedup_due = lambda *_: False

    @initialize()
    def begin(self) -> None:
        self.run(self.open())

    @property
    def now(self) -> int:
        return self.books.journal.clock_ms()

    # --- arrivals

    @rule(
        data=st.lists(
            st.tuples(
                st.sampled_from(KEYS + [""] * 3),
                st.sets(st.sampled_from(DESTINATIONS), min_size=1),
                st.sampled_from([2, 300, 40_000, 140_000]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def append(self, data) -> None:
        async def all_at_once():
            futures = []
            for key, destinations, size in data:
                self.n += 1
                body = (b"%d-" % self.n).ljust(size, b"x")
                event = make_event(body, destinations=sorted(destinations), key=f"n{self.n}")
                claim = make_claim(key, ttl_ms=TTL_MS) if key else None
                futures.append((self.books.append_later(event, claim), event, key))
            return [(await f, e, k) for f, e, k in futures]

        for answer, event, key in self.run(all_at_once()):
            held = self.keys.get(key) if key else None
            if held is not None and held[1] > self.now:
                assert isinstance(answer, Duplicate), "a key inside its TTL is claimed once"
                assert answer.event_id == held[0]
                revived = 0
                for row in self.events[held[0]].rows.values() if held[0] in self.events else ():
                    if row.state is State.DEAD and (row.round == 0 or self.now - row.started_ms >= 600_000):
                        self.enter(held[0], row)
                        revived += 1
                assert answer.revived == revived
                continue
            assert isinstance(answer, Appended)
            self.events[event.id] = Known(event.body, {d: Row(started_ms=self.now) for d in event.destinations})
            for d in event.destinations:
                self.enqueued[d] += 1
            if key:
                self.keys[key] = (event.id, self.now + TTL_MS)

    def enter(self, event_id: str, row: Row, destination: str | None = None) -> None:
        row.state, row.round, row.attempts = State.PENDING, row.round + 1, 0
        row.due_at_ms = row.started_ms = self.now
        name = destination or next(d for d, r in self.events[event_id].rows.items() if r is row)
        self.enqueued[name] += 1

    # --- claim and settle

    @rule(destination=st.sampled_from(DESTINATIONS), start=st.integers(0, 200), most=st.integers(1, 7))
    def window(self, destination, start, most) -> None:
        found = self.run(self.books.fresh(destination, start, max_events=most))
        wanted = {
            i
            for i, e in self.events.items()
            if (r := e.rows.get(destination)) and r.state is State.PENDING and not r.due_at_ms
        }
        got = [d.event.id for d in found]
        assert len(got) == len(set(got)), "a window names a delivery once"
        assert {d.event.id for d in found} == {i for i in wanted if self.seq(i) >= start}
        for d in found:
            assert d.event.body == self.events[d.event.id].body
        self.claimed += found

    @rule(destination=st.sampled_from(DESTINATIONS))
    def due(self, destination) -> None:
        found = self.run(self.books.due_now(destination))
        wanted = {
            i
            for i, e in self.events.items()
            if (r := e.rows.get(destination)) and r.state is State.PENDING and 0 < r.due_at_ms <= self.now
        }
        assert {d.event.id for d in found} == wanted
        for d in found:
            row = self.events[d.event.id].rows[destination]
            assert (d.round, d.attempts) == (row.round, row.attempts)
        self.claimed += found

    @precondition(lambda self: self.claimed)
    @rule(
        data=st.data(),
        change=st.sampled_from([Change.SUCCEED, Change.RETRY, Change.PUT_OFF, Change.GIVE_UP]),
        delay=st.integers(1, 100_000),
    )
    def settle(self, data, change, delay) -> None:
        d = data.draw(st.sampled_from(self.claimed))
        self.claimed.remove(d)
        known = self.events.get(d.event.id)
        row = known.rows.get(d.destination) if known else None
        fits = row is not None and row.state is State.PENDING and (row.round, row.attempts) == (d.round, d.attempts)
        reason = "rejected" if change is Change.GIVE_UP else ""
        applied = self.run(self.books.settle(d, change, due_at_ms=self.now + delay, reason=reason))
        assert applied == fits, "a settlement applies exactly while the record still says so"
        if not fits:
            return
        if change is not Change.PUT_OFF:
            row.attempts += 1
        if change is Change.SUCCEED:
            row.state = State.DELIVERED
        elif change is Change.GIVE_UP:
            row.state = State.DYING
        else:
            row.due_at_ms = self.now + delay

    @rule(destination=st.sampled_from(DESTINATIONS))
    def bury(self, destination) -> None:
        dying = self.run(self.books.journal.dying(destination, limit=100, skip=()))
        wanted = {i for i, e in self.events.items() if (r := e.rows.get(destination)) and r.state is State.DYING}
        assert {d.event.id for d in dying} == wanted
        for d in dying:
            assert self.run(self.books.settle(d, Change.BURY))
            self.events[d.event.id].rows[destination].state = State.DEAD

    # --- operators

    @precondition(lambda self: self.events)
    @rule(
        data=st.data(),
        destination=st.sampled_from(DESTINATIONS),
        verb=st.sampled_from(["replay", "discard", "remove_dead"]),
    )
    def operate(self, data, destination, verb) -> None:
        event_id = data.draw(st.sampled_from(sorted(self.events)))
        row = self.events[event_id].rows.get(destination)
        state = row.state if row else State.ABSENT
        allowed = {
            "replay": state not in (State.PENDING, State.DYING),
            "discard": state is State.PENDING,
            "remove_dead": state is State.DEAD,
        }[verb]
        result = self.run(getattr(self.books.journal, verb)([Ref(event_id, destination)]))
        assert result.applied == int(allowed), (verb, state, result)
        if not allowed:
            return
        if verb == "replay":
            row = self.events[event_id].rows.setdefault(destination, Row())
            self.enter(event_id, row, destination)
        else:
            row.state = State.DISCARDED

    @precondition(lambda self: self.events)
    @rule(data=st.data(), away=st.sampled_from(DESTINATIONS), to=st.sampled_from(DESTINATIONS))
    def redirect(self, data, away, to) -> None:
        event_id = data.draw(st.sampled_from(sorted(self.events)))
        rows = self.events[event_id].rows
        here, there = rows.get(away), rows.get(to)
        allowed = (
            away != to
            and here is not None
            and here.state is State.PENDING
            and (there is None or there.state not in (State.PENDING, State.DYING))
        )
        result = self.run(self.books.journal.redirect([Ref(event_id, away)], to))
        assert result.applied == int(allowed)
        if allowed:
            here.state = State.REDIRECTED
            self.enter(event_id, rows.setdefault(to, Row()), to)

    # --- time, crashes

    @rule(ms=st.sampled_from([1000, 60_000, 700_000, 3_600_000]))
    def time_passes(self, ms) -> None:
        self.clock.advance(ms)
        self.forget()

    @rule(ms=st.sampled_from([-86_400_000, 86_400_000]))
    def wall_clock_steps(self, ms) -> None:
        self.clock.step(ms)

    def forget(self) -> None:
        # What is past retention and owed nowhere may be gone: the model asks and forgets it too.
        for event_id, known in list(self.events.items()):
            if any(r.state.is_open for r in known.rows.values()):
                assert self.run(self.books.journal.event(event_id)) is not None, "what is owed is never pruned"
            elif self.run(self.books.journal.event(event_id)) is None:
                del self.events[event_id]

    @rule()
    def prune(self) -> None:
        self.run(self.books.settle_nothing())
        self.forget()

    @rule(clean=st.booleans(), reboot=st.booleans())
    def restart(self, clean, reboot) -> None:
        if clean:
            self.run(self.books.journal.aclose())
        else:  # what a killed process leaves: the files as they are now
            copy = tempfile.mkdtemp(prefix="journal-model-")
            shutil.copyfile(f"{self.path}/data.mdb", f"{copy}/data.mdb")
            self.run(self.books.journal.aclose())
            shutil.rmtree(self.path)
            self.path = copy
        if reboot:
            self.clock.reboot(down_ms=1000)
        self.claimed = []
        self.run(self.open())
        self.forget()

    @staticmethod
    def seq(event_id: str) -> int:
        from sidecar.model import parse_event_id

        return parse_event_id(event_id)[2]

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "books"):
            return
        self.forget()
        assert not self.books.fatal
        report = self.run(self.books.journal.audit(full=True))
        assert report.quarantined == 0
        rows = {r.destination: r for r in report.rows}
        for d in DESTINATIONS:
            pending = sum(1 for e in self.events.values() if (r := e.rows.get(d)) and r.state.is_open)
            row = rows.get(d)
            assert (row.pending if row else 0) == pending
            assert (row.enqueued if row else 0) == self.enqueued[d]
            assert row is None or row.balanced

    @invariant()
    def look_ups_agree(self) -> None:
        if not hasattr(self, "books") or not self.events:
            return
        self.forget()
        page = self.run(self.books.journal.events(EventQuery(limit=1000)))
        found = {v.event.id: {d.destination: d.state for d in v.deliveries} for v in page.events}
        for event_id, known in self.events.items():
            assert found[event_id] == {d: r.state for d, r in known.rows.items()}


JournalModel.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestJournalModel = JournalModel.TestCase
