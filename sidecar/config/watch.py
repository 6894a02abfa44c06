"""Notices that a file of the configuration changed, by looking every few seconds.

Polling sees what events on files do not: the link that Kubernetes swaps, and mounts of every kind. Content counts,
not times, so touching a file reloads nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterable

from sidecar.config.settings import WatchedFile

__all__ = ["POLL_S", "Watcher", "digest_of"]

POLL_S = 5.0
_MAX_BYTES = 4 << 20


def digest_of(path: str) -> bytes:
    """Digest of a file's content as in ``WatchedFile``; empty when it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return b""
            return hashlib.blake2b(file.read(_MAX_BYTES), digest_size=16).digest()
    except OSError:
        return b""


class Watcher:
    """Calls back once for each change of the files it watches.

    Args:
        files: As the settings name them (``Settings.watched``).
        changed: Reloads, and hands the files of the new settings to ``watch``; when it fails it has said so, and
            the same content is not tried again.
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
        """Watch these files from now on."""
        self._seen = {file.path: file.digest for file in files}

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
