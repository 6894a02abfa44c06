"""The daemon under test with everything on, the load on it, and what both say."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tests.bench.load import Load, Result
from tests.bench.machine import LOAD_CORE, ROOT, SERVER_CORE, cpu_s, pinned, started
from tests.bench.scale import Scale
from tests.bench.webhook import PATH, SECRET
from tests.support.daemon import Daemon, Scrape, free_port

__all__ = ["Bench", "Batches", "backend_count", "backend_reset", "backend_ways", "dead_url", "wait_delivered"]


class Bench:
    """What a scenario gets: how much to measure, where files may go, and the two sides of a measurement."""

    def __init__(self, scale: Scale, folder: Path) -> None:
        self.scale = scale
        self.folder = folder

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """A folder for one daemon, gone afterwards."""
        path = Path(tempfile.mkdtemp(dir=self.folder, prefix="daemon-"))
        try:
            yield path
        finally:
            shutil.rmtree(path)

    def daemon(self, place: Path, destinations: Mapping[str, str], **more: Any) -> Daemon:
        """A daemon on the server's core; not started."""
        command = pinned(SERVER_CORE, sys.executable, "-m", "sidecar")
        daemon = Daemon(place, config(destinations, **more), command=command)
        for name in [n for n in daemon.env if n.startswith(("COVERAGE_", "COV_"))]:
            del daemon.env[name]
        return daemon

    @contextlib.contextmanager
    def running(self, destinations: Mapping[str, str], **more: Any) -> Iterator[Daemon]:
        """A daemon with a fresh journal."""
        with self.place() as place, self.daemon(place, destinations, **more) as daemon:
            yield daemon

    @contextlib.contextmanager
    def backend(self, *, delay_ms: float = 0, status: int = 200) -> Iterator[str]:
        """A backend beside the load; its URL."""
        options = ("--delay-ms", str(delay_ms), "--status", str(status))
        with started("backend", *options, core=LOAD_CORE) as (url, _pid):
            yield url

    def load(self, url: str, **fields: Any) -> Result:
        """Run the generator to its end."""
        with self.loading(url, **fields) as end:
            return end()

    @contextlib.contextmanager
    def loading(self, url: str, **fields: Any) -> Iterator[Any]:
        """The generator at work; what is given waits for its result."""
        fields.setdefault("seconds", self.scale.seconds)
        spec = msgspec.json.encode(Load(url=url, **fields)).decode()
        command = pinned(LOAD_CORE, sys.executable, "-m", "tests.bench.load", spec)
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)

        def end() -> Result:
            out, _ = process.communicate(timeout=600)
            if process.returncode:
                raise RuntimeError(f"the load generator failed with {process.returncode}")
            return msgspec.json.decode(out, type=Result)

        try:
            yield end
        finally:
            process.kill()
            process.wait()

    def load_daemon(self, daemon: Daemon, **fields: Any) -> Result:
        """Load on the daemon's source, with its CPU in the result as ``daemon``."""
        result = self.load(hooks(daemon), watch={"daemon": daemon.pid}, **fields)
        if result.good() < result.answered or result.lost or result.unanswered:
            print(f"  not all were accepted: {result.statuses}, {result.lost} lost, {result.unanswered} unanswered")
        return result

    def cheapest(self, daemon: Daemon, **fields: Any) -> Result:
        """The window with the least CPU per request, of as many as the scale says, after a first one that warms up."""
        self.load_daemon(daemon, **{**fields, "seconds": 0.5})
        tries = [self.load_daemon(daemon, **fields) for _ in range(self.scale.repeats)]
        return min(tries, key=lambda result: result.cpu_us("daemon"))

    def delivered(self, daemon: Daemon, backend: str, copies: int, **fields: Any) -> dict[str, float]:
        """Load until its end and on until everything is delivered: CPU per event, receiving and delivering together."""
        backend_reset(backend)
        warm = self.load(hooks(daemon), **{**fields, "seconds": 1.0, "warm_s": 0.0})
        wait_delivered(backend, warm.good() * copies)
        backend_reset(backend)
        before, begin_s = cpu_s(daemon.pid), time.monotonic()
        result = self.load(hooks(daemon), **{"warm_s": 0.0, **fields})
        wait_delivered(backend, result.good() * copies)
        after, end_s = cpu_s(daemon.pid), time.monotonic()
        user, system = ((after[i] - before[i]) / result.good() * 1e6 for i in (0, 1))
        return {
            "user_us": user,
            "sys_us": system,
            "cpu_us": user + system,
            "accepted_per_s": result.per_s,
            "deliveries_per_s": result.good() * copies / (end_s - begin_s),
        }


def hooks(daemon: Daemon) -> str:
    """Where its one source listens."""
    return f"http://127.0.0.1:{daemon.port}{PATH}"


def config(
    destinations: Mapping[str, str], *, retention: str = "72h", max_size: str = "16GiB", concurrency: int = 32
) -> str:
    """One GitHub source that fans out to all destinations; everything else is as it comes."""
    text = (
        f'[journal]\npath = "journal"\nmax_size = "{max_size}"\nretention = "{retention}"\n'
        f'[sources.code]\npath = "{PATH}"\nverify = "github"\nsecrets = [{{ value = "{SECRET}" }}]\n'
        f"destinations = {json.dumps(list(destinations))}\n"
    )
    for name, url in destinations.items():
        text += f'[destinations.{name}]\nurl = "{url}"\nconcurrency = {concurrency}\n'
    return text


def dead_url() -> str:
    """A backend that is not there: its destination is held, and what is measured is receiving alone."""
    return f"http://127.0.0.1:{free_port()}/in"


class Batches:
    """What the journal committed between two looks."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._before = daemon.scrape()

    def since(self) -> dict[str, Any]:
        """Commits, mean batch and the histogram of batch sizes since the first look."""
        now = self._daemon.scrape()

        def grown(name: str, **labels: str) -> float:
            return now.value(name, **labels) - self._before.value(name, **labels)

        bounds = [row[0]["le"] for row in now.rows("journal_batch_events_bucket")]
        up_to = [grown("journal_batch_events_bucket", le=le) for le in bounds]
        return {
            "batches": grown("journal_batch_events_count"),
            "mean": grown("journal_batch_events_sum") / max(1, grown("journal_batch_events_count")),
            "commits": grown("journal_commit_duration_seconds_count"),
            "commit_ms": commit_mean_ms(self._before, now),
            "histogram": {le: n - before for le, n, before in zip(bounds, up_to, [0, *up_to], strict=False)},
        }


def commit_mean_ms(before: Scrape, after: Scrape) -> float:
    """Mean duration of a commit between two scrapes."""
    name = "journal_commit_duration_seconds"
    n = after.value(f"{name}_count") - before.value(f"{name}_count")
    return (after.value(f"{name}_sum") - before.value(f"{name}_sum")) / max(1, n) * 1e3


# --- backends


def _ask(url: str, path: str) -> Any:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    try:
        connection.request("GET", path)
        body = connection.getresponse().read()
        return json.loads(body) if body else None
    finally:
        connection.close()


def backend_count(url: str, path: str = "") -> int:
    """How many deliveries came, to one path or to all."""
    counts = _ask(url, "/count")
    return int(counts["paths"].get(path, 0) if path else counts["count"])


def backend_ways(url: str) -> dict[str, dict[str, float]]:
    """Path to the percentiles (ms) of the way from the sender to here."""
    ways: dict[str, dict[str, float]] = _ask(url, "/stats")["way_ms"]
    return ways


def backend_reset(url: str) -> None:
    """Forget what came."""
    _ask(url, "/reset")


def wait_delivered(url: str, count: int, timeout_s: float = 300) -> None:
    """Wait until so many deliveries came."""
    deadline = time.monotonic() + timeout_s
    while (came := backend_count(url)) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{came} of {count} deliveries after {timeout_s} s")
        time.sleep(0.02)
