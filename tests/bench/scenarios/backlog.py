"""A backlog of a million deliveries (ten with ``--full``): start, memory, acks and drain beside a small one."""

from __future__ import annotations

import time
from typing import Any

from tests.bench.fill import fill_backlog
from tests.bench.machine import anonymous_mib, cpu_s
from tests.bench.scenarios.idle import ready_s
from tests.bench.subject import Bench, backend_count, dead_url, wait_delivered

SMALL = 40_000  # enough to drain for some seconds, few enough to be nothing
BODY_BYTES = 256


def run(bench: Bench) -> dict[str, Any]:
    """The same three looks at a small and at a large backlog."""
    sizes = (SMALL, bench.scale.backlog)
    return {"size": bench.scale.backlog, **{n: _look(bench, s) for n, s in zip(("small", "large"), sizes, strict=True)}}


def _look(bench: Bench, size: int) -> dict[str, Any]:
    with bench.place() as place:
        held = bench.daemon(place, {"app": dead_url()}, max_size="64GiB")
        begin_s = time.monotonic()
        fill_backlog(place / "journal", size, BODY_BYTES)
        row: dict[str, Any] = {"fill_s": time.monotonic() - begin_s}
        try:
            row["ready_s"] = ready_s(held)
            assert held.pending() == size, "the journal does not hold what was put into it"
            result = bench.cheapest(held, connections=64)
            row |= {"ack_us": result.cpu_us("daemon"), "acks_per_s": result.per_s, "anon_mib": anonymous_mib(held.pid)}
        finally:
            held.kill()
        with bench.backend() as backend:
            url = f"{backend}/in"
            with bench.daemon(place, {"app": url}, max_size="64GiB") as daemon:
                row |= _drain(daemon, backend, min(size, SMALL) // 2)
    return row


def _drain(daemon: Any, backend: str, count: int) -> dict[str, float]:
    """CPU per delivery and deliveries a second of the next ``count``, after the first few."""
    wait_delivered(backend, 1000)
    first, before, begin_s = backend_count(backend), cpu_s(daemon.pid), time.monotonic()
    wait_delivered(backend, first + count)
    last, after, end_s = backend_count(backend), cpu_s(daemon.pid), time.monotonic()
    return {
        "drain_us": (sum(after) - sum(before)) / (last - first) * 1e6,
        "drain_per_s": (last - first) / (end_s - begin_s),
        "drain_anon_mib": anonymous_mib(daemon.pid),
    }
