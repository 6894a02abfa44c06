"""The dispatcher over the real journal, delivering to real HTTP backends: what the contract says about deliveries."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.clock import Clock
from sidecar.feed import Feed
from sidecar.journal.types import Ref
from sidecar.metrics import Metrics
from sidecar.model import Event, State
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters
from sidecar.outbound.deliver import HttpOptions
from sidecar.outbound.dispatch import DestinationOptions, Dispatcher
from sidecar.outbound.lane import MAX_UNSETTLED, queue_bound
from sidecar.outbound.retry import RetryPolicy
from tests.support.backends import Backend, Request, black_hole, free_port, running
from tests.support.journals import Books

QUICK = RetryPolicy(base_s=0.05, jitter=0.0)


def said(status: int, *more: str) -> bytes:
    """An answer without a body."""
    lines = "".join(f"{line}\r\n" for line in more)
    return f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{lines}\r\n".encode()


class Sidecar:
    """Journal, dead letters and dispatcher as the daemon puts them together."""

    def __init__(self, path: Path, **options) -> None:
        self.path = path
        self.metrics = Metrics()
        self.books = Books.open(str(path / "journal"), metrics=self.metrics)
        self.journal = self.books.journal
        self.letters = DeadLetters(DeadLetterOptions(path=str(path / "dead")), self.journal.mac_key)
        self.letters.open()
        self.fresh_signature: list[tuple[bytes, bytes]] | None = None
        self.dispatcher = Dispatcher(
            self.journal,
            self.metrics,
            Feed(),
            Clock(),
            max_buffered_bytes=options.get("max_buffered", 1 << 20),
            deadletters=self.letters,
            resign=lambda event, now_ms: self.fresh_signature,
            rand=random.Random(1).random,
        )
        self.journal._on_batch = self.dispatcher.on_batch
        self.journal._on_due = self.dispatcher.on_due
        self.journal._on_withdrawn = self.dispatcher.on_withdrawn

    def configure(self, *destinations: DestinationOptions) -> None:
        self.dispatcher.configure(destinations)

    def states(self, destination: str) -> dict[str, int]:
        counters = self.journal.counters()
        found = {
            State(o).word if isinstance(o, int) else o: n for (d, o), n in counters.settled.items() if d == destination
        }
        pending = counters.pending(destination)
        return {k: v for k, v in {**found, "pending": pending}.items() if v}

    async def until(self, condition: Callable[[], bool], within_s: float = 15.0) -> None:
        """Wait for something that the journal's commits bring about."""
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - commits happen in another thread
                await asyncio.sleep(0.005)

    async def audit(self) -> None:
        report = await self.journal.audit(full=True)
        assert all(row.balanced for row in report.rows)
        for ref in report.dead:
            assert self.letters.read(ref.event_id, ref.destination).problem is None

    async def stop(self) -> None:
        await self.dispatcher.stop()
        await self.journal.aclose()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Sidecar]]:
    sidecars: list[Sidecar] = []

    def make(**options) -> Sidecar:
        sidecars.append(Sidecar(tmp_path, **options))
        return sidecars[-1]

    yield make
    for sidecar in sidecars:
        await sidecar.stop()


def to(url: str, name: str = "app", *, retry: RetryPolicy = QUICK, hold_after: int = 20, **http) -> DestinationOptions:
    return DestinationOptions(name=name, http=HttpOptions(url=url, **http), retry=retry, hold_after=hold_after)


def attempts(backend: Backend) -> list[tuple[str, int]]:
    """(event id, attempt number) of every request."""
    return [
        (r.values(b"Webhook-Sidecar-Event-Id")[0].decode(), int(r.values(b"Webhook-Sidecar-Attempt")[0]))
        for r in backend.requests
    ]


def by_event(answer: Callable[[Request, int], bytes | Awaitable[bytes]]):
    """A script that sees how often it saw this event."""
    seen: Counter[bytes] = Counter()

    async def script(request: Request, writer: asyncio.StreamWriter) -> None:
        event_id = request.values(b"Webhook-Sidecar-Event-Id")[0]
        seen[event_id] += 1
        given = answer(request, seen[event_id])
        writer.write(given if isinstance(given, bytes) else await given)

    return script


async def test_every_destination_gets_every_byte_and_has_its_own_state(start):
    async with running() as app, running(by_event(lambda r, n: said(500 if n < 3 else 200))) as mail:
        sidecar = start()
        with free_port() as port:
            sidecar.configure(to(app.url), to(mail.url, "mail"), to(f"http://127.0.0.1:{port}", "audit"))
            sidecar.dispatcher.start()
            bodies = [bytes([n]) * (n * 3000) for n in range(20)]
            events = [await sidecar.books.stored(b, destinations=("app", "mail", "audit")) for b in bodies]
            await sidecar.until(
                lambda: sidecar.states("app") == {"delivered": 20} and sidecar.states("mail") == {"delivered": 20}
            )
            assert sidecar.states("audit") == {"pending": 20}
        assert sorted(r.body for r in app.requests) == sorted(bodies)
        assert Counter(attempts(mail)) == {(e.id, n): 1 for e in events for n in (1, 2, 3)}
        view = await sidecar.journal.event(events[0].id)
        assert view is not None
        by_name = {d.destination: d for d in view.deliveries}
        assert [a.status for a in by_name["mail"].log] == [500, 500, 200]
        assert by_name["audit"].attempts == 0
        await sidecar.audit()


async def test_tries_come_at_the_schedules_times_and_after_the_fourth_there_is_a_dead_letter(start):
    times: list[float] = []

    async def broken(request: Request, writer: asyncio.StreamWriter) -> None:
        times.append(asyncio.get_running_loop().time())
        writer.write(said(500))

    async with running(broken) as app:
        sidecar = start()
        sidecar.configure(to(app.url, retry=RetryPolicy(base_s=0.2, jitter=0.0)))
        sidecar.dispatcher.start()
        event = await sidecar.books.stored(b'{"order": 7}')
        await sidecar.until(lambda: sidecar.states("app") == {"dead": 1})
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert gaps == [pytest.approx(x, abs=0.1) for x in (0.2, 0.4, 0.8)]
        (row,) = sidecar.letters.ls()
        assert (row.event_id, row.head.reason) == (event.id, "attempts_exhausted")
        content = json.loads((sidecar.path / "dead" / "app" / f"{event.id}.json").read_text())
        assert content["request"]["body"] == '{"order": 7}'
        assert [a["number"] for a in content["attempts"]] == [1, 2, 3, 4]
        await sidecar.audit()


async def test_a_refusal_is_dead_at_once_and_a_replay_gets_a_fresh_budget(start):
    script = by_event(lambda r, n: said(422 if n == 1 else 500 if n == 2 else 200))
    async with running(script) as app:
        sidecar = start()
        sidecar.configure(to(app.url))
        sidecar.dispatcher.start()
        event = await sidecar.books.stored()
        await sidecar.until(lambda: sidecar.states("app") == {"dead": 1})
        assert (await sidecar.journal.replay([Ref(event.id, "app")])).applied == 1
        await sidecar.until(lambda: sidecar.states("app") == {"dead": 1, "delivered": 1})
        assert [n for _, n in attempts(app)] == [1, 1, 2]
        assert [r.values(b"Webhook-Sidecar-Replay") for r in app.requests] == [[], [b"1"], [b"1"]]


async def test_retry_after_pauses_the_whole_destination(start):
    times: list[float] = []

    async def busy(request: Request, writer: asyncio.StreamWriter) -> None:
        times.append(asyncio.get_running_loop().time())
        writer.write(said(429, "Retry-After: 1") if len(times) == 1 else said(200))

    async with running(busy) as app:
        sidecar = start()
        sidecar.configure(to(app.url))
        sidecar.dispatcher.start()
        await sidecar.books.stored()
        await sidecar.until(lambda: len(times) == 1)
        for _ in range(5):
            await sidecar.books.stored()
        await sidecar.until(lambda: sidecar.states("app") == {"delivered": 6})
        assert 0.95 < times[1] - times[0] < 1.3


async def test_an_unreachable_backend_is_held_and_delivered_to_when_it_is_back(start):
    sidecar = start()
    with free_port() as port:
        sidecar.configure(to(f"http://127.0.0.1:{port}"))
        sidecar.dispatcher.start()
        events = [await sidecar.books.stored(b"%d" % n) for n in range(50)]
        await sidecar.until(lambda: sidecar.dispatcher.status()[0].held)
        assert sidecar.dispatcher.status()[0].in_memory <= 8
    async with running(port=port) as app:
        await sidecar.until(lambda: sidecar.states("app") == {"delivered": 50})
        assert sorted(attempts(app)) == sorted((e.id, 1) for e in events)
    assert not sidecar.dispatcher.status()[0].held
    await sidecar.audit()


async def test_failures_in_a_row_hold_and_probes_use_no_attempt(start):
    healthy = asyncio.Event()
    async with running(by_event(lambda r, n: said(200 if healthy.is_set() else 503))) as app:
        sidecar = start()
        sidecar.configure(to(app.url, hold_after=5, concurrency=1, retry=RetryPolicy(base_s=0.4, jitter=0.0)))
        sidecar.dispatcher.start()
        events = [await sidecar.books.stored(b"%d" % n) for n in range(20)]
        await sidecar.until(lambda: sidecar.dispatcher.status()[0].held)
        before = len(app.requests)
        await sidecar.until(lambda: len(app.requests) > before)  # a probe
        healthy.set()
        await sidecar.until(lambda: sidecar.states("app") == {"delivered": 20})
        views = [await sidecar.journal.event(e.id) for e in events]
        assert sorted(v.deliveries[0].attempts for v in views if v) == [1] * 15 + [2] * 5


async def test_a_restart_resumes_exactly(start):
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(said(500) if request.body == b"13" and len(app.requests) < 100 else said(200))

    async with running(slow) as app:
        first = start()
        first.configure(to(app.url, concurrency=4, retry=RetryPolicy(base_s=1.0, jitter=0.0)))
        first.dispatcher.start()
        events = [await first.books.stored(b"%d" % n) for n in range(60)]
        more = [first.books.append_later(_like(e)) for e in events]
        await asyncio.gather(*more)
        await first.until(lambda: len(app.requests) > 50)
        await first.stop()
        interrupted = len(app.requests)
        second = start()
        second.configure(to(app.url, retry=QUICK))
        second.dispatcher.start()
        await second.until(lambda: second.states("app") == {"delivered": 120})
        seen = Counter(r.body + r.values(b"Webhook-Sidecar-Event-Id")[0] for r in app.requests)
        assert len(seen) == 120
        # Only what was under way when it stopped may have been seen twice, besides the one that failed.
        repeated = sum(n - 1 for n in seen.values())
        assert repeated <= 4 + 2
        assert interrupted < 120
        await second.audit()


def _like(event: Event) -> Event:
    return Event(
        event.source, event.destinations, event.received_at_ms, b"POST", event.path, b"", [], event.body + b"'"
    )


async def test_a_backlog_larger_than_memory_flows_within_its_bounds(start):
    async with running() as app:
        sidecar = start(max_buffered=64_000)
        with free_port() as port:
            sidecar.configure(to(f"http://127.0.0.1:{port}"))
            sidecar.dispatcher.start()
            answers = [
                sidecar.books.append_later(_like(Event("shop", ("app",), 0, b"POST", b"/x", b"", [], b"x" * 4000)))
                for _ in range(1500)
            ]
            await asyncio.gather(*answers)
        sidecar.configure(to(app.url))
        lane = sidecar.dispatcher.lanes["app"]
        most = [0, 0]

        def done() -> bool:
            most[0] = max(most[0], len(lane.hand))
            most[1] = max(most[1], sidecar.dispatcher._budget.used_bytes)
            return sidecar.states("app") == {"delivered": 1500}

        await sidecar.until(done)
        assert most[0] <= queue_bound(16) + MAX_UNSETTLED + 16
        assert most[1] <= 64_000 + 4001
        assert len(set(attempts(app))) == len(app.requests) == 1500


async def test_one_dead_destination_beside_a_healthy_one_costs_it_nothing(start):
    async def hang(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with running() as app, running(hang) as mail:
        sidecar = start(max_buffered=200_000)
        with free_port() as port:
            sidecar.configure(to(app.url), to(mail.url, "mail", timeout_s=5), to(f"http://127.0.0.1:{port}", "audit"))
            sidecar.dispatcher.start()
            late: list[float] = []
            loop = asyncio.get_running_loop()
            for n in range(100):
                await sidecar.books.stored(b"%d" % n + b"x" * 10_000, destinations=("app", "mail", "audit"))
                began = loop.time()
                await sidecar.until(lambda n=n: len(app.requests) > n)  # type: ignore[misc]
                late.append(loop.time() - began)
        late.sort()
        assert late[90] < 0.05
        assert sidecar.states("mail") == {"pending": 100}


@pytest.mark.parametrize("seed", range(3))
async def test_no_delivery_is_made_twice_across_windows_and_retries(start, seed):
    """Arrivals, a backlog, failures and odd delays together; every try but a repeat that has its reason is unique."""
    rand = random.Random(seed)

    async def odd(request: Request, n: int) -> bytes:
        await asyncio.sleep(rand.random() * rand.choice((0.001, 0.02)))
        return said(500) if rand.random() < 0.15 and n < 4 else said(200)

    async with running(by_event(odd)) as app:
        sidecar = start(max_buffered=20_000)
        sidecar.configure(to(app.url, concurrency=rand.choice((2, 32)), retry=RetryPolicy(base_s=0.01, factor=1.5)))
        backlog = [
            sidecar.books.append_later(_like(Event("shop", ("app",), 0, b"POST", b"/", b"", [], b"b" * 50)))
            for _ in range(400)
        ]
        await asyncio.gather(*backlog)
        sidecar.dispatcher.start()
        for _ in range(40):
            await asyncio.gather(*(sidecar.books.stored(b"n" * rand.randrange(500)) for _ in range(rand.randrange(20))))
        total = sum(n for n in sidecar.journal.counters().enqueued.values())
        hand = sidecar.dispatcher.lanes["app"].hand
        # The books say so from the commit on, in the writer's thread; the lane is told later, and lets go then.
        await sidecar.until(lambda: sidecar.states("app") == {"delivered": total} and not len(hand), within_s=60)
        assert max(Counter(attempts(app)).values()) == 1
        assert sidecar.metrics.settlements_stale.values[()] == 0
        await sidecar.audit()


async def test_a_late_verified_delivery_carries_a_fresh_signature(start):
    async with running() as app:
        sidecar = start()
        sidecar.fresh_signature = [(b"X-Signature", b"fresh")]
        sidecar.configure(to(app.url))
        sidecar.dispatcher.start()
        await sidecar.books.stored(headers=[(b"X-Signature", b"old")])
        await sidecar.books.stored(headers=[(b"X-Signature", b"old")], verified=False)
        await sidecar.until(lambda: len(app.requests) == 2)
        got = [(r.values(b"X-Signature"), r.values(b"Webhook-Sidecar-Resigned")) for r in app.requests]
        assert sorted(got) == [([b"fresh"], [b"true"]), ([b"old"], [])]  # two at once arrive in any order


async def test_dead_letters_that_a_crash_left_to_be_written_are_written_at_the_start(start, monkeypatch):
    async with running(by_event(lambda r, n: said(422))) as app:
        first = start()
        first.configure(to(app.url))
        monkeypatch.setattr(first.letters, "write_many", lambda batch: (_ for _ in ()).throw(OSError))
        first.dispatcher.start()
        for _ in range(5):
            await first.books.stored()
        await first.until(lambda: first.journal.counters().dying.get("app") == 5)
        await first.stop()
        second = start()
        second.configure(to(app.url))
        second.dispatcher.start()
        await second.until(lambda: second.states("app") == {"dead": 5})
        assert len(second.letters.ls()) == 5
        assert len(app.requests) == 5
        await second.audit()


async def test_drains_that_overlap_all_hear_that_it_is_done(start):
    """A preStop hook waits, a second one gives up, and the stop itself waits too: none sleeps to its own end."""
    go_on = asyncio.Event()

    async def waiting(request: Request, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(said(200))

    async with running(waiting) as app:
        sidecar = start()
        sidecar.configure(to(app.url))
        sidecar.dispatcher.start()
        await sidecar.books.stored()
        await sidecar.until(lambda: len(app.requests) == 1)
        first = asyncio.ensure_future(sidecar.dispatcher.drain(600))
        second = asyncio.ensure_future(sidecar.dispatcher.drain(600))
        assert await sidecar.dispatcher.drain(0.05) == 1
        go_on.set()
        assert await asyncio.wait_for(asyncio.gather(first, second), 30) == [0, 0]
        await sidecar.stop()


async def test_a_drain_delivers_what_it_can(start):
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(said(200))

    async with running(slow) as app:
        sidecar = start()
        sidecar.configure(to(app.url, concurrency=8))
        sidecar.dispatcher.start()
        for _ in range(100):
            sidecar.books.append_later(_like(Event("shop", ("app",), 0, b"POST", b"/", b"", [], b"")))
        await sidecar.until(lambda: len(app.requests) > 0)
        assert await sidecar.dispatcher.drain(10) == 0
        assert sidecar.states("app") == {"delivered": 100}
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(sidecar.dispatcher.drain(10), 0.5)


async def test_what_was_discarded_and_replayed_while_it_was_tried_is_tried_again_after_it_was_put_off(start):
    """The due one is passed over for as long as its old self is in hand; when that is dropped, nobody else tells of it."""

    async def takes(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(said(200))

    async with running(takes) as app:
        sidecar = start()
        with black_hole() as port:
            sidecar.configure(to(f"http://127.0.0.1:{port}", timeout_s=0.5))
            sidecar.dispatcher.start()
            ref = Ref((await sidecar.books.stored()).id, "app")
            lane = sidecar.dispatcher.lanes["app"]
            await sidecar.until(lambda: lane.in_flight == 1)
            assert (await sidecar.journal.discard([ref])).applied == 1
            assert (await sidecar.journal.replay([ref])).applied == 1
            await sidecar.until(lambda: lane.hand.next_due_at_ms is None and lane.hand.reading is None)
            await sidecar.until(lambda: lane.hold.held)
        sidecar.configure(to(app.url))
        await sidecar.until(lambda: sidecar.states("app") == {"delivered": 1, "discarded": 1})


@pytest.mark.parametrize("being_read", [False, True])
async def test_what_is_discarded_or_redirected_is_not_sent_from_memory(start, being_read):
    """An operator who drops it means that backend; what is out already is, and what is read at that moment is not sent."""
    go_on = asyncio.Event()

    async def waiting(request: Request, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(said(200))

    async with running(waiting) as app, running(waiting) as mail:
        sidecar = start()
        sidecar.configure(to(app.url, concurrency=1), to(mail.url, "mail"))
        sidecar.dispatcher.start()
        lane = sidecar.dispatcher.lanes["app"]
        events = [await sidecar.books.stored() for _ in range(20)]
        await sidecar.until(lambda: len(app.requests) == 1 and lane.hand.queued == 19)
        if being_read:
            lane.hand.let_go()
            lane.look()
            assert lane.hand.reading is not None
        refs = [Ref(e.id, "app") for e in events[1:]]
        assert (await sidecar.journal.discard(refs[:10])).applied == 10
        assert (await sidecar.journal.redirect(refs[10:], "mail")).applied == 9
        go_on.set()
        last = await sidecar.books.stored()
        await sidecar.until(lambda: sidecar.states("app") == {"delivered": 2, "discarded": 10, "redirected": 9})
        await sidecar.until(lambda: sidecar.states("mail") == {"delivered": 9})
        assert attempts(app) == [(events[0].id, 1), (last.id, 1)]


async def test_a_stop_that_is_cut_short_while_a_letter_is_written_can_be_made_again(start, monkeypatch):
    """As a second signal does: the letter is whole, and its delivery has left the journal."""
    writing, go_on = threading.Event(), threading.Event()

    async def refuses(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(said(422))

    async with running(refuses) as app:
        sidecar = start()
        real = sidecar.letters.write_many

        def slow(letters):
            writing.set()
            go_on.wait(10)
            return real(letters)

        monkeypatch.setattr(sidecar.letters, "write_many", slow)
        sidecar.configure(to(app.url))
        sidecar.dispatcher.start()
        event = await sidecar.books.stored()
        await asyncio.to_thread(writing.wait, 10)
        first = asyncio.ensure_future(sidecar.dispatcher.stop(5))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.wait((first,))
        go_on.set()
        await sidecar.dispatcher.stop()
        await sidecar.until(lambda: sidecar.states("app") == {"dead": 1})
        assert sidecar.letters.read(event.id, "app").problem is None
