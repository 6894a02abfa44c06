"""A journal at its limit: a flood against the smallest map, while the backend is away, and what must go on then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial

from sidecar.journal import room
from tests.proof.bugs import early_ack
from tests.proof.flood import flood
from tests.proof.forked import honest
from tests.proof.lives import Lives
from tests.proof.shard import Job, Shard

CONTROL_FLOODS = 3


def one(job: Job, bug: Callable[[], None] = honest) -> None:
    """One flood."""
    folder = job.folder / f"flood-{job.count}"
    folder.mkdir()
    lives = Lives(folder, folder, "16MiB", bug)
    wrong = [*lives.live(partial(flood, lives), backend=False), *lives.look()]
    job.found += [f"seed {job.seed}, flood {job.count}: {w}" for w in wrong[:3]]
    job.note("acknowledged", len(lives.ledger.acked))
    job.note("refused", lives.ledger.refused["storage_full"])
    job.count += 1
    shutil.rmtree(folder)


def run(job: Job) -> None:
    """Flood until the time is over."""
    while job.goes_on:
        job.isolated(partial(one, job))


def no_reserve() -> None:
    """No room is kept for settling."""
    room.reserve_bytes = lambda limit: 0


def control(job: Job) -> list[str]:
    """Room for nothing but what comes, and an ack for what has no room."""
    for bug in (no_reserve, early_ack):
        attempt = job.sub(bug.__name__, 120)
        while attempt.goes_on and attempt.count < CONTROL_FLOODS:
            attempt.isolated(partial(one, attempt, bug))
        assert attempt.found, f"{bug.__name__}: {attempt.count} floods, and nothing was wrong"
    return ["no reserve for settling", "an ack before the commit"]


SHARD = Shard("full", ("P5",), "floods of a small journal", run, control)
