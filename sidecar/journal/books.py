"""The journal's books: how many deliveries came in and went out, kept in the same commit as the deeds.

pending = enqueued - settled holds at all times, across crashes, because these numbers are one row that
each transaction rewrites. Numbers of sources and destinations, not names: names are for the outside.
"""

from __future__ import annotations

from sidecar.journal.clock import ClockReading
from sidecar.journal.environment import Names, StateRow
from sidecar.journal.types import Counters
from sidecar.model import State

__all__ = ["Books"]


class Books:
    """Counters of one moment. A transaction works on a copy and publishes it when it has committed."""

    __slots__ = ("dying", "enqueued", "fresh_from", "last_seq", "scheduled", "settled")

    def __init__(self) -> None:
        self.enqueued: dict[tuple[int, int], int] = {}
        self.settled: dict[tuple[int, int], int] = {}
        self.scheduled: dict[int, int] = {}
        self.dying: dict[int, int] = {}
        self.fresh_from: dict[int, int] = {}
        self.last_seq = 0

    @classmethod
    def load(cls, row: StateRow) -> Books:
        """Take over what the last commit stored."""
        books = cls()
        books.enqueued = {(s, d): n for s, d, n in row.enqueued}
        books.settled = {(d, o): n for d, o, n in row.settled}
        books.scheduled = dict(row.scheduled)
        books.dying = dict(row.dying)
        books.fresh_from = dict(row.fresh_from)
        books.last_seq = row.last_seq
        return books

    def copy(self) -> Books:
        """A copy to work on."""
        books = Books()
        books.enqueued = self.enqueued.copy()
        books.settled = self.settled.copy()
        books.scheduled = self.scheduled.copy()
        books.dying = self.dying.copy()
        books.fresh_from = self.fresh_from.copy()
        books.last_seq = self.last_seq
        return books

    def row(self, clock: ClockReading, *, clean: bool) -> StateRow:
        """What this commit stores."""
        return StateRow(
            clock,
            self.last_seq,
            clean,
            [(s, d, n) for (s, d), n in self.enqueued.items()],
            [(d, o, n) for (d, o), n in self.settled.items()],
            list(self.scheduled.items()),
            list(self.dying.items()),
            list(self.fresh_from.items()),
        )

    def enter(self, source: int, destination: int) -> None:
        """Count one entry into pending."""
        key = (source, destination)
        self.enqueued[key] = self.enqueued.get(key, 0) + 1

    def leave(self, destination: int, outcome: State) -> None:
        """Count one exit from pending."""
        key = (destination, int(outcome))
        self.settled[key] = self.settled.get(key, 0) + 1

    def schedule(self, destination: int, by: int) -> None:
        """Count pending deliveries that begin (1) or cease (-1) to wait for a due time."""
        self.scheduled[destination] = self.scheduled.get(destination, 0) + by

    def die(self, destination: int, by: int) -> None:
        """Count deliveries that begin (1) or cease (-1) to wait for their dead-letter file."""
        self.dying[destination] = self.dying.get(destination, 0) + by

    def counters(self, names: Names) -> Counters:
        """The same by name, for metrics and the audit."""
        s, d = names.sources, names.destinations
        return Counters(
            enqueued={(s[i], d[j]): n for (i, j), n in self.enqueued.items()},
            settled={(d[j], State(o).word): n for (j, o), n in self.settled.items()},
            scheduled={d[j]: n for j, n in self.scheduled.items()},
            dying={d[j]: n for j, n in self.dying.items()},
        )
