"""What a transaction does to arrivals: a repeat is answered like the first, everything else is packed into blocks.

Runs on the writer thread only, inside the writer's transaction; what it does to deliveries that are already there is
``changes``.
"""

from __future__ import annotations

import lmdb

from sidecar.journal.batch import Arrival, Batch
from sidecar.journal.block import Block, read_body
from sidecar.journal.books import Books
from sidecar.journal.changes import Changes, find_block
from sidecar.journal.dedup_index import DedupEntry, DedupIndex
from sidecar.journal.environment import Environment
from sidecar.journal.numbering import Numbers
from sidecar.journal.records import CorruptRecord, decode_event, event_slot
from sidecar.journal.types import Appended, Duplicate
from sidecar.model import format_event_id

__all__ = ["Arrivals"]

REVIVE_EVERY_MS = 600_000  # a repeat revives a dead delivery at most once in ten minutes


class Arrivals:
    """How arrivals get into the journal.

    Args:
        environment: The open journal.
        dedup: The keys that were claimed; what is staged here is for the writer to commit or abort.
        numbers: Of ack templates.
    """

    def __init__(self, environment: Environment, dedup: DedupIndex, numbers: Numbers) -> None:
        self._db = environment.db
        self._names = environment.names
        self._identity = environment.identity
        self._dedup = dedup
        self._numbers = numbers

    def append(self, txn: lmdb.Transaction, batch: Batch, books: Books, changes: Changes, now_ms: int) -> None:
        """Store a batch's arrivals, their keys and one delivery per destination; ``batch`` hears what came of each.

        Args:
            txn: The running write transaction.
            batch: Its ``replies`` and ``stored`` are filled, in order of arrival.
            books: The transaction's copy of the books.
            changes: The same transaction's changes to deliveries: a repeat may revive some.
            now_ms: Journal clock.
        """
        block = Block()
        for a in batch.arrivals:
            event = a.event
            if a.claim is not None:
                first = self._dedup.find(txn, a.claim.digest, now_ms)
                if first is not None and not (first.seq <= books.last_seq and self._is_lost(txn, first.seq, changes)):
                    batch.replies.append((a.done, self._duplicate(a, first, changes)))
                    continue
                entry = DedupEntry(
                    event.seq,
                    event.received_at_ms,
                    self._numbers.ack(a.ack),
                    a.claim.body_digest,
                    now_ms + a.claim.ttl_ms,
                    a.source,
                    0,
                )
                self._dedup.stage(a.claim.digest, entry)
            if not block.fits(event.seq, len(a.payload)):
                block.put(txn, self._db)
                block = Block()
            block.add(a)
            for destination in a.destinations:
                books.enter(a.source, destination)
            batch.stored.append(event)
            batch.replies.append((a.done, Appended(event)))
        if batch.stored:
            block.put(txn, self._db)
            self._dedup.write(txn, batch.stored[0].seq)
            books.last_seq = max(books.last_seq, batch.stored[-1].seq)

    def _is_lost(self, txn: lmdb.Transaction, seq: int, changes: Changes) -> bool:
        """Whether a committed event is owed and cannot be delivered any more: then its repeat takes its place.

        One that has ended everywhere is not lost, whatever became of its record: it was delivered, or its letter has it.
        """
        try:
            if not changes.is_owed(seq):
                return False
            found = find_block(txn, self._db[b"events"], seq)
            payload = event_slot(found[1], found[0], seq - found[0]) if found is not None else None
            if payload is None:
                return True
            read_body(txn, self._db, decode_event(payload), seq)
        except CorruptRecord:
            return True
        return False

    def _duplicate(self, a: Arrival, first: DedupEntry, changes: Changes) -> Duplicate:
        assert a.claim is not None
        revived = 0
        if a.claim.redrive_dead:
            revived = changes.revive_dead(first.seq, range(len(self._names.destinations)), REVIVE_EVERY_MS)
        return Duplicate(
            format_event_id(first.received_at_ms, self._identity.journal_id(first.seq), first.seq),
            self._names.acks[first.ack],
            first.body_digest != a.claim.body_digest,
            revived,
        )
