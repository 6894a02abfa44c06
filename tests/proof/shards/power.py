"""Power cuts: every point of a recorded run, with any part of what was not flushed, must open and hold what was said."""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from unittest import mock

from sidecar.journal.place import file_system_type
from tests.proof import power_work
from tests.proof.disk import Disk
from tests.proof.power_look import Expected, Looker
from tests.proof.shard import Job, Shard
from tests.proof.trace import Op, traced
from tests.support.daemon import REPOSITORY

CHUNK = 400  # states of one pass over a trace
CHUNKS = 20  # passes before the next trace is recorded
CONTROL_STATES = 3_000
SHM = "/dev/shm" if Path("/dev/shm").is_dir() else None


def record(seed: int, bug: str = "") -> list[Op]:
    """Run the workload once under strace."""
    folder = Path(tempfile.mkdtemp(prefix="power-", dir=SHM))
    try:
        root, marks = folder / "root", folder / "marks"
        root.mkdir(parents=True)
        marks.touch()
        command = [sys.executable, str(Path(power_work.__file__)), str(root), str(marks), str(seed), bug]
        environ = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
        return [*traced(command, root, marks, folder / "trace", env=environ), Op("root", path=str(root))]
    finally:
        shutil.rmtree(folder)


def explore(job: Job, ops: list[Op], states: int) -> None:
    """Cut the power at points of one trace, drawn evenly over its calls, and look at one state for each."""
    root = ops[-1].path
    changes = [i for i, op in enumerate(ops[:-1]) if op.kind != "mark"]
    chosen = sorted(job.rand.choices(changes, k=states))
    disk, expected, at = Disk(root), Expected(), 0
    scratch = Path(tempfile.mkdtemp(prefix="power-", dir=SHM))
    place, looker = Place(scratch), Looker(job)
    # Which file system a folder is on does not depend on a crash, and finding out costs as much as reading the books.
    kind = file_system_type(str(scratch))
    try:
        with mock.patch("sidecar.journal.place.file_system_type", return_value=kind):
            for point in chosen:
                for op in ops[at:point]:
                    if op.kind == "mark":
                        expected.hear(op.to)
                    else:
                        disk.apply(op)
                at = point
                if not job.goes_on:
                    return
                found = {path[len(root) + 1 :]: content for path, content in disk.crash(job.rand).items()}
                place.lay_out(found)
                wrong = looker.look(scratch, expected, found)
                job.count += 1
                job.found += [f"seed {job.seed}, after call {point}: {w}" for w in wrong[:3]]
    finally:
        shutil.rmtree(scratch)


class Place:
    """A folder that holds one crash state after the other; dead letters that stay as they are are not written again.

    Args:
        folder: Empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._letters: dict[str, bytes | None] = {}

    def lay_out(self, found: dict[str, bytes | None]) -> None:
        """Have these files (None = a folder) and no others."""
        if (self._folder / "volume").exists():
            shutil.rmtree(self._folder / "volume")  # the last look changed it
        for path in sorted(self._letters.keys() - found.keys(), reverse=True):
            if self._letters.pop(path) is None:
                (self._folder / path).rmdir()
            else:
                (self._folder / path).unlink()
        for path, content in found.items():
            if path in self._letters and self._letters[path] == content:
                continue
            if content is None:
                (self._folder / path).mkdir()
            else:
                (self._folder / path).write_bytes(content)
            if path.startswith("letters"):
                self._letters[path] = content


def run(job: Job) -> None:
    """Record a run, cut its power thousands of times, record another."""
    while job.goes_on:
        ops = record(job.rand.randrange(1 << 30))
        job.note("traces")
        job.notes["calls"] = job.notes.get("calls", 0) + sum(op.kind != "mark" for op in ops)
        for _ in range(CHUNKS):
            if job.goes_on:
                job.isolated(partial(explore, job, ops, CHUNK))


def control(job: Job) -> list[str]:
    """Ways to write a journal, compact it and put dead letters aside that lose or break them."""
    bugs = {
        "nosync": ("", "sync=False"),
        "nometasync": ("", "metasync=False"),
        "in_place": ("", "created in place, not flushed"),
        "compacted": ("cannot be", "a compaction that is not flushed"),
        "letters": ("the letter of", "dead letters that are not flushed"),
    }
    for bug, (sign, _) in bugs.items():
        attempt = job.sub(bug, 60)
        ops = record(job.seed, bug)
        most = ops if bug != "in_place" else [*ops[: len(ops) // 8], ops[-1]]  # it matters at the first start
        attempt.isolated(partial(explore, attempt, most, CONTROL_STATES))
        assert any(sign in w for w in attempt.found), f"{bug}: {attempt.count} crash states, {attempt.found}"
    return [name for _, name in bugs.values()]


SHARD = Shard("power", ("P2", "P10"), "crash states", run, control, weight=3.0, needs=("strace",))
