"""Work that goes on beside the requests: kept while it runs, and its failure said aloud."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from sidecar import log

__all__ = ["Background"]

_log = log.get_logger("daemon")


class Background:
    """Tasks that nobody waits for."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[None]] = set()

    def keep(self, work: Awaitable[None]) -> None:
        """Run it to its end, or until ``stop``."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a background task failed", error=log.bug_text(error))

    async def stop(self) -> None:
        """Cancel what is left and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
