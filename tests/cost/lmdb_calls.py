"""LMDB calls per batch: each one gives up the GIL, and under load that costs the writer thread a wait.

The environment is wrapped in this process, so every call of a write transaction and of its cursors is counted. The writer
is held at a fail point until the next batch has gathered, so that a batch holds exactly what the check says.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from sidecar.journal.types import Settlement
from sidecar.lifecycle import Change
from sidecar.model import Attempt, Delivery
from tests.support.journals import Books, make_claim, make_event

__all__ = ["lmdb_calls"]

BATCH = 64
PATIENCE_S = 30.0
TRIES = 5
_FREE = {"key", "value", "item", "id", "stat", "commit", "abort"}  # from memory, or once a transaction


class Counting:
    """An LMDB object that counts what is called on it, and so do the cursors it gives."""

    def __init__(self, inner: Any, counts: Counter[str]) -> None:
        self._inner, self._counts = inner, counts

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *exc: object) -> Any:
        return self._inner.__exit__(*exc)

    def __iter__(self) -> Iterator[Any]:
        for row in self._inner:
            self._counts["iterate"] += 1
            yield row

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in _FREE or not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._counts[name] += 1
            result = found(*arguments, **named)
            if name == "cursor" or name.startswith("iter"):
                return Counting(result, self._counts)
            return result

        return call


class Held:
    """The environment, wrapped, and the writer held before a transaction where it is asked to be."""

    def __init__(self, *, extra_put: bool) -> None:
        self.transactions: list[Counter[str]] = []  # the calls of each one committed since the last hold
        self.hold = False
        self.begun, self.go = threading.Event(), threading.Event()
        self.environment: Any = None
        self._txn: Any = None
        self._counts: Counter[str] = Counter()
        self._extra_put = extra_put

    def wrap(self, journal: Any) -> None:
        """Stand between the journal and LMDB."""
        self.environment = journal._environment
        inner = self.environment.env
        held = self

        class Env:
            def __getattr__(self, name: str) -> Any:
                return getattr(inner, name)

            def begin(self, *arguments: Any, **named: Any) -> Any:
                txn = inner.begin(*arguments, **named)
                if not named.get("write"):
                    return txn
                held._txn = Counting(txn, held._counts)
                return held._txn

        self.environment.env = Env()

    def failpoint(self, name: str) -> None:
        """What the journal calls at its named points, on the writer's thread."""
        if name == "begin":
            if self.hold:
                self.hold = False
                self.transactions.clear()
                self.begun.set()
                assert self.go.wait(PATIENCE_S)
            self._counts.clear()
        elif name == "before_commit" and self._extra_put and self._txn is not None:
            for n in range(BATCH):
                self._txn.put(b"extra%d" % n, b"", db=self.environment.db[b"meta"])
        elif name == "after_commit":
            self.transactions.append(Counter(self._counts))


async def lmdb_calls(
    folder: Path, *, destinations: tuple[str, ...] = ("app",), settle: bool = False, extra_put: bool = False
) -> Counter[str]:
    """Calls of one transaction that brings in 64 events, and settles 64 where asked to.

    Args:
        folder: For the journal.
        destinations: Of each event.
        settle: Settle 64 deliveries of an earlier batch in the same transaction.
        extra_put: A deliberate regression: one more put for each event.
    """
    held = Held(extra_put=extra_put)
    books = Books.open(str(folder / "journal"), failpoint=held.failpoint)
    held.wrap(books.journal)
    try:
        for _ in range(TRIES):
            await _gathered(books, held, destinations)
            stored = books.batches[-1][0]
            due = [Delivery(event, "app", started_at_ms=event.accepted_at_ms) for event in stored] if settle else []
            found = await _gathered(books, held, destinations, due)
            if found is not None:
                return found
        raise AssertionError(f"no batch of {BATCH} gathered in {TRIES} tries")
    finally:
        await books.journal.aclose()


async def _gathered(
    books: Books, held: Held, destinations: tuple[str, ...], due: Sequence[Delivery] = ()
) -> Counter[str] | None:
    """Commit one event alone, and what gathers meanwhile as one batch behind it.

    Returns:
        The calls of that one; None when the journal did some tidying of its own just then and the batch is another.
    """
    settled: list[bool] = []
    held.begun.clear()
    held.go.clear()
    held.hold = True
    first = _append(books, destinations, 1)
    assert await asyncio.to_thread(held.begun.wait, PATIENCE_S)
    for delivery in due:
        attempt = Attempt(1, 1_800_000_000_000, 5, "2xx", 200)
        books.journal.settle(
            Settlement(delivery, Change.SUCCEED, attempt, done=lambda _, applied: settled.append(applied))
        )
    rest = _append(books, destinations, BATCH)
    held.go.set()
    await asyncio.wait_for(asyncio.gather(*first, *rest), PATIENCE_S)
    assert settled == [True] * len(due)
    return held.transactions[1] if len(books.batches[-1][0]) == BATCH else None


def _append(books: Books, destinations: tuple[str, ...], count: int) -> list[asyncio.Future[Any]]:
    events = [make_event(destinations=destinations, key=os.urandom(8).hex()) for _ in range(count)]
    return [books.append_later(event, make_claim(event.key)) for event in events]
