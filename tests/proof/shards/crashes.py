"""kill -9 of the daemon itself under load: while it starts, at any moment, at named points, while it drains.

``kills`` does it to a journal alone, thousands of times an hour; here it is the whole process, with senders that send again
what had no answer, and backends that fail and refuse. After each kill all that anybody knows is held against the journal;
after some of them the next process delivers what is owed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from sidecar.journal import Journal, meta
from sidecar.journal.dedup_index import DedupEntry
from sidecar.journal.writer import Writer
from sidecar.lifecycle import Change
from sidecar.outbound import deadletter, lane
from sidecar.outbound.deadletter import DeadLetters
from tests.proof.bugs import early_ack
from tests.proof.crowd import crowd
from tests.proof.forked import honest
from tests.proof.lives import READY_S, Lives, flaky, until
from tests.proof.shard import Job, Shard

LIVES = 6  # of one journal before the next
SENDERS = 8
START_S = 0.3  # about as long as a start takes
REACHED_S = 5.0  # a point that is not reached by then is not on the way of this load
DRAIN_S = 0.4
CONTROL_KILLS = 60
WAYS = ("while it starts", "at any moment", "at a point", "at a point", "while it drains")
FAIL_POINTS = ("begin", "before_commit", "after_commit")
CALLS: dict[str, tuple[Any, str, bool]] = {
    "committed, and nobody told": (Writer, "_post", False),
    "answered, and not settled": (Journal, "settle", False),
    "a letter has its name": (deadletter, "replace_file", True),
    "letters are on disk": (DeadLetters, "write_many", True),
}
"""Further points: before a call, or (True) behind it."""

Bug = Callable[[], None]


def dies_at(point: str, call: int, bug: Bug) -> Bug:
    """Plants the end of the process at the n-th time that it gets to a point, besides a bug."""

    def plant() -> None:
        bug()
        left = call

        def reached(name: str) -> None:
            nonlocal left
            if name == point:
                left -= 1
                if left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        made = Writer.__init__

        def make(self: Writer, *args: Any, **more: Any) -> None:
            made(self, *args, **more)
            self._failpoint = reached

        Writer.__init__ = make  # type: ignore[method-assign]
        if point in CALLS:
            owner, name, behind = CALLS[point]
            whole = getattr(owner, name)

            def call_it(*args: Any, **more: Any) -> Any:
                if not behind:
                    reached(point)
                result = whole(*args, **more)
                if behind:
                    reached(point)
                return result

            setattr(owner, name, call_it)

    return plant


async def killed_while_it_starts(job: Job, lives: Lives) -> list[str]:
    """Whatever it has made by then, the next start goes on from there."""
    await asyncio.sleep(job.rand.random() * START_S)
    return []


async def killed_under_load(job: Job, lives: Lives, end: Callable[[], Any]) -> list[str]:
    """Kill it while senders send; what is wrong."""
    async with crowd(lives.daemon.port, lives.ledger, SENDERS, lambda: lives.alive):
        if not await until(lambda: lives.ledger.new or not lives.alive, READY_S):
            return [f"it does not start: {lives.daemon.tail(6)}"]
        await end()
        process = lives.daemon.process
        assert process is not None
        process.kill()
        code = process.wait()
    return [] if code in (0, -signal.SIGKILL) else [f"it ended with {code}: {lives.daemon.tail(6)}"]


def one_kill(job: Job, lives: Lives, way: str, bug: Bug) -> list[str]:
    """One life that ends with a kill; what is wrong."""

    async def at_any_moment() -> None:
        await asyncio.sleep(job.rand.choice((0.0, 0.02, 0.1, 0.3)) * job.rand.random())

    async def at_its_point() -> None:
        if not await until(lambda: not lives.alive, REACHED_S):
            job.note("points that were not reached")

    async def while_it_drains() -> None:
        lives.daemon.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        await asyncio.sleep(job.rand.random() * DRAIN_S)

    lives.daemon.bug = bug
    job.note(f"killed {way}")
    if way == "while it starts":
        return lives.live(partial(killed_while_it_starts, job, lives))
    if way == "at a point":
        point = job.rand.choice((*FAIL_POINTS, *CALLS))
        lives.daemon.bug = dies_at(point, int(10 ** job.rand.uniform(0, 1.5)), bug)
        job.note(point)
    ends = {"at any moment": at_any_moment, "at a point": at_its_point, "while it drains": while_it_drains}
    return lives.live(partial(killed_under_load, job, lives, ends[way]))


def one_journal(job: Job, bug: Bug = honest, ways: tuple[str, ...] = WAYS) -> None:
    """Some kills over one journal; then everything is delivered."""
    folder = Path(tempfile.mkdtemp(prefix="crashes-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        lives = Lives(folder, folder, "64MiB", answers=flaky)
        wrong: list[str] = []
        for _ in range(LIVES):
            way = job.rand.choice(ways)
            wrong = one_kill(job, lives, way, bug)
            job.note("acknowledged", len(lives.ledger.new))
            wrong = [f"{way}: {w}" for w in [*wrong, *lives.look()]]
            job.count += 1
            if wrong or not job.goes_on:
                break
        if not wrong:
            lives.daemon.bug = bug
            wrong = [*lives.live(partial(everything_arrives, lives)), *lives.look()]
        job.found += [f"seed {job.seed}, kill {job.count}: {w[:600]}" for w in wrong[:3]]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def everything_arrives(lives: Lives) -> list[str]:
    """What had no answer is sent again and accepted, and whatever is accepted arrives, or is a dead letter."""
    async with crowd(lives.daemon.port, lives.ledger, 2, lambda: lives.alive):
        missing = list(lives.ledger.unanswered)
        if not await until(lambda: all(name in lives.ledger.acked for name in missing), READY_S):
            return [f"what had no answer is not accepted when it is sent again: {lives.daemon.tail(3)}"]
    return await lives.drained()


def run(job: Job) -> None:
    """Kill until the time is over."""
    while job.goes_on:
        job.isolated(partial(one_journal, job))


def key_before_event() -> None:
    """The keys of a batch are claimed in a transaction of their own."""
    whole = Writer._transact

    def transact(self: Writer, batch: Any) -> None:
        index, clock_ms, kept = self._dedup, self._journal_clock.now_ms(), dict[int, Any]()
        with self._environment.env.begin(write=True) as txn:
            for n, a in enumerate(batch.arrivals):
                if a.claim is not None and index.find(txn, a.claim.digest, clock_ms) is None:
                    expires_ms = clock_ms + a.claim.ttl_ms
                    ack = self.numbers.ack(a.ack)
                    entry = DedupEntry(
                        a.event.seq, a.event.received_at_ms, ack, a.claim.body_digest, expires_ms, a.source, 0
                    )
                    index.stage(a.claim.digest, entry)
                    kept[n], a.claim = a.claim, None
            if kept:
                index.write(txn, batch.arrivals[min(kept)].event.seq)
                self.numbers.write(txn)
                books = self.books.copy()
                books.last_seq = batch.arrivals[-1].event.seq  # the numbers are used up
                row = books.row(self._journal_clock.reading(), clean=False)
                txn.put(b"state", meta.pack(row), db=self._db[b"meta"])
        index.committed()
        whole(self, batch)

    Writer._transact = transact  # type: ignore[method-assign]


def no_wait() -> None:
    """A retry comes at once."""
    whole = lane.decide

    def decide(*args: Any, **more: Any) -> Any:
        decision = whole(*args, **more)
        return msgspec.structs.replace(decision, due_at_ms=1) if decision.change is Change.RETRY else decision

    lane.decide = decide


def control(job: Job) -> list[str]:
    """An ack that comes too early, a key that is claimed though its event is not there, a retry without its wait."""
    bugs = {
        early_ack: ("at any moment", "is gone", "an ack before the commit"),
        key_before_event: ("at a point", "is gone", "a dedup key in a transaction of its own"),
        no_wait: ("at any moment", "ms after the last", "a retry without its wait"),
    }
    for bug, (way, sign, name) in bugs.items():
        attempt = job.sub(bug.__name__, 60)
        while attempt.goes_on and attempt.count < CONTROL_KILLS:
            attempt.isolated(partial(one_journal, attempt, bug, (way,)))
        assert any(sign in w for w in attempt.found), f"{name}: {attempt.count} kills, {attempt.found}"
    return [name for *_, name in bugs.values()]


SHARD = Shard("crashes", ("P1", "P3", "P6", "P7"), "kills of the daemon", run, control, weight=2.0)
