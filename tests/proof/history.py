"""The history of a run, from all sides, against a small model: what senders know, what backends got, what is on disk.

Used after every run that kills, breaks or starves the daemon. The journal is read as it lies there, without a daemon.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.clock import Clock
from sidecar.errors import SidecarError
from sidecar.journal import Journal
from sidecar.journal.lookups import AuditScan
from sidecar.journal.records import CorruptRecord, event_slots, split_key
from sidecar.journal.types import AuditReport, AuditRow, EventView, JournalOptions
from sidecar.journal.view import View
from sidecar.model import Attempt, State
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters
from sidecar.outbound.retry import RetryPolicy

__all__ = ["Accepted", "Got", "History", "Stored", "audited", "compare", "digest", "read_journal"]

EARLY_MS = 60  # a clock read at either end, rounded


def digest(body: bytes) -> bytes:
    """Stands for a body."""
    return hashlib.sha256(body).digest()


@dataclass(frozen=True)
class Accepted:
    """What a sender knows of one webhook that was acknowledged."""

    key: str
    event_id: str
    body: bytes  # its digest


@dataclass(frozen=True)
class Got:
    """One request that a backend got, and whether it answered 2xx."""

    destination: str
    event_id: str
    key: str
    body: bytes  # its digest
    taken: bool = True


@dataclass
class Stored:
    """What lies in a journal."""

    events: dict[str, EventView] = field(default_factory=dict)
    rows: list[AuditRow] = field(default_factory=list)
    quarantined: int = 0
    letters: dict[tuple[str, str], bytes] = field(default_factory=dict)  # (destination, event id) -> digest of the body
    unreadable: list[str] = field(default_factory=list)


@dataclass
class History:
    """One run.

    Attributes:
        accepted: Every acknowledgement that some sender got, repeats included.
        got: Every request that some backend got, in any order.
        stored: What is on disk now.
        policies: The retry policy of each destination whose attempts are to be timed.
        forgotten: Event ids that may be gone because they were pruned.
    """

    accepted: Iterable[Accepted]
    got: Iterable[Got]
    stored: Stored
    policies: Mapping[str, RetryPolicy] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()


def compare(history: History) -> list[str]:
    """Hold all sides against each other; what is wrong, a line each."""
    return [*_acknowledged(history), *_conserved(history), *_delivered(history), *_once(history), *_timed(history)]


def _acknowledged(h: History) -> Iterator[str]:
    """Acknowledged means stored, with the same bytes, and a repeat is answered with the first one's id."""
    ids: dict[str, str] = {}
    for a in h.accepted:
        if ids.setdefault(a.key, a.event_id) != a.event_id:
            yield f"{a.key} was acknowledged as {ids[a.key]} and as {a.event_id}"
        view = h.stored.events.get(a.event_id)
        if view is None:
            if a.event_id not in h.forgotten:
                yield f"acknowledged event {a.event_id} ({a.key}) is gone"
        elif digest(view.event.body) != a.body:
            yield f"acknowledged event {a.event_id} ({a.key}) has other bytes"


def _conserved(h: History) -> Iterator[str]:
    """Enqueued = settled + pending, counted from the deliveries themselves and not from the books alone."""
    if h.stored.quarantined or h.stored.unreadable:
        yield f"{h.stored.quarantined} damaged records, unreadable: {h.stored.unreadable[:3]}"
    states: dict[str, Counter[State]] = defaultdict(Counter)
    for view in h.stored.events.values():
        for d in view.deliveries:
            states[d.destination][d.state] += 1
        missing = set(view.event.destinations) - {d.destination for d in view.deliveries}
        if missing:
            yield f"{view.event.id} is owed to {sorted(missing)}, and nothing there knows of it"
    for row in h.stored.rows:
        if not row.balanced:
            yield f"the books of {row.destination} do not balance: {row}"
        open_ = sum(n for state, n in states[row.destination].items() if state.is_open)
        if open_ != row.pending:
            yield f"{row.destination}: {open_} deliveries are open, the books say {row.pending}"
    for view in h.stored.events.values():
        for d in view.deliveries:
            if d.state is State.DEAD:
                letter = h.stored.letters.get((d.destination, view.event.id))
                if letter is None:
                    yield f"{view.event.id} is dead at {d.destination} without a letter"
                elif letter != digest(view.event.body):
                    yield f"the letter of {view.event.id} at {d.destination} has other bytes"


def _delivered(h: History) -> Iterator[str]:
    """What counts as delivered arrived; what arrived had been stored, with these bytes."""
    taken = set()
    for g in h.got:
        view = h.stored.events.get(g.event_id)
        if view is None:
            if g.event_id not in h.forgotten:
                yield f"{g.destination} got {g.event_id}, which was never stored"
        elif digest(view.event.body) != g.body:
            yield f"{g.destination} got {g.event_id} with altered bytes"
        if g.taken:
            taken.add((g.destination, g.event_id))
    for view in h.stored.events.values():
        for d in view.deliveries:
            if d.state is State.DELIVERED and (d.destination, view.event.id) not in taken:
                yield f"{view.event.id} counts as delivered to {d.destination}, which never took it"


def _once(h: History) -> Iterator[str]:
    """One dedup key is one event."""
    stored = Counter(v.event.key for v in h.stored.events.values() if v.event.key)
    yield from (f"{key} is stored {n} times" for key, n in stored.items() if n > 1)
    ids: dict[str, set[str]] = defaultdict(set)
    for g in h.got:
        if g.key:
            ids[g.key].add(g.event_id)
    yield from (f"{key} was delivered as {sorted(found)}" for key, found in ids.items() if len(found) > 1)


def _timed(h: History) -> Iterator[str]:
    """No attempt starts before its wait is over, and none is made after the budget is used up."""
    for view in h.stored.events.values():
        for d in view.deliveries:
            policy = h.policies.get(d.destination)
            if policy is None:
                continue
            if d.attempts > policy.max_attempts:
                yield f"{view.event.id} at {d.destination}: {d.attempts} attempts of {policy.max_attempts}"
            yield from (f"{view.event.id} at {d.destination}: {w}" for w in too_early(d.log, policy))


def too_early(log: Iterable[Attempt], policy: RetryPolicy) -> Iterator[str]:
    """Attempts of one round that started before the shortest wait that the policy allows."""
    before: Attempt | None = None
    for attempt in log:
        if before is not None and attempt.round == before.round and attempt.number == before.number + 1:
            wait_ms = 1000 * min(policy.max_delay_s, policy.base_s * policy.factor ** (before.number - 1))
            waited_ms = attempt.started_at_ms - before.started_at_ms - before.duration_ms
            if waited_ms < wait_ms * (1 - policy.jitter) - EARLY_MS:
                yield f"attempt {attempt.number} came {waited_ms} ms after the last, not {wait_ms:.0f}"
        before = attempt


def audited(view: View) -> AuditReport:
    """A full audit in one look, however long it takes."""
    audit = AuditScan(full=True, patience_s=None)
    while not audit.step(view):
        pass
    return audit.result()


def read_journal(journal: Path, letters: Path) -> Stored:
    """Read everything that a process left, read only.

    Raises:
        SidecarError: The journal cannot be opened.
    """
    found = Stored()
    if not (journal / "data.mdb").exists():
        return found
    opened = Journal.open(JournalOptions(path=str(journal)), Clock(), read_only=True)
    try:
        environment = opened._environment
        with environment.env.begin() as txn:
            view = View(environment, txn, Clock())
            view.extend(None)
            report = audited(view)
            found.rows, found.quarantined = report.rows, report.quarantined
            for key, block in txn.cursor(db=view.db[b"events"]):
                first = split_key(bytes(key))
                for slot, _ in event_slots(bytes(block)):
                    try:
                        one = view.event_view(first + slot, 0)
                    except CorruptRecord as e:
                        found.unreadable.append(f"seq {first + slot}: {e}")
                        continue
                    if one is not None:
                        found.events[one.event.id] = one
        box = DeadLetters(DeadLetterOptions(path=str(letters)), opened.mac_key)
        for row in box.ls(limit=1_000_000):
            reading = box.read(row.event_id, row.destination)
            if reading.problem is not None or reading.letter is None:
                found.unreadable.append(f"letter {row.destination}/{row.event_id}: {reading.problem}")
            else:
                found.letters[row.destination, row.event_id] = digest(reading.letter.delivery.event.body)
    finally:
        opened.close()
    return found


def read_or_complain(journal: Path, letters: Path) -> tuple[Stored, list[str]]:
    """The same where a journal that cannot be opened is something found."""
    try:
        return read_journal(journal, letters), []
    except SidecarError as e:
        return Stored(), [f"the journal cannot be opened: {e}"]
