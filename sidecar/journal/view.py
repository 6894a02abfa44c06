"""One short look into the journal: a read transaction, with its rows as values. Used on the reader thread only.

What is copied out is bounded: 4 MiB and 50 ms, because a reader that stays keeps every page that is freed meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection

import lmdb

from sidecar.clock import Clock
from sidecar.journal import meta
from sidecar.journal.block import read_body
from sidecar.journal.changes import find_block
from sidecar.journal.environment import Environment, StateRow
from sidecar.journal.records import (
    NEVER,
    CorruptRecord,
    DeliveryRow,
    Record,
    Stored,
    decode_event,
    deliveries_key,
    due_key,
    event_slot,
    events_key,
    history_entries,
    history_key,
    split_due_key,
    split_key,
)
from sidecar.journal.types import DeliveryView, DueWindow, EventView, FreshWindow
from sidecar.model import Delivery, Event, State, format_event_id

__all__ = ["View"]

MAX_SLICE_S = 0.05
MAX_SLICE_BYTES = 4 << 20
_DEADLINE_EVERY = 32  # rows between two looks at the clock


class View:
    """One read transaction."""

    def __init__(self, environment: Environment, txn: lmdb.Transaction, clock: Clock) -> None:
        self.environment = environment
        self.db = environment.db
        self.txn = txn
        self._clock = clock
        self._deadline_s = clock.monotonic_s() + MAX_SLICE_S
        self._block: tuple[int, bytes] = (-1, b"")
        self.corrupt: list[int] = []  # seqs whose records failed their checksum

    def time_is_up(self) -> bool:
        """Whether the slice should end."""
        return self._clock.monotonic_s() >= self._deadline_s

    def extend(self, seconds: float | None) -> None:
        """Let this slice last longer than usual; None = as long as it takes."""
        self._deadline_s = float("inf") if seconds is None else self._deadline_s - MAX_SLICE_S + seconds

    def state(self) -> StateRow:
        """The books as of this snapshot.

        Raises:
            CorruptRecord: They are damaged.
        """
        return meta.unpack(self.txn.get(b"state", db=self.db[b"meta"]), StateRow)

    def block(self, first: int) -> bytes | None:
        """A block of events, copied out; the last one is kept at hand."""
        if self._block[0] != first:
            value = self.txn.get(events_key(first), db=self.db[b"events"])
            if value is None:
                return None
            self._block = (first, bytes(value))
        return self._block[1]

    def block_of(self, seq: int) -> int | None:
        """First seq of the block that holds an event."""
        found = find_block(self.txn, self.db[b"events"], seq)
        return found[0] if found else None

    def stored(self, first: int, slot: int) -> Stored | None:
        """One event as it lies in its block; None when it is not there.

        Raises:
            CorruptRecord: Its checksum disagrees.
        """
        block = self.block(first)
        payload = event_slot(block, first, slot) if block is not None else None
        return decode_event(payload) if payload is not None else None

    def event(self, first: int, slot: int, *, body: bool = True) -> Event | None:
        """One event by name, with its body or without.

        Raises:
            CorruptRecord: Its checksum, or its body's, disagrees.
        """
        s = self.stored(first, slot)
        return self.named(s, first, slot, body=body) if s is not None else None

    def named(self, s: Stored, first: int, slot: int, *, body: bool = True) -> Event:
        """Give a stored event its names and its id back."""
        names, seq = self.environment.names, first + slot
        return Event(
            source=names.sources[s.source],
            destinations=tuple(names.destinations[d] for d in s.destinations),
            received_at_ms=s.received_at_ms,
            method=s.method,
            path=s.path,
            query=s.query,
            headers=s.headers,
            body=self.body(s, seq) if body else b"",
            verified=s.verified,
            key=s.key,
            forwarded_for=s.forwarded_for,
            forwarded_proto=s.forwarded_proto,
            forwarded_host=s.forwarded_host,
            replay_of=s.replay_of,
            accepted_at_ms=s.accepted_at_ms,
            seq=seq,
            id=format_event_id(s.received_at_ms, self.environment.identity.journal_id(seq), seq),
            block=first,
        )

    def body(self, s: Stored, seq: int) -> bytes:
        """The whole body of an event.

        Raises:
            CorruptRecord: A part is missing or its checksum disagrees.
        """
        return read_body(self.txn, self.db, s, seq)

    def row(self, destination: int, first: int) -> DeliveryRow | None:
        """One block's open deliveries to one destination."""
        key = deliveries_key(destination, first)
        value = self.txn.get(key, db=self.db[b"deliveries"])
        return DeliveryRow.decode(key, bytes(value)) if value is not None else None

    def ended(self, destination: int, first: int) -> dict[int, tuple[State, Record]]:
        """How slots of one block ended at one destination."""
        value = self.txn.get(history_key(first, destination), db=self.db[b"history"])
        return history_entries(bytes(value)) if value is not None else {}

    def delivery(self, destination: int, first: int, slot: int, record: Record, state: State) -> Delivery | None:
        """One delivery with its event; a damaged one is noted and left out."""
        try:
            event = self.event(first, slot)
        except CorruptRecord:
            event = None
        if event is None:  # an event is kept for as long as one of its deliveries is owed
            self.corrupt.append(first + slot)
            return None
        return Delivery(
            event,
            self.environment.names.destinations[destination],
            state,
            record.round,
            record.attempts,
            record.started_at_ms or event.accepted_at_ms,
            record.due_at_ms if record.due_at_ms != NEVER else 0,
            record.reason,
            tuple(record.log),
        )

    def views(self, first: int, slot: int, now_ms: int) -> list[DeliveryView]:
        """Every delivery of one event, for people."""
        found = []
        for destination, name in enumerate(self.environment.names.destinations):
            try:
                row = self.row(destination, first)
                state = row.state(slot) if row is not None else State.ABSENT
                record = row.record(slot) if row is not None and state is not State.ABSENT else Record()
                if state is State.ABSENT:
                    state, record = self.ended(destination, first).get(slot, (State.ABSENT, record))
            except CorruptRecord:
                self.corrupt.append(first + slot)
                continue
            if state is State.ABSENT:
                continue
            waits = state is State.PENDING and record.due_at_ms > 0
            found.append(
                DeliveryView(
                    name,
                    state,
                    record.round,
                    record.attempts,
                    record.due_at_ms if waits else 0,
                    max(0, record.due_at_ms - now_ms) if waits else None,
                    record.reason,
                    tuple(record.log),
                    record.finished_at_ms or None,
                )
            )
        return found

    # --- lanes

    def window(self, destination: int, from_seq: int, limits: tuple[int, int], skip: Collection[int]) -> FreshWindow:
        """Fresh deliveries of one destination from ``from_seq`` on; limits are (events, bytes)."""
        max_events, max_bytes = limits[0], min(limits[1], MAX_SLICE_BYTES)
        found: list[Delivery] = []
        size, covered, rows = 0, from_seq - 1, 0
        last_seq = self.state().last_seq
        with self.txn.cursor(self.db[b"deliveries"]) as cursor:
            ok = cursor.set_range(deliveries_key(destination, from_seq))
            # The block that holds from_seq may begin before it.
            if (cursor.prev() if ok else cursor.last()) and not self._reaches(cursor, destination, from_seq):
                ok = cursor.next()
            else:
                ok = bool(cursor.key()) or cursor.first()
            while ok:
                key = bytes(cursor.key())
                if int.from_bytes(key[:2], "big") != destination:
                    break
                first = split_key(key[2:])
                rows += 1
                try:
                    row = DeliveryRow.decode(key, bytes(cursor.value()))
                except CorruptRecord:
                    self.corrupt.append(first)
                    ok = cursor.next()
                    continue
                for slot, state in enumerate(row.states):
                    seq = first + slot
                    if state != State.PENDING or slot in row.records or seq < from_seq or seq in skip:
                        continue
                    d = self.delivery(destination, first, slot, Record(), State.PENDING)
                    if d is not None:
                        if found and size + len(d.event.body) > max_bytes:
                            return FreshWindow(found, covered, at_end=False)
                        found.append(d)
                        size += len(d.event.body)
                    covered = seq
                    if len(found) >= max_events or size >= max_bytes:
                        return FreshWindow(found, covered, at_end=False)
                covered = max(covered, first + len(row.states) - 1)
                if rows % _DEADLINE_EVERY == 0 and self.time_is_up():
                    return FreshWindow(found, covered, at_end=False)
                ok = cursor.next()
        return FreshWindow(found, max(covered, last_seq), at_end=True)

    @staticmethod
    def _reaches(cursor: lmdb.Cursor, destination: int, seq: int) -> bool:
        key = bytes(cursor.key())
        return key[:2] == destination.to_bytes(2, "big") and split_key(key[2:]) + 64 > seq

    def due(
        self, destination: int, now_ms: int, limits: tuple[int, int], skip: Collection[int], *, dying: bool = False
    ) -> DueWindow:
        """Deliveries whose waiting time is over (or, with ``dying``, whose dead-letter file is to be written)."""
        max_events, max_bytes = limits[0], min(limits[1], MAX_SLICE_BYTES)
        found: list[Delivery] = []
        size = 0
        until = NEVER if dying else now_ms
        wanted = State.DYING if dying else State.PENDING
        with self.txn.cursor(self.db[b"due"]) as cursor:
            ok = cursor.set_range(due_key(destination, NEVER if dying else 0, 0))
            while ok:
                owner, due_at_ms, seq = split_due_key(bytes(cursor.key()))
                if owner != destination or (due_at_ms == NEVER and not dying):
                    break
                if due_at_ms > until:
                    return DueWindow(found, due_at_ms)
                if seq not in skip:
                    if len(found) >= max_events or size >= max_bytes:
                        return DueWindow(found, due_at_ms)
                    waiting = self._waiting(destination, seq, bytes(cursor.value()), wanted)
                    if waiting is None:
                        self.corrupt.append(seq)  # rows of `due` come and go together with what they point at
                    else:
                        first, record = waiting
                        d = self.delivery(destination, first, seq - first, record, wanted)
                        if d is not None:
                            found.append(d)
                            size += len(d.event.body)
                ok = cursor.next()
        return DueWindow(found, None)

    def _waiting(self, destination: int, seq: int, value: bytes, wanted: State) -> tuple[int, Record] | None:
        """The block and the record of a delivery that a row of ``due`` tells of; None when it is not there.

        The row's value has no checksum and only saves a search: where it is wrong, the block is searched for.
        """
        for search in (False, True):
            try:
                first = self.block_of(seq) if search else split_key(value)
                row = self.row(destination, first) if first is not None and first <= seq else None
            except CorruptRecord:
                continue
            if row is not None and first is not None and row.state(seq - first) is wanted:
                return first, row.record(seq - first)
        return None

    def oldest_pending_ms(self, destination: int) -> int | None:
        """Journal clock at acceptance, or at the last replay, of the oldest delivery owed; None when nothing is."""
        oldest: int | None = None
        with self.txn.cursor(self.db[b"deliveries"]) as cursor:
            rows, found = 0, cursor.set_range(deliveries_key(destination, 0))
            while found and bytes(cursor.key())[:2] == destination.to_bytes(2, "big"):
                rows += 1
                with contextlib.suppress(CorruptRecord):
                    row = DeliveryRow.decode(bytes(cursor.key()), bytes(cursor.value()))
                    owed = [row.record(slot) for slot, state in enumerate(row.states) if state != State.ABSENT]
                    oldest = min([r.started_at_ms for r in owed] + ([oldest] if oldest is not None else []))
                    if any(not r.round for r in owed):
                        break  # never replayed, and whatever lies behind it came later
                if rows % _DEADLINE_EVERY == 0 and self.time_is_up():
                    break
                found = cursor.next()
        return oldest

    def event_view(self, seq: int, now_ms: int) -> EventView | None:
        """One event with everything about it."""
        first = self.block_of(seq)
        event = self.event(first, seq - first) if first is not None else None
        if event is None or first is None:
            return None
        return EventView(event, self.views(first, seq - first, now_ms))

    def deliveries_of(self, seq: int, now_ms: int) -> list[DeliveryView]:
        """All deliveries of one event, whose own record is not looked at."""
        first = self.block_of(seq)
        return self.views(first, seq - first, now_ms) if first is not None else []
