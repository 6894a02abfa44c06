"""Signs of life: the event loop beats, its lateness is measured, and a service manager's watchdog hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sidecar.clock import Clock
from sidecar.metrics import Metrics
from sidecar.notify import Notifier

__all__ = ["BEAT_S", "Heartbeat"]

BEAT_S = 0.5


class Heartbeat:
    """The beat of the loop that it runs on.

    Args:
        metrics: Where the lag is shown.
        notifier: Gives the sign of life.
        alive: Whether a restart would not help: only then is a sign given.
        clock: The machine's clocks.
        look: Awaited at each beat: what has to be looked after this often.
    """

    def __init__(
        self,
        metrics: Metrics,
        notifier: Notifier,
        alive: Callable[[], bool],
        clock: Clock,
        look: Callable[[], Awaitable[None]],
    ) -> None:
        self._metrics = metrics
        self._notifier = notifier
        self._alive = alive
        self._clock = clock
        self._look = look
        self._beat_s = clock.monotonic_s()

    def beat_ago_s(self) -> float:
        """Seconds since the last beat."""
        return self._clock.monotonic_s() - self._beat_s

    async def run(self) -> None:
        """Beat until cancelled."""
        due_s = self._clock.monotonic_s() + BEAT_S
        while True:
            await asyncio.sleep(BEAT_S)
            self._beat_s = self._clock.monotonic_s()
            self._metrics.loop_lag.set(max(0.0, self._beat_s - due_s))
            due_s = self._beat_s + BEAT_S
            if self._notifier.alive_due(self._beat_s) and self._alive():
                self._notifier.alive(self._beat_s)
            await self._look()
