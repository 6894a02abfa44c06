"""The k-th call fails, for every k: a fixed life of the real daemon under strace, start, reload and shutdown included."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.proof.history import Accepted, Got, History, Stored, compare, digest, read_or_complain
from tests.proof.shard import Job, Shard
from tests.support.daemon import Daemon
from tests.support.senders import Raw, framed, github
from tests.support.sink import Received, Sink

SECRET = "fault-test"
EXIT_S = 3.0  # the promise is one second; the rest is for a busy machine under strace
STOP_S = 30.0

CONFIG = """
[sources.code]
path = "/code"
max_body = "1MiB"
verify = "github"
secrets = [{{ value = "fault-test" }}]
destinations = ["app"]
[journal]
path = "journal"
max_size = "32MiB"
[destinations.app]
url = "{url}"
concurrency = 4
[destinations.app.retry]
base = "100ms"
jitter = 0
{more}
"""

FAULTS = (
    ("fdatasync", "error=EIO"),
    ("fdatasync", "error=EINTR"),
    ("fdatasync", "error=ENOSPC"),
    ("pwrite64", "error=EIO"),
    ("pwrite64", "error=ENOSPC"),
    ("pwrite64", "retval=512"),  # a short write
    ("pwritev", "error=EIO"),
    ("pwritev", "error=ENOSPC"),
    ("pwritev", "retval=4096"),
    ("writev", "error=EIO"),
    ("fsync", "error=EIO"),
    ("fsync", "error=EINTR"),
    ("rename", "error=EIO"),
    ("rename", "error=ENOSPC"),
    ("openat", "error=EIO"),
    ("openat", "error=ENOSPC"),
    ("openat", "error=EMFILE"),
)
"""Which call, and what becomes of it instead."""

COMMITS = ("fdatasync", "pwrite64", "pwritev")
ENDS = ("error=EIO", "retval=512", "retval=4096")
"""After such a fault in such a call nobody knows what is on disk, so the process must end and say so."""

PATHS = (
    "journal",
    "journal/data.mdb",
    "journal/.new",
    "journal/.new/data.mdb",
    "journal/journal.lock",
    "dead-letters",
    "dead-letters/app",
)
"""Opens of other files (Python's own, mostly) are let through."""


@dataclass
class Life:
    """What one life of the daemon brought."""

    acked: list[Accepted] = field(default_factory=list)
    failed_at_s: float | None = None  # wall clock: when it said that the journal failed
    ended_at_s: float | None = None
    code: int | None = None
    wrong: list[str] = field(default_factory=list)


def answer(r: Received) -> int:
    """The backend: one event it refuses for good, one it takes at the second try."""
    if b'"refuse"' in r.body:
        return 400
    return 500 if b'"flaky"' in r.body and r.attempt == 1 else 200


def live(folder: Path, sink: Sink, tracer: tuple[str, ...], command: tuple[str, ...]) -> Life:
    """Run the fixed life once: start, webhooks, a reload, more webhooks, a repeat, SIGTERM."""
    life = Life()
    daemon = Daemon(folder, CONFIG.format(url=sink.url, more=""), command=(*tracer, *command))
    daemon.launch()
    process = daemon.process
    assert process is not None

    def watch() -> None:
        life.code = process.wait()
        life.ended_at_s = time.time()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        if not _ready(daemon, process):
            if process.poll() is None:
                life.wrong.append(f"it is neither ready nor gone:\n{daemon.tail(3)}")
            return life
        for name, size in (("a", 20), ("refuse", 20), ("b", 9_000), ("flaky", 20), ("c", 150_000)):
            _send(daemon, life, name, size)
        daemon.write(CONFIG.format(url=sink.url, more=f'[destinations.more]\nurl = "{sink.url}"\n'))
        with contextlib.suppress(OSError):
            daemon.admin("POST", "/-/reload", timeout_s=10)
        for name, size in (("d", 20), ("a", 20), ("e", 3_000)):
            _send(daemon, life, name, size)
        _settled(daemon)
        if daemon.logged("the journal failed: stopping"):
            watcher.join(STOP_S)  # it is on its way out by itself
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        watcher.join(STOP_S)
        if life.code is None:
            life.wrong.append(f"{STOP_S:.0f} s after SIGTERM it still runs:\n{daemon.tail(3)}")
    finally:
        if process.poll() is None:
            process.kill()
        watcher.join(10)
    _read_log(daemon, life)
    return life


def _ready(daemon: Daemon, process: subprocess.Popen[bytes]) -> bool:
    until_s = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < until_s:
        with contextlib.suppress(OSError):
            if daemon.admin("GET", "/startupz", timeout_s=5)[0] == 200:
                return True
        time.sleep(0.01)
    return False


def _send(daemon: Daemon, life: Life, name: str, size: int) -> None:
    body = b'{"name":"%s","pad":"%s"}' % (name.encode(), b"x" * size)
    with contextlib.suppress(OSError, EOFError), Raw(daemon.port, timeout_s=5) as raw:
        got = raw.send(framed("/code", body, github(body, SECRET, name))).answer()
        if 200 <= got.status < 300:
            life.acked.append(Accepted(name, got.headers["webhook-sidecar-event-id"], digest(body)))


def _settled(daemon: Daemon) -> None:
    """Wait until nothing is owed, or the daemon is gone, or it takes too long (then it stays pending)."""
    until_s = time.monotonic() + 5
    while time.monotonic() < until_s:
        try:
            if daemon.pending() == 0:
                return
        except (OSError, AssertionError, StopIteration):
            return
        time.sleep(0.02)


def _read_log(daemon: Daemon, life: Life) -> None:
    failed = daemon.logged("the journal failed: stopping")
    if life.code is not None and life.code < 0 and life.code != -signal.SIGKILL:
        life.wrong.append(f"it died of {signal.Signals(-life.code).name}")
    if "Traceback" in daemon.log.read_text(errors="replace"):
        life.wrong.append(f"a traceback instead of a clear line:\n{daemon.tail(6)}")
    if failed:
        life.failed_at_s = _seconds(failed[0]["ts"])
        if life.ended_at_s is None or life.ended_at_s - life.failed_at_s > EXIT_S:
            life.wrong.append("the journal failed, and a second later the process was still there")
        if life.code == 0:
            life.wrong.append("the journal failed, and the exit code says that all is well")


def _seconds(stamp: str) -> float:
    return dt.datetime.fromisoformat(stamp).timestamp()


def case(
    job: Job, call: str, fault: str, k: int, command: tuple[str, ...] = (sys.executable, "-m", "sidecar")
) -> list[str]:
    """One life with one fault; what is wrong after it."""
    folder = job.folder / f"case-{job.count}"
    folder.mkdir()
    with Sink(answer) as sink:
        life = live(folder, sink, tracer(folder, call, fault, k), command)
        stored, wrong = read_or_complain(folder / "journal", folder / "dead-letters")
        wrong += [*life.wrong, *judge(life, sink, stored)]
        trace = folder / "strace"
        injected = trace.exists() and "(INJECTED)" in trace.read_text(errors="replace")
        job.note("faults that happened", int(injected))
        if injected and life.code == 0 and call in COMMITS and fault in ENDS:
            wrong.append("a commit failed, and the process went on as if nothing had been")
        job.note("acknowledged", len(life.acked))
        job.note("journal failed", int(life.failed_at_s is not None))
    shutil.rmtree(folder, ignore_errors=True)
    return [f"{call} {fault} at call {k}: {w}" for w in wrong]


def tracer(folder: Path, call: str, fault: str, k: int) -> tuple[str, ...]:
    """Strace, hidden from the daemon's parent, with one fault in each thread's k-th call."""
    only = [part for path in PATHS for part in ("-P", str(folder / path))] if call == "openat" else []
    rename = "rename,renameat,renameat2" if call == "rename" else call
    output = ("-o", str(folder / "strace"))
    return ("strace", "-D", "-f", *output, *only, "-e", f"trace={rename}", "-e", f"inject={rename}:{fault}:when={k}")


def judge(life: Life, sink: Sink, stored: Stored) -> list[str]:
    """Hold what the senders and the backend know against what is on disk."""
    got = [
        Got("app", r.event_id, r.get("X-GitHub-Delivery") or "", digest(r.body), taken=answer(r) == 200)
        for r in list(sink.requests)
    ]
    return compare(History(life.acked, got, stored))


def calls_of(job: Job) -> dict[str, int]:
    """How often the busiest thread makes each call in a life without faults."""
    most: dict[str, int] = {}
    for call in dict.fromkeys(c for c, _ in FAULTS):
        folder = job.folder / f"count-{call}"
        folder.mkdir()
        with Sink(answer) as sink:
            life = live(folder, sink, tracer(folder, call, "error=EIO", 60_000), (sys.executable, "-m", "sidecar"))
            assert life.code == 0, life
            assert len(life.acked) == 8, life
        threads = Counter(re.findall(r"^(\d+) +\w+\(", (folder / "strace").read_text(errors="replace"), re.MULTILINE))
        most[call] = max(threads.values(), default=0)
        shutil.rmtree(folder)
    return most


def cases(most: dict[str, int]) -> Iterator[tuple[str, str, int]]:
    """Every k of every fault."""
    for call, fault in FAULTS:
        for k in range(1, most[call] + 1):
            yield call, fault, k


def run(job: Job) -> None:
    """Go through the cases from a random one on; the whole round when there is time."""
    if job.seconds < 30:  # a share too small to count first: some calls that every life makes
        every = [(c, f, k) for c, f in FAULTS if c != "writev" for k in range(1, 7)]
    else:
        every = list(cases(calls_of(job)))
    job.rand.shuffle(every)
    job.notes["cases in all"] = len(every)
    for call, fault, k in every:
        if not job.goes_on:
            break
        job.found += case(job, call, fault, k)
        job.count += 1
    if not job.notes["acknowledged"]:
        job.found.append("nothing was ever acknowledged: the lives did not work")


def control(job: Job) -> list[str]:
    """Two ways to go on after a failed commit."""
    for bug in ("swallow", "go_on"):
        attempt = job.sub(bug, 60)
        command = (sys.executable, str(Path(__file__).with_name("faults_bugs.py")), bug)
        for k in range(3, 12):
            if case(attempt, "fdatasync", "error=EIO", k, command):
                break
            attempt.count += 1
        else:
            raise AssertionError(f"{bug}: nothing was wrong after any fault")
    return ["a failed commit answered as if it were stored", "a process that goes on after a failed commit"]


SHARD = Shard("faults", ("P4", "P6"), "faulty lives", run, control, weight=3.0, needs=("strace",), parallel=False)
