"""A daemon's life on a journal with a damaged record: each provider repeats, each operator commands, and it goes on.

``rot`` opens damaged files and claims from them; here the damage is in one row, and everything that the world does to a
daemon meets it: repeats, retries, look-ups, bulk commands, a reload, a drain, a restart.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import lmdb
import msgspec
import uvloop

from sidecar.daemon.process import SWITCH_INTERVAL_S
from sidecar.journal import journal, meta, records
from sidecar.journal.arrivals import Arrivals
from sidecar.journal.changes import Changes
from sidecar.journal.dedup_index import DedupIndex
from sidecar.journal.environment import TABLES, StateRow
from sidecar.lifecycle import Change, next_state
from tests.proof.shard import Job, Shard
from tests.proof.spoiled_base import Base, House, Known, copy_base, make_base
from tests.proof.spoiled_life import Life
from tests.proof.spoiled_rows import Harm, spoil_letter, spoil_row
from tests.support.backends import running

Aim = Callable[[Known], bool] | None

CHUNK = 12  # lives of one process, all on copies of one journal


async def one_life(base: Base, folder: Path, job: Job, aim: Aim) -> list[str]:
    """Damage a copy, live on it, and live once more."""
    rand = job.rand
    copy_base(base, folder)
    harms: list[Harm] = []
    for _ in range(1 if aim else rand.choice((0, 1, 1, 1, 2, 3))):
        keys = [records.events_key(e.block) for e in base.known if aim is not None and aim(e)]
        harm = spoil_letter(folder / "dead-letters", rand) if aim is None and rand.random() < 0.1 else None
        harms.append(harm or spoil_row(folder / "journal", rand, keys=keys, sound=[h.key for h in harms]))
    if rand.random() < 0.4:
        unclean(folder / "journal")
    known = [replace(event, ids={event.id}) for event in base.known]
    brief = aim is None and bool(harms) and rand.random() < 0.15
    late = aim is None and not brief and (not harms or rand.random() < 0.3)
    life = Life(replace(base, known=known), harms, job, brief=brief, late=late)
    async with running(life.backend) as backend:
        for last in (False, True):
            house = House(folder, backend, retention="1s" if brief else "72h")
            await life.live(house, last=last)
            if life.wrong:
                break
        else:
            life.after(folder)
    for harm in life.harms:
        job.note(f"damaged: {harm.table.decode() or 'letter'}")
    return [f"{'; '.join(harm.how for harm in life.harms)}: {wrong}" for wrong in life.wrong[:3]]


def unclean(path: Path) -> None:
    """As if the last process had been killed: the next one checks the file, and looks for left-over letters."""
    with lmdb.open(str(path), max_dbs=len(TABLES), map_size=1 << 30, lock=False) as env:
        table = env.open_db(b"meta", create=False)
        with env.begin(write=True) as txn, contextlib.suppress(records.CorruptRecord):
            row = meta.unpack(txn.get(b"state", db=table), StateRow)
            txn.put(b"state", meta.pack(msgspec.structs.replace(row, clean=False)), db=table)


def some(job: Job, scratch: Path, aim: Aim) -> None:
    """One journal, and lives on copies of it."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    (scratch / "base").mkdir()
    base = uvloop.run(make_base(scratch / "base", job))
    for number in range(CHUNK):
        folder = scratch / str(number)
        folder.mkdir()
        wrong = uvloop.run(one_life(base, folder, job, aim))
        job.found += [f"seed {job.seed}: {w}" for w in wrong]
        job.count += 1
        shutil.rmtree(folder)
        if not job.goes_on:
            return


def run(job: Job, aim: Aim = None) -> None:
    """Journals, one after the other, each in a process of its own: what ends that is found.

    Args:
        job: As of any shard.
        aim: Which events are to be damaged, for a control; by default anything is.
    """
    few = partial(DedupIndex, recent_keys=16, segment_keys=1024, bucket_keys=64)
    with mock.patch.multiple(journal, RECOUNT_AFTER_S=0.1, DedupIndex=few):
        while job.goes_on:
            # Flushes are not what is looked at here, and a disk would be most of a life.
            place = "/dev/shm" if Path("/dev/shm").is_dir() else None
            scratch = Path(tempfile.mkdtemp(prefix="spoiled-", dir=place))
            try:
                job.isolated(partial(some, job, scratch, aim))
            finally:
                shutil.rmtree(scratch, ignore_errors=True)


# --- deliberate bugs


def revive(self: Changes, first: int, slot: int, destination: int, min_age_ms: int) -> bool:
    """As before a damaged record was thought of: it ends the transaction, and with it the process."""
    state, record = self._now(destination, first, slot)
    to = next_state(state, Change.REVIVE)
    if to is not None and not (record.round > 0 and self._now_ms - record.started_at_ms < min_age_ms):
        self._apply(destination, first, slot, state, to, record)
        return True
    return False


def dead(event: Known) -> bool:
    """A repeat revives it."""
    return bool(event.revives)


def owed(event: Known) -> bool:
    """Somebody still waits for it."""
    return any(state.is_open for state in event.states.values())


class Bug(NamedTuple):
    """A deliberate bug: what is replaced, which events meet it when they are damaged, and what must be said of it."""

    planted: Callable[[], Any]
    aim: Aim
    sign: str


BUGS = {
    "a repeat that ends the process": Bug(
        lambda: mock.patch.object(Changes, "_try_revive", revive), dead, "it ended with 74"
    ),
    "a command that breaks off": Bug(
        lambda: mock.patch.object(Changes, "change", Changes._change), dead, "/replay.*(broke off|failed)"
    ),
    "damage that is shown as a bug": Bug(
        lambda: mock.patch.object(journal, "_damaged", lambda e: e), dead, "internal_error"
    ),
    "a repeat of what cannot be delivered that is a duplicate": Bug(
        lambda: mock.patch.object(Arrivals, "_is_lost", return_value=False), owed, "a duplicate of what nobody can"
    ),
    "records without a checksum": Bug(
        lambda: mock.patch.object(records, "zlib", mock.Mock(crc32=lambda *_: 0)),
        dead,
        "nobody sent|altered|was never stored|no line names|nothing is counted as damaged",
    ),
}


def control(job: Job) -> list[str]:
    """Bugs that were there once, and one that would be worse."""
    for number, (name, bug) in enumerate(BUGS.items()):
        attempt = job.sub(f"control-{number}", 60)
        with bug.planted():
            run(attempt, bug.aim)
        assert attempt.found, f"{name}: {attempt.count} lives, and nothing was noticed"
        assert re.search(bug.sign, " ".join(attempt.found)), f"{name}: {attempt.found}"
    return list(BUGS)


SHARD = Shard("spoiled", ("P6", "P9"), "lives on a damaged journal", run, control)
