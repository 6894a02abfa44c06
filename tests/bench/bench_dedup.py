"""What a claim of a new dedup key costs: the index against a plain LMDB table with an expiry index.

    python tests/bench/bench_dedup.py [--keys 2000000] [--batch 64] [--measured 20000] [--dir DIR]

Fills both with the same number of keys without syncing, then claims new ones in batches with one synced commit each,
and prints CPU time (user + sys of this process), which is stable where wall time on a shared machine is not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import struct
import tempfile
import threading
import time

import lmdb

from sidecar.journal.dedup_index import DedupEntry, DedupIndex

TTL_MS = 7 * 86_400_000


def open_env(path: str, *, sync: bool, keys: int) -> lmdb.Environment:
    return lmdb.open(path, map_size=(1 << 30) + keys * 400, max_dbs=3, sync=sync, metasync=sync)


def rss_anon_mb() -> float:
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("RssAnon"))


class Timer:
    """CPU and wall time of what runs inside."""

    def __enter__(self):
        self.cpu, self.wall = time.process_time(), time.monotonic()
        return self

    def __exit__(self, *_):
        self.cpu, self.wall = time.process_time() - self.cpu, time.monotonic() - self.wall


class Index:
    name = "index"

    def __init__(self, path: str, *, sync: bool, keys: int):
        self.env = open_env(path, sync=sync, keys=keys)
        self.db = self.env.open_db(b"dedup")
        self.index = DedupIndex(self.env, self.db, max_bytes=1 << 40, secret=b"0123456789abcdef")
        with Timer() as t, self.env.begin() as txn:
            self.index.load(txn)
        self.load_s = t.wall

    def claim(self, digests, seq, now_ms):
        index = self.index
        txn = self.env.begin(write=True)
        for digest in digests:
            if index.find(txn, digest, now_ms) is None:
                index.stage(digest, DedupEntry(seq, now_ms, 1, b"body", now_ms + TTL_MS, 1))
            seq += 1
        index.write(txn, seq - len(digests))
        index.maintain(txn, now_ms)
        txn.commit()
        index.committed()

    def find(self, txn, digest, now_ms):
        return self.index.find(txn, digest, now_ms)


class Table:
    """A row per key, and one per expiry."""

    name = "table"

    def __init__(self, path: str, *, sync: bool, keys: int):
        self.env = open_env(path, sync=sync, keys=keys)
        self.db = self.env.open_db(b"dedup")
        self.expiry = self.env.open_db(b"expiry")
        self.load_s = 0.0

    def claim(self, digests, seq, now_ms):
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

    def find(self, txn, digest, now_ms):
        return txn.get(digest, db=self.db)


class Busy:
    """A thread that never gives the GIL up by itself, as a saturated event loop."""

    def __enter__(self):
        self.stop = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop:
            sum(range(200))

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()


def run(kind, path, args) -> None:
    rng = random.Random(7)
    now_ms, seq = 1_000_000, 1
    fill = args.fill_batch
    store = kind(path, sync=False, keys=args.keys)
    with Timer() as t:
        for _ in range(0, args.keys, fill):
            block = rng.randbytes(16 * fill)
            store.claim([block[i : i + 16] for i in range(0, 16 * fill, 16)], seq, now_ms)
            seq += fill
            now_ms += 1 + TTL_MS // 100 * fill // max(args.keys, 1)
    store.env.close()
    print(f"{kind.name}: filled {args.keys:,} in {t.wall:.0f} s, {t.cpu / max(args.keys, 1) * 1e6:.1f} µs CPU a key")
    del store
    before_mb = rss_anon_mb()
    store = kind(path, sync=True, keys=args.keys)
    size = os.stat(os.path.join(path, "data.mdb")).st_blocks * 512
    print(f"{kind.name}: file {size / 1e6:.0f} MB, opened in {store.load_s:.2f} s, +{rss_anon_mb() - before_mb:.0f} MB")
    waits, slowest = [], []
    with Timer() as t:
        for _ in range(0, args.measured, args.batch):
            block = rng.randbytes(16 * args.batch)
            with Timer() as one:
                store.claim([block[i : i + 16] for i in range(0, 16 * args.batch, 16)], seq, now_ms)
            waits.append(one.wall)
            slowest.append(one.cpu)
            seq += args.batch
            now_ms += 1
    n = len(waits) * args.batch
    waits.sort()
    slowest.sort()
    print(
        f"{kind.name}: claim of a new key at batch {args.batch}: {t.cpu / n * 1e6:.1f} µs CPU;"
        f" commit {t.wall / len(waits) * 1e3:.1f} ms, p99 {waits[int(len(waits) * 0.99)] * 1e3:.1f} ms;"
        f" CPU of a batch p50 {slowest[len(slowest) // 2] * 1e3:.2f} ms, p99 {slowest[int(len(slowest) * 0.99)] * 1e3:.2f} ms"
    )
    if kind is Index:
        asked = [rng.randbytes(16) for _ in range(20_000)]
        with Timer() as t:
            true = sum(map(store.index.maybe, asked))
        print(f"{kind.name}: maybe {t.cpu / len(asked) * 1e6:.1f} µs; true for {true / len(asked):.1%} of unknown keys")
        segments = store.index._view.segments
        print(f"{kind.name}: {len(segments)} segments, {store.index.memory_bytes / 1e6:.1f} MB by its own account")
    known = random.Random(7).randbytes(16 * 5_000)
    with Timer() as t, store.env.begin() as txn:
        found = sum(store.find(txn, known[i : i + 16], now_ms) is not None for i in range(0, len(known), 16))
    print(f"{kind.name}: oldest keys: found {found} of 5000, {t.cpu / 5000 * 1e6:.1f} µs CPU each")
    with Busy(), Timer() as t:
        for _ in range(30):
            block = rng.randbytes(16 * args.batch)
            store.claim([block[i : i + 16] for i in range(0, 16 * args.batch, 16)], seq, now_ms)
            seq += args.batch
    print(f"{kind.name}: beside a busy thread (switch interval 0.1 ms): {t.wall / 30 * 1e3:.1f} ms a transaction")
    store.env.close()


def main() -> None:
    import sys

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=2_000_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--fill-batch", type=int, default=512)
    parser.add_argument("--measured", type=int, default=140_000, help="new keys claimed; over two runs of sealing")
    parser.add_argument("--only", choices=["index", "table"])
    parser.add_argument("--dir")
    args = parser.parse_args()
    sys.setswitchinterval(0.0001)
    for kind in (Index, Table):
        if args.only in (None, kind.name):
            path = tempfile.mkdtemp(dir=args.dir)
            try:
                run(kind, path, args)
            finally:
                shutil.rmtree(path)


if __name__ == "__main__":
    main()
