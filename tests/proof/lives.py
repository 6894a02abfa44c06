"""One daemon with its senders and its backend, over several lives, and the comparison of what all of them know."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from sidecar.outbound.retry import RetryPolicy
from tests.proof.crowd import PATH, SECRET, Ledger
from tests.proof.forked import ForkedDaemon, honest
from tests.proof.history import Got, History, compare, digest, read_or_complain
from tests.support.backends import Request, running
from tests.support.daemon import free_port

__all__ = ["READY_S", "Lives", "flaky", "until"]

READY_S = 15.0
DRAIN_S = 40.0

CONFIG = """
[sources.code]
path = "{path}"
max_body = "1MiB"
verify = "github"
secrets = [{{ value = "{secret}" }}]
destinations = ["app", "mail"]
[journal]
path = "{folder}/journal"
max_size = "{max_size}"
[dead_letters]
path = "{folder}/dead-letters"
[destinations.app]
url = "{url}/app"
[destinations.app.retry]
base = "100ms"
max_delay = "500ms"
[destinations.mail]
url = "{url}/mail"
[destinations.mail.retry]
base = "100ms"
max_delay = "500ms"
"""

POLICIES = dict.fromkeys(("app", "mail"), RetryPolicy(base_s=0.1, max_delay_s=0.5))


def refuses(request: Request) -> bool:
    """Whether the backend refuses this one for good: some mail, so that letters are written."""
    return request.line.startswith(b"POST /mail") and len(request.body) % 4 == 0


def plain(request: Request) -> int:
    """A backend that takes the rest at once."""
    return 400 if refuses(request) else 200


def flaky(request: Request) -> int:
    """One that fails now and then, and takes what it failed at when it comes again."""
    drawn = hashlib.sha256(request.values(b"Webhook-Sidecar-Event-Id")[0]).digest()[0]
    again = request.values(b"Webhook-Sidecar-Attempt")[0] != b"1"
    return 500 if drawn < 32 and not again else plain(request)


class Lives:
    """The lives of one journal, and what is known of them.

    Args:
        folder: Configuration, log and admin socket.
        data: Journal and dead letters; another file system, perhaps.
        max_size: Of the journal.
        bug: Planted in every process of it.
        server: Settings of the listener.
        more: Of the configuration.
        answers: What the backend says to a request; the same to the same one each time.
    """

    def __init__(
        self,
        folder: Path,
        data: Path,
        max_size: str,
        bug: Callable[[], None] = honest,
        *,
        server: str = "",
        more: str = "",
        answers: Callable[[Request], int] = plain,
    ) -> None:
        # Nobody else's address: a port of 127.0.0.1 would be given to others while the backend is away.
        pid = os.getpid()
        self.host, self.port = f"127.{1 + (pid >> 16) % 250}.{(pid >> 8) % 256}.{1 + pid % 254}", free_port()
        url = f"http://{self.host}:{self.port}"
        config = CONFIG.format(path=PATH, secret=SECRET, folder=data, max_size=max_size, url=url) + more
        self.data = data
        self.daemon = ForkedDaemon(folder, config, bug, server=server)
        self.ledger = Ledger()
        self.requests: list[Request] = []
        self._answers = answers

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        process = self.daemon.process
        return process is not None and process.poll() is None

    @contextlib.asynccontextmanager
    async def backend(self):
        """Its backend is there for the length of a block."""

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self._answers(request))

        async with running(answer, host=self.host, port=self.port) as backend:
            backend.requests = self.requests  # not at the end: one that is accepted just then is answered later
            yield

    def live(self, work: Callable[[], Awaitable[list[str]]], *, backend: bool = True) -> list[str]:
        """Start it, do something with it, and kill it if it is still there; what is wrong."""

        async def whole() -> list[str]:
            async with self.backend() if backend else contextlib.nullcontext():
                try:
                    return await work()
                finally:
                    self.daemon.kill()
                    await asyncio.sleep(0.01)  # the backend sees that its clients are gone

        self.daemon.launch()
        try:
            return asyncio.run(whole())
        finally:
            self.daemon.kill()

    async def drained(self) -> list[str]:
        """Everything that is owed is delivered, and it stops in order."""

        def owes_nothing() -> bool:
            with contextlib.suppress(OSError, AssertionError):
                return sum(row["pending"] for row in self.daemon.api("status")["destinations"]) == 0
            return not self.alive

        if not await until(owes_nothing, DRAIN_S, 0.02) or not self.alive:
            return [f"what is owed is not delivered: {self.daemon.tail(6)}"]
        code = self.daemon.stop()
        return [f"it stopped with {code}: {self.daemon.tail(3)}"] if code else []

    async def exits(self, code: int, timeout_s: float) -> list[str]:
        """It ends by itself with this code."""
        process = self.daemon.process
        assert process is not None
        if not await until(lambda: process.poll() is not None, timeout_s):
            return [f"{timeout_s:.0f} s later the process is still there: {self.daemon.tail(3)}"]
        if process.returncode != code:
            return [f"it ended with {process.returncode}, not {code}: {self.daemon.tail(3)}"]
        return []

    def look(self) -> list[str]:
        """Compare what all sides know with what is in the journal; what ended everywhere may be forgotten."""
        self.ledger.new.clear()
        stored, wrong = read_or_complain(self.data / "journal", self.data / "dead-letters")
        got = [
            Got(
                r.line.split(b" ")[1][1:].decode(),
                r.values(b"Webhook-Sidecar-Event-Id")[0].decode(),
                r.values(b"X-GitHub-Delivery")[0].decode(),
                digest(r.body),
                taken=self._answers(r) == 200,
            )
            for r in self.requests
        ]
        app, mail = (
            {g.event_id for g in got if g.destination == d and (g.taken or (d, g.event_id) in stored.letters)}
            for d in ("app", "mail")
        )
        gone = frozenset((app & mail) - stored.events.keys())
        return [*wrong, *compare(History(self.ledger.accepted(), got, stored, POLICIES, gone))]


async def until(check: Callable[[], object], timeout_s: float, every_s: float = 0.002) -> bool:
    """Wait for something; whether it came in time."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + timeout_s
    while not check():
        if loop.time() > end_s:
            return False
        await asyncio.sleep(every_s)
    return True
