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
    """

    seed: int
    seconds: float
    folder: Path
    count: int = 0
    found: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    enough: int = FOUND_MOST

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
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(reading)
                work()
                with os.fdopen(writing, "w") as pipe:
                    json.dump([self.count, self.found, self.notes], pipe)
                code = 0
            except BaseException:  # noqa: BLE001 - the other process tells what happened
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            told = pipe.read()
        self.rand.seed(self.rand.random())  # what the other process drew is drawn
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            self.count, self.found, self.notes = json.loads(told)
        else:
            why = f"signal {signal.Signals(-status).name}" if status < 0 else "an error of its own"
            self.found.append(f"seed {self.seed}: the process that looked died of {why}")


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
