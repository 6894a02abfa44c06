"""What a look into the journal finds where rows are damaged, and how old the oldest delivery is that is owed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.journal.records import deliveries_key, due_key, events_key
from sidecar.journal.types import Ref
from sidecar.lifecycle import Change
from sidecar.model import Delivery
from tests.support.clocks import FakeClock
from tests.support.journals import Books, make_event


def damage(books: Books, deliveries: list[Delivery], destination: int = 0) -> None:
    """Flip a bit of the row of each, behind the books' back."""
    environment = books.journal._environment
    with environment.env.begin(write=True) as txn:
        for delivery in deliveries:
            key = deliveries_key(destination, delivery.event.block)
            row = bytearray(txn.get(key, db=environment.db[b"deliveries"]))
            row[-1] ^= 1
            txn.put(key, bytes(row), db=environment.db[b"deliveries"])


async def owed(books: Books, clock: FakeClock, n: int) -> list[Delivery]:
    """So many deliveries to the first destination, a second and a row apart; and a younger one to the next."""
    for _ in range(n):
        await books.stored()
        clock.advance(1_000)
    await books.stored(destinations=("mail",))
    return await books.fresh()


async def test_the_oldest_pending_is_the_first_whose_row_is_sound(tmp_path):
    """Else one damaged row would end the watch over max_age, and the alert on what waits too long."""
    clock = FakeClock()
    books = Books.open(str(tmp_path / "journal"), clock)
    deliveries = await owed(books, clock, 3)
    for n in range(3):
        assert await books.journal.oldest_pending_ms("app") == deliveries[n].event.accepted_at_ms
        damage(books, deliveries[n : n + 1])
    assert await books.journal.oldest_pending_ms("app") is None, "the next destination's is not ours"
    assert await books.journal.oldest_pending_ms("audit") is None
    await books.journal.aclose()


async def test_the_look_for_the_oldest_pending_ends_when_its_time_is_up(tmp_path, monkeypatch):
    clock = FakeClock()
    books = Books.open(str(tmp_path / "journal"), clock)
    deliveries = await owed(books, clock, 40)
    damage(books, deliveries[:31])
    monkeypatch.setattr("sidecar.journal.view.MAX_SLICE_S", 0.0)
    assert await books.journal.oldest_pending_ms("app") == deliveries[31].event.accepted_at_ms
    damage(books, deliveries[31:39])
    assert await books.journal.oldest_pending_ms("app") is None
    await books.journal.aclose()


@pytest.mark.parametrize("said", [events_key(3), events_key(2), events_key(1 << 60), b"short"], ids=repr)
async def test_a_wrong_pointer_costs_neither_its_own_delivery_nor_the_others_their_turn(tmp_path: Path, said: bytes):
    """A row of ``due`` says where the event is; it may name a block that begins behind the event, or none at all."""
    books = Books.open(str(tmp_path / "journal"))
    events = [await books.stored(b"%d" % n) for n in range(3)]
    for delivery in await books.fresh():
        assert await books.settle(delivery, Change.RETRY, due_at_ms=77)
    environment = books.journal._environment
    with environment.env.begin(write=True) as txn:
        txn.put(due_key(0, 77, events[0].seq), said, db=environment.db[b"due"])
    assert [d.event.body for d in await books.due_now()] == [b"0", b"1", b"2"]
    assert books.journal.quarantined == 0, "nothing is lost"
    await books.journal.aclose()


@pytest.mark.parametrize(
    ("at", "size", "events"),
    [(-3, 1, 2), (12 + 2 * 8, 4, 2), (12 + 2 * 8 + 4, 1, 2)],
    ids=["content", "length", "checksum"],
)
async def test_an_audit_counts_what_is_whole_beside_what_has_rotted(tmp_path: Path, at: int, size: int, events: int):
    """Of three events in one block the last one: also where nothing but the block's size tells that it was there."""
    books = Books.open(str(tmp_path / "journal"))
    waiting = [books.append_later(make_event(b"%d" % n)) for n in range(3)]
    first = (await waiting[0]).event.block
    assert [(await answer).event.block for answer in waiting] == [first] * 3
    environment = books.journal._environment
    with environment.env.begin(write=True) as txn:
        block = bytearray(txn.get(events_key(first), db=environment.db[b"events"]))
        block[at : at + size if at > 0 else at + 1] = bytes(size) if size > 1 else bytes([block[at] ^ 1])
        txn.put(events_key(first), bytes(block), db=environment.db[b"events"])
    report = await books.journal.audit(full=True)
    assert (report.events, report.quarantined, books.journal.quarantined) == (events, 1, 1)


async def test_a_replay_of_an_old_event_does_not_make_what_waits_look_young(tmp_path):
    """It lies in front of them, by its number: what has waited for days must still be found, and alerted on."""
    clock = FakeClock()
    books = Books.open(str(tmp_path / "journal"), clock)
    old = await books.stored(b"old")
    await books.settle((await books.fresh())[0], Change.SUCCEED)
    clock.advance(1000)
    waits = await books.stored(b"waits")
    clock.advance(3_600_000)
    await books.journal.replay([Ref(old.id, "app")])
    assert await books.journal.oldest_pending_ms("app") == waits.accepted_at_ms
    await books.settle((await books.fresh())[0], Change.SUCCEED)
    assert await books.journal.oldest_pending_ms("app") == books.journal.clock_ms()
    await books.settle((await books.due_now())[0], Change.SUCCEED)
    assert await books.journal.oldest_pending_ms("app") is None
    await books.journal.aclose()
