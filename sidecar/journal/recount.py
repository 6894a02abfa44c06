"""Whether all that is owed can still be found the way the lanes look for it.

Records carry checksums of ours, but the pages of LMDB's tree do not: one that rotted can lead past rows that are whole. No
read fails then, so that only counting notices it. Done on the reader thread some seconds after a start and now and then.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import lmdb
import msgspec

from sidecar.journal.books import Books
from sidecar.journal.records import CorruptRecord, DeliveryRow, due_key, split_key
from sidecar.journal.view import View
from sidecar.log import bug_text, get_logger
from sidecar.model import State

__all__ = ["MOST_ROWS", "Recount", "reachable"]

log = get_logger("journal")

MOST_ROWS = 30_000  # some 0.2 s, in which no lane can read; with more of them only an audit counts


class Recount:
    """Counts in one snapshot, and tells when it disagrees with the books.

    A destination with a damaged row is left out: such a row is told of by itself.

    Args:
        missing: Told how many deliveries of a destination are owed and not found (or found and not owed), again only
            when that changes. On the reader thread.
    """

    def __init__(self, missing: Callable[[int], None]) -> None:
        self._missing = missing
        self._told: dict[str, tuple[int, int]] = {}

    def result(self) -> None:
        """Nobody waits for it."""

    def step(self, view: View) -> bool:
        """Count everything; always finished, because another slice would see another moment."""
        if view.txn.stat(view.db[b"deliveries"])["entries"] > MOST_ROWS:
            return True
        try:
            uneven = self._uneven(view)
        except (CorruptRecord, lmdb.Error, msgspec.MsgspecError, struct.error, ValueError, LookupError) as e:
            log.error("what is owed cannot be counted; run: webhook-sidecar journal verify", error=bug_text(e))
            self._missing(1)
            return True
        for name, (owed, found) in uneven.items():
            if self._told.get(name) != (owed, found):
                log.error(
                    "not all that is owed can be found; run: webhook-sidecar journal verify",
                    destination=name,
                    owed=owed,
                    found=found,
                )
                self._missing(abs(owed - found))
        self._told = uneven
        return True

    def _uneven(self, view: View) -> dict[str, tuple[int, int]]:
        """Deliveries owed by the books, and found, of the destinations where that differs."""
        found: dict[int, int] = {}
        damaged: set[int] = set()
        with view.txn.cursor(view.db[b"deliveries"]) as cursor:
            for raw, value in cursor:
                key = bytes(raw)
                destination = int.from_bytes(key[:2], "big")
                try:
                    row = DeliveryRow.decode(key, bytes(value))
                    found[destination] = found.get(destination, 0) + reachable(view, destination, key, row)
                except CorruptRecord:
                    damaged.add(destination)
                    view.corrupt.append(int.from_bytes(key[2:10], "big"))
        names = view.environment.names
        counters = Books.load(view.state()).counters(names)
        pairs = {
            name: (counters.pending(name), found.get(number, 0))
            for number, name in enumerate(names.destinations)
            if number not in damaged
        }
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def reachable(view: View, destination: int, key: bytes, row: DeliveryRow) -> int:
    """How many of a row's deliveries can be claimed and settled."""
    if view.txn.get(key, db=view.db[b"deliveries"]) is None:
        return 0  # passed on the way from its neighbour, but not found by its name
    first, count = split_key(key[2:]), 0
    for slot, state in enumerate(row.states):
        if state == State.DYING or (state == State.PENDING and slot in row.records):
            due = due_key(destination, row.record(slot).due_at_ms, first + slot)
            count += view.txn.get(due, db=view.db[b"due"]) is not None
        else:
            count += state == State.PENDING
    return count
