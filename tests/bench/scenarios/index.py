"""The dedup index alone beside a plain LMDB table with an expiry index: what claiming a new key costs each."""

from __future__ import annotations

import random
import shutil
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import lmdb

from sidecar.journal.dedup_index import DedupEntry, DedupIndex
from tests.bench.latency import summary
from tests.bench.subject import Bench

TTL_MS = 7 * 86_400_000
BATCH = 64
FILL_BATCH = 512
MEASURED = 20_000
SWITCH_INTERVAL_S = 0.0001  # as the daemon has it


def run(bench: Bench) -> dict[str, Any]:
    """CPU per claim at batch 64 with all keys there, alone and beside a busy thread; what unknown keys cost."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        return {"size": bench.scale.keys, **{kind.name: _look(bench, kind) for kind in (Index, Table)}}
    finally:
        sys.setswitchinterval(before)


def open_env(path: str, *, sync: bool, keys: int) -> lmdb.Environment:
    """An environment with room for so many keys."""
    return lmdb.open(path, map_size=(1 << 30) + keys * 400, max_dbs=3, sync=sync, metasync=sync)


class Index:
    """The one the journal has."""

    name = "index"

    def __init__(self, path: str, *, sync: bool, keys: int) -> None:
        self.env = open_env(path, sync=sync, keys=keys)
        self.db = self.env.open_db(b"dedup")
        self.index = DedupIndex(self.env, self.db, max_bytes=1 << 40, secret=b"0123456789abcdef")
        with self.env.begin() as txn:
            self.index.load(txn)

    def claim(self, digests: list[bytes], seq: int, now_ms: int) -> None:
        """Claim new keys in one commit."""
        index = self.index
        first = seq
        with self.env.begin(write=True) as txn:
            for digest in digests:
                if index.find(txn, digest, now_ms) is None:
                    index.stage(digest, DedupEntry(seq, now_ms, 1, b"body", now_ms + TTL_MS, 1))
                seq += 1
            index.write(txn, first)
            index.maintain(txn, now_ms)
        index.committed()

    def find(self, txn: Any, digest: bytes, now_ms: int) -> object:
        """Look one up."""
        return self.index.find(txn, digest, now_ms)


class Table:
    """A row per key, and one per expiry."""

    name = "table"

    def __init__(self, path: str, *, sync: bool, keys: int) -> None:
        self.env = open_env(path, sync=sync, keys=keys)
        self.db = self.env.open_db(b"dedup")
        self.expiry = self.env.open_db(b"expiry")

    def claim(self, digests: list[bytes], seq: int, now_ms: int) -> None:
        """Claim new keys in one commit."""
        rows, expiry = [], []
        with self.env.begin(write=True) as txn:
            for digest in digests:
                if txn.get(digest, db=self.db) is None:
                    rows.append((digest, struct.pack(">QQQ4sI", seq, now_ms, now_ms + TTL_MS, b"body", 1)))
                    expiry.append((struct.pack(">QQ", now_ms + TTL_MS, seq), digest))
                seq += 1
            with txn.cursor(db=self.db) as cursor:
                cursor.putmulti(sorted(rows))
            with txn.cursor(db=self.expiry) as cursor:
                cursor.putmulti(expiry, append=True)

    def find(self, txn: Any, digest: bytes, now_ms: int) -> object:
        """Look one up."""
        return txn.get(digest, db=self.db)


class Busy:
    """A thread that never gives the GIL up by itself, as a saturated event loop."""

    def __enter__(self) -> None:
        self._stop = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            sum(range(200))

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()


def _look(bench: Bench, kind: type[Index | Table]) -> dict[str, float]:
    path = tempfile.mkdtemp(dir=bench.folder)
    keys, rng = bench.scale.keys, random.Random(7)
    now_ms, seq = 1_000_000, 1
    try:
        store = kind(path, sync=False, keys=keys)
        for _ in range(0, keys, FILL_BATCH):
            store.claim(_digests(rng, FILL_BATCH), seq, now_ms)
            seq += FILL_BATCH
            now_ms += 1 + TTL_MS // 100 * FILL_BATCH // keys
        store.env.close()
        begin_s = time.monotonic()
        store = kind(path, sync=True, keys=keys)
        row = {"load_s": time.monotonic() - begin_s, "disk_bytes_per_key": _size(path) / keys}
        commits, cpu_s = [], time.process_time()
        for _ in range(0, MEASURED, BATCH):
            digests, begin_s = _digests(rng, BATCH), time.monotonic()
            store.claim(digests, seq, now_ms)
            commits.append(time.monotonic() - begin_s)
            seq += BATCH
            now_ms += 1
        row["claim_us"] = (time.process_time() - cpu_s) / (len(commits) * BATCH) * 1e6
        row |= {f"commit_{name}_ms": ms for name, ms in summary(commits).items() if name in {"p50", "p99"}}
        row["known_us"] = _known(store, keys, now_ms)
        with Busy():
            begin_s = time.monotonic()
            for _ in range(30):
                store.claim(_digests(rng, BATCH), seq, now_ms)
                seq += BATCH
            row["commit_beside_busy_loop_ms"] = (time.monotonic() - begin_s) / 30 * 1e3
        store.env.close()
    finally:
        shutil.rmtree(path)
    return row


def _digests(rng: random.Random, count: int) -> list[bytes]:
    block = rng.randbytes(16 * count)
    return [block[i : i + 16] for i in range(0, 16 * count, 16)]


def _known(store: Index | Table, keys: int, now_ms: int) -> float:
    """CPU µs to find each of the oldest keys; all must be there."""
    oldest = _digests(random.Random(7), min(FILL_BATCH, keys))
    cpu_s = time.process_time()
    with store.env.begin() as txn:
        found = sum(store.find(txn, digest, now_ms) is not None for digest in oldest)
    assert found == len(oldest), f"{found} of {len(oldest)} keys found"
    return (time.process_time() - cpu_s) / len(oldest) * 1e6


def _size(path: str) -> int:
    return (Path(path) / "data.mdb").stat().st_blocks * 512
