"""The tests that a promise names beside the harnesses, a file at a time, as many as there is time for.

Each of them has its own deliberate bugs, as ``docs/proof.md`` says; what is tried here is that a failure is heard of.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.proof.promises import PROMISES
from tests.proof.shard import Job, Shard
from tests.support.daemon import REPOSITORY

LEAST_S = 30
"""With less time than that only the quickest is run."""
QUICKEST = "tests/docs/test_proof_page.py"
LONGEST_S = 600
CYCLES = "20"  # of the loop that kills the daemon: ``crashes`` does it for hours
_COUNT = re.compile(r"(\d+) (passed|failed|errors?)\b")


def try_file(job: Job, path: str) -> None:
    """Run one file of tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", path]
    environment = {**os.environ, "CRASH_CYCLES": CYCLES, "CRASH_SEED": str(job.rand.randrange(1, 1 << 32))}
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, check=False, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        job.found.append(f"seed {job.seed}, {path}: not through after {LONGEST_S} s")
        return
    said = done.stdout.decode(errors="replace")
    counts = {what: int(n) for n, what in _COUNT.findall(said.rpartition("\n=")[2] or said)}
    job.count += counts.get("passed", 0)
    job.note("files")
    if done.returncode or not counts.get("passed"):
        failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
        why = "; ".join(failed[:3]) or said[-300:]
        job.found.append(f"seed {job.seed}, {path} ended with {done.returncode}: {why[:600]}")


def run(job: Job) -> None:
    """File after file, in random order, until the time is over or all were run."""
    files = sorted({path for promise in PROMISES for path in promise.tests})
    job.rand.shuffle(files)
    for path in files if job.seconds >= LEAST_S else [QUICKEST]:
        if job.goes_on:
            try_file(job, path)


def control(job: Job) -> list[str]:
    """A test that fails, and a file that dies."""
    for name, body in (("fails", "assert False"), ("dies", "import os; os._exit(0)")):
        attempt = job.sub(name, 60)
        path = Path(attempt.folder / f"test_{name}.py")
        path.write_text(f"def test_it():\n    {body}\n")
        try_file(attempt, str(path))
        assert attempt.found, f"{name}: nobody heard of it"
    return ["a test that fails", "a run of tests that dies"]


SHARD = Shard(
    "named",
    (),  # the page names these tests promise by promise
    "tests that a promise names",
    run,
    control,
    weight=3.0,
    parallel=False,
)
