"""Disks that are full or read-only: the daemon on a small ext4 file system that fails it in the ways real ones do."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial

from sidecar.daemon.daemon import FATAL_EXIT
from sidecar.errors import JournalError
from sidecar.journal import room
from sidecar.journal.limits import MIN_RESERVE_BYTES
from tests.proof.bugs import early_ack
from tests.proof.crowd import crowd
from tests.proof.flood import flood
from tests.proof.forked import honest
from tests.proof.lives import READY_S, Lives, until
from tests.proof.shard import Job, Shard
from tests.proof.volume import TOOLS, Volume, own_mounts

VOLUME_MIB = 44
BALLAST_MIB = 14
MAX_SIZE = "64MiB"  # more than the disk has: it is the disk that gets full
EXIT_S = 3.0  # the promise is one second; the rest is for a busy machine
CONTROL_ITEMS = 2

Bug = Callable[[], None]


@contextlib.contextmanager
def taken(volume: Volume) -> Iterator[None]:
    """Another program takes all that is left of the disk, to the last block, for the length of a block."""
    path = volume.path / "stranger"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for step in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    os.write(fd, bytes(step))
        os.fsync(fd)
        yield
    finally:
        os.close(fd)
        path.unlink()


async def some(lives: Lives, count: int = 20) -> list[str]:
    """Some webhooks are accepted and delivered."""
    before = len(lives.ledger.acked)
    async with crowd(lives.daemon.port, lives.ledger, 4, lambda: lives.alive):
        if not await until(lambda: len(lives.ledger.acked) >= before + count, READY_S):
            return [f"it accepts nothing: {lives.daemon.tail(3)}"]
    return []


def full(volume: Volume, lives: Lives) -> list[str]:
    """A flood fills the disk; another program takes the rest for a while; dead letters wait until a person frees some."""
    ballast = volume.path / "ballast"
    ballast.write_bytes(bytes(BALLAST_MIB << 20))
    return lives.live(
        partial(flood, lives, partial(taken, volume), ballast.unlink, "the journal's disk is full"), backend=False
    )


def start_when_full(volume: Volume, lives: Lives) -> list[str]:
    """It starts on a disk without a free block, delivers what it has, and takes webhooks as soon as there is room."""

    async def refused() -> list[str]:
        async with crowd(lives.daemon.port, lives.ledger, 4, lambda: lives.alive):
            if not await until(lambda: lives.ledger.refused["storage_full"] or not lives.alive, READY_S):
                return [f"it does not say that it is full: {lives.daemon.tail(3)}"]
        if not lives.alive:
            return [f"it does not start on a full disk: {lives.daemon.tail(3)}"]
        return []

    wrong = lives.live(partial(some, lives), backend=False)
    with taken(volume):
        wrong += lives.live(refused)
    return [*wrong, *lives.live(partial(some, lives)), *lives.live(lives.drained)]


def first_start_when_full(volume: Volume, lives: Lives) -> list[str]:
    """A first start on a full disk ends in one clear line; later it works."""
    with taken(volume):
        wrong = start_refused(lives, "No space left on device")
    return [*wrong, *lives.live(partial(some, lives)), *lives.live(lives.drained)]


def read_only(volume: Volume, lives: Lives) -> list[str]:
    """A start on a read-only disk ends in one clear line, without a journal and with one; later it works."""
    volume.mount("remount,ro")
    wrong = start_refused(lives, "Read-only file system")
    volume.mount("remount,rw")
    wrong += lives.live(partial(some, lives), backend=False)
    volume.mount("remount,ro")
    wrong += start_refused(lives, "Read-only file system")
    volume.mount("remount,rw")
    return [*wrong, *lives.live(lives.drained)]


def becomes_read_only(volume: Volume, lives: Lives) -> list[str]:
    """The kernel finds an error in the file system under a running daemon, and lets nobody write any more."""

    async def running() -> list[str]:
        async with crowd(lives.daemon.port, lives.ledger, 4, lambda: lives.alive):
            if not await until(lambda: len(lives.ledger.acked) > 20, READY_S):
                return [f"it accepts nothing: {lives.daemon.tail(3)}"]
            volume.fail()
            return await lives.exits(FATAL_EXIT, EXIT_S)

    wrong = lives.live(running)
    volume.unmount()
    volume.mount()
    return [*wrong, *lives.live(partial(some, lives)), *lives.live(lives.drained)]


def start_refused(lives: Lives, word: str) -> list[str]:
    """It does not start, and says why in one line with a hint."""
    lives.daemon.log.unlink(missing_ok=True)

    async def ends() -> list[str]:
        return await lives.exits(JournalError.exit_code, READY_S)

    wrong = lives.live(ends)
    said = lives.daemon.log.read_text()
    lines = said.strip().splitlines()
    clear = len(lines) == 2 and lines[0].startswith("error: ") and word in lines[0] and "hint: " in lines[1]
    return wrong if clear else [*wrong, f"no clear line: {said}"]


SCENARIOS = (full, start_when_full, first_start_when_full, read_only, becomes_read_only)


def one(job: Job, scenario: Callable[[Volume, Lives], list[str]], bug: Bug = honest) -> None:
    """One scenario on a volume of its own."""
    own_mounts()
    folder = job.folder / f"volume-{job.count}"
    with Volume(folder, VOLUME_MIB, "errors=remount-ro") as volume:
        lives = Lives(folder, volume.path, MAX_SIZE, bug)
        wrong = [*scenario(volume, lives), *lives.look()]
        job.found += [f"seed {job.seed}, {scenario.__name__}: {w}" for w in wrong[:3]]
        job.note("acknowledged", len(lives.ledger.acked))
        job.note(scenario.__name__.replace("_", " "))
        job.count += 1
    shutil.rmtree(folder)


def run(job: Job) -> None:
    """One after the other until the time is over, each at least once."""
    while job.goes_on or (job.count < len(SCENARIOS) and not job.found):
        job.isolated(partial(one, job, SCENARIOS[job.count % len(SCENARIOS)]))


def file_not_counted() -> None:
    """What is free inside the file counts as taken, for it never gets smaller."""
    room.limit_bytes = lambda of_map, of_file, free: of_map if free >= MIN_RESERVE_BYTES else 1


def control(job: Job) -> list[str]:
    """A full disk that is never left, and an ack for what has no room."""
    for bug, scenario in ((file_not_counted, full), (early_ack, full)):
        attempt = job.sub(bug.__name__, 60)
        while attempt.goes_on and attempt.count < CONTROL_ITEMS:
            attempt.isolated(partial(one, attempt, scenario, bug))
        assert attempt.found, f"{bug.__name__}: {attempt.count} disks, and nothing was wrong"
    return ["a file that never shrinks counted as taken", "an ack before the commit"]


SHARD = Shard("disks", ("P4", "P5"), "bad disks", run, control, needs=TOOLS, root=True)
