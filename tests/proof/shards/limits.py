"""Too few descriptors, too much to hold in memory, too little memory: the daemon stays in its bounds and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

from sidecar import listening
from sidecar.inbound import body, shared
from tests.proof.bugs import early_ack
from tests.proof.crowd import PATH, crowd
from tests.proof.forked import honest
from tests.proof.lives import READY_S, Lives, until
from tests.proof.shard import Job, Shard
from tests.support.senders import rss_kib, wanted_s

HELD = 60  # connections that say nothing
HOSTILE = 200
HOSTILE_BODY = 900_000
HOSTILE_PART = 800_000  # so much of it comes
GROWS_MIB = 48  # 16 MiB of bodies, connections, deliveries, what the allocator keeps
CPU_SHARE = 0.5  # of one core while nobody is served: one that spins wants all of it in every second
TICK_S = 0.5  # it notices that its limit has changed
SHUT_S = 1.0  # it looks twice a second
RECOVERS_S = 10.0
CONTROL_ITEMS = 3
SERVER = 'max_buffered = "16MiB"\nmax_connections = 256\nbody_timeout = "20s"'

Bug = Callable[[], None]


def limit(pid: int, which: int, soft: int) -> None:
    """Lower a limit of a running process, or raise it again."""
    resource.prlimit(pid, which, (soft, resource.prlimit(pid, which)[1]))


def data_bytes(pid: int) -> int:
    """What of a process counts against RLIMIT_DATA."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))


async def more(lives: Lives, count: int, timeout_s: float) -> bool:
    """Whether so many more webhooks are accepted in this time."""
    before = len(lives.ledger.acked)
    async with crowd(lives.daemon.port, lives.ledger, 4, lambda: lives.alive):
        return await until(lambda: len(lives.ledger.acked) >= before + count, timeout_s)


async def files(job: Job, lives: Lives) -> list[str]:
    """Silent connections take the descriptors: honest senders take their place, and it is said once."""
    if not await more(lives, 20, READY_S):
        return [f"it accepts nothing: {lives.daemon.tail(3)}"]
    pid, wrong = lives.daemon.pid, []
    with few(pid, len(os.listdir(f"/proc/{pid}/fd")) + job.rand.randrange(16, 32)), silent(lives):
        if not await more(lives, 20, RECOVERS_S):
            wrong.append(f"silent connections hold every descriptor, and it does not accept: {lives.daemon.tail(3)}")
    said = len(lives.daemon.logged("almost no file descriptors are left: connections are cut"))
    if said != 1:
        wrong.append(f"it said {said} times that descriptors run out")
    return [*wrong, *await lives.drained()]


async def none(job: Job, lives: Lives) -> list[str]:
    """There is no descriptor at all: those who come wait, nothing spins, and all is well when there are some."""
    if not await more(lives, 20, READY_S):
        return [f"it accepts nothing: {lives.daemon.tail(3)}"]
    pid, wrong = lives.daemon.pid, []
    with few(pid, job.rand.randrange(0, 3)), silent(lives):  # libuv loses its reserve as well
        await asyncio.sleep(SHUT_S)
        least_s = min([await wanted_in_a_second(pid) for _ in range(3)])
        if least_s > CPU_SHARE:
            wrong.append(f"out of descriptors, and it wants {least_s:.2f} s of CPU in a second")
        if not lives.daemon.logged("no file descriptors are left: connections have to wait"):
            wrong.append("it does not say that it has no descriptors")
    if not await more(lives, 20, RECOVERS_S):
        wrong.append(f"there are descriptors again, and it does not accept: {lives.daemon.tail(3)}")
    return [*wrong, *await lives.drained()]


@contextlib.contextmanager
def few(pid: int, count: int) -> Iterator[None]:
    """Let a process have so many files open, those that it has included."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    limit(pid, resource.RLIMIT_NOFILE, count)
    time.sleep(TICK_S)
    try:
        yield
    finally:
        limit(pid, resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def silent(lives: Lives) -> Iterator[None]:
    """Connections that send nothing."""
    with contextlib.ExitStack() as held:
        for _ in range(HELD):
            held.enter_context(socket.create_connection(("127.0.0.1", lives.daemon.port), 5))
        yield


async def wanted_in_a_second(pid: int) -> float:
    """Seconds for which a process's event loop wants a core in the next second."""
    times = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY)
    try:
        before_s = wanted_s(times)
        await asyncio.sleep(1.0)
        return wanted_s(times) - before_s
    finally:
        os.close(times)


@contextlib.asynccontextmanager
async def hostile(port: int) -> AsyncIterator[None]:
    """Many connections that send most of a large body and then nothing, for the length of a block."""

    async def one() -> None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                signature = "0" * 64
                head = f"POST {PATH} HTTP/1.1\r\nHost: t\r\nX-Hub-Signature-256: sha256={signature}\r\n"
                writer.write(f"{head}X-GitHub-Delivery: h\r\nContent-Length: {HOSTILE_BODY}\r\n\r\n".encode())
                writer.write(bytes(HOSTILE_PART))
                await writer.drain()
                await reader.read()
            finally:
                writer.transport.abort()

    tasks = [asyncio.create_task(one()) for _ in range(HOSTILE)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def memory(job: Job, lives: Lives) -> list[str]:
    """Hostile bodies, ten times what may be buffered: memory stays in its bound, and honest senders get through."""
    del job
    if not await more(lives, 20, READY_S):
        return [f"it accepts nothing: {lives.daemon.tail(3)}"]
    before, most = rss_kib(lives.daemon.pid), 0
    async with hostile(lives.daemon.port):
        for _ in range(20):
            await asyncio.sleep(0.1)
            most = max(most, rss_kib(lives.daemon.pid) - before)
    wrong = [f"it grew by {most >> 10} MiB"] if most > GROWS_MIB << 10 else []
    if not await more(lives, 20, RECOVERS_S):
        wrong.append(f"the hostile ones have gone, and it does not accept: {lives.daemon.tail(3)}")
    return [*wrong, *await lives.drained()]


async def starved(job: Job, lives: Lives) -> list[str]:
    """It may not have much more memory than it has: it may die or refuse, and goes on when it has room."""
    async with crowd(lives.daemon.port, lives.ledger, 4, lambda: lives.alive):
        if not await until(lambda: len(lives.ledger.acked) > 20, READY_S):
            return [f"it accepts nothing: {lives.daemon.tail(3)}"]
        pid = lives.daemon.pid
        before = resource.prlimit(pid, resource.RLIMIT_DATA)[0]
        limit(pid, resource.RLIMIT_DATA, data_bytes(pid) + (job.rand.randrange(0, 4) << 20))
        async with hostile(lives.daemon.port):
            await until(lambda: not lives.alive, 1.5)
        if not lives.alive:
            job.note("starved to death")
            return []
        limit(pid, resource.RLIMIT_DATA, before)
    if not await more(lives, 20, RECOVERS_S):
        return [f"it has room again, and does not accept: {lives.daemon.tail(3)}"]
    return await lives.drained()


SCENARIOS = (files, none, memory, starved)


def one(job: Job, scenario: Callable[[Job, Lives], object], bug: Bug = honest) -> None:
    """One scenario; then everything is delivered, by the next process if need be."""
    folder = job.folder / f"life-{job.count}"
    folder.mkdir()
    lives = Lives(folder, folder, "64MiB", bug, server=SERVER)
    wrong = [*lives.live(partial(scenario, job, lives)), *lives.look()]
    if not wrong:
        wrong = [*lives.live(lives.drained), *lives.look()]
    job.found += [f"seed {job.seed}, {scenario.__name__}: {w}" for w in wrong[:3]]
    job.note("acknowledged", len(lives.ledger.acked))
    job.note(scenario.__name__)
    job.count += 1
    shutil.rmtree(folder)


def run(job: Job) -> None:
    """One after the other until the time is over, each at least once."""
    while job.goes_on or (job.count < len(SCENARIOS) and not job.found):
        job.isolated(partial(one, job, SCENARIOS[job.count % len(SCENARIOS)]))


def keeps_all() -> None:
    """Silent connections keep their descriptors, whoever else comes."""
    shared.FILES_LOW = -(1 << 20)


def spins() -> None:
    """A door is open whether or not there is a descriptor for who comes; another thread has taken libuv's reserve."""
    listening._FEW = -1


def no_budget() -> None:
    """Bodies are buffered whatever there is of them."""
    shared.Budget = lambda limit: body.Budget(1 << 40)


def control(job: Job) -> list[str]:
    """A listener that spins, one that buffers everything, and an ack for what is not stored."""
    for bug, scenario in ((keeps_all, files), (spins, none), (no_budget, memory), (early_ack, starved)):
        attempt = job.sub(bug.__name__, 60)
        while attempt.goes_on and attempt.count < CONTROL_ITEMS:
            attempt.isolated(partial(one, attempt, scenario, bug))
        assert attempt.found, f"{bug.__name__}: {attempt.count} lives, and nothing was wrong"
    return [
        "connections that keep the last descriptors",
        "a listener that spins without descriptors",
        "bodies without a budget",
        "an ack before the commit",
    ]


SHARD = Shard("limits", ("P1", "P11"), "starved lives", run, control)
