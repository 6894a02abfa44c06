"""Journals that are full already: written with the journal's own records, without a million requests and flushes.

Nothing here syncs before the end, so a journal is of use only when the function has returned.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import lmdb

from sidecar.clock import Clock
from sidecar.journal import Journal, meta
from sidecar.journal.books import Books
from sidecar.journal.clock import ClockReading
from sidecar.journal.dedup_index import DedupEntry, DedupIndex
from sidecar.journal.environment import TABLES, Environment, open_environment
from sidecar.journal.records import (
    BLOCK_BYTES,
    BLOCK_EVENTS,
    DeliveryRow,
    deliveries_key,
    encode_event,
    events_block,
    events_key,
)
from sidecar.journal.types import JournalOptions
from sidecar.model import ACK_DEFAULT, Event, State
from tests.bench.webhook import PATH, body_of

__all__ = ["fill_backlog", "fill_keys"]

SOURCE, DESTINATION = "code", "app"
MAX_SIZE_BYTES = 64 << 30
TTL_MS = 7 * 86_400_000
_PER_COMMIT = 512  # blocks, or keys


@contextlib.contextmanager
def _open(path: Path, max_size_bytes: int) -> Iterator[tuple[Environment, lmdb.Environment, Books]]:
    """A new journal with one source and one destination, without syncing; its books are stored at the end."""
    options = JournalOptions(path=str(path), max_size_bytes=max_size_bytes)
    journal = Journal.open(options, Clock())
    journal.register([SOURCE], [DESTINATION])
    journal.close()
    clock = Clock()
    environment = open_environment(options, wall=_reading(clock))
    environment.close()
    env = lmdb.open(str(path), map_size=max_size_bytes, max_dbs=len(TABLES), sync=False, metasync=False)
    try:
        environment.names.acks.append(ACK_DEFAULT)
        environment.db = {name: env.open_db(name) for name in TABLES}
        books = Books.load(environment.state)
        yield environment, env, books
        with env.begin(write=True) as txn:
            table = environment.db[b"meta"]
            row = books.row(_reading(clock), clean=True)
            txn.put(b"state", meta.pack(row), db=table)
            txn.put(b"names", meta.pack(environment.names), db=table)
        env.sync(True)
    finally:
        env.close()


def _reading(clock: Clock) -> ClockReading:
    return ClockReading(clock.wall_ms(), clock.boot_id(), clock.boot_ms(), clock.wall_ms())


def fill_backlog(path: Path, count: int, body_bytes: int, *, max_size_bytes: int = MAX_SIZE_BYTES) -> None:
    """Write ``count`` events, each with one pending delivery; no dedup keys."""
    now_ms = Clock().wall_ms()
    headers = [
        (b"User-Agent", b"GitHub-Hookshot/044aadd"), (b"Content-Type", b"application/json"), (b"X-GitHub-Event", b"issues"),
        (b"X-Hub-Signature-256", b"sha256=" + b"0" * 64), (b"X-GitHub-Delivery", b"0" * 36),
    ]  # fmt: skip
    event = Event(
        source=SOURCE, destinations=(DESTINATION,), body=body_of(body_bytes), key="0" * 36, received_at_ms=now_ms,
        accepted_at_ms=now_ms, method=b"POST", path=PATH.encode(), query=b"", headers=headers, verified=True,
    )  # fmt: skip
    payload = encode_event(event, 0, [0])  # the same for all: its seq is in the checksum, its id made from it
    per_block = min(BLOCK_EVENTS, BLOCK_BYTES // len(payload))
    with _open(path, max_size_bytes) as (environment, env, books):
        db, first = environment.db, books.last_seq + 1
        last = first + count - 1
        while first <= last:
            with env.begin(write=True) as txn:
                for _ in range(_PER_COMMIT):
                    n = min(per_block, last - first + 1)
                    if n <= 0:
                        break
                    block = events_block(first, dict.fromkeys(range(n), (payload, False)), now_ms)
                    txn.put(events_key(first), block, db=db[b"events"], append=True)
                    key = deliveries_key(0, first)
                    row = DeliveryRow(bytearray([State.PENDING]) * n, now_ms).encode(key)
                    txn.put(key, row, db=db[b"deliveries"], append=True)
                    first += n
        books.enqueued[0, 0] = count
        books.last_seq = last


def fill_keys(path: Path, count: int, *, max_size_bytes: int = 16 << 30) -> None:
    """Claim ``count`` random dedup keys, spread over the last day of their time; no events."""
    now_ms = Clock().wall_ms()
    rng = random.Random(7)
    with _open(path, max_size_bytes) as (environment, env, books):
        index = DedupIndex(
            env, environment.db[b"dedup"], max_bytes=max_size_bytes // 4, secret=environment.identity.mac_key
        )
        with env.begin() as txn:
            index.load(txn)
        seq, last = books.last_seq + 1, books.last_seq + count
        while seq <= last:
            n = min(_PER_COMMIT, last - seq + 1)
            digests = rng.randbytes(16 * n)
            at_ms = now_ms - 86_400_000 + 86_400_000 * seq // last
            with env.begin(write=True) as txn:
                for i in range(n):
                    digest = digests[16 * i : 16 * i + 16]
                    entry = DedupEntry(seq + i, at_ms, 0, b"body", at_ms + TTL_MS, 0)
                    index.find(txn, digest, at_ms)
                    index.stage(digest, entry)
                index.write(txn, seq)
                index.maintain(txn, at_ms)
            index.committed()
            seq += n
        books.last_seq = last
