"""Open loop: how latency grows with the rate, beside a bare LMDB commit of the same batch size."""

from __future__ import annotations

from typing import Any

from tests.bench.limits import commits
from tests.bench.subject import Batches, Bench, dead_url

BODIES = (1024, 16 << 10)  # the budget is for bodies up to 16 KiB
HALF = 0.5


def run(bench: Bench) -> dict[str, Any]:
    """For each body: the saturation rate, then shares of it with Poisson arrivals; the best of some windows each."""
    return {str(size): _sweep(bench, size) for size in BODIES}


def _sweep(bench: Bench, size: int) -> dict[str, Any]:
    with bench.running({"app": dead_url()}) as daemon:
        saturation = bench.load_daemon(daemon, connections=256, body_bytes=size).per_s
        steps = []
        for share in bench.scale.shares if size == BODIES[0] else (HALF,):
            tries = [_step(bench, daemon, size, saturation * share, n) for n in range(bench.scale.repeats)]
            steps.append({"share": share, **min(tries, key=lambda t: t["latency_ms"]["p99"])})
    return {"saturation_per_s": saturation, "steps": steps}


def _step(bench: Bench, daemon: Any, size: int, rate: float, seed: int) -> dict[str, Any]:
    batches = Batches(daemon)
    load = {"mode": "open", "rate": rate, "connections": 256, "body_bytes": size, "seed": seed}
    result = bench.load_daemon(daemon, **load)
    seen = batches.since()
    step = {
        "rate": rate,
        "answered_per_s": result.per_s,
        "latency_ms": result.latency_ms,
        "late_ms": result.late_ms,
        "cpu_us": result.cpu_us("daemon"),
        "batches": seen,
    }
    # Right after it, on the same disk in the same mood.
    step["lmdb"] = commits(bench.folder, max(1, round(seen["mean"])), size, bench.scale.seconds / 2)
    return step
