"""The same load on any other gateway that takes a GitHub webhook signed with the secret ``bench``."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from tests.bench.load import Result
from tests.bench.subject import Bench
from tests.bench.table import shown

__all__ = ["TargetRefused", "measure_target"]

CONNECTIONS = (1, 16, 64, 256)


class TargetRefused(Exception):
    """The target is no loopback address, and nobody said that it may be loaded."""


def check_target(url: str, *, owned: bool) -> None:
    """Refuse to load somebody else's machine.

    Raises:
        TargetRefused: The host is not a literal loopback address or ``localhost``, and not owned.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http":
        raise TargetRefused(f"{url}: got scheme {parts.scheme!r}; the load speaks plain http")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not owned:
        raise TargetRefused(
            f"{host} is not a loopback address; with --i-own-this-host the load goes there all the same"
        )


def measure_target(bench: Bench, url: str, pid: int | None, *, owned: bool) -> dict[str, Any]:
    """Closed loop at some numbers of connections, then open loop at shares of the best rate; printed as it goes.

    Raises:
        TargetRefused: See ``check_target``.
    """
    check_target(url, owned=owned)
    watch = {"target": pid} if pid else {}
    found: dict[str, Any] = {"url": url, "closed": {}, "open": []}
    best = 0.0
    for connections in CONNECTIONS:
        result = bench.load(url, connections=connections, watch=watch)
        found["closed"][str(connections)] = _row(f"closed, {connections} connections", result)
        best = max(best, result.per_s)
    for share in bench.scale.shares:
        result = bench.load(url, mode="open", rate=best * share, connections=256, watch=watch)
        found["open"].append({"rate": best * share, **_row(f"open, {share:.0%} of the best rate", result)})
    return found


def _row(label: str, result: Result) -> dict[str, Any]:
    row: dict[str, Any] = {"per_s": result.per_s, "statuses": result.statuses, "latency_ms": result.latency_ms}
    text = f"{label}: {shown(result.per_s)}/s, p50 {result.latency_ms['p50']} ms, p99 {result.latency_ms['p99']} ms"
    if "target" in result.cpu_s:
        row["cpu_us"] = result.cpu_us("target")
        text += f", {shown(row['cpu_us'])} µs CPU"
    if result.good() < result.answered or result.lost or result.unanswered:
        text += f"; not 2xx: {result.statuses}, {result.lost} lost, {result.unanswered} unanswered"
    print(text, flush=True)
    return row
