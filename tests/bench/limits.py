"""The limits to compare with, measured in the same run: nginx, a bare protocol, LMDB alone, fdatasync alone."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb

from sidecar.journal.records import DeliveryRow, deliveries_key, events_block, events_key
from sidecar.model import State
from tests.bench.latency import summary
from tests.bench.machine import SERVER_CORE, pinned
from tests.support.daemon import free_port

__all__ = ["commits", "flushes", "nginx"]


@contextlib.contextmanager
def nginx() -> Iterator[tuple[str, int]]:
    """Nginx with one worker that reads the body and answers 202; its URL and the worker's process id."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as name:
        folder = Path(name)
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/nginx.pid; error_log /dev/null; worker_processes 1;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log off; keepalive_requests 100000000; client_max_body_size 64m; client_body_temp_path {folder};\n"
            f"server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 202; }} }} }}\n"
        )
        command = pinned(SERVER_CORE, "nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            yield f"http://127.0.0.1:{port}/", _worker(process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _worker(master: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{master.pid}/task/{master.pid}/children")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and master.poll() is None:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise RuntimeError("nginx did not start")


def flushes(folder: Path, seconds: float) -> dict[str, float]:
    """Fdatasync alone: one page rewritten in a file that exists, as often as it goes."""
    path = folder / "flush"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    took = []
    try:
        os.write(fd, bytes(1 << 20))
        os.fsync(fd)
        page = os.urandom(4096)
        end_s = time.monotonic() + seconds
        while (begin_s := time.monotonic()) < end_s:
            os.pwrite(fd, page, 4096 * (len(took) % 256))
            os.fdatasync(fd)
            took.append(time.monotonic() - begin_s)
    finally:
        os.close(fd)
        path.unlink()
    return {"per_s": len(took) / seconds, **summary(took)}


def commits(folder: Path, batch: int, body_bytes: int, seconds: float) -> dict[str, float]:
    """LMDB alone: one synced commit after another, each with what a batch of so many events puts, made in advance.

    Per batch one packed block in each of the three tables (more events where a block is full), and the row of books.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="lmdb-") as name:
        env = lmdb.open(name, map_size=16 << 30, max_dbs=4)
        tables = [env.open_db(t) for t in (b"events", b"deliveries", b"dedup", b"meta")]
        payload = random.Random(1).randbytes(body_bytes + 450)
        per_block = max(1, min(64, 65_000 // len(payload)))
        blocks = [min(per_block, batch - at) for at in range(0, batch, per_block)]
        values = {n: events_block(1, dict.fromkeys(range(n), (payload, False)), 1) for n in set(blocks)}
        rows = {n: DeliveryRow(bytearray([State.PENDING] * n), 1).encode(b"") for n in set(blocks)}
        keys = random.Random(2).randbytes(48 * batch)
        took, seq = [], 1
        end_s = time.monotonic() + seconds
        while (begin_s := time.monotonic()) < end_s:
            with env.begin(write=True) as txn:
                txn.put(events_key(seq), keys, db=tables[2])
                for n in blocks:
                    txn.put(events_key(seq), values[n], db=tables[0])
                    txn.put(deliveries_key(0, seq), rows[n], db=tables[1])
                    seq += n
                txn.put(b"state", bytes(200), db=tables[3])
            took.append(time.monotonic() - begin_s)
        env.close()
    return {"batch": batch, "per_s": len(took) / seconds, **summary(took)}
