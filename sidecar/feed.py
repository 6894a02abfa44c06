"""What is happening right now, for people who watch: a bounded queue for each watcher, nothing when nobody does.

Publishing never waits: a watcher that is too slow loses its oldest rows and is told how many.
"""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Feed", "Watcher"]

Row = dict[str, str | int | float | bool | None]


class Watcher:
    """One reader of the feed."""

    def __init__(self, capacity: int) -> None:
        self._rows: deque[Row] = deque(maxlen=capacity)
        self._ready = asyncio.Event()
        self.dropped = 0

    def put(self, row: Row) -> None:
        """Add a row; the oldest goes when there is no room."""
        if len(self._rows) == self._rows.maxlen:
            self.dropped += 1
        self._rows.append(row)
        self._ready.set()

    async def next(self) -> list[Row]:
        """Wait until there is something and take it all."""
        await self._ready.wait()
        self._ready.clear()
        rows = list(self._rows)
        self._rows.clear()
        return rows


class Feed:
    """Where the lanes tell what they do. Check ``watched`` before building a row."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self.watched = False

    def publish(self, row: Row) -> None:
        """Hand one row to every watcher."""
        for w in self._watchers:
            w.put(row)

    def watch(self, capacity: int = 1000) -> Watcher:
        """Begin to watch."""
        w = Watcher(capacity)
        self._watchers.add(w)
        self.watched = True
        return w

    def unwatch(self, watcher: Watcher) -> None:
        """Stop watching. Safe to call twice."""
        self._watchers.discard(watcher)
        self.watched = bool(self._watchers)
