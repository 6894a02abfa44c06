"""A block takes consecutive events until its slots or its bytes are used up, and comes out of the journal as it went in."""

from __future__ import annotations

import pytest

from sidecar.journal.batch import Arrival
from sidecar.journal.block import Block
from sidecar.journal.records import (
    BLOCK_BYTES,
    BLOCK_EVENTS,
    INLINE_BODY_BYTES,
    DeliveryRow,
    deliveries_key,
    encode_event,
    event_slots,
    events_key,
)
from sidecar.model import ACK_DEFAULT, State
from tests.support.journals import make_event


class Tables:
    """A transaction that keeps what is put."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[bytes, bytes]] = {}

    def put(self, key: bytes, value: bytes, *, db: str) -> None:
        self.rows.setdefault(db, {})[key] = bytes(value)


DB = {name: name.decode() for name in (b"events", b"bodies", b"deliveries")}


def arrival(seq: int, destinations: tuple[int, ...] = (0,), body: bytes = b"{}") -> Arrival:
    event = make_event(body, seq=seq, accepted_at_ms=seq)
    payload = encode_event(event, 0, destinations)
    return Arrival(event, None, ACK_DEFAULT, print, payload, 0, destinations, len(payload))


def test_a_block_ends_with_its_last_slot_or_its_last_byte():
    """Whatever is refused by one fits into a fresh one, however large."""
    block = Block()
    assert block.fits(1000, BLOCK_BYTES + 1)
    block.add(arrival(1000))
    assert block.fits(1000 + BLOCK_EVENTS - 1, 1)
    assert not block.fits(1000 + BLOCK_EVENTS, 1)
    assert block.fits(1001, BLOCK_BYTES - block.size)
    assert not block.fits(1001, BLOCK_BYTES - block.size + 1)


def test_an_empty_block_writes_nothing():
    tables = Tables()
    Block().put(tables, DB)
    assert tables.rows == {}


def test_numbers_that_went_to_duplicates_are_gaps_and_each_destination_has_its_own_row():
    """A delivery that is not owed has no state."""
    block, tables = Block(), Tables()
    first, second = arrival(7, (0, 2)), arrival(9, (2,))
    block.add(first)
    block.add(second)
    block.put(tables, DB)
    assert (first.event.block, second.event.block) == (7, 7)
    assert [slot for slot, _ in event_slots(tables.rows["events"][events_key(7)])] == [0, 2]
    rows = {d: DeliveryRow.decode(k, tables.rows["deliveries"][k]) for d in (0, 2) if (k := deliveries_key(d, 7))}
    assert list(rows[0].states) == [State.PENDING]
    assert list(rows[2].states) == [State.PENDING, State.ABSENT, State.PENDING]
    assert rows[0].accepted_at_ms == 9
    assert len(tables.rows["deliveries"]) == 2


@pytest.mark.parametrize("size", [INLINE_BODY_BYTES, INLINE_BODY_BYTES + 1])
def test_only_a_large_body_goes_beside_the_block(size):
    """And its slot says so."""
    block, tables = Block(), Tables()
    block.add(arrival(7, body=b"x" * size))
    block.put(tables, DB)
    large = size > INLINE_BODY_BYTES
    assert list(event_slots(tables.rows["events"][events_key(7)])) == [(0, large)]
    assert ("bodies" in tables.rows) is large
