"""Backends that answer anything, beside one that is honest: each delivery ends where it should, and the honest one notices nothing.

Which bytes are taken for what is shown in ``tests/proof/shards/backends.py``; here the real daemon meets a few of each kind.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from sidecar.outbound.retry import RETRY_ON, expand_statuses
from tests.proof.answers import CASES, Case
from tests.support.daemon import Daemon, eventually
from tests.support.senders import fresh_id, github, rss_kib
from tests.support.sink import Sink

SECRET = "hostile-backends"
NAMES = (
    "a reset", "silence", "half a status line", "garbage for ever", "another protocol", "an alert of TLS", "headers without end",
    "a header of 1 MiB", "a 101", "interim answers without end", "a reason with escapes", "two lengths", "a body of 1 TiB",
    "a chunk of 1 TiB", "a 304 with a body", "two answers", "a status of 600", "a wait of ages", "a wait of escapes",
)  # fmt: skip
EVENTS = 8
GROWTH_KIB = 24 << 10
LATE_MS = 50.0  # what an honest delivery may take longer beside them, on a machine with other work
CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{ value = "%s" }]
destinations = [%s]
[sources.quiet]
path = "/quiet"
verify = "github"
secrets = [{ value = "%s" }]
destinations = ["honest"]
[destinations.honest]
url = "%s"
"""
HOSTILE = """
[destinations.%s]
url = "http://127.0.0.1:%d"
timeout = "500ms"
concurrency = 4
[destinations.%s.retry]
max_attempts = 2
base = "100ms"
max_delay = "200ms"
"""
RETRIED = expand_statuses(RETRY_ON)


class Bad:
    """A backend that answers each request with the same bytes, each connection in a thread."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._server.getsockname()[1]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._server.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with connection, contextlib.suppress(OSError):
            while connection.recv(65536) and not self._over.is_set():
                connection.sendall(self._case.raw)
                while self._case.end == "on":
                    connection.sendall(b"x" * 65536)
                if self._case.end == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                if self._case.end != "stay":
                    return

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(10)


def end_of(case: Case) -> tuple[str, str, int]:
    """What becomes of a delivery that is answered like this each time: state, reason, attempts."""
    taken_for = case.taken_for
    if isinstance(taken_for, str) or min(taken_for, 599) in RETRIED:
        return "dead", "attempts_exhausted", 2
    return ("delivered", "", 1) if taken_for < 300 else ("dead", "rejected", 1)


def took_ms(daemon: Daemon, honest: Sink, path: str) -> Iterator[float]:
    """Send some, and say how long each was on its way to the honest backend."""
    for _ in range(EVENTS):
        body = fresh_id().encode()
        sent_s = time.monotonic()
        assert daemon.post(path, body, github(body, SECRET, fresh_id()))[0] == 200
        got = eventually(lambda b=body: [r for r in honest.requests if r.body == b], 10, "the honest backend has it")
        yield (got[0].at_s - sent_s) * 1000


def test_hostile_backends_end_as_they_should_and_cost_the_honest_one_nothing(tmp_path: Path) -> None:
    cases = {f"b{n}": CASES[name] for n, name in enumerate(NAMES)}
    with contextlib.ExitStack() as stack:
        honest = stack.enter_context(Sink())
        bad = {name: stack.enter_context(Bad(case)) for name, case in cases.items()}
        listed = ", ".join(f'"{name}"' for name in ("honest", *cases))
        text = CONFIG % (SECRET, listed, SECRET, honest.url)
        text += "".join(HOSTILE % (name, backend.port, name) for name, backend in bad.items())
        daemon = stack.enter_context(Daemon(tmp_path, text))
        calm = sorted(took_ms(daemon, honest, "/quiet"))
        kib, files = rss_kib(daemon.pid), len(os.listdir(f"/proc/{daemon.pid}/fd"))
        beside = sorted(took_ms(daemon, honest, "/github"))
        eventually(lambda: all(daemon.pending(name) == 0 for name in cases), 60, "every delivery has come to its end")
        rows = [e for e in daemon.api("events?limit=100")["events"] if e["source"] == "github"]
        assert len(rows) == EVENTS
        expected = {name: end_of(case) for name, case in cases.items()} | {"honest": ("delivered", "", 1)}
        for row in rows:
            ended = {d["destination"]: (d["state"], d["reason"], d["attempts"]) for d in row["deliveries"]}
            assert ended == expected, cases
        middle = EVENTS // 2
        assert beside[middle] <= max(2 * calm[middle], calm[middle] + LATE_MS), (calm, beside)
        assert rss_kib(daemon.pid) <= kib + GROWTH_KIB
        eventually(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= files + 1, 10, "no descriptor is left")
        log = daemon.log.read_text()
        assert "bug" not in log, log
        assert "Traceback" not in log, log
        assert "owned" not in log, "nothing that a backend says is in it"
