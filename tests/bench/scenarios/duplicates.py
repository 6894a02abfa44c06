"""Every tenth request repeats the one before: what answering duplicates costs."""

from __future__ import annotations

from typing import Any

from tests.bench.subject import Bench, dead_url

SHARE = 0.1


def run(bench: Bench) -> dict[str, Any]:
    """CPU per request without and with duplicates, and how many the daemon recognised."""
    found: dict[str, Any] = {}
    for name, share in (("none", 0.0), ("tenth", SHARE)):
        with bench.running({"app": dead_url()}) as daemon:
            bench.load_daemon(daemon, seconds=0.5)
            result = bench.load_daemon(daemon, duplicates=share)
            known = daemon.metric("received_total", source="code", outcome="duplicate")
            found[name] = {"cpu_us": result.cpu_us("daemon"), "per_s": result.per_s, "recognised": known}
    assert not found["none"]["recognised"]
    assert found["tenth"]["recognised"], "no duplicate was recognised: the load is not what it says"
    return found
