"""Far more goes through a journal than it holds, past backends that fail and stall: file, memory, descriptors stay flat.

Given minutes, it is a soak: its length is its share of the time (``PROOF_SHARDS=churn PROOF_MINUTES=60``), at about half
of what the machine could do.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.proof.history import digest
from tests.proof.load import Load, chance, source
from tests.proof.shard import Job, Shard
from tests.proof.steady import Readings, Sampler
from tests.support.daemon import Daemon
from tests.support.sink import Received, Sink

CAPACITY_BYTES = 512 << 20
SPARE_BYTES = 64 << 20
READ_S = 1.0
LEAST_S = 6.0  # warming up and three thirds of samples
SETTLE_S = 90.0
PLAIN = (sys.executable, "-m", "sidecar")
OUTAGE_EVERY_S, OUTAGE_S = 20.0, 1.5
SOAK_FROM_S = 300.0

# Keys are forgotten after two minutes, so that what is remembered stays the same and memory has no reason to grow.
CONFIG = """
{source}
[sources.code.dedup]
ttl = "2m"
[journal]
path = "journal"
max_size = "512MiB"
retention = "1s"
[destinations.app]
url = "{url}"
concurrency = 16
[destinations.app.retry]
base = "100ms"
max_delay = "1s"
max_attempts = 100
"""


def size(number: int) -> int:
    """Bytes of a body: from 100 to a million, as many of each order of magnitude."""
    return int(100 * 10 ** (4 * ((number * 0.6180339887) % 1.0)))


class Lean(list[Received]):
    """What a backend got, without keeping it: the digest of each event's body, and what was wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: dict[str, bytes] = {}
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def append(self, r: Received) -> None:
        found = digest(r.body)
        with self._lock:
            if self.bodies.setdefault(r.event_id, found) != found:
                self.wrong.append(f"{r.event_id} came with two bodies")


def answer(r: Received) -> int | None:
    """The backend: out of order for a while, slow, failing, cutting, or well."""
    luck = chance(r)
    if r.at_s % OUTAGE_EVERY_S < OUTAGE_S:
        return 503
    if luck < 0.05:
        time.sleep(luck * 10)
    return None if luck > 0.99 else 500 if luck > 0.9 else 200


def one_life(
    job: Job, seconds: float, command: tuple[str, ...] = PLAIN, backend: Callable[[Received], int | None] = answer
) -> Readings:
    """Load for so long, then let it run empty; what it took meanwhile. What is wrong goes to the job."""
    folder = job.folder / f"life-{job.count}"
    folder.mkdir()
    kept = Lean()
    with Sink(backend) as sink:
        sink.requests = kept
        daemon = Daemon(folder, CONFIG.format(source=source('["app"]'), url=sink.url), command=command)
        with daemon, Sampler(daemon) as sampler:
            pause_s = 0.03 if seconds >= SOAK_FROM_S else 0.0
            with Load(daemon.port, f"c{job.count}", senders=6, size=size, pause_s=pause_s) as load:
                until_s = time.monotonic() + seconds
                while time.monotonic() < until_s and len(job.found) < job.enough:
                    time.sleep(0.2)
                    wrong = now(sampler.readings)
                    job.found += [w for w in wrong if kind(w) not in map(kind, job.found)]
            job.found += sampler.readings.flat()
            until_s = time.monotonic() + SETTLE_S
            while not job.found and daemon.pending() and time.monotonic() < until_s:
                time.sleep(0.1)
            if not job.found:
                job.found += _arrived(load, kept, daemon)
            churned = sum(size(int(a.key.rpartition("-")[2])) for a in load.acked)
            job.note("churned MiB", churned >> 20)
            job.note("tenths of a capacity", 10 * churned // CAPACITY_BYTES)
            job.note("refused for want of room", load.answers[503])
            job.count += len(load.acked)
            if not job.found and not daemon.audit()["ok"]:
                job.found.append("the books do not balance")
    return sampler.readings


def now(readings: Readings) -> list[str]:
    """What can be wrong at any time."""
    return [*readings.file_is_bounded(SPARE_BYTES), *readings.reads_are_short(READ_S)]


def kind(wrong: str) -> str:
    """The first words: the same thing again is not something new."""
    return wrong[:20]


def _arrived(load: Load, kept: Lean, daemon: Daemon) -> list[str]:
    """Everything acknowledged arrived, with its bytes."""
    wrong = list(kept.wrong)
    left = [a.key for a in load.acked if a.event_id not in kept.bodies]
    if left:
        wrong.append(f"{len(left)} acknowledged events never arrived: {left[:3]}; owed: {daemon.pending()}")
    altered = [a.key for a in load.acked if kept.bodies.get(a.event_id, a.body) != a.body]
    if altered:
        wrong.append(f"other bytes arrived for {altered[:3]}")
    return wrong


def run(job: Job) -> None:
    """One life for the whole time."""
    readings = one_life(job, max(job.seconds, LEAST_S))
    job.notes["file MiB at most"] = max(readings.file_bytes, default=0) >> 20
    job.notes["live MiB at most"] = max(readings.used_bytes, default=0) >> 20
    job.notes["memory MiB at most"] = max(readings.rss_kib, default=0) >> 10
    job.notes["longest read, ms"] = round(readings.longest_read_s * 1000)
    if not job.count:
        job.found.append("nothing was acknowledged: there was no load")


def control(job: Job) -> list[str]:
    """A read transaction that is held, and a descriptor in a hundred deliveries that is not closed."""
    bugs = {
        "held_read": (("the file has", "a read transaction"), "a read transaction held open"),
        "leak": (("open descriptors",), "a descriptor lost now and then"),
    }
    for bug, (signs, name) in bugs.items():
        attempt = job.sub(bug, 60)
        attempt.enough = len(signs)
        seconds = 40.0 if bug == "held_read" else LEAST_S
        one_life(attempt, seconds, (sys.executable, str(BUGS), bug), lambda r: 200)
        for sign in signs:
            assert any(w.startswith(sign) for w in attempt.found), f"{name}: {attempt.found}"
    return [name for _, name in bugs.values()]


BUGS = Path(__file__).with_name("churn_bugs.py")
SHARD = Shard("churn", ("P6", "P13"), "churned events", run, control)
