"""Notices that a file of the configuration changed, by looking every few seconds.

Polling sees what events on files do not: the link that Kubernetes swaps, and mounts of every kind. Content and
permissions count, not times, so touching a file reloads nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from sidecar.config.files import WatchedFile, digest_of

__all__ = ["POLL_S", "Watcher"]

POLL_S = 5.0


class Watcher:
    """Calls back once for each change of the files it watches.

    Args:
        files: As the settings name them (``Settings.watched``).
        changed: Reloads, and hands the files of the new settings to ``watch``; after a failed load those of the
            ``InvalidConfig`` to ``watch_also``, so that what was missing is noticed when it comes. The same content
            is not tried again.
        sleep: Waits for so many seconds; tests hand in their own.
    """

    def __init__(
        self,
        files: Iterable[WatchedFile],
        changed: Callable[[list[str]], Awaitable[None]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._seen = {file.path: file.digest for file in files}
        self._changed = changed
        self._sleep = sleep

    def watch(self, files: Iterable[WatchedFile]) -> None:
        """Watch these files from now on; of two entries for one path the last one counts."""
        self._seen = {file.path: file.digest for file in files}

    def watch_also(self, files: Iterable[WatchedFile]) -> None:
        """Watch these files, too. Of the others what was seen last counts: their change was a reason to try, once."""
        self._seen = {**self._seen, **{file.path: file.digest for file in files}}

    async def run(self) -> None:
        """Look, call back, wait; until cancelled."""
        while True:
            await self._sleep(POLL_S)
            await self.look()

    async def look(self) -> list[str]:
        """Look once.

        Returns:
            Paths whose content changed since the last look; the callback has had them.
        """
        seen = self._seen
        now = await asyncio.to_thread(lambda: {path: digest_of(path) for path in seen})
        if self._seen is not seen:  # a reload by another way came in between and knows better
            return []
        names = [path for path, digest in now.items() if digest != seen[path]]
        self._seen = now
        if names:
            await self._changed(names)
        return names
