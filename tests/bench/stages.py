"""What each stage of an ack takes, without sockets: ``python -m tests.bench.stages``.

The real objects, one after another, each fed with what the one before made; best of many rounds, so that it says what the
code costs with warm caches and nobody beside it. The sum is a floor: under load the stages are interleaved.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

from sidecar.clock import Clock
from sidecar.config.load import load_settings
from sidecar.feed import Feed
from sidecar.inbound.ack import Answer
from sidecar.inbound.application import Admit, Head
from sidecar.inbound.connection import Connection
from sidecar.inbound.receive import Receiver
from sidecar.inbound.shared import Shared
from sidecar.journal import Journal
from sidecar.journal.batch import Batch
from sidecar.journal.types import Appended
from sidecar.metrics import Metrics
from tests.bench.subject import config
from tests.bench.webhook import PATH, Webhooks

BATCH = 64
ROUNDS = 100


class _Wire:
    """A transport that takes everything."""

    def write(self, data: bytes) -> None:
        del data

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None


class _Echo:
    """An application that takes everything and answers at once; remembers the heads."""

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.bodies: list[bytes] = []

    def head(self, head: Head) -> Admit:
        self.heads.append(head)
        return Admit(1 << 20)

    def complete(self, head: Head, context: object, body: bytes, reply: Callable[[Answer], None]) -> None:
        del head, context
        self.bodies.append(body)
        reply(Answer(200, b"ok"))

    def refused(self, *why: object) -> None:
        raise AssertionError(f"a good request was refused: {why}")

    def aborted(self, context: object) -> None:
        raise AssertionError(f"aborted: {context}")


def measure(folder: str, rounds: int = ROUNDS) -> dict[str, float]:
    """Stage to µs of CPU per request, for batches of 64 of 1 KiB."""
    path = os.path.join(folder, "config.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(config({"app": "http://127.0.0.1:1/in"}))
    settings = load_settings(path, env={})
    clock, metrics = Clock(), Metrics()
    journal = Journal.open(settings.journal, clock, metrics=metrics)
    journal.register([s.name for s in settings.sources], [d.name for d in settings.destinations])
    writer: Any = journal._writer
    written: list[Batch] = []
    writer._post = written.append
    receiver = Receiver(journal, metrics, Feed(), clock)
    receiver.configure(settings.sources)
    echo = _Echo()
    connection = Connection(Shared(settings.server.options, echo, metrics, clock, tick_s=1.0))
    connection.connection_made(_Wire())  # type: ignore[arg-type]
    webhooks = Webhooks("127.0.0.1", PATH, 1024)
    best: dict[str, float] = {}

    def stage(name: str, run: Callable[[], Any]) -> Any:
        started_s = time.thread_time()
        made = run()
        took_us = (time.thread_time() - started_s) * 1e6 / BATCH
        best[name] = min(took_us, best.get(name, took_us))
        return made

    answers: list[Answer] = []
    try:
        for _ in range(rounds):
            requests = [b"".join(webhooks.next(time.monotonic_ns())) for _ in range(BATCH)]
            echo.heads, echo.bodies = [], []
            stage("connection", lambda: [connection.data_received(r) for r in requests])  # noqa: B023
            admits = stage("head", lambda: [receiver.head(h) for h in echo.heads])
            pairs = list(zip(echo.heads, admits, echo.bodies, strict=True))
            stage("body", lambda: [receiver.complete(h, a.context, b, answers.append) for h, a, b in pairs])  # noqa: B023
            arrivals = [writer._arrivals.popleft() for _ in range(BATCH)]
            stage("transaction, its kernel's share included", lambda: writer._write(Batch([], [], arrivals)))  # noqa: B023
            stage("answer", lambda: [a.done(Appended(a.event)) for a in arrivals])  # noqa: B023
        if len(answers) != rounds * BATCH or any(a.status != 200 for a in answers):
            raise AssertionError("not every request was stored and answered")
    finally:
        journal.close()
    return best


def main() -> None:
    """Print a line per stage and the sum."""
    folder = tempfile.mkdtemp(prefix="webhook-sidecar-stages-")
    try:
        best = measure(folder)
    finally:
        shutil.rmtree(folder)
    for name, us in best.items():
        print(f"{name:42} {us:5.1f} µs")
    print(f"{f'{PATH}, 1 KiB, batches of {BATCH}':42} {sum(best.values()):5.1f} µs")


if __name__ == "__main__":
    main()
