"""When finished events go: no later than the retention says, whatever rotted before them, and without work where there is nothing to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.journal.records import events_key, split_key
from sidecar.lifecycle import Change
from sidecar.model import Event
from tests.support.clocks import FakeClock
from tests.support.journals import Books, make_event

HOUR_MS = 3_600_000


async def delivered(books: Books) -> Event:
    """An event that nobody is owed any more."""
    event = await books.stored()
    await books.settle((await books.fresh())[0], Change.SUCCEED)
    return event


async def test_an_event_that_came_back_keeps_nothing_behind_it_for_longer(tmp_path):
    """It is young and lies in front, by its old number; after a restart pruning begins there."""
    clock = FakeClock()
    books = Books.open(str(tmp_path / "journal"), clock, retention_s=3600.0)
    forgotten = await delivered(books)
    clock.advance(HOUR_MS + 1000)
    behind = await delivered(books)
    await delivered(books)
    assert await books.journal.event(forgotten.id) is None
    clock.advance(HOUR_MS - 1000)
    await books.journal.restore(make_event(id=forgotten.id), "app", (), verified=True)
    await books.journal.aclose()
    books = Books.open(str(tmp_path / "journal"), clock, retention_s=3600.0)
    clock.advance(2000)
    await delivered(books)
    assert await books.journal.event(behind.id) is None
    assert await books.journal.event(forgotten.id) is not None, "its delivery is owed"
    await books.journal.aclose()


@pytest.mark.parametrize("at", [0, 11], ids=["version", "time"])
async def test_a_block_whose_head_rotted_keeps_itself_and_nothing_behind_it(tmp_path: Path, at: int):
    """Its time may say that it is years from now; it stays for whoever looks into the damage."""
    clock = FakeClock()
    books = Books.open(str(tmp_path / "journal"), clock, retention_s=60.0)
    for n in range(3):
        await books.stored(b"%d" % n)
    for delivery in await books.fresh():
        assert await books.settle(delivery, Change.SUCCEED)
    environment = books.journal._environment
    with environment.env.begin(write=True) as txn:
        block = bytearray(txn.get(events_key(2), db=environment.db[b"events"]))
        block[at] ^= 0x40
        txn.put(events_key(2), bytes(block), db=environment.db[b"events"])
    clock.advance(61_000)
    await books.settle_nothing()
    with environment.env.begin() as txn:
        assert [split_key(bytes(key)) for key, _ in txn.cursor(environment.db[b"events"])] == [2]
    await books.journal.aclose()


async def test_no_retention_is_no_reason_to_write_all_the_time(tmp_path):
    books = Books.open(str(tmp_path / "journal"), retention_s=0.0)
    event = await delivered(books)
    before = books.journal.stats().commits
    await asyncio.sleep(1.5)
    assert await books.journal.event(event.id) is None
    assert books.journal.stats().commits - before < 10
    await books.journal.aclose()


async def test_a_block_whose_time_rotted_while_it_was_owed_stays_when_it_is_delivered(tmp_path: Path):
    """It was passed over as owed; its end is no reason to forget it before those that were accepted with it."""
    clock = FakeClock()
    path = str(tmp_path / "journal")
    books = Books.open(path, clock, retention_s=3600.0)
    event, other = await books.stored(), await books.stored()
    environment = books.journal._environment
    with environment.env.begin(write=True) as txn:
        block = bytearray(txn.get(events_key(event.seq), db=environment.db[b"events"]))
        block[9] ^= 0x80
        txn.put(events_key(event.seq), bytes(block), db=environment.db[b"events"])
    await books.journal.aclose()
    books = Books.open(path, clock, retention_s=3600.0)
    await books.settle_nothing()
    for delivery in await books.fresh():
        assert await books.settle(delivery, Change.SUCCEED)
    clock.advance(2000)
    await books.settle_nothing()
    assert [await books.journal.event(e.id) is not None for e in (event, other)] == [True, True]
    await books.journal.aclose()
