"""Long look-ups for people, done in slices on the reader thread: finding events, and the audit."""

from __future__ import annotations

from sidecar.journal.books import Books
from sidecar.journal.dedup_entries import damaged_frames
from sidecar.journal.records import (
    CorruptRecord,
    DeliveryRow,
    Stored,
    block_bytes,
    decode_event,
    event_slot,
    event_slots,
    events_key,
    history_entries,
    split_key,
)
from sidecar.journal.recount import reachable
from sidecar.journal.types import AuditReport, AuditRow, DeliveryView, EventPage, EventQuery, EventView, Ref
from sidecar.journal.view import View
from sidecar.model import State, format_event_id, parse_event_id

__all__ = ["AuditScan", "EventScan"]


class EventScan:
    """Finds events, newest first.

    A key or a piece of a body is looked for in the packed block first, so that most blocks are never decoded.

    Args:
        query: What to look for.
        now_ms: Journal clock.
        wall_ms: Wall clock, which ``query`` is about.
    """

    def __init__(self, query: EventQuery, now_ms: int, wall_ms: int) -> None:
        self._query = query
        self._now_ms = now_ms
        # Events lie in the order in which they were accepted. One that came back was received long before, and a clock
        # that steps puts times in disorder: the end of the search is where both clocks say so, with a minute to spare.
        self._since_ms = query.since_ms - 60_000
        self._accepted_since_ms = now_ms - (wall_ms - self._since_ms)
        self._before = query.before_seq or 1 << 62
        self._found: list[EventView] = []
        self._sizes: list[int] = []
        self._scanned = 0
        self._oldest_ms = 0
        self._next = 0
        parsed = parse_event_id(query.key)
        self._seq = parsed[2] if parsed is not None else None
        self._needle = query.key.encode() if parsed is None else b""

    def result(self) -> EventPage:
        """The page."""
        return EventPage(self._found, self._sizes, self._scanned, self._oldest_ms, self._next)

    def step(self, view: View) -> bool:
        """Look on until the view's time is up; True when finished."""
        if self._seq is not None:
            self._by_id(view, self._seq)
            return True
        with view.txn.cursor(view.db[b"events"]) as cursor:
            found = cursor.prev() if cursor.set_range(events_key(self._before)) else cursor.last()
            while found:
                first = split_key(bytes(cursor.key()))
                if self._block(view, first, bytes(cursor.value())):
                    return True
                self._before = first
                if view.time_is_up():
                    return False
                found = cursor.prev()
        return True

    def _by_id(self, view: View, seq: int) -> None:
        self._scanned = 1
        try:
            found = view.event_view(seq, self._now_ms)
        except CorruptRecord:
            view.corrupt.append(seq)
            return
        if found is not None and found.event.id == self._query.key:
            self._take(found)

    def _block(self, view: View, first: int, block: bytes) -> bool:
        """Look at one block; True when the page is complete."""
        query = self._query
        try:
            slots = list(event_slots(block))
        except CorruptRecord:
            view.corrupt.append(first)
            return False
        maybe = self._needle in block
        if maybe and query.contains:
            maybe = query.contains in block or any(parts for _, parts in slots)
        for slot, _ in reversed(slots):
            seq = first + slot
            if query.before_seq and seq >= query.before_seq:
                continue
            if len(self._found) >= query.limit or self._scanned >= query.max_scan:
                self._next = seq + 1
                return True
            self._scanned += 1
            try:
                payload = event_slot(block, first, slot) if maybe or slot == slots[0][0] else None
                stored = decode_event(payload) if payload is not None else None
                if stored is None:
                    continue
                if not stored.replay_of:
                    self._oldest_ms = stored.received_at_ms
                if maybe and self._matches(view, stored, first, slot):
                    event = view.named(stored, first, slot, body=False)
                    views = view.views(first, slot, self._now_ms)
                    if self._any_delivery(views):
                        self._found.append(EventView(event, views))
                        self._sizes.append(stored.body_bytes)
            except CorruptRecord:
                view.corrupt.append(seq)
                continue
            before = stored.received_at_ms < self._since_ms and stored.accepted_at_ms < self._accepted_since_ms
            if query.since_ms and before:
                return True
        return False

    def _matches(self, view: View, s: Stored, first: int, slot: int) -> bool:
        query = self._query
        if query.key and s.key != query.key:
            return False
        if query.source and view.environment.names.sources[s.source] != query.source:
            return False
        if query.since_ms and s.received_at_ms < query.since_ms:
            return False
        if query.until_ms and s.received_at_ms >= query.until_ms:
            return False
        return not query.contains or query.contains in view.body(s, first + slot)

    def _any_delivery(self, views: list[DeliveryView]) -> bool:
        query = self._query
        if not (query.destination or query.state is not None or query.reason):
            return True
        return any(
            (not query.destination or d.destination == query.destination)
            and (query.state is None or d.state is query.state)
            and (not query.reason or d.reason == query.reason)
            for d in views
        )

    def _take(self, found: EventView) -> None:
        self._sizes.append(len(found.event.body))
        found.event.body = b""
        self._oldest_ms = found.event.received_at_ms
        self._found.append(found)


class AuditScan:
    """Counts what is owed and holds it against the books.

    One snapshot where that takes at most a second; beyond it in slices, and then the books may move meanwhile
    (``exact`` says which).

    Args:
        full: Also check the checksum of every event and every remembered key, and count only what the lanes would find.
        patience_s: How long one snapshot may be held; None = as long as it takes (offline).
    """

    def __init__(self, *, full: bool, patience_s: float | None) -> None:
        self._full = full
        self._patience_s = patience_s
        self._pending: dict[int, int] = {}
        self._dying: dict[int, int] = {}
        self._dead: list[tuple[int, int]] = []
        self._books = Books()
        self._events = 0
        self._bad = 0
        self._at: dict[bytes, bytes] = {}
        self._exact = True
        self._report: AuditReport | None = None

    def result(self) -> AuditReport:
        """The report."""
        assert self._report is not None
        return self._report

    def step(self, view: View) -> bool:
        """Count on until the view's time is up; True when finished."""
        view.extend(self._patience_s)
        self._books = Books.load(view.state())
        tables = [(b"deliveries", self._delivery), (b"history", self._ended)]
        if self._full:
            tables += [(b"events", self._event), (b"dedup", self._remembered)]
        for table, count in tables:
            with view.txn.cursor(view.db[table]) as cursor:
                at = self._at.get(table, b"")
                found = cursor.set_range(at) if at else cursor.first()
                rows = 0
                while found:
                    key = bytes(cursor.key())
                    try:
                        count(view, key, bytes(cursor.value()))
                    except CorruptRecord:
                        view.corrupt.append(int.from_bytes(key[2:10] if table == b"deliveries" else key[:8]))
                        self._bad += 1
                    rows += 1
                    found = cursor.next()
                    if rows % 256 == 0 and found and view.time_is_up():
                        self._at[table] = bytes(cursor.key())
                        self._exact = False
                        return False
                self._at[table] = b"\xff" * 16  # done; nothing lies behind this
        self._finish(view)
        return True

    def _delivery(self, view: View, key: bytes, value: bytes) -> None:
        row, destination = DeliveryRow.decode(key, value), int.from_bytes(key[:2], "big")
        dying = row.states.count(State.DYING)
        count = reachable(view, destination, key, row) if self._full else row.states.count(State.PENDING) + dying
        self._pending[destination] = self._pending.get(destination, 0) + count
        self._dying[destination] = self._dying.get(destination, 0) + dying

    def _ended(self, view: View, key: bytes, value: bytes) -> None:
        first, destination = split_key(key[:8]), int.from_bytes(key[8:], "big")
        if destination >= len(view.environment.names.destinations):
            raise CorruptRecord("history: no such destination")
        self._dead += [
            (first + slot, destination) for slot, (state, _) in history_entries(value).items() if state is State.DEAD
        ]

    def _event(self, view: View, key: bytes, value: bytes) -> None:
        first, bad = split_key(key), self._bad
        for slot, _ in event_slots(value):
            try:
                payload = event_slot(value, first, slot)
                if payload is not None:
                    view.body(decode_event(payload), first + slot)
                    self._events += 1
            except CorruptRecord:
                view.corrupt.append(first + slot)
                self._bad += 1
        if bad == self._bad and block_bytes(value) != len(value):
            raise CorruptRecord("event block: a slot is gone")

    def _remembered(self, view: View, key: bytes, value: bytes) -> None:
        del view, key
        self._bad += damaged_frames(value)

    def _finish(self, view: View) -> None:
        names, books = view.environment.names, self._books
        dead = [ref for seq, d in self._dead if (ref := self._ref(view, seq, d)) is not None]
        rows = []
        for number, name in enumerate(names.destinations):
            enqueued = sum(n for (_, d), n in books.enqueued.items() if d == number)
            settled = sum(n for (d, _), n in books.settled.items() if d == number)
            pending, dying = self._pending.get(number, 0), self._dying.get(number, 0)
            if enqueued or pending:
                count = sum(1 for r in dead if r.destination == name)
                rows.append(AuditRow(name, enqueued, settled, pending, dying, count))
        self._report = AuditReport(rows, dead, self._bad, self._events, self._exact)

    def _ref(self, view: View, seq: int, destination: int) -> Ref | None:
        try:
            first = view.block_of(seq)
            stored = view.stored(first, seq - first) if first is not None else None
        except CorruptRecord:
            stored = None
        if stored is None:
            return None
        event_id = format_event_id(stored.received_at_ms, view.environment.identity.journal_id(seq), seq)
        return Ref(event_id, view.environment.names.destinations[destination])
