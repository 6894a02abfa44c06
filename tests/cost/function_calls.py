"""Function calls per event on the event loop's thread, Python's and C's, in the real daemon over real sockets."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

from tests.cost.turns import Turns, daemon_command, turns
from tests.support.daemon import eventually

__all__ = ["function_calls"]

WARM, COUNTED = 50, 200


def function_calls(folder: Path, *, deliver: bool, worse: bool = False) -> tuple[float, dict[str, float]]:
    """Calls per event, and the same by function, most first."""
    path = folder / "counts"
    env = {"COUNTS": str(path)} | ({"WORSE": "1"} if worse else {})
    with turns(folder, daemon_command(), deliver=deliver, env=env) as sender:
        sender.take(WARM)
        before = _counts(sender, path)
        sender.take(COUNTED)
        after = _counts(sender, path)
    found = after - before
    return found.total() / COUNTED, {name: round(n / COUNTED, 2) for name, n in found.most_common()}


def _counts(sender: Turns, path: Path) -> Counter[str]:
    os.kill(sender.daemon.pid, signal.SIGUSR1)
    eventually(path.exists, 30, "the counts")
    counts = Counter(json.loads(path.read_text()))
    path.unlink()
    return counts
