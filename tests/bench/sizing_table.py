"""[P] What a pod should ask for, derived from measured figures by the formulas that the page states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["FORMULAS", "sizing"]

HEADROOM = 1.5  # CPU asked for over CPU used: retries, restarts, a busier hour
FULL_CORE = 0.7  # of a core, at most, for one process: it has one event loop
BUFFERS_MIB = 64 + 32  # server.max_buffered and delivery.max_buffered, as they come
MEMORY_MARGIN = 1.25
OUTAGE_S = 24 * 3600
FILL = 0.7  # up to here nothing is pruned early
PAGE = 4096

FORMULAS = f"""\
- **Processes** = webhooks/s x CPU per event / {FULL_CORE:g} core, rounded up. One process has one event loop, so a rate
  beyond it is shared between replicas, each with its own volume.
- **CPU request** = webhooks/s x CPU per event x {HEADROOM:g}, over all processes. CPU per event falls as the rate grows,
  because more events share a commit.
- **Memory limit** = (RssAnon measured + {BUFFERS_MIB} MiB for `server.max_buffered` and `delivery.max_buffered`) x
  {MEMORY_MARGIN:g}, for each process. Memory beyond it is page cache for the journal's map, and welcome.
- **Volume** = webhooks/s x bytes kept per event x {OUTAGE_S // 3600} h / {FILL:g}: every backend may be down for a day before
  delivered events are pruned early to make room. `journal.max_size` is that much, the volume a tenth more.
- **IOPS** = webhooks/s x bytes written per event / 4 KiB page: as if the disk merged nothing. Each commit also waits for two
  flushes, so a disk's flush latency bounds the ack's latency, not the rate: what arrives meanwhile shares the next one."""


def sizing(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line for each measured rate: rate, CPU per event, processes, CPU, memory, volume, IOPS."""
    lines = []
    for name, row in found.items():
        rate = int(name)
        cores = rate * row["cpu_us"] / 1e6
        kept = rate * row["kept_bytes_per_event"] * OUTAGE_S / FILL
        lines.append(
            (
                f"{rate:,}",
                f"{row['cpu_us']:.0f} µs",
                str(max(1, math.ceil(cores / FULL_CORE))),
                _cores(cores * HEADROOM),
                f"{math.ceil((row['anon_mib'] + BUFFERS_MIB) * MEMORY_MARGIN / 16) * 16} MiB",
                _bytes(kept),
                f"{math.ceil(rate * row['written_bytes_per_event'] / PAGE / 10) * 10:,}",
            )
        )
    return lines


def _cores(cores: float) -> str:
    return f"{math.ceil(round(cores * 20, 6)) * 50}m" if cores < 1 else f"{cores:.1f}"


def _bytes(size: float) -> str:
    gib = size / (1 << 30)
    return f"{math.ceil(gib)} GiB" if gib < 1000 else f"{gib / 1024:.1f} TiB"
