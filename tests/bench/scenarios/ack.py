"""Receiving alone: verified, deduplicated, on disk, acknowledged; beside nginx, a bare protocol and LMDB alone."""

from __future__ import annotations

from typing import Any

from tests.bench.limits import commits, flushes, nginx
from tests.bench.machine import SERVER_CORE, started
from tests.bench.subject import Batches, Bench, dead_url
from tests.support.daemon import Daemon

CONNECTIONS = (64, 256)


def run(bench: Bench) -> dict[str, Any]:
    """CPU per durable ack and per answer of the limits, in the same minute; acks a second beside LMDB's commits."""
    found: dict[str, Any] = {"flush": flushes(bench.folder, bench.scale.seconds / 2)}
    for connections in CONNECTIONS:
        row = found[str(connections)] = {}
        with nginx() as (url, pid):
            row["nginx_us"] = bench.load(url, connections=connections, watch={"it": pid}).cpu_us("it")
        with started("bare", core=SERVER_CORE) as (url, pid):
            row["bare_us"] = bench.load(url, connections=connections, watch={"it": pid}).cpu_us("it")
        with bench.running({"app": dead_url()}) as daemon:
            bench.load_daemon(daemon, connections=connections, seconds=1.0)
            tries = [_window(bench, daemon, connections) for _ in range(bench.scale.repeats)]
        row |= min(tries, key=lambda t: t["cpu_us"])
    return found


def _window(bench: Bench, daemon: Daemon, connections: int) -> dict[str, Any]:
    batches = Batches(daemon)
    result = bench.load_daemon(daemon, connections=connections)
    seen = batches.since()
    user_us, sys_us = (s / result.good() * 1e6 for s in result.cpu_s["daemon"])
    # Right after it, on the same disk in the same mood.
    lmdb = commits(bench.folder, max(1, round(seen["mean"])), 1024, bench.scale.seconds / 2)
    return {
        "user_us": user_us,
        "sys_us": sys_us,
        "cpu_us": user_us + sys_us,
        "per_s": result.per_s,
        "batches": seen,
        "lmdb": lmdb,
        "lmdb_events_per_s": seen["mean"] * lmdb["per_s"],
    }
