"""A day of the dispatcher in milliseconds: seeded faults, crashes at any call; in the end nothing is owed or lost."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from sidecar.feed import Feed
from sidecar.journal.types import DueWindow
from sidecar.lifecycle import Change
from sidecar.metrics import Metrics
from sidecar.model import Delivery, State
from sidecar.outbound import bury
from sidecar.outbound import lane as lane_module
from sidecar.outbound.claim import Claim
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters
from sidecar.outbound.deliver import HttpOptions, Result
from sidecar.outbound.dispatch import DestinationOptions, Dispatcher
from sidecar.outbound.lane import Lane
from sidecar.outbound.retry import RetryPolicy
from tests.proof.shard import Job, Shard
from tests.proof.sim_world import SimBackend, SimJournal, SimPort
from tests.support.virtual import VirtualClock, VirtualLoop
from tests.support.virtual import run as run_virtual

DAY_S = 24 * 3600.0
END_S = 300 * 3600.0  # after the day all backends are well; by then nothing may be owed any more
CHUNK = 20  # seeds of one process
CONTROL_SEEDS = 200
PLACES = 4

MODES: dict[str, Callable[[random.Random], Result]] = {
    "well": lambda _: Result(200),
    "flaky": lambda r: Result(200 if r.random() < 0.5 else 500),
    "broken": lambda _: Result(503),
    "refusing": lambda r: Result(422 if r.random() < 0.3 else 204),
    "down": lambda _: Result(failure="connect", error="connection refused"),
    "silent": lambda _: Result(failure="timeout", error="no answer in time"),
    "resetting": lambda r: Result(failure="reset", error="reset") if r.random() < 0.7 else Result(200),
    "busy": lambda r: Result(429, retry_after=b"%d" % r.randint(1, 900)) if r.random() < 0.6 else Result(200),
    "moved": lambda _: Result(302),
    "garbled": lambda _: Result(failure="protocol", error="not HTTP"),
}


@dataclass
class Day:
    """One seed's world.

    Attributes:
        calm: No holds, no saturated lanes, no operators: every retry has to come in time.
        away: A backend of a calm day that never answers. The others must not notice.
    """

    rand: random.Random
    folder: Path
    calm: bool
    policies: dict[str, RetryPolicy]
    modes: dict[str, str]
    away: str = ""
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    taken: dict[str, set[int]] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    crashes: int = 0

    def __post_init__(self) -> None:
        self.clock = VirtualClock(self.loop)
        self.journal = SimJournal(self.loop, self.clock, self.rand, self.rand.choice((0.0005, 0.01, 0.2)))
        self.letters = DeadLetters(DeadLetterOptions(path=str(self.folder / "letters")), b"k" * 32)
        self.letters.open()
        self.dispatcher: Dispatcher | None = None
        self.restarting = asyncio.Lock()

    # --- lives of the process

    def begin(self) -> None:
        """Start a process on what the journal holds."""
        port = SimPort(self.journal, self.policies)

        def make(name: str, _http: HttpOptions, _clock: VirtualClock) -> SimBackend:
            return SimBackend(
                self.journal, port, name, partial(self.answer, name), timed=self.calm and name != self.away
            )

        dispatcher = Dispatcher(
            port,
            Metrics(),
            Feed(),
            self.clock,
            max_buffered_bytes=self.max_buffered,
            deadletters=self.letters,
            resign=lambda _event, _now: None,
            rand=self.rand.random,
            kinds={"http": make},
        )
        hold_after = self.hold_after
        dispatcher.configure(
            [
                DestinationOptions(
                    name=n,
                    http=HttpOptions(url="http://x", concurrency=self.concurrency),
                    retry=p,
                    hold_after=hold_after,
                )
                for n, p in self.policies.items()
            ]
        )

        def on_batch(events: list[Any], last: int) -> None:
            self.journal.acked.update(e.seq for e in events)
            dispatcher.on_batch(events, last)

        self.journal.on_batch, self.journal.on_due = on_batch, dispatcher.on_due
        dispatcher.start()
        self.dispatcher = dispatcher
        if self.rand.random() < (0.5 if self.calm else 0.8):
            self.journal.until_death = int(10 ** self.rand.uniform(0, 3))

    async def live(self) -> None:
        """Start a process again whenever it has died."""
        while True:
            await self.journal.died.wait()
            async with self.restarting:
                self.journal.died.clear()
                self.crashes += 1
                assert self.dispatcher is not None
                await self.dispatcher.stop()  # its tasks end; nothing of it reaches the journal or a backend
                await asyncio.sleep(self.rand.choice((0.01, 1.0, 600.0)))
                self.letters.refresh(sweep=True)
                self.begin()

    def answer(self, name: str, delivery: Delivery, _n: int) -> tuple[float, Result]:
        """What a backend does with a request."""
        self.tries[name] = self.tries.get(name, 0) + 1
        result = MODES[self.modes[name]](self.rand)
        if result.status is not None and 200 <= result.status < 300:
            self.taken.setdefault(name, set()).add(delivery.event.seq)
        return (10.0 if result.failure == "timeout" else self.rand.choice((0.001, 0.05, 2.0))), result

    # --- what happens in a day

    async def day(self) -> None:
        """Webhooks, moods of backends, operators, steps of the clock; then peace."""
        self.concurrency = 64 if self.calm else self.rand.choice((1, 2, 8))
        self.hold_after = 0 if self.calm else self.rand.choice((0, 2, 20))
        self.max_buffered = 1 << 20 if self.calm else self.rand.choice((2_000, 1 << 20))
        self.begin()
        lives = asyncio.get_running_loop().create_task(self.live())
        try:
            for at_s in sorted(self.rand.uniform(0, DAY_S) for _ in range(self.rand.randint(10, 40))):
                await self._until(1000.0 + at_s)
                self._happen()
            await self._until(1000.0 + DAY_S)
            self.modes = dict.fromkeys(self.modes, "well")
            self.journal.until_death = -1
            for _ in range(int((END_S - DAY_S) / 600)):
                if not self._owed():
                    break
                await asyncio.sleep(600.0)
        finally:
            async with self.restarting:
                lives.cancel()
            assert self.dispatcher is not None
            await self.dispatcher.stop()

    def _happen(self) -> None:
        kind = self.rand.choice(("webhooks", "webhooks", "mood", "mood", "operator", "clock"))
        names = list(self.policies)
        if kind == "webhooks":
            for _ in range(self.rand.choice((1, 3, 25))):
                to = self.rand.sample(names, self.rand.randint(1, len(names)))
                self.journal.append(*to, body=b"x" * self.rand.choice((2, 900)))
        elif kind == "mood":
            name = self.rand.choice(names)
            if name != self.away:
                self.modes[name] = "flaky" if self.calm else self.rand.choice(list(MODES))
        elif kind == "operator" and not self.calm:
            name = self.rand.choice(names)
            if rows := self.journal.rows.get(name):
                seq = self.rand.choice(list(rows))
                self.journal.operate(name, seq, self.rand.choice((Change.REPLAY, Change.DISCARD)))
        elif kind == "clock" and not self.calm:
            self.clock.wall_step_ms += self.rand.choice((-86_400_000, 86_400_000))

    async def _until(self, at_s: float) -> None:
        if at_s > self.loop.now_s:
            await asyncio.sleep(at_s - self.loop.now_s)

    def _owed(self) -> bool:
        return any(r.state.is_open for rows in self.journal.rows.values() for r in rows.values())

    # --- afterwards

    def judge(self) -> list[str]:
        """Everything that is not as promised."""
        wrong = list(self.journal.wrong)
        stored = {seq for rows in self.journal.rows.values() for seq in rows}
        wrong += [f"acknowledged event {seq} is gone" for seq in self.journal.acked - stored]
        letters = {(row.destination, row.event_id) for row in self.letters.ls(limit=100_000)}
        for name, rows in self.journal.rows.items():
            policy = self.policies[name]
            for seq, row in rows.items():
                where = f"{name}/{seq}"
                if row.state.is_open:
                    wrong.append(f"{where} is still {row.state.word} long after everything was well")
                if row.state is State.DELIVERED and seq not in self.taken.get(name, ()):
                    wrong.append(f"{where} counts as delivered, and nobody took it")
                last = [a for a in row.log if a.round == row.round]
                if [a.number for a in last] != list(range(1, len(last) + 1)) or len(last) != row.attempts:
                    wrong.append(f"{where}: attempts {[a.number for a in last]}, {row.attempts} counted")
                if len(last) > policy.max_attempts:
                    wrong.append(f"{where}: {len(last)} attempts of {policy.max_attempts}")
                if row.state is State.DEAD:
                    if (name, row.event.id) not in letters:
                        wrong.append(f"{where} is dead without a letter")
                    if row.reason == "attempts_exhausted" and len(last) != policy.max_attempts:
                        wrong.append(f"{where} was given up after {len(last)} attempts of {policy.max_attempts}")
                    if row.reason not in ("attempts_exhausted", "rejected", "expired"):
                        wrong.append(f"{where} is dead for no reason: {row.reason!r}")
            seconds = self.loop.now_s - 1000.0
            most = seconds / 5 + 60 * len(rows) * policy.max_attempts + 500
            if self.tries.get(name, 0) > most:
                wrong.append(f"{name}: {self.tries[name]} tries in {seconds:.0f} s: a hot loop")
        reads, tries = self.journal.reads, sum(self.tries.values())
        seconds, lanes = self.loop.now_s - 1000.0, len(self.policies)
        most = seconds / 16 * lanes + 18 * tries + 9 * reads + 9 * lanes * len(self.journal.acked) + 450
        if self.loop.turns > most:
            wrong.append(f"the loop went round {self.loop.turns} times for {tries} tries and {reads} reads: it is busy")
        return wrong

    def digest(self) -> str:
        """A hash of everything that happened: the same for a seed each time."""
        rows = [
            (name, seq, row.state.word, row.round, row.due_at_ms, row.reason, row.log)
            for name, rows in sorted(self.journal.rows.items())
            for seq, row in sorted(rows.items())
        ]
        told = (rows, sorted(self.journal.acked), sorted(self.tries.items()), self.crashes)
        return hashlib.sha256(repr((told, self.loop.turns, self.loop.now_s)).encode()).hexdigest()


def simulate(seed: int, folder: Path) -> tuple[list[str], Day]:
    """One seed's day."""
    rand = random.Random(seed)
    calm = rand.random() < 0.3
    policies = {
        f"d{n}": RetryPolicy(
            max_attempts=rand.choice((1, 2, 4, 8)),
            base_s=rand.choice((0.5, 1.0, 60.0)),
            factor=rand.choice((1.0, 2.0, 3.0)),
            max_delay_s=rand.choice((30.0, 3600.0)) if not calm else 3600.0,
            jitter=rand.choice((0.0, 0.1, 0.5)),
            max_age_s=rand.choice((600.0, 3600.0, 72 * 3600.0)) if not calm else 72 * 3600.0,
        )
        for n in range(rand.randint(1, 3))
    }
    away = "d0" if calm and len(policies) > 1 and rand.random() < 0.5 else ""
    modes = {name: "silent" if name == away else "well" for name in policies}
    day = Day(rand, folder, calm, policies, modes, away)
    # Nobody touches the files meanwhile, and counting them 144 times a day is a third of the cost of most days.
    refresh_s = bury.REFRESH_S if rand.random() < 0.1 else DAY_S
    with mock.patch.object(bury, "REFRESH_S", refresh_s):
        run_virtual(day.day(), day.loop)
    return [f"seed {seed}: {w}" for w in day.judge()], day


def look_at(seed: int) -> tuple[list[str], Day | None]:
    """One seed's day, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="sim-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        return simulate(seed, folder)
    except Exception as e:  # noqa: BLE001 - whatever the code under test raises is what we look for
        return [f"seed {seed}: {type(e).__name__}: {e}"], None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def some(job: Job, first: int, count: int) -> None:
    """Several seeds, one after the other."""
    for seed in range(first, first + count):
        wrong, day = look_at(seed)
        job.count += 1
        job.found += wrong[:3]
        if day is not None:
            job.note("crashes", day.crashes)
            job.note("tries", sum(day.tries.values()))
            job.note("events", len(day.journal.acked))
        if not job.goes_on:
            return


def run(job: Job) -> None:
    """Seeds from a random one on."""
    first = job.rand.randrange(1 << 40)
    while job.goes_on:
        job.isolated(partial(some, job, first, CHUNK))
        first += CHUNK


@contextmanager
def rearmed() -> Any:
    """A process that begins the waits it finds anew when it starts."""
    whole = SimPort.due

    async def due(self: SimPort, destination: str, **more: Any) -> DueWindow:
        found = await whole(self, destination, **more)
        policy, now_ms = self.policies[destination], self.clock_ms()
        ready, later = [], [] if found.next_due_at_ms is None else [found.next_due_at_ms]
        for d in found.deliveries:
            wait_s = min(policy.max_delay_s, policy.base_s * policy.factor ** (d.attempts - 1))
            at_ms = self.up_at_ms + int(wait_s * 1000)
            if d.log and (destination, d.ref) not in self.settled and at_ms > now_ms:
                later.append(at_ms)
            else:
                ready.append(d)
        return DueWindow(ready, min(later, default=None))

    with mock.patch.object(SimPort, "due", due):
        yield


@contextmanager
def one_pool() -> Any:
    """A few places for all destinations together."""
    whole = SimBackend.attempt
    free, waiting = dict[int, int](), dict[int, list[Callable[[], None]]]()

    def attempt(self: SimBackend, delivery: Delivery, resigned: Any, done: Any) -> Any:
        port = id(self.port)

        def ended(result: Result) -> None:
            free[port] += 1
            if waiting.get(port):
                waiting[port].pop(0)()
            done(result)

        def begin() -> Any:
            free[port] = free.get(port, PLACES) - 1
            return whole(self, delivery, resigned, ended)

        if free.get(port, PLACES) > 0:
            return begin()
        waiting.setdefault(port, []).append(begin)
        return _Queued(done)

    with mock.patch.object(SimBackend, "attempt", attempt):
        yield


class _Queued:
    """A try that has not begun."""

    started_ms = 0

    def __init__(self, done: Callable[[Result], None]) -> None:
        self._done = done

    def cancel(self) -> None:
        self._done(Result(failure="interrupted"))


@contextmanager
def spoiled(bug: str) -> Any:
    """The dispatcher with a deliberate bug."""
    honest = lane_module.decide

    def decide(*args: Any, **kwargs: Any) -> Any:
        decision = honest(*args, **kwargs)
        if bug == "dropped" and decision.change is Change.GIVE_UP:
            return type(decision)(Change.SUCCEED, counts=True)
        if bug == "no_wait" and decision.change is Change.RETRY:
            return type(decision)(Change.RETRY, counts=True, due_at_ms=decision.due_at_ms // 2)
        return decision

    with mock.patch.object(lane_module, "decide", decide):
        if bug == "forgotten":
            with mock.patch.object(SimPort, "fresh_from", lambda self, _: self._journal.next_seq):
                yield
        elif bug in ("rearmed", "one_pool"):
            with rearmed() if bug == "rearmed" else one_pool():
                yield
        elif bug == "restless":
            arm = Lane._arm

            def arm_always(lane: Lane, now_s: float) -> None:
                with mock.patch.object(Claim, "busy", False):
                    arm(lane, now_s)

            with mock.patch.object(Lane, "_arm", arm_always):
                yield
        else:
            yield


def control(job: Job) -> list[str]:
    """Six bugs of a dispatcher."""
    for bug in ("dropped", "no_wait", "forgotten", "restless", "rearmed", "one_pool"):
        attempt = job.sub(bug, 60)
        with spoiled(bug):
            attempt.isolated(partial(some, attempt, 1, CONTROL_SEEDS))
        sign = "too late" if bug in ("rearmed", "one_pool") else ""
        assert any(sign in w for w in attempt.found), f"{bug}: {attempt.count} seeds, {attempt.found}"
    return [
        "exhausted deliveries that count as delivered",
        "a retry without its wait",
        "a restart that begins too far on",
        "a lane that looks round all the time while it reads",
        "waits that begin anew at a restart",
        "one pool of places for all destinations",
    ]


SHARD = Shard("simulation", ("P6", "P15", "P16"), "simulated days", run, control, weight=3.0)

if __name__ == "__main__":  # python -m tests.proof.shards.simulation SEED...: those days once more
    for given in map(int, sys.argv[1:]):
        found, that_day = look_at(given)
        print(given, that_day.digest() if that_day else "-", *found, sep="\n  ")
