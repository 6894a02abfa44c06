"""Power cuts: every point of a recorded run, with any part of what was not flushed, must open and hold what was said."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import lmdb

from sidecar.errors import SidecarError
from sidecar.journal import Journal
from sidecar.journal.lookups import AuditScan
from sidecar.journal.types import JournalOptions
from sidecar.journal.view import View
from sidecar.model import State, parse_event_id
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters
from tests.proof import power_work
from tests.proof.disk import Disk
from tests.proof.shard import Job, Shard
from tests.proof.trace import Op, traced
from tests.support.clocks import FakeClock
from tests.support.daemon import REPOSITORY
from tests.support.journals import make_claim

CHUNK = 40  # states of one pass over a trace
CHUNKS = 50  # passes before the next trace is recorded
CONTROL_STATES = 3_000
FINAL = {"delivered", "dead"}


@dataclass
class Expected:
    """What the workload had been told when the power went."""

    opened: bool = False
    stored: dict[str, tuple[str, str]] = field(default_factory=dict)  # event id -> (sha256 of the body, dedup key)
    state: dict[tuple[str, str], set[str]] = field(default_factory=dict)  # (destination, event id) -> may be found as
    may_prune: bool = False

    def hear(self, mark: str) -> None:
        """Take a mark of the workload into account."""
        match mark.split():
            case ["is", "open"]:
                self.opened = True
            case ["is", "stored", event_id, digest, key]:
                self.stored[event_id] = (digest, key)
            case ["may", "prune"]:
                self.may_prune = True
            case ["may", destination, event_id, state]:
                self.state.setdefault((destination, event_id), {"pending"}).add(state)
            case ["is", destination, event_id, state]:
                self.state[destination, event_id] = {state}

    def may_be_gone(self, event_id: str) -> bool:
        """Whether pruning may have had it."""
        return self.may_prune and all(self.state.get((d, event_id), {"pending"}) & FINAL for d in ("app", "mail"))


def record(job: Job, name: str, seed: int, bug: str = "") -> list[Op]:
    """Run the workload once under strace."""
    folder = job.folder / name
    root, marks = folder / "root", folder / "marks"
    root.mkdir(parents=True)
    marks.touch()
    command = [sys.executable, str(Path(power_work.__file__)), str(root), str(marks), str(seed), bug]
    ops = traced(command, root, marks, folder / "trace", env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"})
    shutil.rmtree(folder)
    return [*ops, Op("root", path=str(root))]


def explore(job: Job, ops: list[Op], states: int) -> None:
    """Cut the power at points of one trace, drawn evenly over its calls, and look at one state for each."""
    root = ops[-1].path
    changes = [i for i, op in enumerate(ops[:-1]) if op.kind != "mark"]
    chosen = sorted(job.rand.choices(changes, k=states))
    disk, expected, at = Disk(root), Expected(), 0
    scratch = Path(tempfile.mkdtemp(prefix="power-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        for point in chosen:
            for op in ops[at:point]:
                if op.kind == "mark":
                    expected.hear(op.to)
                else:
                    disk.apply(op)
            at = point
            if not job.goes_on:
                return
            wrong = check_state(scratch / "root", disk, root, expected, job)
            job.count += 1
            job.found += [f"seed {job.seed}, after call {point}: {w}" for w in wrong[:3]]
    finally:
        shutil.rmtree(scratch)


def check_state(folder: Path, disk: Disk, root: str, expected: Expected, job: Job) -> list[str]:
    """Lay one crash state out as files, and look at it as the next start would."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, content in disk.crash(job.rand).items():
        there = folder / Path(path).relative_to(root)
        if content is None:
            there.mkdir()
        else:
            there.write_bytes(content)
    return open_and_look(folder, expected, job)


def open_and_look(folder: Path, expected: Expected, job: Job) -> list[str]:
    """Open what is there as the next start would, and compare it with what was said."""
    try:
        journal = Journal.open(
            JournalOptions(path=str(folder / "volume" / "journal"), max_size_bytes=32 << 20), FakeClock()
        )
    except (SidecarError, lmdb.Error) as e:
        return [f"it cannot be opened: {e}"]
    try:
        return look(journal, folder, expected, job)
    except lmdb.Error as e:
        return [f"it cannot be read: {e}"]
    finally:
        journal.close()


def look(journal: Journal, folder: Path, expected: Expected, job: Job) -> list[str]:
    """Compare what is there with what was said."""
    wrong: list[str] = []
    environment = journal._environment
    letters = DeadLetters(DeadLetterOptions(path=str(folder / "letters")), journal.mac_key)
    with environment.env.begin() as txn:
        view = View(environment, txn, FakeClock())
        view.extend(None)
        audit = AuditScan(full=True, patience_s=None)
        while not audit.step(view):
            pass
        report = audit.result()
        if report.quarantined or view.corrupt:
            wrong.append(f"{report.quarantined} damaged records")
        wrong += [f"the books do not balance: {row}" for row in report.rows if not row.balanced]
        for event_id, (digest, key) in expected.stored.items():
            parsed = parse_event_id(event_id)
            assert parsed is not None
            found = view.event_view(parsed[2], 0)
            if journal._dedup.find(txn, make_claim(key).digest, journal.clock_ms()) is None:
                wrong.append(f"the dedup key of {event_id} is forgotten")
            if found is None or found.event.id != event_id:
                if not expected.may_be_gone(event_id):
                    wrong.append(f"acknowledged event {event_id} is gone")
                continue
            if hashlib.sha256(found.event.body).hexdigest() != digest:
                wrong.append(f"the bytes of {event_id} changed")
            states = {d.destination: d.state for d in found.deliveries}
            for destination in ("app", "mail"):
                state = states.get(destination, State.ABSENT)
                if state.word not in expected.state.get((destination, event_id), {"pending"}):
                    wrong.append(f"{event_id} at {destination} is {state.word}")
                if state is State.DEAD:
                    reading = letters.read(event_id, destination)
                    job.note("letters read")
                    if reading.problem is not None or reading.letter is None:
                        wrong.append(f"the letter of {event_id} is {reading.problem}")
                    elif hashlib.sha256(reading.letter.delivery.event.body).hexdigest() != digest:
                        wrong.append(f"the letter of {event_id} has other bytes")
    return wrong


def run(job: Job) -> None:
    """Record a run, cut its power thousands of times, record another."""
    trace = 0
    while job.goes_on:
        ops = record(job, f"trace-{trace}", job.rand.randrange(1 << 30))
        trace += 1
        job.note("traces")
        job.notes["calls"] = job.notes.get("calls", 0) + sum(op.kind != "mark" for op in ops)
        for _ in range(CHUNKS):
            if job.goes_on:
                job.isolated(partial(explore, job, ops, CHUNK))


def control(job: Job) -> list[str]:
    """Three ways to write the journal that lose or break it."""
    for bug in ("nosync", "nometasync", "in_place"):
        attempt = job.sub(bug, 60)
        ops = record(attempt, bug, job.seed, bug)
        most = ops if bug != "in_place" else [*ops[: len(ops) // 8], ops[-1]]  # it matters at the first start
        attempt.isolated(partial(explore, attempt, most, CONTROL_STATES))
        assert attempt.found, f"{bug}: {attempt.count} crash states, and nothing was wrong with any"
    return ["sync=False", "metasync=False", "created in place, not flushed"]


SHARD = Shard("power", ("P2", "P10"), "crash states", run, control, weight=3.0, needs=("strace",))
