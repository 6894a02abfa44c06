"""Finding events: how far back a search goes, whatever lies in its way."""

from __future__ import annotations

from sidecar.journal.types import EventQuery
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
