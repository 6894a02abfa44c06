"""The one writer thread: group commit of settlements, operators' commands and arrivals.

While one batch is on its way to disk the next one gathers; an idle writer begins as soon as the loop has read
what is there to read; a busy one waits a fraction of a commit for more. A batch is one
``sync=True`` transaction: settlements first, so that delivering goes on when receiving cannot, then
commands, arrivals, one slice of pruning and the books. After the commit one call into the event loop
answers everybody. LMDB wants a transaction begun and ended by the same thread, so nothing else writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import lmdb
import msgspec

from sidecar.clock import Clock
from sidecar.errors import JournalFull
from sidecar.journal.books import Books
from sidecar.journal.changes import Changes
from sidecar.journal.clock import JournalClock
from sidecar.journal.dedup_index import DedupEntry, DedupIndex
from sidecar.journal.environment import Environment
from sidecar.journal.records import (
    BLOCK_BYTES,
    BLOCK_EVENTS,
    INLINE_BODY_BYTES,
    CorruptRecord,
    DeliveryRow,
    body_parts,
    deliveries_key,
    events_block,
    events_key,
)
from sidecar.journal.retention import Retention, early_fill
from sidecar.journal.room import MIN_RESERVE_BYTES, limit_bytes, reserve_bytes
from sidecar.journal.types import AppendDone, Appended, Claim, Duplicate, Settlement
from sidecar.log import get_logger
from sidecar.metrics import Metrics
from sidecar.model import AckTemplate, Event, Refusal, State, format_event_id

__all__ = ["Arrival", "Work", "Writer"]

log = get_logger("journal")

MAX_SETTLEMENTS = 1024
MAX_ARRIVALS = 1024
MAX_ARRIVAL_BYTES = 4 << 20
LINGER_S = 0.02  # how long settlements alone wait for company
LINGER_SETTLEMENTS = MAX_SETTLEMENTS // 4
# A transaction costs some 400 us of CPU however little is in it. So when the last one brought in many, the next waits for
# company, too: no longer than half a commit, which the senders do not notice beside the commit itself.
GATHER_FROM = 8
GATHER_EVENTS = 64
GATHER_SHARE = 0.5
GATHER_MOST_S = 0.002
TICK_S = 1.0
RETRY_TICK_S = 0.25
IDLE_DEDUP_MS = 60_000
REVIVE_EVERY_MS = 600_000  # a repeat revives a dead delivery at most once in ten minutes
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Arrival(msgspec.Struct):
    """One event on its way to disk, already encoded."""

    event: Event
    claim: Claim | None
    ack: AckTemplate
    done: AppendDone
    payload: bytes
    source: int
    destinations: tuple[int, ...]
    size: int


class Work(msgspec.Struct):
    """What a command may use inside the writer's transaction."""

    txn: lmdb.Transaction
    books: Books
    changes: Changes
    now_ms: int


class Command(msgspec.Struct):
    """An operator's wish: runs inside a transaction, answers after its commit."""

    run: Callable[[Work], Any]
    future: asyncio.Future[Any]
    result: Any = None


class Batch(msgspec.Struct):
    """What one transaction takes on, and what came of it."""

    settlements: list[Settlement]
    commands: list[Command]
    arrivals: list[Arrival]
    applied: list[bool] = []
    replies: list[tuple[AppendDone, Appended | Duplicate | Refusal]] = []
    stored: list[Event] = []
    due: list[str] = []


class Writer:
    """The thread and its queues. ``append``, ``settle`` and ``command`` are for the event loop's thread."""

    def __init__(
        self,
        environment: Environment,
        clock: Clock,
        journal_clock: JournalClock,
        dedup: DedupIndex,
        retention: Retention,
        books: Books,
        metrics: Metrics,
        failpoint: Callable[[str], None],
    ) -> None:
        self._environment = environment
        self._db = environment.db
        self._clock = clock
        self._journal_clock = journal_clock
        self._dedup = dedup
        self._retention = retention
        self._metrics = metrics
        self._failpoint = failpoint
        self._acks = {ack: i for i, ack in enumerate(environment.names.acks)}
        self._names_changed = False
        self._arrivals: deque[Arrival] = deque()
        self._settlements: deque[Settlement] = deque()
        self._commands: deque[Command] = deque()
        self._token: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._unanswered = Batch([], [], [])  # the one that is being written
        self._waiting = False
        self._nudged = False
        self._wanted = (1, 1)  # so many arrivals, or so many settlements, end the waiting
        self._last_arrivals = 0
        self._gather_s = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._finished: Callable[[Batch], None] = lambda _: None
        self._on_fatal: Callable[[BaseException], None] = lambda _: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._commit_duration = metrics.commit_duration.series()
        self._batch_events = metrics.batch_events.series()
        self._next_stat_s = 0.0
        self._grown_bytes = 0
        self._next_dedup_ms = journal_clock.now_ms() + IDLE_DEDUP_MS
        self.fresh_from: dict[int, int] = {}
        self.books = books
        self.destinations = {name: i for i, name in enumerate(environment.names.destinations)}
        self.sources = {name: i for i, name in enumerate(environment.names.sources)}
        self.refusal: Refusal | None = None
        self.dead: BaseException | None = None
        self.used_bytes = 0
        self.disk_free_bytes = 0
        self.commits = 0
        self.largest_batch = 0
        self.busy_since_s = 0.0  # monotonic; 0 while there is nothing to do
        self.last_commit_s = clock.monotonic_s()
        self.limit_bytes = environment.capacity_bytes
        # Often enough that pruning begins before the reserve is reached, in a small journal, too.
        self._measure_after_bytes = min(MAX_ARRIVAL_BYTES // 2, environment.capacity_bytes // 50)
        self._measure_now()

    # --- event loop's side

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        finished: Callable[[Batch], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """Start the thread; ``finished`` and ``on_fatal`` are called on the loop."""
        self._loop, self._finished, self._on_fatal = loop, finished, on_fatal
        self._thread.start()

    def append(self, arrival: Arrival) -> None:
        """Queue an event."""
        self._arrivals.append(arrival)
        if self._waiting and len(self._arrivals) >= self._wanted[0]:
            self._nudge()

    def settle(self, settlement: Settlement) -> None:
        """Queue a settlement."""
        self._settlements.append(settlement)
        if self._waiting and len(self._settlements) >= self._wanted[1]:
            self._nudge()

    def command(self, run: Callable[[Work], Any]) -> asyncio.Future[Any]:
        """Queue an operator's command; the future holds its result after the commit."""
        loop = self._loop
        assert loop is not None
        future: asyncio.Future[Any] = loop.create_future()
        if self.dead is not None:
            future.set_exception(self.dead)
            return future
        self._commands.append(Command(run, future))
        if self._waiting:
            self._nudge()
        return future

    def close(self) -> None:
        """Commit what is queued, mark the journal clean and end the thread."""
        self._closing = True
        self._token.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _nudge(self) -> None:
        """Wake the writer when the loop has read all that is ready now, so that it comes with it."""
        if not self._nudged:
            assert self._loop is not None
            self._nudged = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._nudged = False
        if self._waiting:
            self._waiting = False
            self._token.put(None)

    # --- the thread

    def _run(self) -> None:
        try:
            while True:
                batch = self._take()
                if batch is None:
                    if self._closing and not self._has_work():
                        break
                    self._idle()
                    continue
                self.busy_since_s = self._clock.monotonic_s()
                self._unanswered = batch
                self._write(batch)
                self._unanswered = Batch([], [], [])
                self.busy_since_s = 0.0
            self._close_cleanly()
        except BaseException as e:  # noqa: BLE001 - the thread's top: nothing may be acknowledged after this
            self._die(e)

    def _has_work(self) -> bool:
        return bool(self._arrivals or self._settlements or self._commands)

    def _wait(self, timeout_s: float, arrivals: int = 1, settlements: int = 1) -> None:
        self._wanted = (arrivals, settlements)
        self._waiting = True
        if self._closing or self._commands or len(self._arrivals) >= arrivals or len(self._settlements) >= settlements:
            self._waiting = False  # it came between our last look and the flag
            return
        try:
            self._token.get(timeout=timeout_s)
        except queue.Empty:
            self._waiting = False

    def _take(self) -> Batch | None:
        if not self._has_work():
            return None
        if self._arrivals:
            if self._last_arrivals >= GATHER_FROM:
                self._wait(self._gather_s, GATHER_EVENTS, MAX_SETTLEMENTS)
        elif not self._commands:
            self._wait(LINGER_S, settlements=LINGER_SETTLEMENTS)
        settlements = _popleft(self._settlements, MAX_SETTLEMENTS)
        commands = _popleft(self._commands, 64)
        arrivals: list[Arrival] = []
        size = 0
        while self._arrivals and len(arrivals) < MAX_ARRIVALS:
            size += self._arrivals[0].size
            if arrivals and size > MAX_ARRIVAL_BYTES:
                break
            arrivals.append(self._arrivals.popleft())
        return Batch(settlements, commands, arrivals)

    def _idle(self) -> None:
        now_ms = self._journal_clock.now_ms()
        if self.refusal is not None:
            self._measure_now()
        if self._retention.has_work(now_ms, self.fill) or self._dedup_due(now_ms):
            commits = self.commits
            self._write(Batch([], [], []))
            if self.commits > commits and not self._has_work():
                self._wait(0.01 if self.refusal is None else RETRY_TICK_S)
                return
        self._wait(TICK_S if self.refusal is None else RETRY_TICK_S)

    def _dedup_due(self, now_ms: int) -> bool:
        # Each transaction maintains the dedup index; this is for the time when none comes.
        due = self._dedup.keys > 0 and now_ms >= self._next_dedup_ms
        if due:
            self._next_dedup_ms = now_ms + IDLE_DEDUP_MS
        return due

    def _write(self, batch: Batch) -> None:
        """Commit a batch, in halves where the whole does not fit; answer everybody either way."""
        try:
            self._transact(batch)
        except lmdb.MapFullError:
            self._metrics.journal_errors.inc("map_full")
            self._split(batch)
        except (lmdb.Error, OSError) as e:
            if not self._disk_is_full(e):
                raise
            self._metrics.journal_errors.inc("disk_full")
            if batch.arrivals and (
                batch.settlements or batch.commands
            ):  # what is done may fit where what comes does not
                self._write(Batch(batch.settlements, batch.commands, []))
                batch = Batch([], [], batch.arrivals)
            self._refuse(batch, Refusal.STORAGE_FULL)
        else:
            self._post(batch)

    def _split(self, batch: Batch) -> None:
        if len(batch.arrivals) > 1:
            half = len(batch.arrivals) // 2
            self._write(Batch(batch.settlements, batch.commands, batch.arrivals[:half]))
            self._write(Batch([], [], batch.arrivals[half:]))
        elif batch.arrivals and (batch.settlements or batch.commands):
            self._write(Batch(batch.settlements, batch.commands, []))
            self._write(Batch([], [], batch.arrivals))
        else:
            self._refuse(batch, Refusal.STORAGE_FULL)

    def _refuse(self, batch: Batch, code: Refusal) -> None:
        # Settlements and commands wait for room: nothing that was done is forgotten.
        self.refusal = code
        log.limited("full", "error", "no room in the journal", refusal=code.value, used_bytes=self.used_bytes)
        self._settlements.extendleft(reversed(batch.settlements))
        self._commands.extendleft(reversed(batch.commands))
        self._post(Batch([], [], [], replies=[(a.done, code) for a in batch.arrivals]))
        if batch.settlements or batch.commands:
            if self._closing:
                raise JournalFull("no room to write the last settlements", "free disk space; they repeat after a start")
            threading.Event().wait(RETRY_TICK_S)

    def _disk_is_full(self, error: BaseException) -> bool:
        # LMDB reports a short write as an I/O error, so the file system is asked, not the error alone.
        if isinstance(error, OSError) and error.errno in _FULL_ERRNOS:
            return True
        if isinstance(error, lmdb.PanicError):
            return False
        self._measure_disk()
        return self.disk_free_bytes < MIN_RESERVE_BYTES // 2 or any(
            os.strerror(code) in str(error) for code in _FULL_ERRNOS
        )

    def _transact(self, batch: Batch) -> None:
        environment, clock = self._environment, self._clock
        now_ms, wall_ms = self._journal_clock.now_ms(), clock.wall_ms()
        started_s = clock.monotonic_s()
        books = self.books.copy()
        pruned = 0
        batch.replies, batch.stored = [], []
        self._failpoint("begin")
        txn = environment.env.begin(write=True)
        try:
            changes = Changes(environment, txn, books, now_ms, wall_ms)
            batch.applied = changes.settle(batch.settlements, self.destinations)
            work = Work(txn, books, changes, now_ms)
            for command in batch.commands:
                command.result = _run_command(command, work)
            self._append_all(txn, batch, books, changes, now_ms)
            changes.write()
            pruned = self._retention.slice(txn, now_ms, self.fill)
            self._dedup.maintain(txn, now_ms)
            for destination, seq in list(self.fresh_from.items()):
                books.fresh_from[destination] = seq
            if self._names_changed:
                txn.put(b"names", msgspec.msgpack.encode(environment.names), db=self._db[b"meta"])
            row = books.row(self._journal_clock.reading(), clean=False)
            txn.put(b"state", msgspec.msgpack.encode(row), db=self._db[b"meta"])
            self._failpoint("before_commit")
            txn.commit()
        except BaseException:
            with contextlib.suppress(lmdb.Error):  # after a failed commit there is nothing left to abort
                txn.abort()
            self._dedup.aborted()
            self._retention.aborted()
            raise
        self._failpoint("after_commit")
        self._names_changed = False
        self._dedup.committed()
        self._retention.committed(pruned)
        self._retention.closed(changes.closed_blocks)
        self.books = books
        batch.due = [environment.names.destinations[d] for d in changes.due]
        self._account(batch, changes.corrupt, started_s)

    def _account(self, batch: Batch, corrupt: int, started_s: float) -> None:
        now_s = self._clock.monotonic_s()
        self.commits += 1
        self.last_commit_s = now_s
        self._commit_duration.observe(now_s - started_s)
        self._last_arrivals = len(batch.arrivals)
        self._gather_s += (min(GATHER_MOST_S, (now_s - started_s) * GATHER_SHARE) - self._gather_s) / 4
        if batch.stored:
            self._batch_events.observe(len(batch.stored))
            self.largest_batch = max(self.largest_batch, len(batch.stored))
        if corrupt:
            self._metrics.journal_quarantined.inc(by=corrupt)
        stale = batch.applied.count(False)
        if stale:
            self._metrics.settlements_stale.inc(by=stale)
        self._grown_bytes += sum(a.size for a in batch.arrivals)
        if (
            now_s >= self._next_stat_s
            or self._grown_bytes > self._measure_after_bytes
            or self.fill > self._retention.early_fill
        ):
            self._measure_now()

    def _append_all(self, txn: lmdb.Transaction, batch: Batch, books: Books, changes: Changes, now_ms: int) -> None:
        block = _Block()
        for a in batch.arrivals:
            event = a.event
            if a.claim is not None:
                first = self._dedup.find(txn, a.claim.digest, now_ms)
                if first is not None:
                    batch.replies.append((a.done, self._duplicate(a, first, changes)))
                    continue
                entry = DedupEntry(
                    event.seq,
                    event.received_at_ms,
                    self._ack_number(a.ack),
                    a.claim.body_digest,
                    now_ms + a.claim.ttl_ms,
                    a.source,
                    0,
                )
                self._dedup.stage(a.claim.digest, entry)
            if not block.fits(event.seq, len(a.payload)):
                block.put(txn, self._db)
                block = _Block()
            block.add(a)
            for destination in a.destinations:
                books.enter(a.source, destination)
            batch.stored.append(event)
            batch.replies.append((a.done, Appended(event)))
        if batch.stored:
            block.put(txn, self._db)
            self._dedup.write(txn, batch.stored[0].seq)
            books.last_seq = max(books.last_seq, batch.stored[-1].seq)

    def _duplicate(self, a: Arrival, first: DedupEntry, changes: Changes) -> Duplicate:
        assert a.claim is not None
        revived = 0
        if a.claim.redrive_dead:
            revived = changes.revive_dead(first.seq, range(len(self._environment.names.destinations)), REVIVE_EVERY_MS)
        return Duplicate(
            format_event_id(first.received_at_ms, journal_id_of(self._environment, first.seq), first.seq),
            self._environment.names.acks[first.ack],
            first.body_digest != a.claim.body_digest,
            revived,
        )

    def _ack_number(self, ack: AckTemplate) -> int:
        number = self._acks.get(ack)
        if number is None:
            number = len(self._environment.names.acks)
            self._environment.names.acks.append(ack)
            self._acks[ack] = number
            self._names_changed = True
        return number

    def names_changed(self) -> None:
        """A command added names: write them with this transaction."""
        self._names_changed = True

    # --- room

    @property
    def fill(self) -> float:
        """Used share of what the map and the disk let it hold, 0.0 to 1.0."""
        return self.used_bytes / self.limit_bytes

    def _measure_now(self) -> None:
        environment = self._environment
        with environment.env.begin() as txn:
            self.used_bytes = environment.used_bytes(txn)
        self._grown_bytes = 0
        self._next_stat_s = self._clock.monotonic_s() + TICK_S
        self._measure_disk()
        self.limit_bytes = limit_bytes(environment.capacity_bytes, environment.file_bytes(), self.disk_free_bytes)
        reserve = reserve_bytes(self.limit_bytes)
        self._retention.early_fill = early_fill(self.limit_bytes, reserve)
        full = self.used_bytes > self.limit_bytes - reserve
        was, self.refusal = self.refusal, Refusal.STORAGE_FULL if full else None
        if was is None and full:
            log.warning(
                "the journal is full: answering 503", used_bytes=self.used_bytes, disk_free=self.disk_free_bytes
            )
        elif was is not None and not full:
            log.info("the journal has room again", used_bytes=self.used_bytes)

    def _measure_disk(self) -> None:
        s = os.statvfs(self._environment.path)
        self.disk_free_bytes = s.f_bavail * s.f_frsize

    # --- ends

    def _post(self, batch: Batch) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._finished, batch)

    def _close_cleanly(self) -> None:
        with self._environment.env.begin(write=True) as txn:
            for destination, seq in list(self.fresh_from.items()):
                self.books.fresh_from[destination] = seq
            row = self.books.row(self._journal_clock.reading(), clean=True)
            txn.put(b"state", msgspec.msgpack.encode(row), db=self._db[b"meta"])

    def _die(self, error: BaseException) -> None:
        # What the failed commit left on disk is unknown, so nothing more is acknowledged; a restart finds out.
        self.dead = error
        self.refusal = Refusal.STORAGE_ERROR
        self._metrics.journal_errors.inc("fatal")
        log.error("the journal failed: stopping", error=str(error), kind=type(error).__name__)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_fatal, error)

    def abandon(self) -> list[Arrival]:
        """After a fatal error: everything that still waits for an answer (call on the loop)."""
        waiting = [*self._unanswered.arrivals, *self._arrivals]
        self._arrivals.clear()
        for command in (*self._unanswered.commands, *self._commands):
            if not command.future.done() and self.dead is not None:
                command.future.set_exception(self.dead)
        self._unanswered = Batch([], [], [])
        self._commands.clear()
        return waiting


def put_body(txn: lmdb.Transaction, db: dict[bytes, Any], event: Event) -> bool:
    """Store a body that is too large for its block in parts; whether it was."""
    if len(event.body) <= INLINE_BODY_BYTES:
        return False
    for key, value in body_parts(event.seq, event.body):
        txn.put(key, value, db=db[b"bodies"])
    return True


def journal_id_of(environment: Environment, seq: int) -> int:
    """The journal id that ids with this seq carry (a restored copy takes a new one from its next seq on)."""
    return next(i for first, i in reversed(environment.identity.journal_ids) if seq >= first)


class _Block:
    """One block of events while it is put together, with its rows of deliveries."""

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
        return self.first < 0 or (seq - self.first < BLOCK_EVENTS and self.size + size <= BLOCK_BYTES)

    def add(self, a: Arrival) -> None:
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
        if self.first < 0:
            return
        for event in self.large:
            put_body(txn, db, event)
        block = events_block(self.first, self.payloads, self.accepted_at_ms)
        txn.put(events_key(self.first), block, db=db[b"events"])
        for destination, states in self.states.items():
            key = deliveries_key(destination, self.first)
            txn.put(key, DeliveryRow(states, self.accepted_at_ms).encode(key), db=db[b"deliveries"])


def _run_command(command: Command, work: Work) -> Any:
    try:
        return command.run(work)
    except CorruptRecord as e:  # the record it is about is damaged; the rest of the batch is not
        return e


def _popleft(rows: deque[Any], most: int) -> list[Any]:
    return [rows.popleft() for _ in range(min(len(rows), most))]
