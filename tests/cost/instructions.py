"""Instructions per event under callgrind, all threads: exact to a few parts in a thousand, and slow. For `make cost` alone.

Two runs that differ only in the number of events are subtracted, so that start and stop cancel out.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tests.cost.turns import daemon_command, turns

__all__ = ["instructions"]

FEW, MANY = 50, 350
READY_S = 300.0  # everything takes fifty times as long


def instructions(*, deliver: bool) -> float:
    """Thousands of instructions per event."""
    few, many = (_total(count, deliver=deliver) for count in (FEW, MANY))
    return (many - few) / (MANY - FEW) / 1e3


def _total(count: int, *, deliver: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="cost-") as name:
        out = Path(name) / "callgrind"
        valgrind = ("valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}")
        with turns(Path(name), daemon_command(*valgrind), deliver=deliver, ready_s=READY_S) as sender:
            sender.take(count)
            sender.close()
            sender.daemon.stop(timeout_s=READY_S)
        found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(errors="replace"), re.MULTILINE)
        assert found is not None, "callgrind wrote no total"
        return int(found[1])
