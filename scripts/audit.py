"""``make audit``: asks the advisory service whether anything that is locked has a known vulnerability.

Exit 0: every locked package was looked up, and none is known. Exit 1: some are, each on a line. Exit 69: nothing is known,
because the service did not answer, or not about everything; that is never taken for an all-clear.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import lock

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "lock-crypto.txt"
UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h


def judged(answer: str, why: str, locked: dict[str, str]) -> tuple[int, list[str]]:
    """Say what an answer of pip-audit means.

    Args:
        answer: Its output, JSON when it got that far.
        why: Its messages.
        locked: Name -> version of what was asked about.

    Returns:
        The exit code, and lines for people.
    """
    try:
        rows = {lock.normal(row["name"]): row for row in json.loads(answer)["dependencies"]}
    except (ValueError, KeyError, TypeError):
        last = next((line for line in reversed(why.splitlines()) if line.strip()), "no answer")
        return UNAVAILABLE, [f"nothing is known: the advisory service gave no answer ({last.strip()[:200]})"]
    known = [
        f"{name} {row['version']}: {vuln['id']}, fixed in {', '.join(vuln.get('fix_versions', [])) or 'no version'}"
        for name, row in sorted(rows.items())
        for vuln in row.get("vulns", [])
    ]
    unasked = [n for n, version in locked.items() if "vulns" not in rows.get(n, {}) or rows[n]["version"] != version]
    if known:
        return 1, known
    if unasked:
        why = next((rows[n]["skip_reason"] for n in unasked if rows.get(n, {}).get("skip_reason")), "no answer")
        return UNAVAILABLE, [f"nothing is known about {len(unasked)} of {len(locked)} locked packages: {why[:200]}"]
    return 0, [f"{len(locked)} locked packages, no known vulnerability"]


def main() -> int:
    """Ask, and say what came back; returns the exit code."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--require-hashes", "--disable-pip",
        "--format", "json", "--progress-spinner", "off", "--timeout", "30",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, lines = judged(done.stdout, done.stderr, lock.pins(LOCK.read_text(encoding="utf-8")))
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
