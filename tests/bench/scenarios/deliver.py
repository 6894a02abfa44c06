"""The whole way: accept and deliver to 1, 3 and 10 destinations, with pruning under way."""

from __future__ import annotations

from typing import Any

from tests.bench.subject import Batches, Bench
from tests.support.daemon import Daemon

RETENTION = "2s"  # so that pruning runs while we measure, as it does all day long


def run(bench: Bench) -> dict[str, Any]:
    """CPU per event with all its deliveries, 64 connections."""
    found: dict[str, Any] = {}
    for count in bench.scale.destinations:
        with bench.backend() as backend:
            destinations = {f"d{n}": f"{backend}/d{n}" for n in range(count)}
            with bench.running(destinations, retention=RETENTION) as daemon:
                tries = [_window(bench, daemon, backend, count) for _ in range(bench.scale.repeats)]
                found[str(count)] = min(tries, key=lambda t: t["cpu_us"])
    return found


def _window(bench: Bench, daemon: Daemon, backend: str, count: int) -> dict[str, Any]:
    batches = Batches(daemon)
    return {**bench.delivered(daemon, backend, count, connections=64), "batches": batches.since()}
