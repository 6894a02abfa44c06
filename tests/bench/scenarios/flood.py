"""Strangers flood it with unsigned and badly signed requests while honest senders go on."""

from __future__ import annotations

from typing import Any

from tests.bench.subject import Bench, dead_url, hooks

FLOODS = {
    "none": {},
    "unsigned_1k": {"signing": "none", "body_bytes": 1 << 10},
    "bad_1k": {"signing": "bad", "body_bytes": 1 << 10},
    "unsigned_1m": {"signing": "none", "body_bytes": 1 << 20},
    "bad_1m": {"signing": "bad", "body_bytes": 1 << 20},
}
CONNECTIONS = 32  # of the flood, each as fast as it is refused


def run(bench: Bench) -> dict[str, Any]:
    """Honest senders' latency and success beside each flood, what was refused, and CPU per refusal."""
    return {name: _beside(bench, flood) for name, flood in FLOODS.items()}


def _beside(bench: Bench, flood: dict[str, Any]) -> dict[str, Any]:
    honest = {"mode": "open", "rate": bench.scale.rate / 4, "connections": 32}
    with bench.running({"app": dead_url()}) as daemon:
        if not flood:
            return _honest(bench.load_daemon(daemon, **honest))
        longer = {"connections": CONNECTIONS, "seconds": bench.scale.seconds + 1.5, "warm_s": 0.0}
        with bench.loading(hooks(daemon), watch={"daemon": daemon.pid}, **flood, **longer) as end:
            row = _honest(bench.load_daemon(daemon, **honest, warm_s=1.0))
            storm = end()
        refused = daemon.metric("received_total", source="code", outcome="unauthorized")
        assert refused, "nothing was refused: the flood is not what it says"
        assert not storm.good()
        row |= {"refused_per_s": refused / storm.seconds, "flood": storm.statuses, "flood_lost": storm.lost}
        row["cpu_per_refusal_us"] = sum(storm.cpu_s["daemon"]) / refused * 1e6
        return row


def _honest(result: Any) -> dict[str, Any]:
    return {
        "accepted": result.good(),
        "not_accepted": result.answered - result.good() + result.lost + result.unanswered,
        "p50_ms": result.latency_ms["p50"],
        "p99_ms": result.latency_ms["p99"],
    }
