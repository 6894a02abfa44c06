"""Receiving alone: verified, deduplicated, on disk, acknowledged; beside nginx, a bare protocol and LMDB alone."""

from __future__ import annotations

from typing import Any

from tests.bench.limits import commits, flushes, nginx
from tests.bench.machine import SERVER_CORE, started
from tests.bench.subject import Batches, Bench, dead_url

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
            batches = Batches(daemon)
            result = bench.load_daemon(daemon, connections=connections)
            row["batches"] = batches.since()
        row["user_us"], row["sys_us"] = (s / result.good() * 1e6 for s in result.cpu_s["daemon"])
        row["cpu_us"] = result.cpu_us("daemon")
        row["per_s"] = result.per_s
        row["lmdb"] = commits(bench.folder, max(1, round(row["batches"]["mean"])), 1024, bench.scale.seconds / 2)
        row["lmdb_events_per_s"] = row["batches"]["mean"] * row["lmdb"]["per_s"]
    return found
