"""How cost and memory grow with connections: 1 to 1,000, all of them busy."""

from __future__ import annotations

from typing import Any

from tests.bench.machine import anonymous_mib
from tests.bench.subject import Batches, Bench, dead_url


def run(bench: Bench) -> dict[str, Any]:
    """CPU per ack, acks a second and mean batch for each number of connections."""
    found: dict[str, Any] = {}
    for count in bench.scale.connections:
        with bench.running({"app": dead_url()}) as daemon:
            bench.load_daemon(daemon, connections=count, seconds=0.5)
            batches = Batches(daemon)
            result = bench.load_daemon(daemon, connections=count)
            found[str(count)] = {
                "cpu_us": result.cpu_us("daemon"),
                "per_s": result.per_s,
                "batches": batches.since(),
                "anon_mib": anonymous_mib(daemon.pid),
            }
    return found
