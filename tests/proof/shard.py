"""What a harness of ``make proof`` is: a share of work that fits the time it is given, and a bug that it must catch."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

__all__ = ["Job", "Shard"]

FOUND_MOST = 20  # what comes after that is the same thing again


@dataclass
class Job:
    """One run of a shard.

    Attributes:
        seed: All randomness comes from it.
        seconds: How long to go on; the item that is under way then is finished.
        folder: An empty folder of its own.
        count: Items done, in the shard's unit.
        found: What is wrong, a line each; empty is what we want.
        notes: Further counts for the ledger.
        enough: So many wrong things end it; a control ends with the first.
        workers: Processes at once.
    """

    seed: int
    seconds: float
    folder: Path
    count: int = 0
    found: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    enough: int = FOUND_MOST
    workers: int = 1

    def __post_init__(self) -> None:
        self.rand = random.Random(self.seed)
        self._until_s = time.monotonic() + self.seconds

    @property
    def goes_on(self) -> bool:
        """Whether there is time for another item (there is for one at least), and a reason to look at one."""
        return (time.monotonic() < self._until_s or not self.count) and len(self.found) < self.enough

    def note(self, name: str, more: int = 1) -> None:
        """Count something on the side."""
        self.notes[name] = self.notes.get(name, 0) + more

    def sub(self, name: str, seconds: float) -> Job:
        """A job inside this one for a control, with a folder of its own."""
        folder = self.folder / name
        folder.mkdir()
        return Job(self.seed, seconds, folder, enough=1)

    def isolated(self, work: Callable[[], None]) -> None:
        """Do work on this job in a process of its own, so that a process that dies is something found."""
        child = _Child(self, work)
        self.rand.seed(self.rand.random())  # what the other process drew is drawn
        if (told := child.told(self)) is not None:
            self.count, self.found, self.notes = told

    def spread(self, work: Callable[[Job], None]) -> None:
        """Do the same work in ``workers`` processes, each with its own seed and folder, and add up what they bring.

        The first has this job's own seed, so that the seed in what any of them finds repeats it with one worker.
        """
        if self.workers == 1:
            work(self)
            return
        jobs = [self._worker(number) for number in range(self.workers)]
        for job, child in [(job, _Child(job, partial(work, job))) for job in jobs]:
            if (told := child.told(job)) is not None:
                job.count, job.found, job.notes = told
            self.count += job.count
            self.found = [*self.found, *job.found][:FOUND_MOST]
            for name, more in job.notes.items():
                self.note(name, more)

    def _worker(self, number: int) -> Job:
        seed = self.seed if not number else random.Random(f"{self.seed}-{number}").randrange(1, 1 << 31)
        folder = self.folder / f"worker-{number}"
        folder.mkdir()
        return Job(seed, self.seconds, folder, enough=self.enough)


class _Child:
    """A process that works on a job and tells what came of it."""

    def __init__(self, job: Job, work: Callable[[], None]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(reading)
                work()
                with os.fdopen(writing, "w") as pipe:
                    json.dump([job.count, job.found, job.notes], pipe)
                code = 0
            except BaseException:  # noqa: BLE001 - the other process tells what happened
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        self._reading = reading

    def told(self, job: Job) -> tuple[int, list[str], dict[str, int]] | None:
        """Wait for its end; None when it died, which is noted as found."""
        with os.fdopen(self._reading) as pipe:
            told = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if status == 0:
            count, found, notes = json.loads(told)
            return count, found, notes
        why = f"signal {signal.Signals(-status).name}" if status < 0 else "an error of its own"
        job.found.append(f"seed {job.seed}: the process that looked died of {why}")
        return None


@dataclass(frozen=True)
class Shard:
    """One harness.

    Attributes:
        name: As it is called in the ledger.
        promises: Numbers of the promises it holds (``promises.py``).
        unit: What is counted, as a plural.
        run: Does items while ``job.goes_on``; wrong things go to ``job.found``.
        control: Runs the same harness against deliberate bugs. Returns the names of those that it caught and raises
            AssertionError for one that it did not.
        weight: Share of the time of a run, in relation to the others.
        needs: Programs that must be on the PATH.
        modules: Python modules of the extra ``fuzz`` that must be installed.
        root: Works for root only.
        parallel: Several of it may run side by side.
    """

    name: str
    promises: tuple[str, ...]
    unit: str
    run: Callable[[Job], None]
    control: Callable[[Job], list[str]]
    weight: float = 1.0
    needs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    root: bool = False
    parallel: bool = True
