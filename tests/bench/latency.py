"""Latencies in milliseconds, summed up."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["QUANTILES", "percentile", "summary"]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def percentile(ordered: Sequence[float], q: float) -> float:
    """The value that a share ``q`` of an ordered sample does not exceed; 0.0 of nothing."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def summary(sample: Sequence[float]) -> dict[str, float]:
    """Percentiles, mean and maximum of a sample in seconds, as milliseconds."""
    ordered = sorted(sample)
    row = {name: percentile(ordered, q) * 1e3 for name, q in QUANTILES.items()}
    row["max"] = ordered[-1] * 1e3 if ordered else 0.0
    row["mean"] = sum(ordered) / len(ordered) * 1e3 if ordered else 0.0
    return {name: round(ms, 3) for name, ms in row.items()}
