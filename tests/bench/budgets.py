"""[P] The budgets: what each figure may come to, and where in the results it stands. One literal table.

A budget that compares says with what: the limit then comes from the same run, so that a slow machine is no excuse and a fast
one no merit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["BUDGETS", "Budget"]

Results = dict[str, Any]  # scenario to what it found


@dataclass(frozen=True)
class Budget:
    """One line of the table.

    Attributes:
        what: The figure.
        scenario: Where it is measured; without it in a run there is no line.
        unit: Of measured and budget.
        measured: Reads the figure.
        budget: Reads or gives the most (or, with ``at_least``, the least) it may be.
        at_least: More is better.
        goal: The budget in words.
    """

    what: str
    scenario: str
    unit: str
    goal: str
    measured: Callable[[Any], float]
    budget: Callable[[Any], float]
    at_least: bool = False


def _worst(steps: list[dict[str, Any]], share: float) -> dict[str, Any]:
    return next(s for s in steps if s["share"] == share)


def _further(found: Any) -> float:
    most = max(int(n) for n in found)
    return float((found[str(most)]["cpu_us"] - found["1"]["cpu_us"]) / (most - 1))


def _beside(key: str) -> Callable[[Any], float]:
    return lambda found: max(found[c][key] for c in ("slow", "failing", "dead"))


def _half(size: int) -> Callable[[Any], dict[str, Any]]:
    return lambda found: _worst(found[str(size)]["steps"], 0.5)


BUDGETS = (
    Budget(
        "durable ack, 256 connections", "ack", "µs CPU", "3.5 x nginx `return 202`",
        lambda f: f["256"]["cpu_us"], lambda f: 3.5 * f["256"]["nginx_us"],
    ),
    Budget(
        "acks a second, 64 connections", "ack", "/s", "80 % of mean batch x commits a second of LMDB alone",
        lambda f: f["64"]["per_s"], lambda f: 0.8 * f["64"]["lmdb_events_per_s"], at_least=True,
    ),
    Budget(
        "ack latency at half saturation, 1 KiB", "rates", "ms p99", "2.5 x p99 of a bare LMDB commit of that batch",
        lambda f: _half(1024)(f)["latency_ms"]["p99"], lambda f: 2.5 * _half(1024)(f)["lmdb"]["p99"],
    ),
    Budget(
        "ack latency at half saturation, 16 KiB", "rates", "ms p99", "2.5 x p99 of a bare LMDB commit of that batch",
        lambda f: _half(16 << 10)(f)["latency_ms"]["p99"], lambda f: 2.5 * _half(16 << 10)(f)["lmdb"]["p99"],
    ),
    Budget(
        "accept and deliver to one, 64 connections", "deliver", "µs CPU", "150 µs an event",
        lambda f: f["1"]["cpu_us"], lambda _: 150.0,
    ),
    Budget(
        "each further destination", "deliver", "µs CPU", "30 µs a delivery",
        _further, lambda _: 30.0,
    ),
    Budget(
        "backlog: exec to ready", "backlog", "s", "1 s (at 10 million)",
        lambda f: f["large"]["ready_s"], lambda _: 1.0,
    ),
    Budget(
        "backlog: anonymous memory", "backlog", "MiB", "120 MiB (at 10 million)",
        lambda f: max(f["large"]["anon_mib"], f["large"]["drain_anon_mib"]), lambda _: 120.0,
    ),
    Budget(
        "backlog: ack", "backlog", "µs CPU", "1.1 x that with an empty journal",
        lambda f: f["large"]["ack_us"], lambda f: 1.1 * f["small"]["ack_us"],
    ),
    Budget(
        "backlog: drain", "backlog", "µs CPU", "1.1 x that of a small backlog",
        lambda f: f["large"]["drain_us"], lambda f: 1.1 * f["small"]["drain_us"],
    ),
    Budget(
        "dedup keys: ack", "keys", "µs CPU", "1.3 x that with an empty table (at 20 million)",
        lambda f: f["full"]["ack_us"], lambda f: 1.3 * f["empty"]["ack_us"],
    ),
    Budget(
        "a troubled destination: acks", "troubled", "ms p99", "1.2 x that beside a healthy one",
        _beside("ack_p99_ms"), lambda f: 1.2 * f["healthy"]["ack_p99_ms"],
    ),
    Budget(
        "a troubled destination: the healthy one", "troubled", "ms p99", "1.2 x that beside a healthy one",
        _beside("way_p99_ms"), lambda f: 1.2 * f["healthy"]["way_p99_ms"],
    ),
    Budget("idle: anonymous memory", "idle", "MiB", "40 MiB", lambda f: f["anon_mib"], lambda _: 40.0),
    Budget("idle: CPU", "idle", "%", "0.2 %", lambda f: f["cpu_share"] * 100, lambda _: 0.2),
    Budget("idle: exec to ready", "idle", "s", "0.4 s", lambda f: f["ready_s"], lambda _: 0.4),
)  # fmt: skip
