"""Finding events: how far back a search goes, whatever lies in its way."""

from __future__ import annotations

import asyncio

from sidecar.journal.records import events_key
from sidecar.journal.types import EventQuery
from sidecar.lifecycle import Change
from tests.support.clocks import FakeClock
from tests.support.journals import Books, make_event

DAY_MS = 86_400_000


async def test_an_event_that_came_back_does_not_end_the_search_before_its_neighbours(tmp_path):
    """An edited letter keeps the time of its receipt, and lies among those of today."""
    clock = FakeClock()
    books = Books.open(str(tmp_path / "journal"), clock)
    today = await books.stored(key="order-123", received_at_ms=clock.wall_ms())
    await books.journal.restore(make_event(received_at_ms=clock.wall_ms() - 3 * DAY_MS), "app", (), verified=False)
    page = await books.journal.events(EventQuery(key="order-123", since_ms=clock.wall_ms() - 3_600_000))
    assert ([v.event.id for v in page.events], page.scanned) == ([today.id], 2)
    assert page.oldest_ms == today.received_at_ms
    await books.journal.aclose()


async def test_a_clock_that_was_wrong_for_a_while_does_not_end_the_search(tmp_path):
    """A machine without a battery begins in 1970, and what was received before it was switched off is from today."""
    clock = FakeClock()
    books = Books.open(str(tmp_path / "journal"), clock)
    before = await books.stored(received_at_ms=clock.wall_ms())
    await books.stored(received_at_ms=60_000)
    page = await books.journal.events(EventQuery(since_ms=clock.wall_ms() - 3_600_000))
    assert [v.event.id for v in page.events] == [before.id]
    await books.journal.aclose()


async def test_the_search_ends_where_everything_is_older(tmp_path):
    clock = FakeClock()
    books = Books.open(str(tmp_path / "journal"), clock)
    for _ in range(5):
        await books.stored(received_at_ms=clock.wall_ms())
    clock.advance(DAY_MS)
    today = await books.stored(received_at_ms=clock.wall_ms())
    page = await books.journal.events(EventQuery(since_ms=clock.wall_ms() - 3_600_000))
    assert ([v.event.id for v in page.events], page.scanned) == ([today.id], 2)
    await books.journal.aclose()


async def test_a_block_whose_frame_rotted_ends_neither_an_audit_nor_a_search(tmp_path):
    """Its dead deliveries lead there, and there is no finding an event in it."""
    books = Books.open(str(tmp_path / "journal"))
    await asyncio.gather(*[books.append_later(make_event()) for _ in range(3)])
    dead = (await books.fresh())[-1]
    assert dead.event.seq != dead.event.block
    await books.settle(dead, Change.GIVE_UP, reason="rejected", status=422)
    await books.settle((await books.journal.dying("app", limit=10, skip=()))[0], Change.BURY)
    environment = books.journal._environment
    key, table = events_key(dead.event.block), environment.db[b"events"]
    with environment.env.begin(write=True) as txn:
        block = bytearray(txn.get(key, db=table))
        block[0] ^= 2
        txn.put(key, bytes(block), db=table)
    assert all(row.balanced for row in (await books.journal.audit()).rows)
    assert (await books.journal.audit(full=True)).quarantined == 1
    known = books.journal.quarantined
    assert not (await books.journal.events(EventQuery(key=dead.event.id))).events
    assert books.journal.quarantined == known + 1, "the log says why"
    await books.journal.aclose()
