"""When the writer begins a transaction: at once when idle, with everything the loop has read, a little later when busy."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator

import lmdb
import pytest

from sidecar.errors import JournalError, JournalFull
from sidecar.journal import room
from sidecar.journal import writer as module
from sidecar.journal.dedup_entries import block_key
from sidecar.journal.types import Settlement
from sidecar.lifecycle import Change
from sidecar.model import Refusal
from tests.support.journals import Books, make_claim, make_event, rot_row


@pytest.fixture
async def books(tmp_path) -> AsyncIterator[Books]:
    books = Books.open(str(tmp_path / "journal"))
    await books.stored()  # the first one brings the ack template, too
    yield books
    await books.journal.aclose()


def commits(books: Books) -> int:
    return books.journal.stats().commits


async def idle(books: Books) -> None:
    """Wait until the writer sleeps and waits for nothing in particular."""
    writer = books.journal._writer
    while not (writer._waiting and writer._wanted == (1, 1)):  # noqa: ASYNC110 - another thread's
        await asyncio.sleep(0.001)


async def test_what_the_loop_reads_in_one_turn_is_one_commit(books):
    await idle(books)
    before = commits(books)
    answers = []
    for n in range(10):
        answers.append(books.append_later(make_event(b"%d" % n)))
        time.sleep(0.001)  # noqa: ASYNC251 - the turn is long, and the writer could run
    await asyncio.gather(*answers)
    assert commits(books) == before + 1


async def test_an_idle_writer_waits_for_nobody(books, monkeypatch):
    writer = books.journal._writer
    await idle(books)
    writer._gather_s = 30.0
    started_s = time.monotonic()
    for _ in range(module.GATHER_FROM + 2):  # one by one: never many in one commit
        await books.append(make_event())
    assert time.monotonic() - started_s < 10


async def test_a_busy_writer_waits_for_company_but_no_longer_than_it_may(books):
    writer = books.journal._writer
    await idle(books)
    writer._last_arrivals, writer._gather_s = module.GATHER_FROM, 0.2
    started_s, before = time.monotonic(), commits(books)
    first = books.append_later(make_event())
    await asyncio.sleep(0.02)
    assert not first.done(), "it waits"
    second = books.append_later(make_event())
    await asyncio.gather(first, second)
    assert commits(books) == before + 1
    assert 0.15 < time.monotonic() - started_s < 10


async def test_enough_company_ends_the_waiting(books):
    writer = books.journal._writer
    await idle(books)
    writer._last_arrivals, writer._gather_s = module.GATHER_FROM, 30.0
    started_s, before = time.monotonic(), commits(books)
    answers = []
    for _ in range(module.GATHER_EVENTS):
        answers.append(books.append_later(make_event()))
        await asyncio.sleep(0)
    await asyncio.gather(*answers)
    assert commits(books) == before + 1
    assert time.monotonic() - started_s < 10


async def test_the_waiting_is_a_fraction_of_a_commit_and_bounded(books):
    for _ in range(20):
        await asyncio.gather(*[books.append_later(make_event()) for _ in range(module.GATHER_FROM)])
    assert 0 < books.journal._writer._gather_s <= module.GATHER_MOST_S


async def test_closing_waits_for_no_company(tmp_path):
    books = Books.open(str(tmp_path / "other"))
    writer = books.journal._writer
    await idle(books)
    writer._last_arrivals, writer._gather_s = module.GATHER_FROM, 30.0
    answer = books.append_later(make_event())
    await asyncio.sleep(0.02)
    started_s = time.monotonic()
    await books.journal.aclose()
    assert time.monotonic() - started_s < 10
    assert (await answer).event.id


async def test_a_command_whose_commit_failed_is_told(tmp_path):
    """A command in the failing batch itself, not only those behind it: whoever waits for it would wait for ever."""
    broken = False

    def failpoint(name: str) -> None:
        if broken and name == "before_commit":
            raise OSError(errno.EIO, "Input/output error")

    def run(_work) -> None:
        nonlocal broken
        broken = True  # so that it is this very batch

    books = Books.open(str(tmp_path / "j"), failpoint=failpoint)
    with pytest.raises(JournalError, match="the journal failed"):
        await asyncio.wait_for(books.journal._command(run), 5)
    assert books.fatal
    with pytest.raises(JournalError, match="the journal failed"):  # and whoever asks afterwards
        await asyncio.wait_for(books.journal.register_live(["new"], []), 5)
    books.journal.close()


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the journal's disk is full"),
        (lmdb.DiskError(f"mdb_txn_commit: {os.strerror(errno.ENOSPC)}"), "the journal's disk is full"),
        (lmdb.MapFullError("mdb_put: MDB_MAP_FULL"), "the journal is full"),
    ],
)
async def test_what_does_not_fit_is_refused_and_the_log_says_where(tmp_path, monkeypatch, error, what):
    said = []
    monkeypatch.setattr(room.log, "limited", lambda _key, _level, msg, **_: said.append(msg))
    failing = False

    def failpoint(name: str) -> None:
        if failing and name == "before_commit":
            raise error

    books = Books.open(str(tmp_path / "j"), failpoint=failpoint)
    await books.stored()
    [delivery] = await books.fresh()
    failing = True
    assert await books.append(make_event()) is Refusal.STORAGE_FULL
    assert set(said) == {f"{what}: a transaction did not fit"}
    books.journal.settle(Settlement(delivery, Change.DISCARD, None, 0, "", None))
    await books.journal.aclose()
    assert isinstance(books.fatal[0], JournalFull)
    assert str(books.fatal[0]).startswith(what)


async def test_a_key_that_rotted_is_counted_and_a_repeat_of_its_event_is_a_new_one(tmp_path):
    """Nothing is lost by that; but whoever looks is told, or nobody knows why an event came twice."""
    path = str(tmp_path / "journal")
    books = Books.open(path)
    first = await books.append(make_event(), make_claim("one"))
    await books.journal.aclose()
    rot_row(path, b"dedup", block_key(first.event.seq), -1)
    books = Books.open(path)
    again = await books.append(make_event(), make_claim("one"))
    assert again.event.id != first.event.id
    assert books.journal.stats().quarantined == 1
    assert books.journal._metrics.journal_quarantined.values[()] == 1, "it is counted once"
    assert (await books.journal.audit(full=True)).quarantined == 1
    await books.journal.aclose()


async def test_a_command_that_does_not_fit_is_told_so_and_keeps_nothing_else_from_the_disk(tmp_path):
    """A letter of another journal may be larger than all of this one: settlements and arrivals go on as ever."""
    books = Books.open(str(tmp_path / "j"), max_size_bytes=16 << 20)
    await books.stored()
    (delivery,) = await books.fresh()
    too_large = asyncio.ensure_future(books.journal.restore(make_event(bytes(20 << 20)), "app", (), verified=False))
    small = asyncio.ensure_future(books.journal.register_live(["new"], []))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(books.settle(delivery, Change.SUCCEED), 5)
    with pytest.raises(JournalFull, match="no room"):
        await asyncio.wait_for(too_large, 5)
    await asyncio.wait_for(small, 5)
    await asyncio.wait_for(books.stored(), 5)
    await books.journal.aclose()
    assert not books.fatal


async def test_a_command_that_the_disk_has_no_room_for_keeps_nothing_else_from_it(tmp_path):
    """The same where it is the disk that is full, with a settlement and an arrival in the same batch."""
    large = False

    def failpoint(name: str) -> None:
        nonlocal large
        if name == "before_commit" and large:
            raise OSError(errno.ENOSPC, "No space left on device")
        large = False

    def run(_work) -> None:
        nonlocal large
        large = True

    books = Books.open(str(tmp_path / "j"), failpoint=failpoint)
    await books.stored()
    (delivery,) = await books.fresh()
    told, settled = books.journal._command(run), asyncio.ensure_future(books.settle(delivery, Change.SUCCEED))
    with pytest.raises(JournalFull, match="no room"):
        await asyncio.wait_for(told, 5)
    assert await asyncio.wait_for(settled, 5)
    await books.journal.aclose()
    assert not books.fatal
