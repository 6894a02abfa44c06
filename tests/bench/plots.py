"""[P] Which plots a run gives: file name to SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.bench.latency import QUANTILES
from tests.bench.svg import bars, lines

__all__ = ["plots"]


def plots(results: Mapping[str, Any]) -> dict[str, str]:
    """Plots of the scenarios that are there."""
    made: dict[str, str] = {}
    if "rates" in results:
        steps = sorted(results["rates"]["1024"]["steps"], key=lambda s: s["rate"])
        series = {q: [(s["rate"], s["latency_ms"][q]) for s in steps] for q in QUANTILES}
        series["p99 of a bare commit"] = [(s["rate"], s["lmdb"]["p99"]) for s in steps]
        made["latency.svg"] = lines("Ack latency, open loop, 1 KiB", "webhooks a second", "ms", series)
        cpu = {"ack": [(s["rate"], s["cpu_us"]) for s in steps]}
        made["cpu-by-rate.svg"] = lines("CPU per ack against the rate", "webhooks a second", "µs", cpu)
    if "deliver" in results:
        found = results["deliver"]
        points = {"whole way": [(int(n), row["cpu_us"]) for n, row in found.items()]}
        made["cpu-by-destinations.svg"] = lines("CPU per event, 64 connections", "destinations", "µs", points)
    if "bodies" in results:
        found = results["bodies"]
        made["cpu-by-body.svg"] = bars(
            "CPU per event by size of its body, delivered to one",
            "µs",
            {_size(int(n)): r["whole"]["cpu_us"] for n, r in found.items()},
        )
    if "connections" in results:
        found = results["connections"]
        made["cpu-by-connections.svg"] = bars(
            "CPU per ack by connections", "µs", {n: r["cpu_us"] for n, r in found.items()}
        )
    if "ack" in results:
        for connections in ("64", "256"):
            histogram = results["ack"][connections]["batches"]["histogram"]
            shown = {le.removesuffix(".0"): n for le, n in histogram.items()}
            title = f"Events of a batch, {connections} connections"
            made[f"batches-{connections}.svg"] = bars(title, "batches", shown)
    return made


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB" if size >= 1024 else f"{size} B"
