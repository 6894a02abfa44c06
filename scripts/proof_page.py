"""Makes ``docs/proof.md`` from the promises, the harnesses and the ledger of what was run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.proof.catalog import SHARDS
from tests.proof.finds import FINDS
from tests.proof.promises import PROMISES, Promise

LEDGER = Path(__file__).resolve().parent.parent / "docs" / "proof" / "ledger.jsonl"

_WORST = re.compile(
    r"acknowledged event|is gone|altered|other bytes|bytes of .* changed|never arrived|never stored|counts as delivered"
)

_HEAD = """\
# The proof

What [promises.md](promises.md) says in words is listed here with what shows it. `make proof` runs every harness below from one
printed seed for `PROOF_MINUTES` (10 by default), each together with its control: the same harness against a deliberate bug,
which it must catch. The controls come first and take some five minutes; half of the time at least is left for the harnesses. A
run adds a line to [the ledger](proof/ledger.jsonl); the totals here are the sum of its lines, and this page is generated from
it. A small share of everything runs in each `make test`. `PROOF_SHARDS=a,b` names the harnesses, `PROOF_WORKERS=n` how many
processes of one run side by side (one a core by default). `PROOF_SEED=n` repeats a run; for the seed in what was found,
together with `PROOF_WORKERS=1`. How much of the deciding code the tests really hold is on another page:
[mutants](proof/mutants.md).
"""


def page() -> str:
    """The whole page."""
    rows = ledger()
    return "\n".join([_HEAD, _harnesses(rows), _promises(), _finds(rows), _runs(rows)])


def ledger() -> list[dict[str, Any]]:
    """What was run so far, oldest first."""
    if not LEDGER.exists():
        return []
    return [json.loads(line) for line in LEDGER.read_text(encoding="utf-8").splitlines() if line]


def _harnesses(rows: list[dict[str, Any]]) -> str:
    lines = [
        "## Harnesses",
        "",
        "| Harness | Holds | So far | Wrong in the last run | Controls it catches |",
        "|---|---|---|---|---|",
    ]
    for shard in SHARDS.values():
        mine = [r["shards"][shard.name] for r in rows if shard.name in r["shards"]]
        total = sum(r["count"] for r in mine)
        wrong = str(len(mine[-1]["found"])) if mine else "not run yet"
        caught = next((r["caught"] for r in reversed(mine) if r.get("caught")), [])
        lines.append(
            f"| `{shard.name}` | {', '.join(shard.promises) or 'what names tests below'} | {total:,} {shard.unit} | {wrong} | {'; '.join(caught) or '-'} |"
        )
    return "\n".join([*lines, ""])


def _promises() -> str:
    lines = ["## Promises", "", "| | Promise | Not covered | Shown by | Control |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(_row(p) for p in PROMISES), ""])


def _row(promise: Promise) -> str:
    shards = [s.name for s in SHARDS.values() if promise.number in s.promises]
    shown = ", ".join([*(f"`{name}` above" for name in shards), *(f"`{path}`" for path in promise.tests)])
    control = "; ".join([*(f"those of `{name}`" for name in shards), *([promise.control] if promise.control else [])])
    return f"| {promise.number} | {promise.says} | {promise.not_covered or '-'} | {shown} | {control} |"


def _finds(rows: list[dict[str, Any]]) -> str:
    lines = [line for r in rows for s in r["shards"].values() for line in s["found"]]
    worst = sum(bool(_WORST.search(line)) for line in lines)
    text = [
        "## What was found",
        "",
        (
            f"{len(lines)} lines of all runs say that something was wrong, {worst or 'none'} of them that an acknowledged event was "
            "lost,\ncounted as delivered though nobody had taken it, or delivered with other bytes. What they meant:"
        ),
        "",
        "| When | Harness | Lines | What it was, and what became of it |",
        "|---|---|---|---|",
    ]
    for r in reversed(rows):
        for name, s in r["shards"].items():
            if s["found"]:
                why = FINDS.get((r["at"], name), "Not looked into yet.")
                text.append(f"| {r['at']} | `{name}` | {len(s['found'])} | {why} |")
    return "\n".join([*text, ""])


def _runs(rows: list[dict[str, Any]]) -> str:
    lines = ["## Runs", "", "| When | Version | Seed | What | Wrong |", "|---|---|---|---|---|"]
    for r in reversed(rows[-20:]):
        what = ", ".join(f"{s['count']:,} {s['unit']}" for s in r["shards"].values())
        wrong = sum(len(s["found"]) for s in r["shards"].values())
        version = f"{r['version']} ({r['revision']})" if r["revision"] else r["version"]
        lines.append(f"| {r['at']} | {version} | {r['seed']} | {what} | {wrong} |")
    return "\n".join([*lines, ""])
