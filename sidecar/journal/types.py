"""[P] What goes into the journal and what comes out of it: the values of its public verbs."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

import msgspec

from sidecar.lifecycle import Change
from sidecar.model import AckTemplate, Attempt, Delivery, Event, Refusal, State

__all__ = [
    "AppendDone",
    "Appended",
    "AuditReport",
    "AuditRow",
    "Claim",
    "Counters",
    "DeliveryView",
    "DueWindow",
    "Duplicate",
    "EventPage",
    "EventQuery",
    "EventView",
    "FreshWindow",
    "JournalOptions",
    "JournalStats",
    "OperatorResult",
    "Ref",
    "Settlement",
]


class JournalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the journal is and how much it may hold.

    Attributes:
        path: Directory; made with mode 0700 when missing.
        max_size_bytes: The LMDB map; at least 16 MiB.
        retention_s: Upper bound for how long delivered events stay; from 70 % full the oldest go earlier.
        ephemeral: The volume dies with the pod: a drain stops accepting at once.
        unsafe_fs: Open it on a network file system all the same.
    """

    path: str = "data/journal"
    max_size_bytes: int = 1 << 30
    retention_s: float = 72 * 3600.0
    ephemeral: bool = False
    unsafe_fs: bool = False


class Claim(msgspec.Struct, frozen=True):
    """What makes an event the same as an earlier one.

    Attributes:
        digest: 16 bytes over source and identity (see ``inbound.dedup``).
        body_digest: 4 bytes over the body, to notice "same key, other bytes".
        ttl_ms: How long the key is remembered, on the journal clock.
        redrive_dead: Whether a repeat makes this event's dead deliveries pending again.
    """

    digest: bytes
    body_digest: bytes
    ttl_ms: int
    redrive_dead: bool = True


class Appended(msgspec.Struct, frozen=True):
    """The event is on disk."""

    event: Event


class Duplicate(msgspec.Struct, frozen=True):
    """The key was claimed before; nothing new was enqueued.

    Attributes:
        event_id: Id of the first event.
        ack: How the first was answered; the same answer is due again.
        conflict: The bytes differ from the first's.
        revived: Dead deliveries that are pending again because of this repeat.
    """

    event_id: str
    ack: AckTemplate
    conflict: bool
    revived: int


AppendDone = Callable[[Appended | Duplicate | Refusal], None]
"""Called once on the event loop, after the commit (or its failure)."""


class Settlement(msgspec.Struct):
    """What became of a claimed delivery. Applies only while the journal still has the same round and attempts.

    Attributes:
        delivery: As claimed (its ``round`` and ``attempts`` are the fence).
        change: SUCCEED, RETRY, PUT_OFF, GIVE_UP or BURY.
        attempt: The counted try, if one was used.
        due_at_ms: For RETRY and PUT_OFF, when it is due again, on the journal clock.
        reason: For GIVE_UP, a DeadReason.
        done: Called on the loop after the commit with True, or with False when it was stale.
    """

    delivery: Delivery
    change: Change
    attempt: Attempt | None = None
    due_at_ms: int = 0
    reason: str = ""
    done: Callable[[Settlement, bool], None] | None = None


class FreshWindow(msgspec.Struct):
    """Fresh deliveries of one destination, in order of arrival.

    Attributes:
        deliveries: Pending ones that were never put off, with their bodies.
        covered_to: Every fresh delivery with a seq up to here is in ``deliveries`` or was skipped as asked.
        at_end: Whether ``covered_to`` is the last seq of the snapshot that was read.
    """

    deliveries: list[Delivery]
    covered_to: int
    at_end: bool


class DueWindow(msgspec.Struct):
    """Deliveries whose waiting time is over.

    Attributes:
        deliveries: In order of their due time, with their bodies.
        next_due_at_ms: When the next one after these is due (journal clock); None when nothing else waits.
    """

    deliveries: list[Delivery]
    next_due_at_ms: int | None


class Ref(msgspec.Struct, frozen=True):
    """Names one delivery for an operator's command."""

    event_id: str
    destination: str


class OperatorResult(msgspec.Struct):
    """What an operator's command did.

    Attributes:
        applied: How many deliveries changed.
        refused: For each other one, why: ``not_found``, ``pending``, ``dead``, ``not_dead``, ``corrupt``, ...
    """

    applied: int
    refused: list[tuple[Ref, str]]


class DeliveryView(msgspec.Struct):
    """One delivery, for people."""

    destination: str
    state: State
    round: int
    attempts: int
    due_at_ms: int  # journal clock; 0 when it does not wait
    due_in_ms: int | None  # from now; None when it does not wait
    reason: str
    log: tuple[Attempt, ...]
    finished_at_ms: int | None = None  # wall clock


class EventView(msgspec.Struct):
    """One event with all its deliveries, for people. ``event.body`` is whole."""

    event: Event
    deliveries: list[DeliveryView]


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for; empty fields match everything.

    Attributes:
        key: The provider's own id (exact) or our event id.
        contains: Bytes that the body contains.
        since_ms: Received at or after (wall clock).
        until_ms: Received before (wall clock).
        reason: DeadReason of a delivery.
        before_seq: Cursor: only events older than this one (0 = from the newest).
        limit: How many at most.
        max_scan: How many events to look at before giving back a partial page.
    """

    key: str = ""
    source: str = ""
    destination: str = ""
    state: State | None = None
    contains: bytes = b""
    since_ms: int = 0
    until_ms: int = 0
    reason: str = ""
    before_seq: int = 0
    limit: int = 50
    max_scan: int = 1_000_000


class EventPage(msgspec.Struct):
    """Events newest first, without their bodies (``event.body`` is empty, ``body_bytes`` tells the size).

    Attributes:
        events: What matched.
        body_bytes: Size of each one's body.
        scanned: How many events were looked at.
        oldest_ms: When the oldest event looked at was received; 0 when none was.
        next_before_seq: Cursor for the next page; 0 at the end.
    """

    events: list[EventView]
    body_bytes: list[int]
    scanned: int
    oldest_ms: int
    next_before_seq: int


class AuditRow(msgspec.Struct):
    """The books of one destination."""

    destination: str
    enqueued: int
    settled: int
    pending: int  # counted, not derived
    dying: int  # part of pending
    dead: int  # dead deliveries the journal still remembers

    @property
    def balanced(self) -> bool:
        """Whether enqueued = settled + pending."""
        return self.enqueued == self.settled + self.pending


class AuditReport(msgspec.Struct):
    """The books of all destinations.

    Attributes:
        rows: One for each destination that ever had a delivery.
        dead: (event id, destination) of each dead delivery the journal remembers; its file must exist or is gone.
        quarantined: Records that failed their checksum.
        events: Events counted.
        exact: Everything was counted in one snapshot; False when the journal was too large for that and the
            slices may have moved while they were counted.
    """

    rows: list[AuditRow]
    dead: list[Ref]
    quarantined: int
    events: int
    exact: bool = True


class Counters(msgspec.Struct, frozen=True):
    """The durable counters, as of the last commit.

    Attributes:
        enqueued: By (source, destination).
        settled: By (destination, outcome): delivered, dead, discarded, redirected.
        scheduled: By destination: pending deliveries that wait for a due time.
        dying: By destination: given up, file not written yet.
    """

    enqueued: Mapping[tuple[str, str], int]
    settled: Mapping[tuple[str, str], int]
    scheduled: Mapping[str, int]
    dying: Mapping[str, int]

    @property
    def owed(self) -> int:
        """Deliveries of all destinations that are owed: enqueued less settled."""
        return sum(self.enqueued.values()) - sum(self.settled.values())

    def pending(self, destination: str) -> int:
        """Deliveries of one destination that are owed: enqueued less settled."""
        return sum(n for (_, d), n in self.enqueued.items() if d == destination) - sum(
            n for (d, _), n in self.settled.items() if d == destination
        )


class JournalStats(msgspec.Struct):
    """How the journal is doing; cheap, from memory.

    Attributes:
        largest_batch: Most events one commit brought in since start.
        fill: used / capacity, 0.0 to 1.0.
        accepting: Whether an append would be taken now.
        refusal: Why not, when it would not.
    """

    journal_id: int
    path: str
    used_bytes: int
    capacity_bytes: int
    disk_free_bytes: int
    last_seq: int
    commits: int
    largest_batch: int
    dedup_keys: int
    fill: float
    accepting: bool
    refusal: Refusal | None
    last_commit_ago_s: float
    writer_stuck_s: float
    quarantined: int


class Refused(enum.StrEnum):
    """Why an operator's command did not apply to one delivery."""

    NOT_FOUND = "not_found"
    NOT_ALLOWED = "not_allowed"
    DYING = "dying"  # its dead-letter file is being written; soon it is dead
    CORRUPT = "corrupt"
    UNKNOWN_DESTINATION = "unknown_destination"
