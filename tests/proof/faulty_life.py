"""A fixed life of the real daemon under strace, in which one system call fails; the same again; and a compaction."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.clock import Clock
from sidecar.journal import Journal
from sidecar.journal.types import JournalOptions
from sidecar.outbound.retry import RetryPolicy
from tests.proof.history import Accepted, Got, History, Stored, compare, digest
from tests.support.daemon import Daemon
from tests.support.senders import Raw, framed, github
from tests.support.sink import Received, Sink

__all__ = ["PLAIN", "Life", "Prepared", "answer", "compacted", "judge", "live", "tracer"]

PLAIN = (sys.executable, "-m", "sidecar")
SECRET = "fault-test"
POLICIES = {"app": RetryPolicy(base_s=0.1, jitter=0.0)}
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
retention = "0s"
[destinations.app]
url = "{url}"
concurrency = 4
[destinations.app.retry]
base = "100ms"
jitter = 0
{more}
"""

PATHS = (
    "journal",
    "journal/data.mdb",
    "journal/.new",
    "journal/.new/data.mdb",
    "journal/journal.lock",
    "journal/.compact",
    "journal/.compact/data.mdb",
    "dead-letters",
    "dead-letters/app",
    "config.toml",
)
"""Opens of other files (Python's own, mostly) and writes to them are let through."""


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


def live(
    folder: Path, sink: Sink, tracer: tuple[str, ...], command: tuple[str, ...], *, from_start: bool = True
) -> Life:
    """Run the fixed life once: start, webhooks, two reloads, more webhooks, a repeat, pruning, SIGTERM.

    Args:
        folder: Configuration, journal, dead letters.
        sink: The backend.
        tracer: Strace and its arguments.
        command: Starts the daemon.
        from_start: False: it is traced from when it is ready.
    """
    life = Life()
    started = (*tracer, *command) if from_start else command
    daemon = Daemon(folder, CONFIG.format(url=sink.url, more=""), command=started)
    daemon.launch()
    process = daemon.process
    assert process is not None

    def watch() -> None:
        life.code = process.wait()
        life.ended_at_s = time.time()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    attached: subprocess.Popen[bytes] | None = None
    try:
        if not _ready(daemon, process):
            if process.poll() is None:
                life.wrong.append(f"it is neither ready nor gone:\n{daemon.tail(3)}")
            return life
        if not from_start:
            attached = _attach(tracer, process.pid)
        for name, size in (("a", 20), ("refuse", 20), ("b", 9_000), ("flaky", 20), ("c", 150_000)):
            _send(daemon, life, name, size)
        daemon.write(CONFIG.format(url=sink.url, more=f'[destinations.more]\nurl = "{sink.url}"\n'))
        with contextlib.suppress(OSError):
            daemon.admin("POST", "/-/reload", timeout_s=10)
        for name, size in (("d", 20), ("a", 20), ("e", 3_000)):
            _send(daemon, life, name, size)
        daemon.write(CONFIG.format(url=sink.url, more=""))
        if process.poll() is None:
            process.send_signal(signal.SIGHUP)
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
        if attached is not None:
            attached.wait(10)
    _read_log(daemon, life)
    return life


def _attach(tracer: tuple[str, ...], pid: int) -> subprocess.Popen[bytes]:
    """Trace all threads of a process from now on."""
    arguments = [part for part in tracer if part != "-D"]
    strace = subprocess.Popen([*arguments, "-p", str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        statuses = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
        if all("TracerPid:\t0\n" not in text for text in statuses):
            return strace
        time.sleep(0.005)
    strace.kill()
    raise AssertionError("strace cannot attach to it")


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


def tracer(folder: Path, call: str, fault: str, k: int) -> tuple[str, ...]:
    """Strace, hidden from the daemon's parent, with one fault in each thread's k-th call."""
    only = (
        [part for path in PATHS for part in ("-P", str(folder / path))] if call in ("openat", "write", "writev") else []
    )
    rename = "rename,renameat,renameat2" if call == "rename" else call
    output = ("-o", str(folder / "strace"))
    return ("strace", "-D", "-f", *output, *only, "-e", f"trace={rename}", "-e", f"inject={rename}:{fault}:when={k}")


def judge(life: Life, sink: Sink, stored: Stored) -> list[str]:
    """Hold what the senders and the backend know against what is on disk."""
    got = [
        Got("app", r.event_id, r.get("X-GitHub-Delivery") or "", digest(r.body), taken=answer(r) == 200)
        for r in list(sink.requests)
    ]
    # Retention is over at once, so what is delivered or dead may be gone.
    ended = {g.event_id for g in got if g.taken} | {event_id for _, event_id in stored.letters}
    return compare(History(life.acked, got, stored, POLICIES, frozenset(ended - stored.events.keys())))


class Prepared:
    """What a killed process left: deliveries that are owed, one that is dead.

    Attributes:
        life: What its senders know.

    Args:
        folder: Where it is made.
        sink: The backend.
    """

    def __init__(self, folder: Path, sink: Sink) -> None:
        self.folder = folder
        self.life = Life()
        folder.mkdir()
        daemon = Daemon(folder, CONFIG.format(url=sink.url, more=""))
        with daemon:
            for name, size in (("old-1", 20), ("old-refuse", 20), ("old-2", 9_000), ("old-3", 150_000)):
                _send(daemon, self.life, name, size)
            _settled(daemon)
            sink.answer = 503  # what comes now is owed when it is killed
            for n in range(4):
                _send(daemon, self.life, f"owed-{n}", 20)
            daemon.kill()
        sink.answer = answer
        assert len(self.life.acked) == 8, self.life

    def copy(self, folder: Path) -> None:
        """Another journal like it."""
        for name in ("journal", "dead-letters"):
            if (self.folder / name).is_dir():
                shutil.copytree(self.folder / name, folder / name)


def compacted(folder: Path, trace: tuple[str, ...]) -> tuple[int, list[str]]:
    """Compact the journal in a folder; the exit code, and what is wrong with how it went."""
    wrong = []
    config = folder / "config.toml"
    config.write_text('[journal]\npath = "journal"\n[dead_letters]\npath = "dead-letters"\n')
    done = subprocess.run(
        [*trace, *PLAIN, "journal", "compact", "--config", str(config)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        timeout=STOP_S,
        check=False,
    )
    said = done.stderr.decode(errors="replace")
    if "Traceback" in said or done.returncode < 0:
        wrong.append(f"it ended with {done.returncode} and a traceback or a signal:\n{said[-800:]}")
    elif done.returncode and "error:" not in said:
        wrong.append(f"exit {done.returncode} without a word of why: {said[-200:]}")
    Journal.open(JournalOptions(path=str(folder / "journal")), Clock()).close()  # for writing, as the next daemon does
    return done.returncode, wrong
