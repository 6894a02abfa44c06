"""One batch of arrivals: each is stored or is a duplicate, and what the books count is what was stored."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.journal.records import BLOCK_EVENTS, bodies_key, deliveries_key, events_key
from sidecar.journal.types import Appended, Duplicate
from sidecar.lifecycle import Change
from tests.support.journals import Books, make_claim, make_event, rot_row
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


LARGE = b"x" * 100_000  # in parts


@pytest.mark.parametrize(
    ("table", "key", "at", "body"),
    [
        (b"events", events_key(1), -3, b"{}"),
        (b"events", events_key(1), 1, b"{}"),
        (b"events", events_key(1), 12, b"{}"),
        (b"bodies", bodies_key(1, 1), 9, LARGE),
        (b"deliveries", deliveries_key(0, 1), 9, b"{}"),
    ],
    ids=["content", "frame", "length", "body", "what is owed"],
)
async def test_a_repeat_takes_the_place_of_an_event_that_is_owed_and_has_rotted(tmp_path, table, key, at, body):
    """Nobody could deliver it any more, and here it is again. The next repeat is one of the new one."""
    path = str(tmp_path / "journal")
    books = Books.open(path)
    first = await books.append(make_event(body), make_claim("k"))
    assert first.event.seq == 1
    await books.journal.aclose()
    rot_row(path, table, key, at)
    books = Books.open(path)
    again, third = [await books.append(make_event(body), make_claim("k")) for _ in range(2)]
    assert isinstance(again, Appended)
    assert (third.event_id, third.conflict) == (again.event.id, False)
    assert [(d.event.id, d.event.body) for d in await books.fresh()] == [(again.event.id, body)]
    assert books.journal.counters().enqueued == {("shop", "app"): 2}
    await books.journal.aclose()


@pytest.mark.parametrize("at", [-3, 1], ids=["content", "frame"])
async def test_a_repeat_of_what_has_ended_is_one_though_its_record_has_rotted(tmp_path, at):
    """It was delivered: that it cannot be shown any more is no reason to deliver it again."""
    path = str(tmp_path / "journal")
    books = Books.open(path)
    first = await books.append(make_event(), make_claim("k"))
    for delivery in await books.fresh():
        await books.settle(delivery, Change.SUCCEED)
    await books.journal.aclose()
    rot_row(path, b"events", events_key(1), at)
    books = Books.open(path)
    assert (await books.append(make_event(), make_claim("k"))).event_id == first.event.id
    await books.journal.aclose()
