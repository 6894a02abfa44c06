"""One block of events while it is put together, with its rows of deliveries: what one commit brings in, or a part of it."""

from __future__ import annotations

from typing import Any

import lmdb

from sidecar.journal.batch import Arrival
from sidecar.journal.records import (
    BLOCK_BYTES,
    BLOCK_EVENTS,
    INLINE_BODY_BYTES,
    CorruptRecord,
    DeliveryRow,
    Stored,
    bodies_key,
    body_parts,
    deliveries_key,
    events_block,
    events_key,
    join_part,
)
from sidecar.model import Event, State

__all__ = ["Block", "put_body", "read_body"]


class Block:
    """A block of at most 64 events, its own rows of deliveries, and the large bodies beside it."""

    __slots__ = ("accepted_at_ms", "events", "first", "large", "payloads", "size", "states")

    def __init__(self) -> None:
        self.first = -1
        self.size = 0
        self.accepted_at_ms = 0
        self.events: list[Event] = []
        self.payloads: dict[int, tuple[bytes, bool]] = {}
        self.large: list[Event] = []
        self.states: dict[int, bytearray] = {}

    def fits(self, seq: int, size: int) -> bool:
        """Whether an event of this number and encoded size has room in it; an empty one takes anything."""
        return self.first < 0 or (seq - self.first < BLOCK_EVENTS and self.size + size <= BLOCK_BYTES)

    def add(self, a: Arrival) -> None:
        """Take an event, as ``fits`` allowed; it and its deliveries are pending from here on."""
        event = a.event
        if self.first < 0:
            self.first = event.seq
        slot = event.seq - self.first
        in_parts = len(event.body) > INLINE_BODY_BYTES
        if in_parts:
            self.large.append(event)
        self.payloads[slot] = (a.payload, in_parts)
        self.size += len(a.payload)
        self.accepted_at_ms = max(self.accepted_at_ms, event.accepted_at_ms)
        event.block = self.first
        for destination in a.destinations:
            row = self.states.get(destination)
            if row is None:
                row = self.states[destination] = bytearray()
            if slot > len(row):
                row.extend(bytes(slot - len(row)))
            row.append(State.PENDING)

    def put(self, txn: lmdb.Transaction, db: dict[bytes, Any]) -> None:
        """Store it; an empty one is nothing."""
        if self.first < 0:
            return
        for event in self.large:
            put_body(txn, db, event)
        block = events_block(self.first, self.payloads, self.accepted_at_ms)
        txn.put(events_key(self.first), block, db=db[b"events"])
        for destination, states in self.states.items():
            key = deliveries_key(destination, self.first)
            txn.put(key, DeliveryRow(states, self.accepted_at_ms).encode(key), db=db[b"deliveries"])


def put_body(txn: lmdb.Transaction, db: dict[bytes, Any], event: Event) -> bool:
    """Store a body that is too large for its block in parts; whether it was."""
    if len(event.body) <= INLINE_BODY_BYTES:
        return False
    for key, value in body_parts(event.seq, event.body):
        txn.put(key, value, db=db[b"bodies"])
    return True


def read_body(txn: lmdb.Transaction, db: dict[bytes, Any], s: Stored, seq: int) -> bytes:
    """The whole body of an event.

    Raises:
        CorruptRecord: A part is missing or its checksum disagrees.
    """
    if s.body is not None:
        return s.body
    parts: list[bytes | memoryview] = []
    size = 0
    while size < s.body_bytes:
        value = txn.get(bodies_key(seq, len(parts)), db=db[b"bodies"])
        if value is None:
            raise CorruptRecord("body part: missing")
        piece = join_part(seq, len(parts), bytes(value))
        parts.append(piece)
        size += len(piece)
    return b"".join(parts)
