"""Work that several processes share adds up, what they find repeats from its seed, and one that dies is found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.proof.run import LEDGER
from tests.proof.shard import Job
from tests.proof.shards import simulation


def draw(job: Job) -> None:
    """One item, which is what the seed says."""
    (job.folder / "mine").touch(exist_ok=False)
    job.count += 1
    job.note("items")
    job.found.append(f"seed {job.seed}: {job.rand.random()}")


def test_workers_have_their_own_seeds_and_add_up(tmp_path: Path) -> None:
    job = Job(7, 1.0, tmp_path, workers=3)
    job.spread(draw)
    assert (job.count, job.notes) == (3, {"items": 3})
    assert len(set(job.found)) == 3
    again = Job(7, 1.0, tmp_path, workers=1)
    again.spread(draw)
    assert again.found[0] == job.found[0], "the first has the seed of the job itself"
    other = int(job.found[1].split()[1].rstrip(":"))
    (tmp_path / "mine").unlink()
    alone = Job(other, 1.0, tmp_path)
    alone.spread(draw)
    assert alone.found == [job.found[1]]


def test_a_worker_that_dies_is_found_and_the_others_count(tmp_path: Path) -> None:
    def work(job: Job) -> None:
        if job.seed != 7:
            os.kill(os.getpid(), signal.SIGKILL)
        job.count += 1

    job = Job(7, 1.0, tmp_path, workers=2)
    job.spread(work)
    assert job.count == 1
    assert [f.partition(": ")[2] for f in job.found] == ["the process that looked died of signal SIGKILL"]


def test_a_simulated_day_is_the_same_each_time() -> None:
    def told(hash_seed: str) -> bytes:
        command = [sys.executable, "-m", "tests.proof.shards.simulation", "1", "2", "3", "4", "5", "6"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, cwd=LEDGER.parents[2], env=environment, capture_output=True, check=True).stdout

    first = told("1")
    assert len(set(first.split())) == 12, "six seeds, six different days"
    assert told("2") == first


def test_a_day_that_finds_something_finds_it_again_from_its_seed(tmp_path: Path) -> None:
    with simulation.spoiled("no_wait"):
        job = Job(7, 60.0, tmp_path, enough=1)
        simulation.some(job, 1, 100)
        seed = int(job.found[0].split()[1].rstrip(":"))
        wrong, day = simulation.look_at(seed)
        again, same_day = simulation.look_at(seed)
    assert day is not None
    assert same_day is not None
    assert wrong[:3] == again[:3] == job.found
    assert day.digest() == same_day.digest()
    assert simulation.look_at(seed)[0] == [], "without the bug it finds nothing"
