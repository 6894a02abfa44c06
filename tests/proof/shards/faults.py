"""The k-th call fails, for every k: in a first life, in the next one after a kill, and in a compaction.

A life is start, webhooks, two reloads, dead letters, pruning and shutdown. Each thread's k-th call fails, for that is how
strace counts; a fault that ends the start would hide those that other threads meet at the same k. So there is a stage that
counts from when the daemon is ready.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.proof.faulty_life import PLAIN, Prepared, answer, compacted, judge, live, tracer
from tests.proof.history import read_or_complain
from tests.proof.shard import Job, Shard
from tests.support.sink import Sink

FAULTS = (
    ("fdatasync", "error=EIO"),
    ("fdatasync", "error=EINTR"),
    ("fdatasync", "error=ENOSPC"),
    ("pwrite64", "error=EIO"),
    ("pwrite64", "error=ENOSPC"),
    ("pwrite64", "error=EINTR"),
    ("pwrite64", "retval=512"),  # a short write
    ("writev", "error=EIO"),
    ("writev", "error=ENOSPC"),
    ("writev", "error=EINTR"),
    ("writev", "retval=4096"),
    ("pwritev", "error=EIO"),  # instead of writev where LMDB was built to use it
    ("pwritev", "error=ENOSPC"),
    ("pwritev", "error=EINTR"),
    ("pwritev", "retval=4096"),
    ("fsync", "error=EIO"),
    ("fsync", "error=ENOSPC"),
    ("fsync", "error=EINTR"),
    ("rename", "error=EIO"),
    ("rename", "error=ENOSPC"),
    ("rename", "error=EINTR"),
    ("openat", "error=EIO"),
    ("openat", "error=ENOSPC"),
    ("openat", "error=EINTR"),
    ("openat", "error=EMFILE"),
)
"""Which call, and what becomes of it instead."""

LETTERS = tuple(("letter", fault, 1) for fault in ("EIO", "ENOSPC", "EINTR", "short"))
"""What becomes of the one write of a dead letter's bytes that a life makes."""

COMMITS = ("fdatasync", "pwrite64", "writev", "pwritev")
ENDS = ("error=EIO", "retval=512", "retval=4096")
"""After such a fault in such a call nobody knows what is on disk, so the process must end and say so."""

CONTROL_CALLS = 9
SPOILED_LETTERS = Path(__file__).with_name("faults_letters.py")
STAGES = ("first", "ready", "again", "compact")
COMPACTING = (
    ("pwrite64", "error=EIO"),
    ("write", "error=EIO"),
    ("write", "error=ENOSPC"),
    ("write", "error=EINTR"),
    ("fsync", "error=EIO"),
    ("fsync", "error=EINTR"),
    ("fsync", "error=ENOSPC"),
    ("rename", "error=EIO"),
    ("rename", "error=ENOSPC"),
    ("rename", "error=EINTR"),
    ("openat", "error=EIO"),
    ("openat", "error=ENOSPC"),
    ("openat", "error=EINTR"),
    ("openat", "error=EMFILE"),
)
"""What can fail while a journal is compacted; a short write there would be one that strace lies about."""

Case = tuple[str, str, str, int]
"""Stage, call, fault, k."""


class Cases:
    """The stages, and what they need."""

    def __init__(self, job: Job) -> None:
        self.job = job
        with Sink(answer) as sink:
            self.prepared = Prepared(job.folder / "prepared", sink)
            self.before = list(sink.requests)

    def try_one(self, case: Case, command: tuple[str, ...] = PLAIN, keep: Path | None = None) -> list[str]:
        """One life or compaction with one fault; what is wrong after it.

        Args:
            case: Which.
            command: Starts the daemon.
            keep: Keep the trace there.
        """
        stage, call, fault, k = case
        job, folder = self.job, self.job.folder / f"case-{self.job.count}"
        folder.mkdir()
        trace = folder / "strace"
        try:
            with Sink(answer) as sink:
                if call == "letter":
                    prefix: tuple[str, ...] = ()
                    command = (sys.executable, str(SPOILED_LETTERS), fault, str(k), str(trace))
                else:
                    prefix = tracer(folder, call, fault, k)
                code, wrong, failed = self._stage(stage, folder, sink, prefix, command)
            injected = trace.exists() and "(INJECTED)" in trace.read_text(errors="replace")
            job.note("faults that happened", int(injected))
            job.note("journal failed", int(failed))
            if injected and code == 0 and self._must_end(stage, call, fault):
                wrong.append("a write failed, and the process went on as if nothing had been")
            if keep is not None:
                shutil.copy(trace, keep)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return [f"{stage}: {call} {fault} at call {k}: {w}" for w in wrong]

    def _stage(
        self, stage: str, folder: Path, sink: Sink, trace: tuple[str, ...], command: tuple[str, ...]
    ) -> tuple[int | None, list[str], bool]:
        """Exit code, what is wrong, whether the daemon said that its journal failed."""
        if stage in ("again", "compact"):
            self.prepared.copy(folder)
            sink.requests += self.before
        if stage == "compact":
            code, wrong = compacted(folder, (trace[0], *trace[2:]))  # not -D: its exit code is wanted
            life = self.prepared.life
            failed = False
        else:
            life = live(folder, sink, trace, command, from_start=stage != "ready")
            self.job.note("acknowledged", len(life.acked))
            code, wrong, failed = life.code, life.wrong, life.failed_at_s is not None
            if stage == "again":
                life.acked += self.prepared.life.acked
        stored, unreadable = read_or_complain(folder / "journal", folder / "dead-letters")
        return code, [*wrong, *unreadable, *judge(life, sink, stored)], failed

    @staticmethod
    def _must_end(stage: str, call: str, fault: str) -> bool:
        if stage == "compact":
            return call in ("write", "pwrite64", "fsync", "rename") and fault != "error=EINTR"
        return call in COMMITS and fault in ENDS

    def all(self) -> Iterator[Case]:
        """Every k of every fault: counted in one life without faults for each stage and call."""
        for stage in STAGES:
            faults = COMPACTING if stage == "compact" else FAULTS
            for call in dict.fromkeys(c for c, _ in faults):
                trace = self.job.folder / "trace"
                wrong = self.try_one((stage, call, "error=EIO", 60_000), keep=trace)
                assert not wrong, wrong
                calls = re.findall(r"^(\d+ +)?\w+\(", trace.read_text(errors="replace"), re.MULTILINE)
                most = max(Counter(calls).values(), default=0)
                for _, fault in (f for f in faults if f[0] == call):
                    yield from ((stage, call, fault, k) for k in range(1, most + 1))
            if stage in ("first", "again"):
                yield from ((stage, *letter) for letter in LETTERS)


def some() -> list[Case]:
    """For a share that is too small to count first: calls that every life makes."""
    lives = [("first", c, f, k) for c, f in FAULTS if c != "pwritev" for k in range(1, 7)]
    lives += [("ready", c, f, k) for c, f in FAULTS if c != "pwritev" for k in (1, 2)]
    lives += [("first", *letter) for letter in LETTERS]
    return lives + [("compact", c, f, k) for c, f in COMPACTING for k in range(1, 3)]


def run(job: Job) -> None:
    """Go through the cases in random order; the whole round when there is time."""
    cases = Cases(job)
    every = some() if job.seconds < 30 else list(cases.all())
    job.notes.clear()
    job.rand.shuffle(every)
    job.notes["cases in all"] = len(every)
    for one in every:
        if not job.goes_on:
            break
        job.found += cases.try_one(one)
        job.count += 1
        job.note(f"done: {one[0]}")
    if job.count > CONTROL_CALLS and not job.notes.get("acknowledged"):
        job.found.append("nothing was ever acknowledged: the lives did not work")


def control(job: Job) -> list[str]:
    """Two ways to go on after a failed commit."""
    for bug in ("swallow", "go_on"):
        attempt = job.sub(bug, 60)
        cases = Cases(attempt)
        command = (sys.executable, str(Path(__file__).with_name("faults_bugs.py")), bug)
        for k in range(3, 3 + CONTROL_CALLS):
            if cases.try_one(("first", "fdatasync", "error=EIO", k), command):
                break
            attempt.count += 1
        else:
            raise AssertionError(f"{bug}: nothing was wrong after any fault")
    return ["a failed commit answered as if it were stored", "a process that goes on after a failed commit"]


SHARD = Shard("faults", ("P4", "P6"), "faulty lives", run, control, weight=3.0, needs=("strace",), parallel=False)
