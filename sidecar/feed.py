"""What is happening right now, for people who watch: one bounded window of rows for all of them, nothing when nobody does.

Publishing never waits and costs the same for one watcher as for ten. A watcher that falls behind the window loses its oldest
rows and is told how many. A row is cleaned and encoded when somebody first takes it, once for all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice

import msgspec

from sidecar.log import safe_text

__all__ = ["Feed", "Told", "Watcher"]

Row = dict[str, str | int | float | bool | None]

_WINDOW = 5000  # rows, some 3 MiB while somebody watches; a fifth of a second at saturation


class Told:
    """One thing that happened."""

    __slots__ = ("_line", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        self._line = b""

    @property
    def line(self) -> bytes:
        """The row as a line of JSON that is safe for a terminal."""
        if not self._line:
            cleaned = {k: safe_text(v) if isinstance(v, str) else v for k, v in self.row.items()}
            self._line = msgspec.json.encode(cleaned) + b"\n"
        return self._line


class Watcher:
    """One reader of the feed: where it has got to."""

    def __init__(self, feed: Feed, seen: int) -> None:
        self._feed = feed
        self._seen = seen

    async def next(self) -> tuple[list[Told], int]:
        """Wait until there is something, or the end, and take it all.

        Returns:
            What happened (nothing at the end), and how much before it was dropped.
        """
        feed = self._feed
        while self._seen == feed.count and not feed.ended:
            await feed.something()
        new, self._seen = feed.count - self._seen, feed.count
        told = feed.last(new)
        return told, new - len(told)


class Feed:
    """Where the lanes tell what they do. Check ``watched`` before building a row."""

    def __init__(self, window: int = _WINDOW) -> None:
        self._watchers: set[Watcher] = set()
        self._told: deque[Told] = deque(maxlen=window)
        self._waiting: set[asyncio.Future[None]] = set()
        self.count = 0
        self.ended = False
        self.watched = False

    def publish(self, row: Row) -> None:
        """Tell whoever watches."""
        if not self.watched:
            return
        self._told.append(Told(row))
        self.count += 1
        if self._waiting:
            self._wake()

    def end(self) -> None:
        """Let everybody go: nothing more will happen."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():  # given up in this very turn of the loop
                waiting.set_result(None)
        self._waiting.clear()

    def last(self, count: int) -> list[Told]:
        """What was told last, oldest first: at most so much, and at most the window."""
        return list(islice(self._told, max(0, len(self._told) - count), None))

    async def something(self) -> None:
        """Wait for the next row."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def watch(self) -> Watcher:
        """Begin to watch."""
        w = Watcher(self, self.count)
        self._watchers.add(w)
        self.watched = True
        return w

    def unwatch(self, watcher: Watcher) -> None:
        """Stop watching. Safe to call twice."""
        self._watchers.discard(watcher)
        self.watched = bool(self._watchers)
        if not self.watched:
            self._told.clear()
