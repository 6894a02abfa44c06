"""Scraped every second and watched by ten consoles while it receives and delivers."""

from __future__ import annotations

from typing import Any

from tests.bench.machine import LOAD_CORE, started
from tests.bench.scenarios.deliver import RETENTION
from tests.bench.subject import Bench

TAILS = 10


def run(bench: Bench) -> dict[str, Any]:
    """CPU per event delivered to one destination, unwatched and watched."""
    found: dict[str, Any] = {}
    for name in ("unwatched", "watched"):
        with bench.backend() as backend, bench.running({"app": f"{backend}/in"}, retention=RETENTION) as daemon:
            if name == "unwatched":
                found[name] = bench.delivered(daemon, backend, 1, connections=64)
            else:
                with started("consoles", daemon.socket, str(TAILS), core=LOAD_CORE):
                    found[name] = bench.delivered(daemon, backend, 1, connections=64)
    return found
