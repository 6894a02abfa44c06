"""Rot: flipped bits and cuts anywhere in the journal's file. Altered bytes are never handed out; no signal ends us."""

from __future__ import annotations

import asyncio
import shutil
import struct
import tempfile
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from sidecar.errors import SidecarError
from sidecar.journal import Journal, records
from sidecar.journal.lookups import AuditScan
from sidecar.journal.recount import Recount
from sidecar.journal.types import JournalOptions
from sidecar.lifecycle import Change
from tests.proof.shard import Job, Shard
from tests.support.clocks import FakeClock
from tests.support.journals import Books

SIZES = (10, 300, 5_000, 90_000)
CHUNK = 50  # damaged copies of one process
PAGE = 4096
PAGE_HEAD = struct.Struct("<QHHHH")  # number, padding, flags, where its table of nodes ends, where its nodes begin

Known = dict[str, tuple[bytes, tuple[Any, ...]]]
"""Event id -> body and headers as they were stored."""


async def make(path: Path, job: Job) -> Known:
    """A journal with events in every state."""
    books = Books.open(str(path), FakeClock(), max_size_bytes=32 << 20)
    known: Known = {}
    many = job.rand.random() < 0.15  # a tree with more branches
    for n in range(150 if many else 40):
        body = (b"%d-" % n) * (job.rand.choice(SIZES[:2] if many else SIZES) // 3)
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
    if kind < 0.5:
        bit = tree_bit(data, job)
        data[bit // 8] ^= 1 << bit % 8
        return f"bit {bit} of the tree flipped"
    bits = [job.rand.randrange(len(data) * 8) for _ in range(1 if kind < 0.9 else 8)]
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    return f"bits {bits} flipped"


def tree_bit(data: bytearray, job: Job) -> int:
    """A bit of LMDB's own in a branch or leaf page: its head, its table of nodes, a node's head or key.

    Source: MDB_page and MDB_node of LMDB 0.9.
    """
    while True:
        page = job.rand.randrange(2, len(data) // PAGE)
        number, _, flags, lower, _ = PAGE_HEAD.unpack_from(data, page * PAGE)
        if number != page or flags not in (0x01, 0x02):
            continue
        end = min(lower, PAGE)
        nodes = range(PAGE_HEAD.size, end - 1, 2)
        at = page * PAGE + job.rand.randrange(max(end, PAGE_HEAD.size))
        if nodes and job.rand.random() < 0.5:
            (node,) = struct.unpack_from("<H", data, page * PAGE + job.rand.choice(nodes))
            at = page * PAGE + min(PAGE - 1, node + job.rand.randrange(8 + 18))
        return at * 8 + job.rand.randrange(8)


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
        wrong.append(f"{sum(left_out.values())} deliveries are left out, and nothing says so")
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
    before = journal.quarantined
    await journal._reader.scan(journal._recount)
    if journal.quarantined > before == refused == 0:
        job.note("copies where only counting notices")
        audit = AuditScan(full=True, patience_s=None)
        await journal._reader.scan(audit)
        report = audit.result()
        if not report.quarantined and all(row.balanced for row in report.rows):
            job.found.append(f"seed {job.seed}: an audit finds nothing wrong where counting does")
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


def some(job: Job, scratch: Path, data: bytes, known: Known, owed: Counter[str]) -> None:
    """Damage copies of one journal, one after the other."""
    for _ in range(CHUNK):
        shutil.rmtree(scratch)
        scratch.mkdir()
        copy = bytearray(data)
        how = damage(copy, job)
        (job.folder / "last").write_text(how)
        (scratch / "data.mdb").write_bytes(copy)
        job.found += [f"seed {job.seed}, {how}: {w}" for w in look(scratch, known, owed, job)[:2]]
        job.count += 1
        if not job.goes_on:
            return


def again(job: Job, scratch: Path) -> None:
    """Start once more on a copy that ended the last process."""
    try:
        Journal.open(JournalOptions(path=str(scratch), max_size_bytes=32 << 20), FakeClock())
        job.found.append("it opens again, as if nothing had been")
    except SidecarError as e:
        if "\n" in e.message:
            job.found.append(f"not one clear line: {e}")


def guarded(job: Job, data: bytes, known: Known, owed: Counter[str]) -> None:
    """The same in a process of its own. What LMDB makes of a broken tree may end it, but the next start has to say so."""
    scratch = Path(tempfile.mkdtemp(prefix="rot-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        before = len(job.found)
        job.isolated(partial(some, job, scratch, data, known, owed))
        if len(job.found) == before or "died" not in job.found[-1]:
            return
        how = (job.folder / "last").read_text()
        if "cut" not in how and any(name in job.found[-1] for name in ("SIGBUS", "SIGABRT", "SIGSEGV")):
            next_start = Job(job.seed, 60, job.folder)
            next_start.isolated(partial(again, next_start, scratch))
            if not next_start.found:
                job.found.pop()
                job.note("copies that end the process once, and are refused by the next start")
                return
            job.found += next_start.found
        job.found[-1] += f" ({how})"
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
                guarded(job, data, known, owed)
        shutil.rmtree(path)


@contextmanager
def without_checksums() -> Any:
    """Records whose checksum is not looked at."""
    with mock.patch.object(records, "zlib", mock.Mock(crc32=lambda *_: 0)):
        yield


def control(job: Job) -> list[str]:
    """A journal that does not look at checksums, and one that nobody counts."""
    for bug in (without_checksums(), mock.patch.object(Recount, "step", return_value=True)):
        attempt = job.sub(f"control-{len(list(job.folder.iterdir()))}", 60)
        with bug:
            run(attempt)
        assert attempt.found, f"{attempt.count} damaged copies, and nothing was noticed"
    assert "left out" in attempt.found[0], attempt.found
    return ["records without a checksum", "deliveries that rot hides and nobody counts"]


SHARD = Shard("rot", ("P9",), "damaged copies", run, control, weight=1.5)
