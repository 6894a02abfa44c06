"""What may be pruned, and pruning it in small slices inside the writer's transactions.

Blocks are looked at in order of arrival. One in which something is still owed is skipped and comes back
when its last delivery ends. When the journal fills up (``limits.early_fill``) the oldest finished blocks
go before their time.
"""

from __future__ import annotations

from collections import deque

import lmdb

from sidecar.journal.environment import Environment
from sidecar.journal.records import (
    CorruptRecord,
    block_head,
    bodies_key,
    deliveries_key,
    event_slots,
    events_key,
    history_key,
    split_key,
)

__all__ = ["Retention"]


class Retention:
    """The prune cursor. All methods run on the writer thread.

    Args:
        environment: The open journal.
        retention_ms: How long finished events stay at most.
    """

    def __init__(self, environment: Environment, retention_ms: int) -> None:
        self._db = environment.db
        self._names = environment.names
        self.retention_ms = retention_ms
        self._cursor = 0  # every block before it was looked at
        self._behind: deque[int] = deque()  # blocks before it that have nothing owed any more
        self._staged_cursor = 0
        self._staged_behind = 0
        self._wake_at_ms = 0  # nothing to do before this, unless the journal fills up
        self._early_at_ms = 0  # for want of room: not again before this, when nothing was left to prune
        self.pruned_events = 0

    def closed(self, firsts: set[int]) -> None:
        """Blocks whose last delivery ended in a transaction that has committed."""
        self._behind.extend(first for first in firsts if first < self._cursor)

    def has_work(self, now_ms: int, *, early: bool) -> bool:
        """Whether a slice now would find something to look at; ``early``: finished events go before their time."""
        return bool(self._behind) or now_ms >= self._wake_at_ms or (early and now_ms >= self._early_at_ms)

    def slice(self, txn: lmdb.Transaction, now_ms: int, *, early: bool, max_blocks: int = 8) -> int:
        """Prune up to ``max_blocks`` blocks; how many events went. Follow with ``committed`` or ``aborted``."""
        self._staged_cursor = self._cursor
        self._staged_behind = 0
        if not self.has_work(now_ms, early=early):
            return 0
        pruned = 0
        for first in list(self._behind)[:max_blocks]:
            self._staged_behind += 1
            block = txn.get(events_key(first), db=self._db[b"events"])
            if block is None or self._owed(txn, first):
                continue
            if early or _accepted_at_ms(bytes(block), now_ms) is not None:
                pruned += self._prune(txn, first, bytes(block))
        with txn.cursor(self._db[b"events"]) as cursor:
            looked = self._staged_behind
            found = cursor.set_range(events_key(self._cursor))
            while found and looked < max_blocks:
                looked += 1
                first, block = split_key(bytes(cursor.key())), bytes(cursor.value())
                accepted_at_ms = _accepted_at_ms(block, now_ms)
                if not early and accepted_at_ms is not None and accepted_at_ms + self.retention_ms > now_ms:
                    self._wake_at_ms = accepted_at_ms + self.retention_ms
                    break
                self._staged_cursor = first + 1
                damaged = accepted_at_ms is None  # kept while there is room: whoever looks into it wants to see it
                if self._owed(txn, first) or (damaged and not early):
                    found = cursor.next()
                else:
                    pruned += self._prune(txn, first, block)
                    found = cursor.set_range(events_key(first + 1))
            if not found:
                self._wake_at_ms = now_ms + min(max(self.retention_ms, 1000), 60_000)
                self._early_at_ms = now_ms + 1000
        return pruned

    def committed(self, pruned: int) -> None:
        """The transaction of the last slice is on disk."""
        self._cursor = self._staged_cursor
        for _ in range(self._staged_behind):
            self._behind.popleft()
        self._staged_behind = 0
        self.pruned_events += pruned

    def aborted(self) -> None:
        """The transaction of the last slice is gone."""
        self._staged_cursor = self._cursor
        self._staged_behind = 0
        self._wake_at_ms = 0

    def _owed(self, txn: lmdb.Transaction, first: int) -> bool:
        db = self._db[b"deliveries"]
        return any(txn.get(deliveries_key(d, first), db=db) is not None for d in range(len(self._names.destinations)))

    def _prune(self, txn: lmdb.Transaction, first: int, block: bytes) -> int:
        try:
            slots = list(event_slots(block))
        except CorruptRecord:
            slots = []
        with txn.cursor(self._db[b"bodies"]) as bodies:
            for slot, in_parts in slots:
                seq = first + slot
                found = in_parts and bodies.set_range(bodies_key(seq, 0))
                while found and bytes(bodies.key())[:8] == events_key(seq):
                    found = bodies.delete()  # moves on to the next row
        with txn.cursor(self._db[b"history"]) as history:
            found = history.set_range(history_key(first, 0))
            while found and bytes(history.key())[:8] == events_key(first):
                found = history.delete()
        txn.delete(events_key(first), db=self._db[b"events"])
        return len(slots)


def _accepted_at_ms(block: bytes, now_ms: int) -> int | None:
    """Journal clock of a block's newest event; None where its head is damaged, which a time to come shows, too."""
    try:
        accepted_at_ms = block_head(block)[1]
    except CorruptRecord:
        return None
    return accepted_at_ms if accepted_at_ms <= now_ms else None
