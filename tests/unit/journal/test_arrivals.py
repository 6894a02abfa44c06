"""One batch of arrivals: each is stored or is a duplicate, and what the books count is what was stored."""

from __future__ import annotations

import asyncio

from sidecar.journal.records import BLOCK_EVENTS
from sidecar.journal.types import Appended, Duplicate
from tests.support.journals import Books, make_claim, make_event
from tests.unit.journal.test_writer import idle


async def test_repeats_within_one_batch_are_duplicates_of_its_own_first(tmp_path):
    """Other bytes under the same key are a conflict; nothing of a duplicate is stored or counted."""
    books = Books.open(str(tmp_path / "journal"))
    await idle(books)
    before = books.journal.stats().commits
    events = [make_event(b) for b in (b"1111", b"1111", b"2222")]
    answers = await asyncio.gather(*[books.append_later(e, make_claim("k", body=e.body)) for e in events])
    assert books.journal.stats().commits == before + 1
    assert [type(a) for a in answers] == [Appended, Duplicate, Duplicate]
    assert [(a.event_id, a.conflict) for a in answers[1:]] == [(events[0].id, False), (events[0].id, True)]
    assert books.journal.counters().enqueued == {("shop", "app"): 1}
    assert [[e.id for e in stored] for stored, _ in books.batches] == [[events[0].id]]
    await books.journal.aclose()


async def test_a_large_batch_fills_several_blocks_and_every_event_is_found(tmp_path):
    books = Books.open(str(tmp_path / "journal"))
    await idle(books)
    before = books.journal.stats().commits
    events = [make_event(b"%d" % n, destinations=("app", "mail")) for n in range(BLOCK_EVENTS + 5)]
    await asyncio.gather(*[books.append_later(e) for e in events])
    assert books.journal.stats().commits == before + 1
    assert {e.block for e in events} == {events[0].seq, events[BLOCK_EVENTS].seq}
    for e in (events[0], events[BLOCK_EVENTS - 1], events[BLOCK_EVENTS], events[-1]):
        view = await books.journal.event(e.id)
        assert (view.event.body, len(view.deliveries)) == (e.body, 2)
    assert books.journal.counters().enqueued == {("shop", "app"): len(events), ("shop", "mail"): len(events)}
    await books.journal.aclose()
