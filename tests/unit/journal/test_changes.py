"""Operators' commands and repeats on a real journal, also where a record has rotted."""

from __future__ import annotations

import pytest

from sidecar.journal.types import Duplicate, Ref
from sidecar.lifecycle import Change
from tests.support.journals import Books, make_claim, make_event, rot_row


def rot(path: str, first: int, at: int) -> None:
    """Flip a bit of a stored block of events while nobody has the journal open."""
    rot_row(path, b"events", first.to_bytes(8, "big"), at)


async def with_two_dead(path: str, at: int) -> tuple[Books, list[str]]:
    """A journal with two dead deliveries, each in a block of its own; the first one's event has rotted."""
    books = Books.open(path)
    for name in ("one", "two"):
        await books.append(make_event(), make_claim(name))
    for delivery in await books.fresh():
        await books.settle(delivery, Change.GIVE_UP, status=400, reason="rejected")
    dying = await books.journal.dying("app", limit=9, skip=())
    for delivery in dying:
        await books.settle(delivery, Change.BURY)
    await books.journal.aclose()
    rot(path, dying[0].event.seq, at)
    return Books.open(path), [d.event.id for d in dying]


@pytest.mark.parametrize("at", [1, -3], ids=["frame", "content"])
async def test_a_repeat_of_an_event_that_rotted_is_answered_and_the_journal_lives(tmp_path, at):
    """It cannot be revived; but a provider that repeats it must not be able to end the process with that."""
    books, ids = await with_two_dead(str(tmp_path / "journal"), at)
    answer = await books.append(make_event(), make_claim("one"))
    assert isinstance(answer, Duplicate)
    assert (answer.event_id, answer.revived) == (ids[0], 0)
    assert (await books.append(make_event(), make_claim("two"))).revived == 1
    assert await books.stored(), "others are taken"
    assert not books.fatal
    assert books.journal.counters().settled == {("app", "dead"): 2}
    await books.journal.aclose()


@pytest.mark.parametrize("at", [1, -3], ids=["frame", "content"])
async def test_a_replay_passes_over_an_event_that_rotted(tmp_path, at):
    """It is refused by name, and the others are done: otherwise nobody could replay what stands behind it."""
    books, ids = await with_two_dead(str(tmp_path / "journal"), at)
    result = await books.journal.replay([Ref(event_id, "app") for event_id in ids])
    assert (result.applied, [(ref.event_id, why) for ref, why in result.refused]) == (1, [(ids[0], "corrupt")])
    assert [d.event.id for d in await books.due_now()] == [ids[1]]
    await books.journal.aclose()


async def test_a_redirect_passes_over_an_event_that_rotted(tmp_path):
    """It stays owed where it was, and the books balance."""
    path = str(tmp_path / "journal")
    books = Books.open(path)
    rotten, sound = await books.stored(), await books.stored()
    await books.journal.aclose()
    rot(path, rotten.seq, -3)
    books = Books.open(path)
    result = await books.journal.redirect([Ref(rotten.id, "app"), Ref(sound.id, "app")], "audit")
    assert (result.applied, [why for _, why in result.refused]) == (1, ["corrupt"])
    assert books.journal.counters().settled == {("app", "redirected"): 1}
    assert all(row.balanced for row in (await books.journal.audit()).rows)
    await books.journal.aclose()


async def test_a_delivery_that_is_not_there_cannot_be_redirected(tmp_path):
    """The event is owed to app alone: redirecting it away from mail enqueues nothing anywhere."""
    books = Books.open(str(tmp_path / "journal"))
    event = await books.stored(destinations=("app",))
    result = await books.journal.redirect([Ref(event.id, "mail")], "audit")
    assert result.applied == 0
    assert result.refused[0][1] == "not_allowed"
    assert {d for (_, d), n in books.journal.counters().enqueued.items() if n} == {"app"}
    await books.journal.aclose()


async def test_a_pending_delivery_is_redirected_and_the_books_balance(tmp_path):
    """It leaves the one destination as redirected and is pending at the other."""
    books = Books.open(str(tmp_path / "journal"))
    event = await books.stored(destinations=("app",))
    assert (await books.journal.redirect([Ref(event.id, "app")], "audit")).applied == 1
    assert books.journal.counters().settled == {("app", "redirected"): 1}
    assert [d.event.id for d in await books.due_now("audit")] == [event.id]
    assert all(row.balanced for row in (await books.journal.audit()).rows)
    await books.journal.aclose()


async def test_whoever_sends_hears_what_an_operator_took_away_and_of_nothing_else(tmp_path):
    """Of the destination it was pending at; a delivery that is dropped when it is dead, or settled, is nobody's to send."""
    books = Books.open(str(tmp_path / "journal"))
    heard: list[str] = []
    books.journal._on_withdrawn = heard.append
    event = await books.stored(destinations=("app", "mail"))
    assert (await books.journal.redirect([Ref(event.id, "app")], "audit")).applied == 1
    assert heard == ["app"]
    assert (await books.journal.discard([Ref(event.id, "mail")])).applied == 1
    assert heard == ["app", "mail"]
    await books.settle((await books.due_now("audit"))[0], Change.GIVE_UP, reason="rejected", status=422)
    await books.settle((await books.journal.dying("audit", limit=1, skip=()))[0], Change.BURY)
    assert (await books.journal.remove_dead([Ref(event.id, "audit")])).applied == 1
    assert (await books.journal.replay([Ref(event.id, "audit")])).applied == 1
    assert heard == ["app", "mail"]
    await books.journal.aclose()
