"""A million remembered dedup keys (twenty with ``--full``): what a durable ack costs beside an empty table."""

from __future__ import annotations

from typing import Any

from tests.bench.fill import fill_keys
from tests.bench.machine import anonymous_mib
from tests.bench.scenarios.idle import ready_s
from tests.bench.subject import Bench, dead_url


def run(bench: Bench) -> dict[str, Any]:
    """CPU per ack with none and with all keys; start and memory with all."""
    return {"size": bench.scale.keys, "empty": _look(bench, 0), "full": _look(bench, bench.scale.keys)}


def _look(bench: Bench, keys: int) -> dict[str, float]:
    with bench.place() as place:
        daemon = bench.daemon(place, {"app": dead_url()})
        if keys:
            fill_keys(place / "journal", keys)
        try:
            ready = ready_s(daemon)
            held = int(daemon.api("status")["journal"]["dedup_keys"])
            assert held >= keys * 0.99, f"{held} of {keys} keys are there"
            result = bench.cheapest(daemon, connections=64)
            return {
                "ready_s": ready,
                "ack_us": result.cpu_us("daemon"),
                "acks_per_s": result.per_s,
                "anon_mib": anonymous_mib(daemon.pid),
            }
        finally:
            daemon.kill()
