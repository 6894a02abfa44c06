"""How cost grows with the body: 256 B to 1 MiB, received alone and delivered to one destination."""

from __future__ import annotations

from typing import Any

from tests.bench.scenarios.deliver import RETENTION
from tests.bench.subject import Bench, dead_url

LARGE = 256 << 10


def run(bench: Bench) -> dict[str, Any]:
    """CPU per event for each size; few connections for large bodies, so that ``server.max_buffered`` holds them."""
    found: dict[str, Any] = {}
    for size in bench.scale.bodies:
        load = {"connections": 64 if size < LARGE else 16, "body_bytes": size}
        with bench.running({"app": dead_url()}) as daemon:
            bench.load_daemon(daemon, **load, seconds=0.5)
            ack = bench.load_daemon(daemon, **load)
        with bench.backend() as backend, bench.running({"app": f"{backend}/in"}, retention=RETENTION) as daemon:
            whole = bench.delivered(daemon, backend, 1, **load)
        found[str(size)] = {"ack_us": ack.cpu_us("daemon"), "acks_per_s": ack.per_s, "whole": whole}
    return found
