"""``make mutants``: change the modules that decide, a little, thousands of times, and see that a test notices.

Each module's result is a line of the ledger, ``docs/proof/mutants.jsonl``, which the page about it is made from.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.mutants.catalog import MODULES
from tests.mutants.explained import EXPLAINED
from tests.mutants.judge import judge, source_of

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "docs" / "proof" / "mutants.jsonl"


def ledger() -> dict[str, dict[str, Any]]:
    """The last result of each module."""
    if not LEDGER.exists():
        return {}
    rows = [json.loads(line) for line in LEDGER.read_text(encoding="utf-8").splitlines() if line]
    return {row["module"]: row for row in rows}


def note(row: dict[str, Any]) -> None:
    """Put a module's result in the place of the one before."""
    LEDGER.touch()
    with LEDGER.open("r+", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # another run may do the other half of the modules
        rows = {**ledger(), row["module"]: row}
        held.truncate()
        held.write("".join(json.dumps(rows[name], ensure_ascii=False) + "\n" for name in MODULES if name in rows))


def digest(module: str) -> str:
    """Tells one state of a module's source from another."""
    return hashlib.sha256(source_of(module).read_bytes()).hexdigest()[:12]


def unexplained(row: dict[str, Any]) -> list[str]:
    """Survivors of a result that nobody has explained."""
    return [what for what in row["survived"] if what not in EXPLAINED.get(row["module"], {})]


def main() -> int:
    """Judge the modules named; returns 1 when a mutant survives without an explanation."""
    parser = argparse.ArgumentParser(description="Look for changes that no test notices.")
    parser.add_argument("--modules", default="", help="names, separated by commas; all by default")
    parser.add_argument("--quiet", action="store_true", help="do not note it in the ledger")
    given = parser.parse_args()
    names = given.modules.split(",") if given.modules else list(MODULES)
    names = [name if name.startswith("sidecar") else f"sidecar.{name}" for name in names]
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        parser.error(f"no such module in tests/mutants/catalog.py: {', '.join(unknown)}")
    failed = False
    for name in names:
        begun_s = time.monotonic()
        verdict = judge(name, MODULES[name])
        row = {
            "module": name,
            "source": digest(name),
            "mutants": verdict.mutants,
            "killed": verdict.mutants - len(verdict.survived),
            "survived": verdict.survived,
        }
        if not given.quiet:
            note(row)
        print(f"{name}: {row['killed']} of {row['mutants']} in {time.monotonic() - begun_s:.0f} s", flush=True)
        for what in unexplained(row):
            print(f"  SURVIVED {what}", flush=True)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
