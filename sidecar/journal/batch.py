"""What one transaction of the writer takes on, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import lmdb
import msgspec

from sidecar.journal.books import Books
from sidecar.journal.changes import Changes
from sidecar.journal.records import CorruptRecord
from sidecar.journal.types import AppendDone, Appended, Claim, Duplicate, Settlement
from sidecar.model import AckTemplate, Event, Refusal

__all__ = ["Arrival", "Batch", "Command", "Work"]


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

    def apply(self, work: Work) -> None:
        """Run it; where the record that it is about is damaged, that is its result: the rest of the batch is not."""
        try:
            self.result = self.run(work)
        except CorruptRecord as e:
            self.result = e


class Batch(msgspec.Struct):
    """What one transaction takes on, and what came of it."""

    settlements: list[Settlement]
    commands: list[Command]
    arrivals: list[Arrival]
    applied: list[bool] = []
    replies: list[tuple[AppendDone, Appended | Duplicate | Refusal]] = []
    stored: list[Event] = []
    due: list[str] = []
    withdrawn: list[str] = []
