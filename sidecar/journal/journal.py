"""The journal's public verbs: append, claim (window, due, dying), settle, redrive, look up, audit.

Everything here is called on the event loop's thread and never touches LMDB itself: changes go to the
writer's queue, questions to the reader's, and a backup to a thread of its own.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import lmdb
import msgspec

from sidecar.clock import Clock
from sidecar.errors import JournalError, JournalFull
from sidecar.journal.batch import Arrival, Batch, Work
from sidecar.journal.books import Books
from sidecar.journal.clock import ClockReading, JournalClock
from sidecar.journal.commands import Commands
from sidecar.journal.copies import adopt, copy_to
from sidecar.journal.dedup_index import DedupIndex
from sidecar.journal.environment import Environment, open_environment, unwritable
from sidecar.journal.limits import dedup_bytes
from sidecar.journal.lookups import AuditScan, EventScan
from sidecar.journal.reader import Reader
from sidecar.journal.records import BLOCK_EVENTS, CorruptRecord, encode_event
from sidecar.journal.recount import Recount
from sidecar.journal.retention import Retention
from sidecar.journal.types import (
    AppendDone,
    AuditReport,
    Claim,
    Counters,
    DeliveryView,
    DueWindow,
    EventPage,
    EventQuery,
    EventView,
    FreshWindow,
    JournalOptions,
    JournalStats,
    OperatorResult,
    Ref,
    Settlement,
)
from sidecar.journal.writer import Writer
from sidecar.lifecycle import Change
from sidecar.log import bug_text, get_logger
from sidecar.metrics import Metrics
from sidecar.model import AckTemplate, Attempt, Delivery, Event, Refusal, format_event_id, parse_event_id

__all__ = ["Journal"]

log = get_logger("journal")

SEQ_GAP = 65_536  # after an unclean stop: seqs that were given out but never committed are not given out again
AUDIT_PATIENCE_S = 1.0
RECOUNT_AFTER_S = 5.0  # not while the lanes begin
RECOUNT_EVERY_S = 3600.0

# What rows and pages that rotted can end in, other than a checksum that disagrees.
_UNREADABLE = (lmdb.Error, msgspec.MsgspecError, struct.error, ValueError, LookupError)

OnBatch = Callable[[list[Event], int], None]
Result = TypeVar("Result")


class Journal:
    """One open journal. Make it with ``open``."""

    def __init__(
        self,
        environment: Environment,
        options: JournalOptions,
        clock: Clock,
        metrics: Metrics,
        failpoint: Callable[[str], None],
    ) -> None:
        self._environment = environment
        self._options = options
        self._clock = clock
        self._metrics = metrics
        self._journal_clock = JournalClock(clock, environment.state.clock)
        self._dedup = DedupIndex(
            environment.env,
            environment.db[b"dedup"],
            max_bytes=dedup_bytes(options.max_size_bytes),
            secret=environment.identity.mac_key,
        )
        with environment.env.begin() as txn:
            self._dedup.load(txn)
        self._writer = Writer(
            environment,
            clock,
            self._journal_clock,
            self._dedup,
            Retention(environment, int(options.retention_s * 1000)),
            Books.load(environment.state),
            metrics,
            failpoint,
        )
        self._numbers, self._room = self._writer.numbers, self._writer.room
        self._commands = Commands(environment, self._numbers)
        self._reader = Reader(environment, clock, self._note_corrupt)
        # Not the reader's: the lanes' windows would wait for the whole copy. It begins with the first one.
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="journal-backup")
        self._recount = Recount(self._note_missing)
        self._seq = environment.state.last_seq + (1 if environment.was_clean else SEQ_GAP)
        self._on_batch: OnBatch = lambda _events, _seq: None
        self._on_due: Callable[[str], None] = lambda _: None
        self._on_withdrawn: Callable[[str], None] = lambda _: None
        self._on_fatal: Callable[[BaseException], None] = lambda _: None
        self._started = False
        self._read_only = False
        self.quarantined = 0

    @classmethod
    def open(
        cls,
        options: JournalOptions,
        clock: Clock,
        *,
        metrics: Metrics | None = None,
        read_only: bool = False,
        failpoint: Callable[[str], None] = lambda _: None,
    ) -> Journal:
        """Open the journal, making it when there is none.

        Args:
            options: Where it is and how large it may get.
            clock: The machine's clocks.
            metrics: Where to count; None = nowhere that matters.
            read_only: For looking at it while no daemon runs; nothing is changed.
            failpoint: Called at named points (``begin``, ``before_commit``, ``after_commit``); only crash tests
                hand one in.

        Raises:
            JournalError: It cannot be used; the text says why and what to do.
        """
        now = ClockReading(clock.wall_ms(), clock.boot_id(), clock.boot_ms(), clock.wall_ms())
        environment = open_environment(options, read_only=read_only, wall=now)
        try:
            if not read_only:
                adopt(environment)
            journal = cls(environment, options, clock, metrics or Metrics(), failpoint)
        except _UNREADABLE as e:
            environment.close()
            raise JournalError(
                f"the journal at {options.path} cannot be used: {str(e) or type(e).__name__}",
                "if its disk is sound and not full, the file is damaged: restore a backup into journal.path",
            ) from e
        except BaseException:
            environment.close()
            raise
        journal._read_only = read_only
        return journal

    # --- life

    @property
    def journal_id(self) -> int:
        """32 bits that the ids of new events carry."""
        return self._environment.identity.journal_ids[-1][1]

    @property
    def mac_key(self) -> bytes:
        """32 bytes that key the dead letters' MACs."""
        return self._environment.identity.mac_key

    @property
    def was_clean(self) -> bool:
        """Whether the last process closed this journal in order."""
        return self._environment.was_clean

    def clock_ms(self) -> int:
        """The journal clock now."""
        return self._journal_clock.now_ms()

    def register(self, sources: Iterable[str], destinations: Iterable[str]) -> None:
        """Give names their numbers, before ``start``.

        Raises:
            JournalError: There are new ones, and they cannot be written.
        """
        assert not self._started
        self._numbers.add(sources, destinations)
        if self._numbers.changed:
            try:
                with self._environment.env.begin(write=True) as txn:
                    self._numbers.write(txn)
            except lmdb.Error as e:
                raise unwritable(self._environment.path, e) from e
            self._numbers.changed = False

    async def register_live(self, sources: Iterable[str], destinations: Iterable[str]) -> None:
        """The same for a running journal; the names may be used when this returns."""
        await self._command(lambda _: self._numbers.add(sources, destinations))

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_batch: OnBatch | None = None,
        on_due: Callable[[str], None] | None = None,
        on_withdrawn: Callable[[str], None] | None = None,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Start the threads.

        Args:
            loop: Where every callback and future is answered.
            on_batch: Called after each commit that brought events, in order, with them and the last seq.
            on_due: Called with a destination for which an operator or a repeat made something due.
            on_withdrawn: Called with a destination from which an operator took pending deliveries away.
            on_fatal: Called once when the journal failed: nothing is acknowledged any more, the process must end.
        """
        self._on_batch = on_batch or self._on_batch
        self._on_due = on_due or self._on_due
        self._on_withdrawn = on_withdrawn or self._on_withdrawn
        self._on_fatal = on_fatal or self._on_fatal
        self._started = True
        self._reader.start(loop)
        if not self._read_only:
            self._writer.start(loop, self._finished, self._fatal)
            loop.call_later(RECOUNT_AFTER_S, self._recount_often, loop)

    def close(self) -> None:
        """Commit what is queued, mark the journal clean, end the threads, give the lock back. Safe to call twice.

        Blocks; while it does, callbacks wait on the loop.
        """
        if self._started:
            self._started = False
            if not self._read_only:
                self._writer.close()
            self._reader.close()
            self._copier.shutdown(cancel_futures=True)  # a copy that has begun reads the environment to its end
        self._environment.close()

    async def aclose(self) -> None:
        """``close`` without blocking the loop."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    # --- append and settle

    def append(self, event: Event, claim: Claim | None, ack: AckTemplate, done: AppendDone) -> None:
        """Put an event, its dedup key and one delivery per destination on disk, or none of it.

        Args:
            event: Its ``seq``, ``id`` and ``accepted_at_ms`` are set here.
            claim: Its dedup key; None = not deduplicated.
            ack: How it is answered, remembered for its duplicates.
            done: Called once on the loop: Appended after the commit, Duplicate, or the Refusal.
        """
        room = self._room
        if room.refusal is not None:
            done(room.refusal)
            return
        seq = self._seq
        self._seq = seq + 1
        event.seq = seq
        event.accepted_at_ms = self._journal_clock.now_ms()
        event.id = format_event_id(event.received_at_ms, self.journal_id, seq)
        source = self._numbers.sources[event.source]
        numbers = self._numbers.destinations
        destinations = tuple([numbers[d] for d in event.destinations])
        payload = encode_event(event, source, destinations)
        self._writer.append(
            Arrival(event, claim, ack, done, payload, source, destinations, len(payload) + len(event.body))
        )

    def settle(self, settlement: Settlement) -> None:
        """Say what became of a claimed delivery; ``settlement.done`` is called after the commit."""
        self._writer.settle(settlement)

    def note_fresh_from(self, destination: str, seq: int) -> None:
        """Every fresh delivery of this destination has at least this seq; stored with the next commit."""
        self._writer.fresh_from[self._numbers.destinations[destination]] = seq

    def fresh_from(self, destination: str) -> int:
        """Where a lane starts to read after a restart."""
        return self._writer.books.fresh_from.get(self._numbers.destinations[destination], 0)

    # --- claim

    async def window(
        self, destination: str, from_seq: int, *, max_events: int, max_bytes: int, skip: Collection[int]
    ) -> FreshWindow:
        """Read fresh deliveries in order of arrival, at most 4 MiB and 50 ms worth of them."""
        number, limits = self._numbers.destinations[destination], (max_events, max_bytes)
        found = await self._reader.read(lambda view: view.window(number, from_seq, limits, skip), lane=True)
        assert isinstance(found, FreshWindow)
        return found

    async def due(self, destination: str, *, max_events: int, max_bytes: int, skip: Collection[int]) -> DueWindow:
        """Read deliveries whose waiting time is over."""
        number, limits = self._numbers.destinations[destination], (max_events, max_bytes)
        now_ms = self.clock_ms()
        found = await self._reader.read(lambda view: view.due(number, now_ms, limits, skip), lane=True)
        assert isinstance(found, DueWindow)
        return found

    async def dying(self, destination: str, *, limit: int, skip: Collection[int]) -> list[Delivery]:
        """Read deliveries that were given up and whose dead-letter file is still to be written."""
        number, limits = self._numbers.destinations[destination], (limit, 1 << 30)
        found = await self._reader.read(lambda view: view.due(number, 0, limits, skip, dying=True))
        assert isinstance(found, DueWindow)
        return found.deliveries

    # --- operators

    async def replay(self, refs: Sequence[Ref], *, to: str | None = None) -> OperatorResult:
        """Make dead, delivered or discarded deliveries pending again, with a fresh budget and past dedup.

        Args:
            refs: Which ones.
            to: Deliver to this destination instead.
        """
        return await self._change(refs, Change.REPLAY, to)

    async def discard(self, refs: Sequence[Ref]) -> OperatorResult:
        """Drop pending deliveries."""
        return await self._change(refs, Change.DISCARD, None)

    async def remove_dead(self, refs: Sequence[Ref]) -> OperatorResult:
        """Forget dead deliveries whose files are being removed."""
        return await self._change(refs, Change.REMOVE, None)

    async def redirect(self, refs: Sequence[Ref], to: str) -> OperatorResult:
        """Settle pending deliveries as redirected; each is pending at ``to`` instead."""
        return await self._command(lambda work: self._commands.redirect(work, refs, to))

    async def _change(self, refs: Sequence[Ref], change: Change, to: str | None) -> OperatorResult:
        return await self._command(lambda work: self._commands.change(work, refs, change, to))

    async def restore(self, event: Event, destination: str, log_: Sequence[Attempt], *, verified: bool) -> str:
        """Bring back an event that the journal no longer has, pending at one destination in a new round.

        Args:
            event: With its old id to come back as itself; with id "" (edited, or from another journal), or one given out
                after the backup that this journal was restored from, it becomes a new event.
            destination: Who gets it.
            log_: Attempts made before.
            verified: Whether the event counts as verified: never for what nobody vouches for.

        Returns:
            The event id.

        Raises:
            JournalError: No room, or the old id is still in use by other bytes.
        """
        if self._room.refusal is not None:
            raise JournalError(
                f"the journal takes nothing now: {self._room.refusal.value}", "make room, then try again"
            )
        parsed = parse_event_id(event.id)
        if parsed is not None and not self._gave_out(*parsed[1:]):
            event.replay_of, parsed = event.id, None
        if parsed is None:
            # Commands overtake arrivals, and blocks must not overlap: an event is found by the block in front of its number.
            # So many numbers away, no block of arrivals before reaches it, and those behind begin one of their own.
            event.seq = self._seq + BLOCK_EVENTS - 1
            self._seq = event.seq + 1
            event.id = format_event_id(event.received_at_ms, self.journal_id, event.seq)
        else:
            event.seq = parsed[2]
        event.accepted_at_ms = self.clock_ms()
        event.verified = verified
        source, number = self._numbers.sources[event.source], self._numbers.destinations[destination]
        payload = encode_event(event, source, [number])
        if not await self._command(lambda work: self._commands.restore(work, event, payload, number, log_)):
            raise JournalError(f"event {event.id} is still in the journal", "replay it from there")
        return event.id

    def _gave_out(self, journal_id: int, seq: int) -> bool:
        """Whether an event id's parts are of our making: else its number is, or will be, another event's."""
        return journal_id == self._environment.identity.journal_id(seq) and seq < self._seq

    async def _command(self, run: Callable[[Work], Result]) -> Result:
        result = await self._writer.command(run)
        if isinstance(result, CorruptRecord):
            raise _damaged(result)
        if isinstance(result, JournalFull):
            raise result
        return result

    # --- look-ups

    async def event(self, event_id: str) -> EventView | None:
        """One event with its body and all its deliveries, by our id; None when the journal does not have it.

        Raises:
            JournalError: Its record is damaged.
        """
        parsed = parse_event_id(event_id)
        if parsed is None:
            return None
        now_ms = self.clock_ms()
        found = await _sound(self._reader.read(lambda view: view.event_view(parsed[2], now_ms)))
        assert found is None or isinstance(found, EventView)
        return found if found is not None and found.event.id == event_id else None

    async def deliveries(self, event_id: str) -> list[DeliveryView]:
        """All deliveries of one event, also where its own record is damaged; none when that cannot be said."""
        parsed = parse_event_id(event_id)
        if parsed is None or parsed[1] != self._environment.identity.journal_id(parsed[2]):
            return []
        now_ms = self.clock_ms()
        try:
            found = await self._reader.read(lambda view: view.deliveries_of(parsed[2], now_ms))
        except CorruptRecord:
            return []
        assert isinstance(found, list)
        return found

    async def events(self, query: EventQuery) -> EventPage:
        """Look for events, newest first, without their bodies; damaged ones are left out."""
        page = await self._reader.scan(EventScan(query, self.clock_ms(), self._clock.wall_ms()))
        assert isinstance(page, EventPage)
        return page

    async def audit(self, full: bool = False) -> AuditReport:
        """Count what is owed against the books; ``full`` checks every event's checksum too.

        Raises:
            JournalError: The books themselves are damaged.
        """
        patience_s = None if self._read_only else AUDIT_PATIENCE_S
        report = await _sound(self._reader.scan(AuditScan(full=full, patience_s=patience_s)))
        assert isinstance(report, AuditReport)
        return report

    async def oldest_pending_ms(self, destination: str) -> int | None:
        """Journal clock at acceptance, or at the last replay, of the oldest delivery owed; None when nothing is."""
        number = self._numbers.destinations[destination]
        found = await self._reader.read(lambda view: view.oldest_pending_ms(number))
        assert found is None or isinstance(found, int)
        return found

    def counters(self) -> Counters:
        """The durable counters, as of the last commit."""
        return self._writer.books.counters(self._environment.names)

    def destinations(self) -> list[str]:
        """Every destination that ever had a number, also those no longer configured."""
        return list(self._environment.names.destinations)

    def maybe_duplicate(self, digest: bytes) -> bool:
        """Whether a key may have been claimed before; False is certain. Any thread."""
        return self._dedup.maybe(digest)

    def stats(self) -> JournalStats:
        """How the journal is doing; cheap, from memory."""
        w, room, now_s = self._writer, self._room, self._clock.monotonic_s()
        return JournalStats(
            journal_id=self.journal_id,
            path=self._environment.path,
            used_bytes=room.used_bytes,
            capacity_bytes=self._environment.capacity_bytes,
            disk_free_bytes=room.disk_free_bytes,
            last_seq=w.books.last_seq,
            commits=w.commits,
            largest_batch=w.largest_batch,
            dedup_keys=self._dedup.keys,
            fill=room.fill,
            accepting=room.refusal is None,
            refusal=room.refusal,
            last_commit_ago_s=now_s - w.last_commit_s,
            writer_stuck_s=now_s - w.busy_since_s if w.busy_since_s else 0.0,
            quarantined=self.quarantined + self._dedup.corrupt,
        )

    def dedup_evicted_early(self) -> dict[str, int]:
        """Keys forgotten before their time since start, by source."""
        names = self._environment.names.sources
        return {names[i]: n for i, n in self._dedup.evicted_early.items() if i < len(names)}

    async def backup(self, path: str) -> int:
        """Copy the journal to a directory that must not exist; how many bytes the copy has.

        A daemon that opens the copy takes a new journal id, so that ids stay unique. One copy at a time, and all of
        it in one read transaction: pages that are freed meanwhile are used again only after it.
        """
        return await asyncio.get_running_loop().run_in_executor(self._copier, copy_to, self._environment, path)

    # --- callbacks, on the loop

    def _finished(self, batch: Batch) -> None:
        for done, reply in batch.replies:
            try:
                done(reply)
            except Exception as e:  # noqa: BLE001 - one answer's bug must not cost the others theirs
                log.error("answering failed", error=bug_text(e))
        for s, applied in zip(batch.settlements, batch.applied, strict=True):
            if s.done is not None:
                s.done(s, applied)
        for command in batch.commands:
            if not command.future.done():
                command.future.set_result(command.result)
        if batch.stored:
            self._on_batch(batch.stored, batch.stored[-1].seq)
        for destination in batch.withdrawn:
            self._on_withdrawn(destination)
        for destination in batch.due:
            self._on_due(destination)

    def _fatal(self, error: BaseException) -> None:
        for arrival in self._writer.abandon():
            arrival.done(Refusal.STORAGE_ERROR)
        self._on_fatal(error)

    def _recount_often(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._started:
            self._reader.scan(self._recount)
            loop.call_later(RECOUNT_EVERY_S, self._recount_often, loop)

    def _note_missing(self, count: int) -> None:
        # On the reader thread, as below.
        self.quarantined += count
        self._metrics.journal_quarantined.inc(by=count)

    def _note_corrupt(self, seq: int) -> None:
        # On the reader thread: a counter and a queued log line are all it touches.
        self.quarantined += 1
        self._metrics.journal_quarantined.inc()
        log.error("a damaged record was left out; what is owed of it stays pending", seq=seq)


async def _sound(looking: asyncio.Future[Any]) -> Any:
    """Wait for a look-up that a damaged record may end."""
    try:
        return await looking
    except CorruptRecord as e:
        raise _damaged(e) from e


def _damaged(error: CorruptRecord) -> JournalError:
    return JournalError(f"a record is damaged: {error}", "see: webhook-sidecar journal verify")
