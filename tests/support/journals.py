"""A real journal for tests: opened in a temporary folder, driven on the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import lmdb

from sidecar.clock import Clock
from sidecar.journal import Journal
from sidecar.journal.types import Appended, Claim, Duplicate, JournalOptions, Settlement
from sidecar.lifecycle import Change
from sidecar.metrics import Metrics
from sidecar.model import ACK_DEFAULT, AckTemplate, Attempt, Delivery, Event, Refusal

SOURCES = ("shop", "code")
DESTINATIONS = ("app", "mail", "audit")


def make_event(
    body: bytes = b"{}", *, source: str = "shop", destinations: Sequence[str] = ("app",), key: str = "", **fields: Any
) -> Event:
    """An event as the inbound lane would hand it over."""
    given: dict[str, Any] = {
        "received_at_ms": 1_800_000_000_000,
        "method": b"POST",
        "path": b"/webhooks/" + source.encode(),
        "query": b"",
        "headers": [(b"Content-Type", b"application/json"), (b"X-Id", key.encode())],
        "verified": True,
    }
    return Event(source=source, destinations=tuple(destinations), body=body, key=key, **(given | fields))


def make_claim(name: str, *, body: bytes = b"{}", ttl_ms: int = 86_400_000, redrive_dead: bool = True) -> Claim:
    """A dedup key called ``name``."""
    return Claim(name.encode().ljust(16, b"."), body[:4].ljust(4, b"."), ttl_ms, redrive_dead)


def rot_row(path: str, table: bytes, key: bytes, at: int) -> None:
    """Flip a bit of a row's value while nobody has the journal open."""
    with lmdb.open(path, max_dbs=16) as env:
        db = env.open_db(table, create=False)
        with env.begin(write=True) as txn:
            value = bytearray(txn.get(key, db=db))
            value[at] ^= 1
            txn.put(key, bytes(value), db=db)


class Books:
    """One open journal and what it told the loop."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.batches: list[tuple[list[Event], int]] = []
        self.due: list[str] = []
        self.fatal: list[BaseException] = []

    @classmethod
    def open(cls, path: str, clock: Clock | None = None, **options: Any) -> Books:
        """Open and start a journal on the running loop."""
        keep = {k: options.pop(k) for k in ("failpoint", "metrics", "read_only") if k in options}
        keep.setdefault("metrics", Metrics())
        journal = Journal.open(JournalOptions(path=path, **options), clock or Clock(), **keep)
        if not keep.get("read_only"):
            journal.register(SOURCES, DESTINATIONS)
        books = cls(journal)
        journal.start(
            asyncio.get_running_loop(),
            on_batch=lambda events, last: books.batches.append((events, last)),
            on_due=books.due.append,
            on_fatal=books.fatal.append,
        )
        return books

    def append_later(
        self, event: Event, claim: Claim | None = None, ack: AckTemplate = ACK_DEFAULT
    ) -> asyncio.Future[Appended | Duplicate | Refusal]:
        """Append; the future holds the answer."""
        future: asyncio.Future[Appended | Duplicate | Refusal] = asyncio.get_running_loop().create_future()
        self.journal.append(event, claim, ack, future.set_result)
        return future

    async def append(
        self, event: Event, claim: Claim | None = None, ack: AckTemplate = ACK_DEFAULT
    ) -> Appended | Duplicate | Refusal:
        """Append and wait for the answer."""
        return await self.append_later(event, claim, ack)

    async def stored(self, body: bytes = b"{}", **fields: Any) -> Event:
        """Append an event that must be taken."""
        answer = await self.append(make_event(body, **fields))
        assert isinstance(answer, Appended)
        return answer.event

    async def settle(
        self,
        delivery: Delivery,
        change: Change,
        *,
        due_at_ms: int = 0,
        status: int | None = None,
        reason: str = "",
        counted: bool | None = None,
    ) -> bool:
        """Settle and wait; whether it still applied."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        attempt = None
        if counted if counted is not None else change in (Change.SUCCEED, Change.RETRY, Change.GIVE_UP):
            number = delivery.attempts + 1
            attempt = Attempt(
                number, 1_800_000_000_000, 5, f"{(status or 200) // 100}xx", status or 200, "", delivery.round
            )
        self.journal.settle(
            Settlement(delivery, change, attempt, due_at_ms, reason, lambda _s, ok: future.set_result(ok))
        )
        return await future

    async def fresh(self, destination: str = "app", from_seq: int = 0, **limits: Any) -> list[Delivery]:
        """All fresh deliveries from a seq on, window by window."""
        found: list[Delivery] = []
        given = {"max_events": 100, "max_bytes": 1 << 20, "skip": ()} | limits
        while True:
            window = await self.journal.window(destination, from_seq, **given)
            found += window.deliveries
            from_seq = window.covered_to + 1
            if window.at_end:
                return found

    async def due_now(self, destination: str = "app", **limits: Any) -> list[Delivery]:
        """What is due."""
        given = {"max_events": 100, "max_bytes": 1 << 20, "skip": ()} | limits
        return (await self.journal.due(destination, **given)).deliveries

    async def settle_nothing(self) -> None:
        """Let a transaction pass that brings nothing: what it does on the side (pruning) happens."""
        await self.journal.register_live((), ())
