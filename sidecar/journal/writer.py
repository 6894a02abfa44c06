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
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import lmdb

from sidecar.clock import Clock
from sidecar.errors import JournalError, JournalFull
from sidecar.journal import meta
from sidecar.journal.arrivals import Arrivals
from sidecar.journal.batch import Arrival, Batch, Command, Work
from sidecar.journal.books import Books
from sidecar.journal.changes import Changes
from sidecar.journal.clock import JournalClock
from sidecar.journal.dedup_index import DedupIndex
from sidecar.journal.environment import Environment
from sidecar.journal.numbering import Numbers
from sidecar.journal.records import CorruptRecord
from sidecar.journal.retention import Retention
from sidecar.journal.room import Room
from sidecar.journal.types import Settlement
from sidecar.log import bug_text, get_logger
from sidecar.metrics import Metrics
from sidecar.model import Refusal

__all__ = ["Writer"]

log = get_logger("journal")

Result = TypeVar("Result")

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
        self._next_dedup_ms = journal_clock.now_ms() + IDLE_DEDUP_MS
        self.fresh_from: dict[int, int] = {}
        self.books = books
        self.numbers = Numbers(environment)
        self.room = Room(environment, clock)
        self.dead: BaseException | None = None
        self.commits = 0
        self.largest_batch = 0
        self.busy_since_s = 0.0  # monotonic; 0 while there is nothing to do
        self.last_commit_s = clock.monotonic_s()
        self._incoming = Arrivals(environment, dedup, self.numbers)
        self._damaged_keys = 0  # of those that the index has left out, as many have been told of

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

    def command(self, run: Callable[[Work], Result]) -> asyncio.Future[Result | CorruptRecord | JournalFull]:
        """Queue an operator's command; the future holds its result after the commit, or why there is none.

        That is a damaged record, or that there is no room for it.
        """
        loop = self._loop
        assert loop is not None
        future: asyncio.Future[Result | CorruptRecord | JournalFull] = loop.create_future()
        if self.dead is not None:
            future.set_exception(_failed(self.dead))
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
            self._tell_damaged_keys()
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
        if self.room.refusal is not None:
            self.room.measure()
        if self._retention.has_work(now_ms, early=self.room.filling) or self._dedup_due(now_ms):
            commits = self.commits
            self._write(Batch([], [], []))
            if self.commits > commits and not self._has_work():
                self._wait(0.01 if self.room.refusal is None else RETRY_TICK_S)
                return
        self._wait(TICK_S if self.room.refusal is None else RETRY_TICK_S)

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
            if not self.room.is_missing(e):
                raise
            self._metrics.journal_errors.inc("disk_full")
            if batch.arrivals and (batch.settlements or batch.commands):
                # What is done may fit where what comes does not.
                self._write(Batch(batch.settlements, batch.commands, []))
                batch = Batch([], [], batch.arrivals)
            if batch.commands:
                self._split(batch)
            else:
                self._refuse(batch, disk=True)
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
        elif batch.commands and batch.settlements:
            self._write(Batch(batch.settlements, [], []))
            self._write(Batch([], batch.commands, []))
        elif len(batch.commands) > 1:
            half = len(batch.commands) // 2
            self._write(Batch([], batch.commands[:half], []))
            self._write(Batch([], batch.commands[half:], []))
        elif batch.commands:
            # Its own size may be why: waiting, it would keep everything behind it from the disk, perhaps for ever.
            batch.commands[0].result = JournalFull("no room in the journal for this", "make room, then try again")
            self._post(batch)
        else:
            self._refuse(batch, disk=False)

    def _refuse(self, batch: Batch, *, disk: bool) -> None:
        # Settlements wait for room: nothing that was done is forgotten.
        lack = self.room.overflowed(disk=disk)
        self._settlements.extendleft(reversed(batch.settlements))
        self._post(Batch([], [], [], replies=[(a.done, Refusal.STORAGE_FULL) for a in batch.arrivals]))
        if batch.settlements:
            if self._closing:
                raise JournalFull(
                    f"{lack.what}: the last settlements are not written, and repeat after a start", lack.hint
                )
            threading.Event().wait(RETRY_TICK_S)

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
            batch.applied = changes.settle(batch.settlements, self.numbers.destinations)
            work = Work(txn, books, changes, now_ms)
            for command in batch.commands:
                command.apply(work)
            self._incoming.append(txn, batch, books, changes, now_ms)
            changes.write()
            pruned = self._retention.slice(txn, now_ms, early=self.room.filling)
            self._dedup.maintain(txn, now_ms)
            for destination, seq in list(self.fresh_from.items()):
                books.fresh_from[destination] = seq
            if self.numbers.changed:
                self.numbers.write(txn)
            row = books.row(self._journal_clock.reading(), clean=False)
            txn.put(b"state", meta.pack(row), db=self._db[b"meta"])
            self._failpoint("before_commit")
            txn.commit()
        except BaseException:
            with contextlib.suppress(lmdb.Error):  # after a failed commit there is nothing left to abort
                txn.abort()
            self._dedup.aborted()
            self._retention.aborted()
            raise
        self._failpoint("after_commit")
        self.numbers.changed = False
        self._dedup.committed()
        self._retention.committed(pruned)
        self._retention.closed(changes.closed_blocks)
        self.books = books
        batch.due = [environment.names.destinations[d] for d in changes.due]
        batch.withdrawn = [environment.names.destinations[d] for d in changes.withdrawn]
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
        self._tell_damaged_keys()
        stale = batch.applied.count(False)
        if stale:
            self._metrics.settlements_stale.inc(by=stale)
        self.room.grew(sum(a.size for a in batch.arrivals), now_s)

    def _tell_damaged_keys(self) -> None:
        more = self._dedup.corrupt - self._damaged_keys
        if more:
            self._damaged_keys += more
            self._metrics.journal_quarantined.inc(by=more)
            log.limited(
                "keys", "error", "damaged dedup keys were left out; a repeat of their events is a new one", records=more
            )

    # --- ends

    def _post(self, batch: Batch) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._finished, batch)

    def _close_cleanly(self) -> None:
        with self._environment.env.begin(write=True) as txn:
            for destination, seq in list(self.fresh_from.items()):
                self.books.fresh_from[destination] = seq
            row = self.books.row(self._journal_clock.reading(), clean=True)
            txn.put(b"state", meta.pack(row), db=self._db[b"meta"])

    def _die(self, error: BaseException) -> None:
        # What the failed commit left on disk is unknown, so nothing more is acknowledged; a restart finds out.
        self.dead = error
        self.room.refusal = Refusal.STORAGE_ERROR
        self._metrics.journal_errors.inc("fatal")
        log.error("the journal failed: stopping", error=_why(error), kind=type(error).__name__)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_fatal, error)

    def abandon(self) -> list[Arrival]:
        """After a fatal error: everything that still waits for an answer (call on the loop)."""
        waiting = [*self._unanswered.arrivals, *self._arrivals]
        self._arrivals.clear()
        for command in (*self._unanswered.commands, *self._commands):
            if not command.future.done() and self.dead is not None:
                command.future.set_exception(_failed(self.dead))
        self._unanswered = Batch([], [], [])
        self._commands.clear()
        return waiting


def _popleft(rows: deque[Any], most: int) -> list[Any]:
    return [rows.popleft() for _ in range(min(len(rows), most))]


def _why(error: BaseException) -> str:
    return str(error) if isinstance(error, lmdb.Error) else bug_text(error)


def _failed(error: BaseException) -> JournalError:
    return JournalError(f"the journal failed: {_why(error)}", "the process ends now; its next start checks the journal")
