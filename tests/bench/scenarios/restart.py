"""Killed with a backlog and started again: how long until it is ready, and until everything has arrived."""

from __future__ import annotations

import time
from typing import Any

from tests.bench.scenarios.idle import ready_s
from tests.bench.subject import Bench, backend_count, dead_url, wait_delivered


def run(bench: Bench) -> dict[str, Any]:
    """Accept with the backend down, ``kill -9``, start with it up, and wait for every delivery."""
    with bench.place() as place:
        with bench.daemon(place, {"app": dead_url()}) as daemon:
            accepted = bench.load_daemon(daemon, connections=64, warm_s=0.0).good()
        with bench.backend() as backend:
            daemon = bench.daemon(place, {"app": f"{backend}/in"})
            try:
                begin_s = time.monotonic()
                ready = ready_s(daemon)
                wait_delivered(backend, accepted)
                took_s = time.monotonic() - begin_s
            finally:
                daemon.kill()
            return {
                "accepted": accepted,
                "arrived": backend_count(backend),
                "ready_s": ready,
                "drained_s": took_s,
                "per_s": accepted / took_s,
            }
