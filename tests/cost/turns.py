"""A load whose batches are always the same: one event at a time, each acknowledged, and delivered, before the next."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.webhook import PATH, SECRET, Webhooks
from tests.support.daemon import Daemon, free_port
from tests.support.senders import Raw
from tests.support.sink import Sink

__all__ = ["Turns", "daemon_command", "daemon_of", "turns"]

PATIENCE_S = 30.0


def daemon_command(*before: str) -> list[str]:
    """The daemon that counts, behind other words such as ``strace``."""
    return [*before, sys.executable, "-m", "tests.cost.counted"]


def daemon_of(folder: Path, destination: str, command: list[str], env: dict[str, str] | None = None) -> Daemon:
    """One source, one destination; without the coverage that other tests' daemons are run with."""
    config = (
        f'[sources.code]\npath = "{PATH}"\nverify = "github"\nsecrets = [{{ value = "{SECRET}" }}]\n'
        f'destinations = ["app"]\n[destinations.app]\nurl = "{destination}"\n'
    )
    daemon = Daemon(folder, config, command=command, env=env)
    for name in [n for n in daemon.env if n.startswith(("COVERAGE_", "COV_"))]:
        del daemon.env[name]
    return daemon


class Turns:
    """A sender that waits, on one connection that it keeps."""

    def __init__(self, daemon: Daemon, backend: Sink | None) -> None:
        self.daemon = daemon
        self._backend = backend
        self._webhooks = Webhooks("t", PATH, 1024)
        self._connection = Raw(daemon.port)
        self._sent = 0

    def take(self, count: int) -> None:
        """Send so many, one after another."""
        for _ in range(count):
            answer = self._connection.send(b"".join(self._webhooks.next(0))).answer()
            assert answer.status == 200, answer
            self._sent += 1
            if self._backend is not None:
                self._await_delivery(self._backend)

    def _await_delivery(self, backend: Sink) -> None:
        # Closely, so that the next event comes while the settlement of this one still waits for company.
        deadline_s = time.monotonic() + PATIENCE_S
        while len(backend.requests) < self._sent:
            assert time.monotonic() < deadline_s, "it was acknowledged and not delivered"
            time.sleep(0.0002)

    def mark(self, word: str) -> None:
        """Leave a trace in what the daemon reads; it is refused and counts for nothing."""
        assert self._connection.send(f"GET /{word} HTTP/1.1\r\nHost: t\r\n\r\n".encode()).answer().status == 404

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@contextlib.contextmanager
def turns(
    folder: Path, command: list[str], *, deliver: bool, env: dict[str, str] | None = None, ready_s: float = 60.0
) -> Iterator[Turns]:
    """The daemon and its sender; ``deliver``: to a backend in this process, else to one that is not there."""
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Sink()) if deliver else None
        url = f"http://127.0.0.1:{backend.port if backend else free_port()}/in"
        daemon = daemon_of(folder, url, command, env)
        stack.callback(daemon.kill)
        daemon.start(ready_s)
        sender = Turns(daemon, backend)
        stack.callback(sender.close)
        yield sender
