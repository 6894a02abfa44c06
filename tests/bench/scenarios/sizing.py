"""What a pod needs: CPU, memory, commits, bytes to disk and bytes kept at 10 to 10,000 webhooks a second, delivered to one."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from tests.bench.machine import anonymous_mib, cpu_s
from tests.bench.subject import Batches, Bench, backend_reset, backend_ways, wait_delivered
from tests.support.daemon import Daemon

RATES = (10, 100, 1_000, 10_000)
BEHIND_MS = 1000  # deliveries that come later than this show that the rate is beyond one process
MEASURED_AGAIN_S = 1.2  # the journal counts its pages once a second


def run(bench: Bench) -> dict[str, Any]:
    """Open loop, 1 KiB, 64 connections, for each rate."""
    return {str(rate): _at(bench, rate) for rate in RATES}


def _at(bench: Bench, rate: int) -> dict[str, Any]:
    with bench.backend() as backend, bench.running({"app": f"{backend}/in"}) as daemon:
        load = {"mode": "open", "rate": float(rate), "connections": 64}
        bench.load_daemon(daemon, **load, seconds=1.0)
        time.sleep(MEASURED_AGAIN_S)
        backend_reset(backend)
        batches, used, written, cpu = Batches(daemon), _used(daemon), _written(daemon.pid), sum(cpu_s(daemon.pid))
        begin_s = time.monotonic()
        result = bench.load_daemon(daemon, **load, seconds=max(bench.scale.seconds, 60 / rate), warm_s=0.0)
        accepted = result.good()
        wait_delivered(backend, accepted)
        took_s = time.monotonic() - begin_s
        way_p99_ms = backend_ways(backend)["/in"]["p99"]
        row = {
            "cpu_us": (sum(cpu_s(daemon.pid)) - cpu) / accepted * 1e6,
            "ack_p99_ms": result.latency_ms["p99"],
            "way_p99_ms": way_p99_ms,
            "anon_mib": anonymous_mib(daemon.pid),
            "written_bytes_per_event": (_written(daemon.pid) - written) / accepted,
            "kept_up": way_p99_ms < BEHIND_MS,
        }
        seen = batches.since()
        row["commits_per_event"] = seen["commits"] / accepted
        row["commits_per_s"] = seen["commits"] / took_s
        row["mean_batch"] = seen["mean"]
        time.sleep(MEASURED_AGAIN_S)
        row["kept_bytes_per_event"] = (_used(daemon) - used) / accepted
        return row


def _used(daemon: Daemon) -> int:
    return int(daemon.api("status")["journal"]["used_bytes"])


def _written(pid: int) -> int:
    """Bytes that a process has caused to be written to storage."""
    found = re.search(r"^write_bytes: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])
