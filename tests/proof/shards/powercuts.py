"""Real power cuts: the daemon under load on an ext4 file system that is shut down without a flush, then mounted again.

``power`` explores what a disk may keep of one life; here it is the kernel and a journaling file system that forget. Journal
and dead letters lie there, concurrent senders note every answer, and some cuts come while the first start makes the journal.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from functools import partial

import lmdb

from sidecar.daemon.daemon import FATAL_EXIT
from sidecar.journal import environment
from tests.proof.bugs import early_ack
from tests.proof.crowd import crowd
from tests.proof.forked import honest
from tests.proof.lives import READY_S, Lives, until
from tests.proof.shard import Job, Shard
from tests.proof.volume import TOOLS, Volume, own_mounts

LIVES = 5  # cuts of one volume before the next
VOLUME_MIB = 96
SENDERS = 8
EXIT_S = 3.0  # the promise is one second; the rest is for a busy machine
CONTROL_CUTS = 40


def cut_while_it_starts(job: Job, lives: Lives, volume: Volume) -> list[str]:
    """Cut the power at some moment of the first start; what is wrong."""
    lives.daemon.launch()
    try:
        until_s = time.monotonic() + READY_S
        while not (volume.path / "journal").exists() and lives.alive and time.monotonic() < until_s:
            time.sleep(0.0005)
        time.sleep(job.rand.random() * 0.04)
        if not lives.alive:
            return [f"it does not start: {lives.daemon.tail(6)}"]
        volume.cut()
        job.note("cuts of a first start")
        return []
    finally:
        lives.daemon.kill()


async def cut_under_load(job: Job, lives: Lives, volume: Volume) -> list[str]:
    """Cut the power while senders send; what is wrong."""
    async with crowd(lives.daemon.port, lives.ledger, SENDERS, lambda: lives.alive):
        if not await until(lambda: lives.ledger.new or not lives.alive, READY_S) or not lives.alive:
            return [f"it does not start: {lives.daemon.tail(6)}"]
        await asyncio.sleep(job.rand.choice((0.0, 0.02, 0.1, 0.2)) * job.rand.random())
        volume.cut()
        if job.rand.random() < 0.3:
            job.note("exits awaited")
            return await lives.exits(FATAL_EXIT, EXIT_S)
        await asyncio.sleep(job.rand.choice((0.0, 0.005, 0.02)))  # does anybody still get an answer?
    return []


def one_cut(job: Job, lives: Lives, volume: Volume) -> list[str]:
    """One life that ends with a cut, and a look at what is left; what is wrong."""
    if not lives.ledger.acked and job.rand.random() < 0.5:
        wrong = cut_while_it_starts(job, lives, volume)
    else:
        wrong = lives.live(partial(cut_under_load, job, lives, volume))
    job.note("acknowledged", len(lives.ledger.new))
    volume.unmount()
    volume.mount()
    return [*wrong, *lives.look()]


def one_volume(job: Job, bug: Callable[[], None] = honest) -> None:
    """Some cuts of one volume; then everything is delivered."""
    own_mounts()
    folder = job.folder / f"volume-{job.count}"
    with Volume(folder, VOLUME_MIB) as volume:
        lives = Lives(folder, volume.path, "64MiB", bug)
        for _ in range(LIVES):
            job.found += [f"seed {job.seed}, cut {job.count}: {w}" for w in one_cut(job, lives, volume)[:3]]
            job.count += 1
            if not job.goes_on:
                break
        if not job.found:
            wrong = [*lives.live(lives.drained), *lives.look()]
            job.found += [f"seed {job.seed}, after cut {job.count}: {w}" for w in wrong[:3]]
    shutil.rmtree(folder)


def run(job: Job) -> None:
    """Cut until the time is over."""
    while job.goes_on:
        job.isolated(partial(one_volume, job))


def nosync() -> None:
    """LMDB without its flushes."""
    whole = lmdb.open
    environment.lmdb.open = lambda *a, **more: whole(*a, **{**more, "sync": False})


def control(job: Job) -> list[str]:
    """Two ways to acknowledge what is not on the disk."""
    for bug in (nosync, early_ack):
        attempt = job.sub(bug.__name__, 60)
        while attempt.goes_on and attempt.count < CONTROL_CUTS:
            attempt.isolated(partial(one_volume, attempt, bug))
        assert any("acknowledged event" in line for line in attempt.found), f"{bug.__name__}: {attempt.found}"
    return ["sync=False under a real file system", "an ack before the commit"]


SHARD = Shard("powercuts", ("P2", "P4", "P10"), "power cuts", run, control, needs=TOOLS, root=True)
