"""Slow clients against the real daemon: closed in the times that are stated, within its memory, at no cost to honest senders.

Honest senders follow a timetable (open loop), so that a stall is charged for everybody who would have come meanwhile. Their
latency under attack is held against that of the minute before on the same machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.webhook import PATH, SECRET
from tests.proof.attack import Attack
from tests.proof.shard import Job, Shard
from tests.support.daemon import REPOSITORY, Daemon, eventually
from tests.support.senders import rss_kib
from tests.support.sink import Sink

BUGS = Path(__file__).parents[1] / "slow_bugs.py"
FEW, MANY = 200, 2000
CONTROL_SIEGES = 3
LONG_S = 60.0  # a share of the time from here on is for the full attack
RATE = 60.0
TIMES = {FEW: (1, 3, 2), MANY: (10, 30, 15)}  # header_timeout, body_timeout, keepalive_timeout
LATE_S = (
    4.0  # how much later than stated the last may be closed: opening all of them, a tick, a machine with other work
)
BUFFERED_MIB = 16
RATIO, FLOOR_MS = 2.0, 40.0  # below the floor two latencies on a shared machine are the same
KIB_PER_CONNECTION = 32  # 16 of head, and what the transport has read or not written
HELD_SHARE = 0.6  # of the connections must be open at the same moment; a cap may allow fewer
SPARE_KIB = 16 << 10  # what an allocator keeps, batches on their way to the journal


def config(times: tuple[int, int, int], most: int) -> tuple[str, str]:
    """Sources and destinations, and the server's settings."""
    header_s, body_s, keepalive_s = times
    server = (
        f'header_timeout = "{header_s}s"\nbody_timeout = "{body_s}s"\nkeepalive_timeout = "{keepalive_s}s"\n'
        f'max_connections = {most}\nmax_body = "2MiB"\nmax_buffered = "{BUFFERED_MIB}MiB"'
    )
    text = """
[sources.github]
path = "%s"
verify = "github"
secrets = [{ value = "%s" }]
max_body = "2MiB"
destinations = ["app"]
[sources.open]
path = "/open"
verify = { scheme = "none" }
allow_unverified = true
destinations = ["app"]
[destinations.app]
url = "%s"
"""
    return text, server


def honest(daemon: Daemon, seconds: float, seed: int) -> dict[str, float]:
    """Senders with a timetable; the percentiles of their latency in ms, how late they were themselves, how many got no 2xx."""
    load = {
        "url": f"http://127.0.0.1:{daemon.port}{PATH}", "mode": "open", "rate": RATE, "seconds": seconds, "seed": seed,
        "connections": 16, "warm_s": 0.3,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load", json.dumps(load)],
        cwd=REPOSITORY, capture_output=True, check=True, timeout=seconds + 60,
    )  # fmt: skip
    result = json.loads(done.stdout)
    failed = result["lost"] + result["unanswered"] + sum(n for s, n in result["statuses"].items() if s[0] != "2")
    return {**result["latency_ms"], "late": result["late_ms"]["p99"], "failed": failed, "answered": result["answered"]}


def median(values: list[float]) -> float:
    """The middle one: a single hiccup of the machine decides nothing."""
    return sorted(values)[len(values) // 2]


@dataclass
class Peak:
    """The most that a daemon had: anonymous memory in KiB, open descriptors."""

    kib: int = 0
    files: int = 0

    def look(self, daemon: Daemon) -> None:
        """Look now."""
        self.kib = max(self.kib, rss_kib(daemon.pid))
        self.files = max(self.files, files(daemon))


@contextlib.contextmanager
def watched(daemon: Daemon) -> Iterator[Peak]:
    """What it has at most in the length of a block, looked at all the time."""
    peak, over = Peak(), threading.Event()
    peak.look(daemon)

    def look() -> None:
        while not over.wait(0.05):
            peak.look(daemon)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def files(daemon: Daemon) -> int:
    """Descriptors that the daemon has open."""
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def siege(job: Job, connections: int, *, spoiled: bool = False) -> None:
    """One attack on one daemon."""
    # Room for all, or a cap that some have to leave for.
    most = connections * (2 if spoiled else job.rand.choice((0.5, 2)))
    folder = job.folder / f"siege-{job.count}"
    folder.mkdir()
    command = (sys.executable, str(BUGS)) if spoiled else (sys.executable, "-m", "sidecar")
    text, server = config(TIMES[connections], int(most))
    with Sink() as sink, Daemon(folder, text % (PATH, SECRET, sink.url), server=server, command=command) as daemon:
        job.found += [f"seed {job.seed}: {w}" for w in _besiege(job, daemon, sink, connections, int(most))]
    job.count += connections


def _besiege(job: Job, daemon: Daemon, sink: Sink, connections: int, most: int) -> Iterator[str]:
    windows, window_s = (3, 5.0) if connections == MANY else (1, 2.0)
    limit_s = max(TIMES[connections]) + LATE_S
    seed = job.rand.randrange(1 << 30)
    quiet = [honest(daemon, window_s, seed + n) for n in range(windows)]
    before_kib, before_files = rss_kib(daemon.pid), files(daemon)
    with watched(daemon) as peak, Attack(daemon.port, connections, daemon.folder, int(limit_s) + 60) as attack:
        eventually(lambda: files(daemon) > before_files + connections // 8, 15, "the attack has begun")
        attack.hoard()
        opened_s = time.monotonic()
        loud = [honest(daemon, window_s, seed + n) for n in range(windows)]
        try:
            left_s = max(0.1, opened_s + limit_s - time.monotonic())
            eventually(lambda: files(daemon) <= before_files + 4, left_s, "the slow connections are closed in time")
        except AssertionError as e:
            yield f"{e}: {files(daemon):,} descriptors, {before_files:,} before"
        allowed = before_kib + (BUFFERED_MIB << 10) + connections * KIB_PER_CONNECTION + SPARE_KIB
        if peak.kib > allowed:
            yield f"{peak.kib:,} KiB of memory under attack, {before_kib:,} before, {allowed:,} allowed"
    failed = sum(w["failed"] for w in quiet + loud)
    if failed:
        yield f"{failed} honest requests got no 2xx"
    # A second of few requests has no p99 to speak of: there the nine in ten that are quickest are looked at.
    q = "p99" if connections == MANY else "p90"
    calm, under, late = (median([w[name] for w in ws]) for ws, name in ((quiet, q), (loud, q), (loud, "late")))
    if under > max(RATIO * calm, calm + FLOOR_MS) + late:
        yield f"{q} of honest senders {under} ms under attack, {calm} ms before, {late} ms of it theirs"
    ended = daemon.process
    if ended is None or ended.poll() is not None:
        yield f"the daemon ended: {daemon.tail(3)}"
    else:
        yield from _arrived(daemon, sink, int(sum(w["answered"] for w in quiet + loud)))
    held = peak.files - before_files
    if held < min(connections, most) * HELD_SHARE:
        yield f"no attack to speak of: {held:,} connections at once, of {connections:,}"
    job.note(f"{q} of honest senders in the quiet, ms summed", round(calm))
    job.note(f"{q} of honest senders under attack, ms summed", round(under))
    job.note("attacks")
    job.note("connections at once", held)
    job.note("honest requests", int(sum(w["answered"] for w in loud)))


def _arrived(daemon: Daemon, sink: Sink, answered: int) -> Iterator[str]:
    """What honest senders were answered for has arrived, and the books balance."""
    try:
        eventually(lambda: daemon.pending() == 0, 60, "everything is delivered")
    except AssertionError as e:
        yield str(e)
    arrived = len(set(sink.ids()))
    if arrived < answered:
        yield f"{answered:,} honest requests were answered, and {arrived:,} arrived"
    if not daemon.audit()["ok"]:
        yield "the books do not balance"


def run(job: Job) -> None:
    """The small attack first; the full one again and again where there is time for it."""
    siege(job, FEW)
    while job.seconds >= LONG_S and job.goes_on:
        siege(job, MANY)


def control(job: Job) -> list[str]:
    """All three in one daemon, each of which shows in its own way."""
    attempt = job.sub("spoiled", 1)
    words = ("closed in time", "KiB of memory", "of honest senders")
    for _ in range(CONTROL_SIEGES):  # a machine with other work hides what a stall costs
        siege(attempt, FEW, spoiled=True)
        if all(any(word in line for line in attempt.found) for word in words):
            break
    for word in words:
        assert any(word in line for line in attempt.found), f"{word}: {attempt.found}"
    return ["no timer of bodies", "a buffer without an end", "a stall for each connection"]


SHARD = Shard(
    "slow",
    ("P11", "P12"),
    "slow connections",
    run,
    control,
    weight=1.5,
    needs=("slowhttptest",),
    parallel=False,  # a second siege would be part of what honest senders feel
)
