"""Real power cuts: the daemon under load on an ext4 file system that is shut down without a flush, then mounted again.

``power`` explores what a disk may keep of one life; here it is the kernel and a journaling file system that forget. Journal
and dead letters lie there, concurrent senders note every answer, and some cuts come while the first start makes the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import lmdb

from sidecar.daemon import FATAL_EXIT
from sidecar.journal import Journal, environment
from sidecar.journal.types import Appended
from tests.proof.crowd import PATH, SECRET, Ledger, crowd
from tests.proof.forked import ForkedDaemon, honest
from tests.proof.history import Got, History, compare, digest, read_or_complain
from tests.proof.shard import Job, Shard
from tests.proof.volume import TOOLS, Volume, own_mounts
from tests.support.backends import Request, running
from tests.support.daemon import free_port

LIVES = 5  # cuts of one volume before the next
VOLUME_MIB = 96
SENDERS = 8
READY_S = 15.0
EXIT_S = 3.0  # the promise is one second; the rest is for a busy machine
DRAIN_S = 30.0
CONTROL_CUTS = 40

CONFIG = """
[sources.code]
path = "{path}"
max_body = "1MiB"
verify = "github"
secrets = [{{ value = "{secret}" }}]
destinations = ["app", "mail"]
[journal]
path = "{volume}/journal"
max_size = "64MiB"
[dead_letters]
path = "{volume}/dead-letters"
[destinations.app]
url = "{url}/app"
[destinations.mail]
url = "{url}/mail"
"""


def refuses(request: Request) -> bool:
    """Whether the backend refuses this one for good: some mail, so that letters are written."""
    return request.line.startswith(b"POST /mail") and len(request.body) % 4 == 0


async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
    """The backend."""
    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (400 if refuses(request) else 200))


class Lives:
    """The lives of one journal on one volume, and what is known of them."""

    def __init__(self, job: Job, folder: Path, volume: Volume, port: int, bug: Callable[[], None]) -> None:
        config = CONFIG.format(path=PATH, secret=SECRET, volume=volume.path, url=f"http://127.0.0.1:{port}")
        self.job = job
        self.volume = volume
        self.daemon = ForkedDaemon(folder, config, bug)
        self.ledger = Ledger()
        self.requests: list[Request] = []
        self._port = port

    def one(self) -> list[str]:
        """One life that ends with a cut, and a look at what is left; what is wrong."""
        self.daemon.launch()
        wrong: list[str] = []
        try:
            if not self.ledger.acked and self.job.rand.random() < 0.5:
                wrong = self._cut_while_it_starts()
            else:
                wrong = asyncio.run(self._with_backend(self._under_load))
        finally:
            self.daemon.kill()
        self.volume.unmount()
        self.volume.mount()
        return [*wrong, *self.look()]

    def _cut_while_it_starts(self) -> list[str]:
        until_s = time.monotonic() + READY_S
        while not (self.volume.path / "journal").exists() and self._alive() and time.monotonic() < until_s:
            time.sleep(0.0005)
        time.sleep(self.job.rand.random() * 0.04)
        if not self._alive():
            return [f"it does not start: {self.daemon.tail(6)}"]
        self.volume.cut()
        self.job.note("cuts of a first start")
        return []

    async def _with_backend(self, work: Callable[[], Awaitable[list[str]]]) -> list[str]:
        async with running(answer, port=self._port) as backend:
            try:
                return await work()
            finally:
                self.daemon.kill()
                await asyncio.sleep(0.01)  # the backend sees that its clients are gone
                self.requests += backend.requests

    def _alive(self) -> bool:
        process = self.daemon.process
        return process is not None and process.poll() is None

    async def _under_load(self) -> list[str]:
        async with crowd(self.daemon.port, self.ledger, SENDERS, self._alive):
            if not await _until(lambda: self.ledger.new or not self._alive(), READY_S) or not self._alive():
                return [f"it does not start: {self.daemon.tail(6)}"]
            await asyncio.sleep(self.job.rand.choice((0.0, 0.02, 0.1, 0.2)) * self.job.rand.random())
            self.volume.cut()
            if self.job.rand.random() < 0.3:
                return await self._ends_by_itself()
            await asyncio.sleep(self.job.rand.choice((0.0, 0.005, 0.02)))  # does anybody still get an answer?
            return []

    async def _ends_by_itself(self) -> list[str]:
        self.job.note("exits awaited")
        process = self.daemon.process
        assert process is not None
        if not await _until(lambda: process.poll() is not None, EXIT_S):
            return [f"{EXIT_S:.0f} s after the cut the process is still there: {self.daemon.tail(6)}"]
        if process.returncode != FATAL_EXIT:
            return [f"after the cut it ended with {process.returncode}: {self.daemon.tail(6)}"]
        return []

    def look(self) -> list[str]:
        """Compare what all sides know with what is on the volume."""
        self.job.note("acknowledged", len(self.ledger.new))
        self.ledger.new.clear()
        stored, wrong = read_or_complain(self.volume.path / "journal", self.volume.path / "dead-letters")
        got = [
            Got(
                r.line.split(b" ")[1][1:].decode(),
                r.values(b"Webhook-Sidecar-Event-Id")[0].decode(),
                r.values(b"X-GitHub-Delivery")[0].decode(),
                digest(r.body),
                taken=not refuses(r),
            )
            for r in self.requests
        ]
        return [*wrong, *compare(History(self.ledger.accepted(), got, stored))]

    def last(self) -> list[str]:
        """A life without a cut: everything that is owed is delivered."""
        self.daemon.launch()
        try:
            wrong = asyncio.run(self._with_backend(self._drained))
        finally:
            self.daemon.kill()
        return [*wrong, *self.look()]

    async def _drained(self) -> list[str]:
        def owes_nothing() -> bool:
            with contextlib.suppress(OSError, AssertionError):
                return sum(row["pending"] for row in self.daemon.api("status")["destinations"]) == 0
            return not self._alive()

        if not await _until(owes_nothing, DRAIN_S, 0.02) or not self._alive():
            return [f"what is owed is not delivered: {self.daemon.tail(6)}"]
        code = self.daemon.stop()
        return [f"the last life ended with {code}"] if code else []


async def _until(check: Callable[[], object], timeout_s: float, every_s: float = 0.002) -> bool:
    until_s = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > until_s:
            return False
        await asyncio.sleep(every_s)
    return True


def one_volume(job: Job, bug: Callable[[], None] = honest) -> None:
    """Some cuts of one volume; then everything is delivered."""
    own_mounts()
    folder = job.folder / f"volume-{job.count}"
    with Volume(folder, VOLUME_MIB) as volume:
        lives = Lives(job, folder, volume, free_port(), bug)
        for _ in range(LIVES):
            job.found += [f"seed {job.seed}, cut {job.count}: {w}" for w in lives.one()[:3]]
            job.count += 1
            if not job.goes_on:
                break
        if not job.found:
            job.found += [f"seed {job.seed}, after cut {job.count}: {w}" for w in lives.last()[:3]]
    shutil.rmtree(folder)


def run(job: Job) -> None:
    """Cut until the time is over."""
    while job.goes_on:
        job.isolated(partial(one_volume, job))


def nosync() -> None:
    """LMDB without its flushes."""
    whole = lmdb.open
    environment.lmdb.open = lambda *a, **more: whole(*a, **{**more, "sync": False})


def early_ack() -> None:
    """An ack before the commit."""
    whole = Journal.append

    def append(self, event, claim, ack, done):
        whole(self, event, claim, ack, lambda answer: None)
        done(Appended(event))

    Journal.append = append


def control(job: Job) -> list[str]:
    """Two ways to acknowledge what is not on the disk."""
    for bug in (nosync, early_ack):
        attempt = job.sub(bug.__name__, 60)
        while attempt.goes_on and attempt.count < CONTROL_CUTS:
            attempt.isolated(partial(one_volume, attempt, bug))
        assert any("acknowledged event" in line for line in attempt.found), f"{bug.__name__}: {attempt.found}"
    return ["sync=False under a real file system", "an ack before the commit"]


SHARD = Shard("powercuts", ("P2", "P4", "P10"), "power cuts", run, control, needs=(*TOOLS,), root=True)
