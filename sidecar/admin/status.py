"""How everything is doing, in one value."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from sidecar import __version__
from sidecar.admin.filters import rfc3339
from sidecar.admin.gateway import DestinationInfo, Gateway
from sidecar.admin.views import journal_row, mask_url
from sidecar.log import safe_text

__all__ = ["status"]

_HOUR_MS = 3_600_000


async def status(gateway: Gateway) -> dict[str, Any]:
    """Put together what an operator looks at first."""
    journal, now_ms = gateway.journal, gateway.clock.wall_ms()
    counters, journal_now_ms = journal.counters(), journal.clock_ms()
    totals = gateway.dead_letters.totals()
    configured = {d.name: d for d in gateway.destinations()}
    lanes = {lane.name: msgspec.structs.asdict(lane) for lane in gateway.dispatcher.status()}
    known = {d for _, d in counters.enqueued} | lanes.keys()
    rows = []
    for name in [*configured, *sorted(known - configured.keys())]:
        pending = counters.pending(name)
        oldest_ms = await journal.oldest_pending_ms(name) if pending else None
        letters = totals.get(name)
        row: dict[str, Any] = {
            "name": name,
            "configured": name in configured,
            "url": mask_url(configured.get(name, DestinationInfo(name=name)).url),
            "pending": pending,
            "scheduled": counters.scheduled.get(name, 0),
            "dying": counters.dying.get(name, 0),
            "oldest_pending_s": round((journal_now_ms - oldest_ms) / 1000, 3) if oldest_ms is not None else None,
            "delivered": counters.settled.get((name, "delivered"), 0),
            "dead_letters": letters.count if letters is not None else 0,
        } | lanes.get(name, {})
        rows.append({k: safe_text(v, 1024) if isinstance(v, str) else v for k, v in row.items()})
    stats = journal.stats()
    return {
        "version": __version__,
        "pid": os.getpid(),
        "started_at": rfc3339(gateway.started_at_ms),
        "uptime_s": round(max(0, now_ms - gateway.started_at_ms) / 1000, 3),
        "accepting": stats.accepting and gateway.receiver.accepting,
        "draining": gateway.draining,
        "journal": journal_row(stats),
        "sources": [{"name": s.name, "path": s.path, "preset": s.preset} for s in gateway.sources()],
        "destinations": rows,
        "refused_last_hour": gateway.refused_since(now_ms - _HOUR_MS),
    }
