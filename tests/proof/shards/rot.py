"""Rot: flipped bits and cuts anywhere in the journal's file. Altered bytes are never handed out; no signal ends us."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from sidecar.errors import SidecarError
from sidecar.journal import Journal, records
from sidecar.journal.types import JournalOptions
from sidecar.lifecycle import Change
from tests.proof.shard import Job, Shard
from tests.support.clocks import FakeClock
from tests.support.journals import Books

SIZES = (10, 300, 5_000, 90_000)
CHUNK = 50  # damaged copies of one process
PAGE = 4096

Known = dict[str, tuple[bytes, tuple[Any, ...]]]
"""Event id -> body and headers as they were stored."""


async def make(path: Path, job: Job) -> Known:
    """A journal with events in every state."""
    books = Books.open(str(path), FakeClock(), max_size_bytes=32 << 20)
    known: Known = {}
    for n in range(40):
        body = (b"%d-" % n) * (job.rand.choice(SIZES) // 3)
        event = await books.stored(body, destinations=("app", "mail"), key=f"n{n}")
        known[event.id] = (event.body, tuple(event.headers))
    for d in await books.fresh("app"):
        change = job.rand.choice((Change.SUCCEED, Change.RETRY, Change.GIVE_UP, None))
        if change is not None:
            await books.settle(
                d, change, due_at_ms=1, status=500, reason="rejected" if change is Change.GIVE_UP else ""
            )
    await books.journal.aclose()
    return known


def damage(data: bytearray, job: Job) -> str:
    """Spoil a copy; says how."""
    kind = job.rand.random()
    if kind < 0.15:
        at = job.rand.choice((job.rand.randrange(len(data)), job.rand.randrange(len(data) // PAGE) * PAGE))
        del data[at:]
        return f"cut to {at} bytes"
    if kind < 0.25:
        page = job.rand.randrange(len(data) // PAGE) * PAGE
        data[page : page + PAGE] = bytes(PAGE)
        return f"the page at {page} is zero"
    bits = [job.rand.randrange(len(data) * 8) for _ in range(1 if kind < 0.9 else 8)]
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    return f"bits {bits} flipped"


def look(path: Path, known: Known, owed: Counter[str], job: Job) -> list[str]:
    """Open it as the daemon would and claim everything; whatever is handed out must be as it was stored."""
    try:
        journal = Journal.open(JournalOptions(path=str(path), max_size_bytes=32 << 20), FakeClock())
    except SidecarError as e:
        job.note("refused to open")
        return [f"not one clear line: {e}"] if "\n" in e.message else []
    except Exception as e:  # noqa: BLE001 - whatever it is, an operator would get a traceback
        return [f"not a clear line: {type(e).__name__} {e}"]
    wrong: list[str] = []
    try:
        seen, refused = asyncio.run(claim(journal, job))
    finally:
        journal._environment.close()
    for event in seen:
        body, headers = known.get(event.id, (None, ()))
        if body is None:
            wrong.append(f"{event.id} was never stored")
        elif event.body != body or tuple(event.headers) != headers:
            wrong.append(f"{event.id} was handed out altered")
    job.note("events handed out", len(seen))
    left_out = owed - Counter(event.id for event in seen)
    if left_out and not journal.quarantined and not refused:
        # A page of LMDB's own tree has no checksum of ours: what it hid is found by the audit, not by the lanes.
        job.note("copies with deliveries that only an audit can miss")
    return wrong


async def claim(journal: Journal, job: Job) -> tuple[list[Any], int]:
    """Everything the lanes would get, and how many of their reads failed with an error."""
    books = Books(journal)
    seen: list[Any] = []
    refused = 0
    journal._reader.start(asyncio.get_running_loop())
    for name in journal.destinations():
        for read in (books.fresh, books.due_now, partial(journal.dying, limit=100, skip=())):
            try:
                seen += [d.event for d in await read(name)]
            except Exception as e:  # noqa: BLE001 - the lane says so and asks again
                refused += 1
                job.note(f"a read refused: {type(e).__name__}")
    journal._reader.close()
    return seen, refused


def owed_by(data: bytes, job: Job) -> Counter[str]:
    """What an undamaged copy hands out."""
    path = job.folder / "whole"
    path.mkdir()
    (path / "data.mdb").write_bytes(data)
    journal = Journal.open(JournalOptions(path=str(path), max_size_bytes=32 << 20), FakeClock())
    try:
        seen, refused = asyncio.run(claim(journal, job))
        assert not refused
        return Counter(event.id for event in seen)
    finally:
        journal._environment.close()
        shutil.rmtree(path)


def some(job: Job, data: bytes, known: Known, owed: Counter[str]) -> None:
    """Damage copies of one journal, one after the other."""
    scratch = Path(tempfile.mkdtemp(prefix="rot-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    last = job.folder / "last"
    try:
        for _ in range(CHUNK):
            shutil.rmtree(scratch)
            scratch.mkdir()
            copy = bytearray(data)
            how = damage(copy, job)
            last.write_text(how)
            (scratch / "data.mdb").write_bytes(copy)
            job.found += [f"seed {job.seed}, {how}: {w}" for w in look(scratch, known, owed, job)[:2]]
            job.count += 1
            if not job.goes_on:
                return
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run(job: Job) -> None:
    """A journal, copies of it with damage, then the next journal."""
    number = 0
    while job.goes_on:
        path = job.folder / f"journal-{number}"
        number += 1
        known = asyncio.run(make(path, job))
        data = (path / "data.mdb").read_bytes()
        owed = owed_by(data, job)
        for _ in range(20):
            if job.goes_on:
                before = len(job.found)
                job.isolated(partial(some, job, data, known, owed))
                if len(job.found) > before and "died" in job.found[-1]:
                    job.found[-1] += f" ({(job.folder / 'last').read_text()})"
        shutil.rmtree(path)


@contextmanager
def without_checksums() -> Any:
    """Records whose checksum is not looked at."""
    with mock.patch.object(records, "zlib", mock.Mock(crc32=lambda *_: 0)):
        yield


def control(job: Job) -> list[str]:
    """A journal that does not look at checksums."""
    attempt = job.sub("no-checksum", 60)
    with without_checksums():
        run(attempt)
    assert attempt.found, f"{attempt.count} damaged copies, and no altered bytes were noticed"
    return ["records without a checksum"]


SHARD = Shard("rot", ("P9",), "damaged copies", run, control, weight=1.5)
