"""What operators' commands do inside the writer's transaction: delivery by delivery, each applied or refused with a reason.

Runs on the writer thread only. What a change means for a delivery is in ``changes``; here is which ones are meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.journal.batch import Work
from sidecar.journal.block import put_body
from sidecar.journal.environment import Environment
from sidecar.journal.numbering import Numbers
from sidecar.journal.records import CorruptRecord, block_head, events_block, events_key
from sidecar.journal.types import OperatorResult, Ref, Refused
from sidecar.lifecycle import Change
from sidecar.model import Attempt, Event, parse_event_id

__all__ = ["Commands"]


class Commands:
    """The commands of one open journal.

    Args:
        environment: The open journal.
        numbers: Of destinations.
    """

    def __init__(self, environment: Environment, numbers: Numbers) -> None:
        self._db = environment.db
        self._identity = environment.identity
        self._destinations = numbers.destinations

    def change(self, work: Work, refs: Sequence[Ref], change: Change, to: str | None) -> OperatorResult:
        """Apply one change to deliveries, or, with ``to``, to the same events' deliveries at that destination."""
        changes, numbers = work.changes, self._destinations

        def run(seq: int, ref: Ref) -> Refused | None:
            if to is not None and changes.is_dying(seq, numbers[ref.destination]):
                return Refused.DYING
            return changes.change(seq, numbers[to or ref.destination], change)

        return self._each(refs, to, run)

    def redirect(self, work: Work, refs: Sequence[Ref], to: str) -> OperatorResult:
        """Settle deliveries as redirected; each is pending at ``to`` instead."""
        numbers = self._destinations
        return self._each(refs, to, lambda seq, ref: work.changes.redirect(seq, numbers[ref.destination], numbers[to]))

    def restore(self, work: Work, event: Event, payload: bytes, destination: int, log: Sequence[Attempt]) -> bool:
        """Bring an event back as a block of its own, pending at one destination in a new round.

        Args:
            work: The running transaction.
            event: With its number; its block is set here.
            payload: The same, encoded.
            destination: Who gets it.
            log: Attempts made before.

        Returns:
            False when the journal still has an event of this number: a replay is what was meant.
        """
        first, slot = event.seq, 0
        if work.changes.block_of(event.seq) is not None:
            return False
        in_parts = put_body(work.txn, self._db, event)
        block = events_block(first, {slot: (payload, in_parts)}, self._time_in_line(work, first))
        work.txn.put(events_key(first), block, db=self._db[b"events"])
        event.block = first
        round_ = max((a.round for a in log), default=0) + 1
        work.changes.enter(first, slot, destination, round_, list(log))
        work.books.last_seq = max(work.books.last_seq, event.seq)
        return True

    def _time_in_line(self, work: Work, first: int) -> int:
        """The time of a block that comes back: pruning takes blocks for sorted by it, and would stop at a younger one."""
        with work.txn.cursor(self._db[b"events"]) as cursor:
            behind = cursor.set_range(events_key(first))
            try:
                return min(work.now_ms, block_head(cursor.value())[1]) if behind else work.now_ms
            except CorruptRecord:
                return work.now_ms

    def _each(self, refs: Sequence[Ref], to: str | None, run: Callable[[int, Ref], Refused | None]) -> OperatorResult:
        result = OperatorResult(0, [])
        for ref in refs:
            seq = self._find(ref, to)
            refused = seq if isinstance(seq, Refused) else run(seq, ref)
            if refused is None:
                result.applied += 1
            else:
                result.refused.append((ref, refused.value))
        return result

    def _find(self, ref: Ref, to: str | None) -> int | Refused:
        """The number of a delivery's event, where it is one of ours and every destination is known."""
        parsed = parse_event_id(ref.event_id)
        if parsed is None or parsed[1] != self._identity.journal_id(parsed[2]):
            return Refused.NOT_FOUND
        known = self._destinations
        if ref.destination not in known or (to is not None and to not in known):
            return Refused.UNKNOWN_DESTINATION
        return parsed[2]
