"""How a bulk command goes on: its pace, its tally, and the rows that tell of it. One row becomes one NDJSON line."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sidecar.clock import Clock

__all__ = ["Pace", "Tally"]

_SLICE = 100
_MAX_TOLD = 1000  # refusals that are named one by one; all are counted


class Pace:
    """Holds a bulk command to its rate, in slices small enough to stay even."""

    def __init__(self, clock: Clock, rate: float) -> None:
        """Begin now.

        Args:
            clock: Monotonic time.
            rate: At most so many a second; 0 = as fast as it goes.
        """
        self._clock = clock
        self._rate = rate
        self._started_s = clock.monotonic_s()
        self.slice = max(1, min(_SLICE, int(rate / 4))) if rate else _SLICE

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return self._clock.monotonic_s() - self._started_s

    async def keep(self, handled: int) -> None:
        """Wait until ``handled`` are due by the rate."""
        wait_s = handled / self._rate - self.elapsed_s if self._rate else 0.0
        await asyncio.sleep(max(0.0, wait_s))


class Tally:
    """Counts what became of each, and makes the rows."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.done = 0
        self.failed = 0
        self.skipped = 0  # a filter met it, but there was nothing to do for it
        self.outcomes: Counter[str] = Counter()
        self._told = 0

    @property
    def handled(self) -> int:
        """Done and failed together."""
        return self.done + self.failed

    def ok(self, outcome: str, n: int = 1) -> None:
        """Count what worked."""
        if n:
            self.done += n
            self.outcomes[outcome] += n

    def refuse(self, event_id: str, destination: str, reason: str) -> Iterator[dict[str, Any]]:
        """Count what did not work; a row that names it, for the first thousand."""
        self.failed += 1
        self.outcomes[reason] += 1
        if self._told < _MAX_TOLD:
            self._told += 1
            yield {"type": "refused", "event_id": event_id, "destination": destination, "reason": reason}

    def progress(self) -> dict[str, Any]:
        """A row that says how far it is."""
        elapsed_s = self._pace.elapsed_s
        return {
            "type": "progress",
            "done": self.done,
            "failed": self.failed,
            "rate": round(self.handled / elapsed_s, 1) if elapsed_s > 0 else 0.0,
        }

    def summary(self, **more: Any) -> dict[str, Any]:
        """The last row."""
        row = self.progress() | {
            "type": "summary",
            "skipped": self.skipped,
            "outcomes": dict(sorted(self.outcomes.items())),
            "elapsed_s": round(self._pace.elapsed_s, 3),
        }
        return row | more
