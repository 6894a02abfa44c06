"""Memory, and time from exec to ready, of the real daemon with a million deliveries owed to a backend that is down.

    python tests/bench/bench_backlog.py [--events 1000000] [--body 300] [--size 4GiB]

The backlog is written through the journal's own API, each event with its dedup key. Then the daemon is started on it
after an orderly stop and after a kill, beside an empty journal for comparison. RssAnon comes from /proc: the journal's
map is page cache, which the kernel takes back.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sidecar.clock import Clock
from sidecar.config.units import parse_size
from sidecar.journal import Journal
from sidecar.journal.types import Appended, Claim, JournalOptions
from sidecar.metrics import Metrics
from sidecar.model import ACK_DEFAULT, Event
from tests.support.daemon import Daemon, eventually, free_port
from tests.support.senders import rss_kib

CONFIG = """
[sources.shop]
path = "/shop"
verify = "github"
secrets = [{{ value = "bench" }}]
destinations = ["app"]
[destinations.app]
url = "http://127.0.0.1:{closed}"
[journal]
path = "journal"
max_size = "{size}"
"""
AT_ONCE = 2000


async def fill(path: str, count: int, body: bytes, max_size: int) -> None:
    """Append so many events, some thousand on their way at once."""
    clock = Clock()
    journal = Journal.open(JournalOptions(path=path, max_size_bytes=max_size), clock, metrics=Metrics())
    journal.register(["shop"], ["app"])
    journal.start(
        asyncio.get_running_loop(), on_batch=lambda *_: None, on_due=lambda _: None, on_fatal=lambda e: print(repr(e))
    )
    room = asyncio.Semaphore(AT_ONCE)

    def done(answer: object) -> None:
        if not isinstance(answer, Appended):
            raise SystemExit(f"refused: {answer}")
        room.release()

    for n in range(count):
        await room.acquire()
        key = b"%d" % n
        headers = [(b"Content-Type", b"application/json"), (b"X-GitHub-Event", b"push"), (b"X-GitHub-Delivery", key)]
        event = Event("shop", ("app",), clock.wall_ms(), b"POST", b"/shop", b"", headers, body, True, key.decode())
        claim = Claim(hashlib.sha256(key).digest()[:16], hashlib.sha256(body).digest()[:4], 86_400_000, True)
        journal.append(event, claim, ACK_DEFAULT, done)
        if n % AT_ONCE == 0:
            await asyncio.sleep(0)
    for _ in range(AT_ONCE):  # until all are answered
        await room.acquire()
    await journal.aclose()


def measure(name: str, daemon: Daemon, end: int) -> None:
    """Start three times; each ends with this signal, so that the second and third start from it."""
    times, ready, later = [], [], []
    for _ in range(3):
        began_s = time.monotonic()
        daemon.start(300)
        times.append(time.monotonic() - began_s)
        ready.append(rss_kib(daemon.pid) / 1024)
        if daemon.last_seq:
            eventually(lambda: daemon.lane()["held"], 60)
        top = ready[-1]
        for _ in range(50):
            time.sleep(0.2)
            top = max(top, rss_kib(daemon.pid) / 1024)
        later.append(top)
        pending = daemon.pending()
        daemon.kill() if end == signal.SIGKILL else daemon.stop(end)
    print(
        f"{name:24} pending {pending:>9,}   exec to ready {' '.join(f'{t:5.2f}' for t in times)} s"
        f" (median {statistics.median(times):.2f})   RssAnon {max(ready):6.1f} MiB at ready, {max(later):6.1f} MiB at most in 10 s",
        flush=True,
    )


def main() -> None:
    """Fill and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--body", type=int, default=300)
    parser.add_argument("--size", default="4GiB")
    given = parser.parse_args()
    size = parse_size(given.size)
    assert size is not None
    folder = Path(tempfile.mkdtemp(prefix="backlog-"))
    try:
        config = CONFIG.format(closed=free_port(), size=given.size)
        (folder / "empty").mkdir()
        measure("empty", Daemon(folder / "empty", config), signal.SIGINT)
        (folder / "full").mkdir()
        began_s = time.monotonic()
        asyncio.run(fill(str(folder / "full" / "journal"), given.events, os.urandom(given.body), size))
        data = folder / "full" / "journal" / "data.mdb"
        print(
            f"filled with {given.events:,} events in {time.monotonic() - began_s:.0f} s, {data.stat().st_size >> 20} MiB"
        )
        full = Daemon(folder / "full", config)
        measure("after an orderly stop", full, signal.SIGINT)
        measure("after a kill", full, signal.SIGKILL)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
