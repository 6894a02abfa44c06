"""Writes the measured tables of ``docs/performance.md`` from results; the page's own words stay as they are.

    python -m tests.bench.report build/bench/results.json [MORE.json ...]

Of several results the later ones replace the scenarios that they have, so that long ones can be run apart.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.bench.machine import ROOT
from tests.bench.scenarios.index import BATCH
from tests.bench.scenarios.watchers import TAILS
from tests.bench.sizing_table import FORMULAS, sizing
from tests.bench.table import HEADS, as_markdown, rows, shown

__all__ = ["PAGE", "TABLES", "rewrite"]

PAGE = ROOT / "docs" / "performance.md"
Results = Mapping[str, Any]


def _reached(r: Results) -> str:
    return as_markdown(HEADS, [row.cells() for row in rows(r)])


def _limits(r: Results) -> str:
    found = r["ack"]
    lines = [
        (f"nginx, `return 202`, {n} connections", f"{shown(found[n]['nginx_us'])} µs CPU a request")
        for n in ("64", "256")
    ]
    lines += [
        (f"a bare httptools protocol, {n} connections", f"{shown(found[n]['bare_us'])} µs CPU a request")
        for n in ("64", "256")
    ]
    flush = found["flush"]
    lines.append(("fdatasync of one page", f"{shown(flush['mean'])} ms, p99 {shown(flush['p99'])} ms"))
    for n in ("64", "256"):
        lmdb = found[n]["lmdb"]
        text = f"{shown(lmdb['mean'])} ms a commit, p99 {shown(lmdb['p99'])} ms"
        lines.append((f"LMDB alone, batches of {lmdb['batch']}", text))
    return as_markdown(("limit", "measured"), lines)


def _rates(r: Results) -> str:
    found = r["rates"]["1024"]
    lines = [
        (
            f"{shown(s['rate'])} ({s['share']:.0%})",
            *(shown(s["latency_ms"][q]) for q in ("p50", "p99", "p999")),
            shown(s["cpu_us"]),
            shown(s["batches"]["mean"]),
            shown(s["lmdb"]["p99"]),
        )
        for s in found["steps"]
    ]
    heads = (
        "webhooks a second (share of saturation)",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "µs CPU",
        "mean batch",
        "bare commit p99 ms",
    )
    return as_markdown(heads, lines)


def _connections(r: Results) -> str:
    lines = [
        (n, shown(row["cpu_us"]), shown(row["per_s"]), shown(row["batches"]["mean"]), shown(row["anon_mib"]))
        for n, row in r["connections"].items()
    ]
    return as_markdown(("connections", "µs CPU an ack", "acks a second", "mean batch", "RssAnon MiB"), lines)


def _destinations(r: Results) -> str:
    lines = [
        (n, shown(row["cpu_us"]), shown(row["cpu_us"] / int(n)), shown(row["deliveries_per_s"]))
        for n, row in r["deliver"].items()
    ]
    return as_markdown(("destinations", "µs CPU an event", "µs CPU a delivery", "deliveries a second"), lines)


def _bodies(r: Results) -> str:
    lines = [
        (_size(int(n)), shown(row["ack_us"]), shown(row["whole"]["cpu_us"]), shown(row["whole"]["deliveries_per_s"]))
        for n, row in r["bodies"].items()
    ]
    return as_markdown(("body", "µs CPU an ack", "µs CPU acked and delivered", "delivered a second"), lines)


def _backlog(r: Results) -> str:
    found = r["backlog"]
    names = ("40,000", f"{found['size']:,}")
    keys = ("ready_s", "anon_mib", "ack_us", "drain_us", "drain_per_s")
    lines = [
        (name, *(shown(found[which][k]) for k in keys)) for name, which in zip(names, ("small", "large"), strict=True)
    ]
    heads = (
        "deliveries waiting",
        "exec to ready s",
        "RssAnon MiB",
        "µs CPU an ack",
        "µs CPU a delivery drained",
        "drained a second",
    )
    return as_markdown(heads, lines)


def _keys(r: Results) -> str:
    found = r["keys"]
    lines = [
        (name, *(shown(found[which][k]) for k in ("ready_s", "anon_mib", "ack_us")))
        for name, which in (("none", "empty"), (f"{found['size']:,}", "full"))
    ]
    return as_markdown(("dedup keys remembered", "exec to ready s", "RssAnon MiB", "µs CPU an ack"), lines)


def _index(r: Results) -> str:
    found = r["index"]
    keys = ("claim_us", "commit_p50_ms", "commit_beside_busy_loop_ms", "disk_bytes_per_key")
    lines = [
        (words, *(shown(found[n][k]) for k in keys)) for n, words in (("index", "ours"), ("table", "a plain table"))
    ]
    heads = (
        f"{found['size']:,} keys, batches of {BATCH}", "µs CPU a claim", "commit p50 ms", "beside a busy loop ms", "bytes on disk a key",
    )  # fmt: skip
    return as_markdown(heads, lines)


def _trouble(r: Results) -> str:
    lines = [
        (n, *(shown(row[k]) for k in ("ack_p99_ms", "way_p50_ms", "way_p99_ms", "cpu_us")))
        for n, row in r["troubled"].items()
    ]
    heads = ("beside a ... destination", "ack p99 ms", "healthy one, p50 ms", "healthy one, p99 ms", "µs CPU an event")
    return as_markdown(heads, lines)


def _flood(r: Results) -> str:
    words = {
        "none": "none", "unsigned_1k": "unsigned, 1 KiB", "bad_1k": "badly signed, 1 KiB", "unsigned_1m": "unsigned, 1 MiB",
        "bad_1m": "badly signed, 1 MiB",
    }  # fmt: skip
    lines = [
        (
            words[n],
            shown(row.get("refused_per_s", 0)),
            shown(row.get("cpu_per_refusal_us", 0)),
            str(row["not_accepted"]),
            shown(row["p50_ms"]),
            shown(row["p99_ms"]),
        )
        for n, row in r["flood"].items()
    ]
    heads = (
        "flood",
        "refused a second",
        "µs CPU a refusal",
        "honest ones not accepted",
        "honest p50 ms",
        "honest p99 ms",
    )
    return as_markdown(heads, lines)


def _others(r: Results) -> str:
    duplicates, restart, watchers, idle = r["duplicates"], r["restart"], r["watchers"], r["idle"]
    lines = [
        ("every tenth request a duplicate", f"{shown(duplicates['tenth']['cpu_us'])} µs CPU a request, {shown(duplicates['none']['cpu_us'])} without"),
        (f"killed with {restart['accepted']:,} waiting", f"ready {shown(restart['ready_s'])} s after exec, all delivered after {shown(restart['drained_s'])} s"),
        (f"{TAILS} live tails and a scrape every second", f"{shown(watchers['watched']['cpu_us'])} µs CPU an event, {shown(watchers['unwatched']['cpu_us'])} without"),
        ("idle", f"{shown(idle['anon_mib'])} MiB RssAnon, {shown(idle['cpu_share'] * 100)} % of a core; start takes {shown(idle['start_cpu_s'])} s of CPU"),
    ]  # fmt: skip
    return as_markdown(("what", "measured"), lines)


def _sizing(r: Results) -> str:
    heads = ("webhooks a second", "processes", "CPU per event", "CPU request", "memory limit each", "volume", "IOPS")
    return as_markdown(heads, sizing(r["sizing"])) + "\n\n" + FORMULAS


TABLES: dict[str, Callable[[Results], str]] = {
    "reached": _reached,
    "limits": _limits,
    "rates": _rates,
    "connections": _connections,
    "destinations": _destinations,
    "bodies": _bodies,
    "backlog": _backlog,
    "keys": _keys,
    "index": _index,
    "trouble": _trouble,
    "flood": _flood,
    "others": _others,
    "sizing": _sizing,
}


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB" if size >= 1024 else f"{size} B"


def rewrite(page: str, results: Results, machine: Mapping[str, Any]) -> str:
    """Put fresh tables between the page's marks.

    Raises:
        KeyError: The results lack a scenario that the page shows.
        ValueError: The page lacks a mark.
    """
    head = f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, CPython {machine['python']}; commit {machine['commit']}."
    for name, made in {"machine": head, **{n: table(results) for n, table in TABLES.items()}}.items():
        mark = re.compile(rf"(<!-- bench: {name} -->\n).*?(<!-- /bench -->)", re.DOTALL)
        if not mark.search(page):
            raise ValueError(f"the page has no mark for {name}")
        page = mark.sub(lambda m, made=made: f"{m[1]}{made}\n{m[2]}", page)  # type: ignore[misc]
    return page


def main() -> None:
    """Rewrite the page."""
    scenarios: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    for file in sys.argv[1:] or [str(ROOT / "build" / "bench" / "results.json")]:
        run = json.loads(Path(file).read_text(encoding="utf-8"))
        scenarios |= run["scenarios"]
        machine = machine or run["machine"]
    PAGE.write_text(rewrite(PAGE.read_text(encoding="utf-8"), scenarios, machine), encoding="utf-8")


if __name__ == "__main__":
    main()
