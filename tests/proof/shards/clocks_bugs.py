"""The daemon with a deliberate bug about time; the harness of clock steps must catch it."""

from __future__ import annotations

import sys

from sidecar.__main__ import main
from sidecar.journal.clock import JournalClock


def wall() -> None:
    """What expires, expires by the wall clock."""
    JournalClock.now_ms = lambda self: self._clock.wall_ms()


def restart() -> None:
    """A start takes up the wall clock instead of going on from where the last process was."""
    honest = JournalClock.__init__
    JournalClock.__init__ = lambda self, clock, stored: honest(self, clock, None)


if __name__ == "__main__":
    {"wall": wall, "restart": restart}[sys.argv.pop(1)]()
    sys.exit(main())
