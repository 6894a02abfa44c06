"""Operators' commands name deliveries by ids that people type: what is not ours is refused by name, the rest is done."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.errors import JournalError
from sidecar.journal.types import Ref
from sidecar.model import format_event_id
from tests.support.journals import Books, make_event


async def test_what_is_not_ours_is_refused_and_the_rest_is_done(tmp_path):
    """Each with its reason, in one transaction."""
    books = Books.open(str(tmp_path / "journal"))
    event = await books.stored(destinations=("app",))
    foreign = format_event_id(event.received_at_ms, books.journal.journal_id ^ 1, event.seq)
    refs = [Ref("no id", "app"), Ref(foreign, "app"), Ref(event.id, "nowhere"), Ref(event.id, "app")]
    result = await books.journal.discard(refs)
    assert result.applied == 1
    assert [(r.event_id, why) for r, why in result.refused] == [
        ("no id", "not_found"),
        (foreign, "not_found"),
        (event.id, "unknown_destination"),
    ]
    assert books.journal.counters().settled == {("app", "discarded"): 1}
    await books.journal.aclose()


async def test_nothing_is_sent_to_a_destination_that_is_not_known(tmp_path):
    """A replay to it, and a redirect, change nothing."""
    books = Books.open(str(tmp_path / "journal"))
    event = await books.stored(destinations=("app",))
    for result in (
        await books.journal.replay([Ref(event.id, "app")], to="nowhere"),
        await books.journal.redirect([Ref(event.id, "app")], "nowhere"),
    ):
        assert (result.applied, [why for _, why in result.refused]) == (0, ["unknown_destination"])
    assert books.journal.counters().settled == {}
    await books.journal.aclose()


async def test_an_event_comes_back_under_its_id_only_where_the_journal_has_forgotten_it(tmp_path):
    """Elsewhere a replay is what was meant; a new one gets a number of its own and is owed to one destination."""
    books = Books.open(str(tmp_path / "journal"))
    event = await books.stored(destinations=("app",))
    with pytest.raises(JournalError, match="still in the journal"):
        await books.journal.restore(make_event(id=event.id), "mail", (), verified=False)
    body = b"x" * 100_000
    new_id = await books.journal.restore(make_event(body), "mail", (), verified=False)
    view = await books.journal.event(new_id)
    assert (view.event.body, view.event.verified) == (body, False)
    assert [(d.destination, d.round) for d in view.deliveries] == [("mail", 1)]
    assert all(row.balanced for row in (await books.journal.audit(full=True)).rows)
    await books.journal.aclose()


async def test_events_that_arrive_around_one_that_comes_back_are_found(tmp_path):
    """It overtakes those in front of it on the way to the writer; what is read from any number on is whole all the same."""
    books = Books.open(str(tmp_path / "journal"))
    await books.stored()
    arrivals = [books.append_later(make_event(b"before %d" % n)) for n in range(2)]
    back = asyncio.ensure_future(books.journal.restore(make_event(b"back"), "app", (), verified=False))
    await asyncio.sleep(0)
    arrivals += [books.append_later(make_event(b"behind %d" % n)) for n in range(2)]
    events = [answer.event for answer in await asyncio.gather(*arrivals)]
    for event_id in (await back, *(e.id for e in events)):
        assert await books.journal.event(event_id) is not None
    for n, event in enumerate(events):
        assert [d.event.id for d in await books.fresh(from_seq=event.seq)] == [e.id for e in events[n:]]
    await books.journal.aclose()
