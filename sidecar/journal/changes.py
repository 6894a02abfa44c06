"""What a transaction does to deliveries: settlements and operators' commands, by the lifecycle's table.

Runs on the writer thread only, inside the writer's transaction. Rows are read once a transaction, changed
in memory and written once at its end.
"""

from __future__ import annotations

from collections.abc import Iterable

import lmdb

from sidecar.journal.books import Books
from sidecar.journal.environment import Environment
from sidecar.journal.records import (
    BLOCK_EVENTS,
    LOG_ATTEMPTS,
    NEVER,
    CorruptRecord,
    DeliveryRow,
    Record,
    block_head,
    decode_event,
    deliveries_key,
    due_key,
    event_slot,
    events_key,
    history_entries,
    history_entry,
    history_key,
    split_key,
)
from sidecar.journal.types import Refused, Settlement
from sidecar.lifecycle import Change, next_state
from sidecar.model import Attempt, State

__all__ = ["Changes", "find_block"]

_ENDED = (State.DELIVERED, State.DEAD, State.DISCARDED, State.REDIRECTED)


def find_block(txn: lmdb.Transaction, events: lmdb._Database, seq: int) -> tuple[int, bytes | memoryview] | None:
    """Find the block that holds an event: (first seq, block); None when the event is not stored."""
    found = _at_or_before(txn, events, seq)
    if found is None or found[0] == seq:
        return found
    slots, _ = block_head(found[1])
    return found if seq < found[0] + slots else None


def _at_or_before(txn: lmdb.Transaction, events: lmdb._Database, seq: int) -> tuple[int, bytes | memoryview] | None:
    """The only block that can hold an event."""
    with txn.cursor(events) as cursor:
        if cursor.set_range(events_key(seq)):
            if bytes(cursor.key()) == events_key(seq):
                return seq, cursor.value()
            found = cursor.prev()
        else:
            found = cursor.last()
        return (split_key(bytes(cursor.key())), cursor.value()) if found else None


class Changes:
    """One transaction's changes to deliveries.

    Args:
        environment: The open journal.
        txn: The running write transaction.
        books: The transaction's copy of the books.
        now_ms: Journal clock.
        wall_ms: Wall clock.
    """

    def __init__(
        self, environment: Environment, txn: lmdb.Transaction, books: Books, now_ms: int, wall_ms: int
    ) -> None:
        self._db = environment.db
        self._names = environment.names
        self._txn = txn
        self._books = books
        self._now_ms = now_ms
        self._wall_ms = wall_ms
        self._rows: dict[tuple[int, int], DeliveryRow] = {}
        self._changed: set[tuple[int, int]] = set()
        self._history: dict[tuple[int, int], list[bytes]] = {}
        self.closed_blocks: set[int] = set()  # first seqs of rows in which nothing is owed any more
        self.corrupt = 0
        self.due: set[int] = set()  # destinations for which something became due now
        self.withdrawn: set[int] = set()  # destinations that are no longer owed something that an operator took away

    # --- settlements

    def settle(self, settlements: Iterable[Settlement], destinations: dict[str, int]) -> list[bool]:
        """Apply settlements; for each, whether the journal still agreed with it."""
        return [self._try_settle(s, destinations.get(s.delivery.destination, -1)) for s in settlements]

    def _try_settle(self, s: Settlement, destination: int) -> bool:
        try:
            return self._settle(s, destination)
        except CorruptRecord:  # its row is damaged: nothing can be said about it, the others go on
            self.corrupt += 1
            return False

    def _settle(self, s: Settlement, destination: int) -> bool:
        seq, round_, attempts = s.delivery.ref
        first = s.delivery.event.block or self.block_of(seq)
        row = self._row(destination, first) if first is not None else None
        if row is None or first is None:
            return False
        slot = seq - first
        state = row.state(slot)
        to = next_state(state, s.change)
        record = row.record(slot)
        if to is None or record.round != round_ or record.attempts != attempts:
            return False
        if s.attempt is not None:
            record.attempts += 1
            record.log = [*record.log, s.attempt][-LOG_ATTEMPTS:]
        if s.reason:
            record.reason = s.reason
        self._move(destination, first, slot, state, to, record, s.due_at_ms)
        return True

    # --- operators' commands

    def change(self, seq: int, destination: int, change: Change) -> Refused | None:
        """Replay, revive, discard, or forget a removed dead letter; None when it was done."""
        try:
            return self._change(seq, destination, change)
        except CorruptRecord:  # its event or its row is damaged: it stays as it is, the others go on
            return Refused.CORRUPT

    def _change(self, seq: int, destination: int, change: Change) -> Refused | None:
        first = self.block_of(seq)
        if first is None:
            return Refused.NOT_FOUND
        slot = seq - first
        state, record = self._now(destination, first, slot)
        if state is State.ABSENT and change is Change.REPLAY and not self._has_event(first, slot):
            return Refused.NOT_FOUND
        to = next_state(state, change)
        if to is None:
            return Refused.DYING if state is State.DYING else Refused.NOT_ALLOWED
        self._apply(destination, first, slot, state, to, record)
        return None

    def is_dying(self, seq: int, destination: int) -> bool:
        """Whether a delivery's dead-letter file is still being written."""
        try:
            first = self.block_of(seq)
            return first is not None and self._now(destination, first, seq - first)[0] is State.DYING
        except CorruptRecord:
            return False

    def redirect(self, seq: int, destination: int, to: int) -> Refused | None:
        """Settle a pending delivery as redirected and make it pending at another destination."""
        try:
            return self._redirect(seq, destination, to)
        except CorruptRecord:  # found before anything was changed
            return Refused.CORRUPT

    def _redirect(self, seq: int, destination: int, to: int) -> Refused | None:
        first = self.block_of(seq)
        if first is None or not self._has_event(first, seq - first):
            return Refused.NOT_FOUND
        slot = seq - first
        state, record = self._now(destination, first, slot)
        there, other = self._now(to, first, slot)
        away = next_state(state, Change.REDIRECT)
        arrive = next_state(there, Change.REDIRECT if there is State.ABSENT else Change.REPLAY)
        if away is not State.REDIRECTED or arrive is None or destination == to:
            return Refused.NOT_ALLOWED
        self._apply(destination, first, slot, state, away, record)
        self._apply(to, first, slot, there, arrive, other)
        return None

    def enter(self, first: int, slot: int, destination: int, round_: int, log: list[Attempt]) -> None:
        """Make a restored event pending at one destination, in a new round."""
        row = self._row(destination, first)
        if row is None:
            row = self._rows[(destination, first)] = DeliveryRow(bytearray(), self._now_ms)
        record = Record(round=round_ - 1, log=log[-LOG_ATTEMPTS:])
        self._apply(destination, first, slot, State.ABSENT, State.PENDING, record)

    def revive_dead(self, seq: int, destinations: Iterable[int], min_age_ms: int) -> int:
        """A provider sent an event again: make its dead deliveries pending; how many there were.

        A delivery that was revived less than ``min_age_ms`` ago stays dead, and so does one whose event or history is
        damaged: the repeat is answered all the same.
        """
        try:
            first = self.block_of(seq)
        except CorruptRecord:
            return 0
        if first is None:
            return 0
        return sum(self._try_revive(first, seq - first, destination, min_age_ms) for destination in destinations)

    def is_owed(self, seq: int) -> bool:
        """Whether an event is owed to any destination.

        Raises:
            CorruptRecord: A row that would say so is damaged.
        """
        try:
            first = self.block_of(seq)
        except CorruptRecord:  # what it owes does not hang on the head of its block
            found = _at_or_before(self._txn, self._db[b"events"], seq)
            first = found[0] if found is not None and seq < found[0] + BLOCK_EVENTS else None
        if first is None:
            return False
        rows = [self._row(destination, first) for destination in range(len(self._names.destinations))]
        return any(row is not None and row.state(seq - first).is_open for row in rows)

    def _try_revive(self, first: int, slot: int, destination: int, min_age_ms: int) -> bool:
        try:
            state, record = self._now(destination, first, slot)
            to = next_state(state, Change.REVIVE)
            fresh = record.round > 0 and self._now_ms - record.started_at_ms < min_age_ms
            if to is None or fresh:
                return False
            self._apply(destination, first, slot, state, to, record)
        except CorruptRecord:
            return False
        return True

    def write(self) -> None:
        """Put what changed; call once, before the commit."""
        txn, db = self._txn, self._db
        for destination, first in self._changed:
            key = deliveries_key(destination, first)
            row = self._rows[(destination, first)]
            if row.has_open:
                txn.put(key, row.encode(key), db=db[b"deliveries"])
            else:
                txn.delete(key, db=db[b"deliveries"])
                self.closed_blocks.add(first)
        for (destination, first), entries in self._history.items():
            key = history_key(first, destination)
            old = txn.get(key, b"", db=db[b"history"])
            txn.put(key, b"".join((old, *entries)), db=db[b"history"])

    # --- the one place where a state changes

    def _apply(self, destination: int, first: int, slot: int, state: State, to: State, record: Record) -> None:
        if to is State.PENDING:  # a new round, with a fresh budget
            record.round += 1
            record.attempts = 0
            record.reason = ""
            record.started_at_ms = self._now_ms
            record.finished_at_ms = 0
        elif state is State.PENDING:
            self.withdrawn.add(destination)
        self._move(destination, first, slot, state, to, record, self._now_ms)

    def _move(
        self, destination: int, first: int, slot: int, state: State, to: State, record: Record, due_at_ms: int
    ) -> None:
        books, seq = self._books, first + slot
        was_open, is_open = state.is_open, to.is_open
        entered = is_open and not was_open
        source = self._source_of(first, slot) if entered else -1
        row = self._row(destination, first)
        if row is None:
            row = self._rows[(destination, first)] = DeliveryRow(bytearray(), self._now_ms)
        self._changed.add((destination, first))
        if record.due_at_ms:
            self._txn.delete(due_key(destination, record.due_at_ms, seq), db=self._db[b"due"])
            if state is State.DYING:
                books.die(destination, -1)
            elif state is State.PENDING:
                books.schedule(destination, -1)
        record.due_at_ms = 0
        if to is State.PENDING:
            record.due_at_ms = max(1, due_at_ms)
            books.schedule(destination, 1)
        elif to is State.DYING:
            record.due_at_ms = NEVER
            books.die(destination, 1)
        if record.due_at_ms:
            self._txn.put(due_key(destination, record.due_at_ms, seq), events_key(first), db=self._db[b"due"])
        row.set_state(slot, to if is_open else State.ABSENT)
        if is_open:
            row.records[slot] = record
        else:
            row.records.pop(slot, None)
            record.finished_at_ms = self._wall_ms
        if was_open and not is_open:
            books.leave(destination, to)
        elif entered:
            books.enter(source, destination)
            self.due.add(destination)
        if state in _ENDED or to in _ENDED:
            self._history.setdefault((destination, first), []).append(history_entry(slot, to, record))

    # --- reading

    def _row(self, destination: int, first: int) -> DeliveryRow | None:
        row = self._rows.get((destination, first))
        if row is None and destination >= 0:
            key = deliveries_key(destination, first)
            value = self._txn.get(key, db=self._db[b"deliveries"])
            if value is None:
                return None
            row = self._rows[(destination, first)] = DeliveryRow.decode(key, value)
        return row

    def _now(self, destination: int, first: int, slot: int) -> tuple[State, Record]:
        row = self._row(destination, first)
        if row is not None and row.state(slot) is not State.ABSENT:
            return row.state(slot), row.record(slot)
        value = bytes(self._txn.get(history_key(first, destination), b"", db=self._db[b"history"]))
        value += b"".join(self._history.get((destination, first), ()))
        state, record = history_entries(value).get(slot, (State.ABSENT, Record()))
        return (state, record) if not state.is_open else (State.ABSENT, Record())

    def block_of(self, seq: int) -> int | None:
        """First seq of the block that holds an event; None when it is not stored."""
        found = find_block(self._txn, self._db[b"events"], seq)
        return found[0] if found else None

    def _has_event(self, first: int, slot: int) -> bool:
        block = self._txn.get(events_key(first), db=self._db[b"events"])
        return block is not None and event_slot(block, first, slot) is not None

    def _source_of(self, first: int, slot: int) -> int:
        block = self._txn.get(events_key(first), db=self._db[b"events"])
        payload = event_slot(block, first, slot) if block is not None else None
        if payload is None:
            raise CorruptRecord("the event of a delivery is gone")
        return decode_event(payload).source
