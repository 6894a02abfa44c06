"""[P] What a pod should ask for, derived from measured figures by the formulas that the page states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["FORMULAS", "between", "sizing"]

HEADROOM = 1.5  # CPU asked for over CPU used: retries, restarts, a busier hour
FULL_CORE = 0.7  # of a core, at most, for one process: it has one event loop
BUFFERS_MIB = 64 + 32  # server.max_buffered and delivery.max_buffered, as they come
MEMORY_MARGIN = 1.25
OUTAGE_S = 24 * 3600
FILL = 0.7  # up to here nothing is pruned early
PAGE = 4096

FORMULAS = f"""\
- **Processes**: as many as it takes for each to need at most {FULL_CORE:g} of a core. One process has one event loop, so a rate
  beyond it is shared between replicas, each with its own volume and its share of the rate.
- **CPU per event** is measured at the rates shown; between them, for a share of a rate, it is read off a straight line over
  logarithms. It falls as the rate grows, because more events share a commit.
- **CPU request** = webhooks/s x CPU per event x {HEADROOM:g}, over all processes.
- **Memory limit** = (RssAnon measured + {BUFFERS_MIB} MiB for `server.max_buffered` and `delivery.max_buffered`) x
  {MEMORY_MARGIN:g}, for each process; the tables above say what connections and dedup keys add. Memory beyond it is page cache
  for the journal's map, and welcome.
- **Volume** = webhooks/s x bytes kept per event x {OUTAGE_S // 3600} h / {FILL:g}, over all processes: every backend may be down
  for a day before delivered events are pruned early to make room. `journal.max_size` is that much, the volume a tenth more.
- **IOPS** = webhooks/s x bytes written per event / 4 KiB page, over all processes: as if the disk merged nothing. Each commit
  also waits for two flushes, so a disk's flush latency bounds the ack's latency, not the rate: what arrives meanwhile shares
  the next one."""


def sizing(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line for each measured rate: rate, processes, CPU per event, CPU, memory, volume, IOPS."""
    lines = []
    for rate in sorted(int(name) for name in found):
        processes = 1
        while (share := rate / processes) * between(found, share, "cpu_us") > FULL_CORE * 1e6:
            processes += 1
        cpu_us, kept, written = (
            between(found, share, key) for key in ("cpu_us", "kept_bytes_per_event", "written_bytes_per_event")
        )
        anon_mib = max(row["anon_mib"] for row in found.values())
        lines.append(
            (
                f"{rate:,}",
                str(processes),
                f"{cpu_us:,.0f} µs",
                _cores(rate * cpu_us / 1e6 * HEADROOM),
                f"{math.ceil((anon_mib + BUFFERS_MIB) * MEMORY_MARGIN / 16) * 16} MiB",
                _bytes(rate * kept * OUTAGE_S / FILL),
                f"{math.ceil(round(rate * written / PAGE / 10, 6)) * 10:,}",
            )
        )
    return lines


def between(found: Mapping[str, Any], rate: float, key: str) -> float:
    """A figure at any rate: on a straight line over logarithms between the two measured rates round it."""
    points = sorted((int(name), float(row[key])) for name, row in found.items())
    below = [p for p in points if p[0] <= rate] or points[:1]
    above = [p for p in points if p[0] >= rate] or points[-1:]
    (r0, v0), (r1, v1) = below[-1], above[0]
    if r0 == r1 or v0 <= 0 or v1 <= 0:
        return v0
    return v0 * (v1 / v0) ** (math.log(rate / r0) / math.log(r1 / r0))


def _cores(cores: float) -> str:
    return f"{math.ceil(round(cores * 20, 6)) * 50}m" if cores < 1 else f"{cores:.1f}"


def _bytes(size: float) -> str:
    gib = size / (1 << 30)
    return f"{math.ceil(gib)} GiB" if gib < 1000 else f"{gib / 1024:.1f} TiB"
