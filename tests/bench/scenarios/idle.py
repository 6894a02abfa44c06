"""Nothing to do: time from exec to ready, memory, and CPU while it waits."""

from __future__ import annotations

import statistics
import time
from typing import Any

from tests.bench.machine import anonymous_mib, exact_cpu_s
from tests.bench.subject import Bench, dead_url
from tests.support.daemon import Daemon

STARTS = 5


def ready_s(daemon: Daemon) -> float:
    """Start a daemon; seconds from exec until it takes webhooks."""
    begin_s = time.monotonic()
    daemon.launch()
    while True:
        try:
            if daemon.admin("GET", "/startupz")[0] == 200:
                return time.monotonic() - begin_s
        except OSError:
            pass
        assert daemon.process is not None
        if daemon.process.poll() is not None or time.monotonic() - begin_s > 120:
            raise RuntimeError(f"the daemon did not become ready:\n{daemon.tail()}")
        time.sleep(0.002)


def run(bench: Bench) -> dict[str, Any]:
    """The median of some starts on a journal that exists, then a quiet while."""
    with bench.place() as place:
        daemon = bench.daemon(place, {"app": dead_url()})
        starts = []
        for _ in range(STARTS):
            daemon.kill()
            starts.append(ready_s(daemon))
        try:
            start_cpu_s = exact_cpu_s(daemon.pid)
            time.sleep(2)  # the measured quiet begins when the start is over
            before, begin_s = exact_cpu_s(daemon.pid), time.monotonic()
            time.sleep(bench.scale.idle_s)
            share = (exact_cpu_s(daemon.pid) - before) / (time.monotonic() - begin_s)
            return {
                "ready_s": statistics.median(starts),
                "start_cpu_s": start_cpu_s,
                "anon_mib": anonymous_mib(daemon.pid),
                "cpu_share": share,
            }
        finally:
            daemon.kill()
