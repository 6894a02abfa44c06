"""What a process takes over time, sampled from outside, and whether it stays flat."""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import lmdb

from tests.support.daemon import Daemon
from tests.support.senders import rss_kib

__all__ = ["Readings", "Sampler", "slope"]

SAMPLE_S = 0.25
LOOK_S = 0.05  # at the table of readers
FEW = 5  # samples in each third
SLOPE_FROM_S = 1800.0


@dataclass
class Readings:
    """One list entry a sample."""

    at_s: list[float] = field(default_factory=list)
    file_bytes: list[int] = field(default_factory=list)
    used_bytes: list[int] = field(default_factory=list)
    rss_kib: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    longest_read_s: float = 0.0

    def file_is_bounded(self, spare_bytes: int) -> list[str]:
        """At most twice what was live at any time, and some."""
        peak, file = max(self.used_bytes, default=0), max(self.file_bytes, default=0)
        bad = file > 2 * peak + spare_bytes
        return [f"the file has {file >> 20} MiB, at most {peak >> 20} MiB were live"] if bad else []

    def reads_are_short(self, most_s: float) -> list[str]:
        """No read transaction held an old state for long."""
        bad = self.longest_read_s > most_s
        return [f"a read transaction lasted {self.longest_read_s:.1f} s"] if bad else []

    def flat(self) -> list[str]:
        """Descriptors and memory: the last third against the first, after the warming up of a fifth."""
        skip = len(self.at_s) // 5
        third = (len(self.at_s) - skip) // 3
        if third < FEW:
            return []
        wrong = []
        before, after = max(self.descriptors[skip : skip + third]), min(self.descriptors[-third:])
        if after > before + 4:
            wrong.append(f"open descriptors went from {before} at most to {after} at least")
        rss = self.rss_kib[skip:]
        low, high = max(rss[:third]), min(rss[-third:])
        if high > 1.25 * low + 16_384:
            wrong.append(f"memory went from {low >> 10} MiB at most to {high >> 10} MiB at least")
        if self.at_s[-1] - self.at_s[skip] > SLOPE_FROM_S:
            half = len(rss) // 2
            at_s, kib = by_minute(self.at_s[skip:][half:], rss[half:])
            kib_a_s, error = slope(at_s, kib)
            share = (kib_a_s - 3 * error) * 3600 / (sum(kib) / len(kib))
            if share > 0.01:
                minutes = " ".join(f"{k / 1024:.1f}" for k in kib)
                wrong.append(f"memory grows by {share:.1%} an hour at least; its minutes in MiB: {minutes}")
        return wrong


def by_minute(at_s: list[float], kib: list[int]) -> tuple[list[float], list[float]]:
    """The middle and the median of each whole minute.

    What swings with the backends swings within a minute; sample for sample the error of a slope would take each of
    hundreds of samples of one swing for news, and be far too small.
    """
    minutes: dict[int, list[int]] = {}
    for s, y in zip(at_s, kib, strict=True):
        minutes.setdefault(int((s - at_s[0]) // 60), []).append(y)
    whole = sorted(minutes.items())[:-1]
    return [60.0 * n + 30 for n, _ in whole], [statistics.median(ys) for _, ys in whole]


def slope(xs: list[float], ys: list[float]) -> tuple[float, float]:
    """Least squares: the slope and its standard error."""
    n = len(xs)
    mean_x, mean_y = sum(xs) / n, sum(ys) / n
    spread = sum((x - mean_x) ** 2 for x in xs)
    found = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    rest = sum((y - mean_y - found * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return found, (rest / (n - 2) / spread) ** 0.5


class Sampler:
    """Samples a running daemon in a thread. Holds no transaction itself; sees LMDB's table of readers from outside."""

    def __init__(self, daemon: Daemon) -> None:
        self.readings = Readings()
        self.error: BaseException | None = None
        self._daemon = daemon
        self._path = daemon.folder / "journal"
        self._enough = threading.Event()
        self._reads: dict[str, tuple[int, float]] = {}  # pid and thread -> its transaction, since when it is behind
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._enough.set()
        self._thread.join(30)
        if self.error is not None and not exc[0]:
            raise AssertionError("sampling failed") from self.error

    def _run(self) -> None:
        try:
            with contextlib.closing(lmdb.open(str(self._path), readonly=True, map_size=1 << 40)) as env:
                next_s = 0.0
                while not self._enough.wait(LOOK_S):
                    self._look(env)
                    if time.monotonic() >= next_s:
                        next_s = time.monotonic() + SAMPLE_S
                        self._sample()
        except BaseException as e:  # noqa: BLE001 - raised where the sampling ends
            self.error = e

    def _look(self, env: lmdb.Environment) -> None:
        """Who reads a state that is not the newest any more, and since when."""
        now_s, newest = time.monotonic(), int(env.info()["last_txnid"])
        reads: dict[str, tuple[int, float]] = {}
        for line in env.readers().splitlines()[1:]:
            pid, thread, *state = line.split()
            if not state or not state[0].isdigit() or int(state[0]) >= newest:
                continue
            name, txn = f"{pid} {thread}", int(state[0])
            known = self._reads.get(name)
            since_s = known[1] if known is not None and known[0] == txn else now_s
            reads[name] = (txn, since_s)
            self.readings.longest_read_s = max(self.readings.longest_read_s, now_s - since_s)
        self._reads = reads

    def _sample(self) -> None:
        r, pid = self.readings, self._daemon.pid
        stats = self._daemon.api("journal/stats")
        r.at_s.append(time.monotonic())
        r.used_bytes.append(int(stats["used_bytes"]))
        r.file_bytes.append(os.path.getsize(self._path / "data.mdb"))
        r.rss_kib.append(rss_kib(pid))
        r.descriptors.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
