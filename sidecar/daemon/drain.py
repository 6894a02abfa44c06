"""A drain: webhooks are taken a little longer, then refused, while what is owed is delivered.

One that no stop follows ends by itself when its lease is over, so that a ``preStop`` hook whose Pod stays does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar import log
from sidecar.clock import Clock
from sidecar.inbound.receive import Receiver
from sidecar.inbound.server import Listener
from sidecar.outbound.dispatch import Dispatcher

__all__ = ["Drain"]

_log = log.get_logger("daemon")


class Drain:
    """The one drain of a daemon, which may begin again after its lease.

    Attributes:
        on: Whether it is going on.
        final: Set once the daemon stops: no lease ends it any more.
        started_s: When it began, on the monotonic clock.

    Args:
        listener: Told to close what is idle.
        receiver: Told when to take nothing more.
        dispatcher: Asked to deliver what can be delivered.
        owed: How many deliveries are.
        clock: The machine's clocks.
    """

    def __init__(
        self, listener: Listener, receiver: Receiver, dispatcher: Dispatcher, owed: Callable[[], int], clock: Clock
    ) -> None:
        self._listener = listener
        self._receiver = receiver
        self._dispatcher = dispatcher
        self._owed = owed
        self._clock = clock
        self._accept_timer: asyncio.TimerHandle | None = None
        self._lease_timer: asyncio.TimerHandle | None = None
        self.on = False
        self.final = False
        self.started_s = 0.0

    def begin(self, accept_for_s: float) -> None:
        """Begin, unless it is on; webhooks are taken for so long, at 0 no longer."""
        if self.on:
            return
        self.on = True
        self.started_s = self._clock.monotonic_s()
        self._listener.refuse_new()
        if accept_for_s > 0:
            loop = asyncio.get_running_loop()
            self._accept_timer = loop.call_later(accept_for_s, self._receiver.stop_accepting)
        else:
            self._receiver.stop_accepting()
        _log.info("draining", accept_for_s=accept_for_s, pending=self._owed())

    async def lease(self, wait_s: float, *, accept_for_s: float, lease_s: float) -> int:
        """Begin, or go on for another lease, and deliver until the wait is over or nothing is pending.

        Args:
            wait_s: At most so long; 0 = only begin.
            accept_for_s: See ``begin``.
            lease_s: After this it ends by itself; never before the wait does.

        Returns:
            Deliveries that are still owed.
        """
        self.begin(accept_for_s)
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        self._lease_timer = asyncio.get_running_loop().call_later(max(lease_s, wait_s), self._end)
        if wait_s > 0:
            return await self._dispatcher.drain(wait_s)
        return self._owed()

    def _end(self) -> None:
        if self.final:
            return
        self.cancel_timers()
        self.on = False
        self._listener.accept_again()
        self._receiver.resume()
        _log.warning("the drain's lease ended without a SIGTERM: accepting again")

    def cancel_timers(self) -> None:
        """Let nothing happen by itself any more."""
        for timer in (self._accept_timer, self._lease_timer):
            if timer is not None:
                timer.cancel()
        self._accept_timer = self._lease_timer = None
