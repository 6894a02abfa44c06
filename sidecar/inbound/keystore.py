"""Keys from the network: kept, refreshed in the background, and fetched within bounds when a request names a new one.

The verifiers are pure and only see ``snapshot``. What a stranger's request may cause is bounded: one fetch at a time
for each key, a bucket of fetches for all keys together, a pause after a failure, and so many keys at most. A request
whose key is here never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from sidecar import log
from sidecar.clock import Clock
from sidecar.inbound.verify import Fetch, Fetched

__all__ = ["FetchFailed", "KeyStore"]

MAX_KEYS: Final = 64
MAX_WAITING: Final = 256
BURST: Final = 10
REFILL_S: Final = 6.0
"""One more fetch that requests may cause, this often."""
PAUSE_S: Final = 10.0
"""After a failed fetch."""
SETTLED_S: Final = 60.0
"""A document of this age is asked for again when it lacks what a request names; a younger one is the last word."""
REFRESH_S: Final = 3600.0
KEEP_S: Final = 24 * 3600.0
"""Without a successful refresh a key is forgotten after this."""
BEAT_S: Final = 30.0

Done = Callable[[bool], None]

_log = log.get_logger("keys")


class FetchFailed(Exception):
    """A document could not be had; the text says why, for the log."""


class KeyStore:
    """All keys of all sources.

    Args:
        load: Gets one document or raises ``FetchFailed``.
        clock: The machine's clocks.
    """

    def __init__(self, load: Callable[[Fetch], Awaitable[bytes]], clock: Clock) -> None:
        self.snapshot: dict[str, Fetched] = {}
        self._load = load
        self._clock = clock
        self._known: dict[str, Fetch] = {}
        self._wanted: dict[str, Fetch] = {}
        self._waiting: dict[str, list[Done]] = {}
        self._failed_s: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tokens = float(BURST)
        self._tokens_s = clock.monotonic_s()

    def want(self, fetches: Sequence[Fetch]) -> None:
        """Say which documents the configuration surely needs: fetched by ``run``, before any request asks."""
        self._wanted = {fetch.key: fetch for fetch in fetches}

    def ask(self, fetch: Fetch, done: Done) -> bool:
        """Ask for a document that a request needs.

        Args:
            fetch: What a verdict names.
            done: Called later, once: whether it is in ``snapshot`` now.

        Returns:
            False when nothing newer is to be had: then the verdict stands and ``done`` is not called.
        """
        known = self.snapshot.get(fetch.key)
        if known is not None and fetch.newer and self._clock.wall_ms() - known.at_ms < SETTLED_S * 1000:
            return False
        waiting = self._waiting.get(fetch.key)
        if waiting is None and not self._may_fetch(fetch.key):
            asyncio.get_running_loop().call_soon(done, False)
        elif waiting is None:
            self._waiting[fetch.key] = [done]
            self._begin(fetch)
        elif sum(map(len, self._waiting.values())) >= MAX_WAITING:
            asyncio.get_running_loop().call_soon(done, False)
        else:
            waiting.append(done)
        return True

    def _may_fetch(self, key: str) -> bool:
        now_s = self._clock.monotonic_s()
        if now_s - self._failed_s.get(key, float("-inf")) < PAUSE_S:
            return False
        self._tokens = min(float(BURST), self._tokens + (now_s - self._tokens_s) / REFILL_S)
        self._tokens_s = now_s
        if self._tokens < 1 or len(self._waiting) >= BURST:
            _log.limited("keys bucket", "warning", "too many unknown keys are asked for; not fetched")
            return False
        self._tokens -= 1
        return True

    def _begin(self, fetch: Fetch) -> None:
        task = asyncio.ensure_future(self._fetch(fetch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, fetch: Fetch) -> None:
        ok = False
        try:
            data = await self._load(fetch)
        except FetchFailed as error:
            self._failed_s[fetch.key] = self._clock.monotonic_s()
            while len(self._failed_s) > MAX_KEYS:
                del self._failed_s[next(iter(self._failed_s))]
            # One key for all: a stranger chooses a part of the address, and each key is remembered.
            _log.limited("keys fetch", "warning", "a key could not be fetched", error=str(error))
        else:
            ok = True
            self._keep(fetch, data)
        finally:
            for done in self._waiting.pop(fetch.key, []):
                done(ok)

    def _keep(self, fetch: Fetch, data: bytes) -> None:
        self._failed_s.pop(fetch.key, None)
        self._known[fetch.key] = fetch
        self.snapshot[fetch.key] = Fetched(data, self._clock.wall_ms())
        strangers = [key for key in self._known if key not in self._wanted]
        for key in strangers[: max(0, len(self._known) - MAX_KEYS)]:
            self._forget(key)

    def _forget(self, key: str) -> None:
        del self._known[key], self.snapshot[key]

    # --- in the background

    async def run(self) -> None:
        """Fetch what is wanted, refresh what is old, forget what could not be refreshed; until cancelled."""
        try:
            while True:
                self.tick()
                await asyncio.sleep(BEAT_S)
        finally:
            for task in self._tasks:
                task.cancel()

    def tick(self) -> None:
        """One round of the background work; ends before its fetches do."""
        now_ms, now_s = self._clock.wall_ms(), self._clock.monotonic_s()
        for key in [k for k, kept in self.snapshot.items() if now_ms - kept.at_ms > KEEP_S * 1000]:
            self._forget(key)
        for fetch in {**self._known, **self._wanted}.values():
            kept = self.snapshot.get(fetch.key)
            old = kept is None or now_ms - kept.at_ms > REFRESH_S * 1000
            paused = now_s - self._failed_s.get(fetch.key, float("-inf")) < PAUSE_S
            if old and not paused and fetch.key not in self._waiting:
                self._waiting[fetch.key] = []
                self._begin(fetch)
