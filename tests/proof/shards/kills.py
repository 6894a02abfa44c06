"""kill -9 inside a commit and at random instants of a journal's whole life; what was said before must be there.

The daemon under load is killed by ``crashes``; here it is the journal alone, from the first start to a compaction, at its
named fail points (before the transaction, before and after the commit), so that thousands of kills fit an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from sidecar.journal import Journal
from sidecar.journal.types import Appended
from tests.proof.power_look import Expected, Looker
from tests.proof.power_work import Marks, work
from tests.proof.shard import Job, Shard
from tests.support.journals import Books

POINTS = ("begin", "before_commit", "after_commit")
CHUNK = 10
CONTROL_KILLS = 60


def killer(job: Job) -> Callable[[str], None]:
    """A fail point that ends the process at one of its calls."""
    name, left = job.rand.choice(POINTS), int(10 ** job.rand.uniform(0, 2))

    def failpoint(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return failpoint


def live(root: Path, marks: Path, seed: int, failpoint: Callable[[str], None]) -> int:
    """Start a process with the workload; its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            asyncio.run(work(root, Marks(marks), seed, failpoint))
            code = 0
        os._exit(code)
    return pid


def one(job: Job) -> None:
    """One kill."""
    folder = Path(tempfile.mkdtemp(prefix="kill-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        root, marks = folder / "root", folder / "marks"
        root.mkdir()
        at_random = job.rand.random() < 0.3
        pid = live(root, marks, job.rand.randrange(1 << 30), (lambda _: None) if at_random else killer(job))
        if at_random:
            time.sleep(job.rand.random() * 0.3)
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 1:
            job.found.append(f"seed {job.seed}, kill {job.count}: the workload failed by itself")
        job.note("killed", int(code == -signal.SIGKILL))
        expected = Expected()
        for line in marks.read_text().splitlines() if marks.exists() else ():
            expected.hear(line)
        job.note("acknowledged", len(expected.stored))
        job.found += [f"seed {job.seed}, kill {job.count}: {w}" for w in Looker(job).look(root, expected, {})[:3]]
        job.count += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def some(job: Job) -> None:
    """A few kills."""
    for _ in range(CHUNK):
        one(job)
        if not job.goes_on:
            return


def run(job: Job) -> None:
    """Kill until the time is over."""
    while job.goes_on:
        job.isolated(partial(some, job))


@contextmanager
def early_ack() -> Any:
    """A journal that answers before its commit."""
    honest = Books.append_later

    def append_later(self: Books, event: Any, claim: Any = None, *more: Any) -> Any:
        honest(self, event, claim, *more)
        future = asyncio.get_running_loop().create_future()
        future.set_result(Appended(event))
        return future

    with mock.patch.object(Books, "append_later", append_later):
        yield


@contextmanager
def unsettled_settlement() -> Any:
    """A journal that says a settlement is done before it is."""
    honest = Journal.settle

    def settle(self: Journal, settlement: Any) -> None:
        done, settlement.done = settlement.done, None
        honest(self, settlement)
        done(settlement, True)

    with mock.patch.object(Journal, "settle", settle):
        yield


def control(job: Job) -> list[str]:
    """Answers that come too early."""
    for bug in (early_ack, unsettled_settlement):
        attempt = job.sub(bug.__name__, 60)
        with bug():
            for _ in range(CONTROL_KILLS):
                if attempt.goes_on:
                    attempt.isolated(partial(some, attempt))
        assert attempt.found, f"{bug.__name__}: {attempt.count} kills, and nothing was wrong"
        assert not any("failed by itself" in line for line in attempt.found), attempt.found
    return ["an ack before the commit", "a settlement that counts before its commit"]


SHARD = Shard("kills", ("P1", "P6", "P7"), "kills of a journal", run, control, weight=2.0)
