"""A slow, a failing and a dead destination beside a healthy one: what senders and the healthy one notice of it."""

from __future__ import annotations

import contextlib
from typing import Any

from tests.bench.subject import Bench, backend_reset, backend_ways, dead_url

SLOW_MS = 2000


def run(bench: Bench) -> dict[str, Any]:
    """p99 of acks and of the way to the healthy destination, open loop, for each companion; the best of some windows."""
    return {companion: _beside(bench, companion) for companion in ("healthy", "slow", "failing", "dead")}


def _beside(bench: Bench, companion: str) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        healthy = stack.enter_context(bench.backend())
        other = dead_url()
        if companion == "healthy":
            other = f"{healthy}/other"
        elif companion == "slow":
            other = stack.enter_context(bench.backend(delay_ms=SLOW_MS)) + "/in"
        elif companion == "failing":
            other = stack.enter_context(bench.backend(status=500)) + "/in"
        daemon = stack.enter_context(bench.running({"app": f"{healthy}/app", "other": other}))
        load = {"mode": "open", "rate": bench.scale.rate, "connections": 64}
        bench.load_daemon(daemon, **load, seconds=1.0)
        tries = []
        for seed in range(bench.scale.repeats):
            backend_reset(healthy)
            result = bench.load_daemon(daemon, **load, seed=seed)
            way = backend_ways(healthy)["/app"]
            tries.append(
                {
                    "ack_p99_ms": result.latency_ms["p99"],
                    "way_p99_ms": way["p99"],
                    "way_p50_ms": way["p50"],
                    "cpu_us": result.cpu_us("daemon"),
                }
            )
        return {key: min(t[key] for t in tries) for key in tries[0]}
