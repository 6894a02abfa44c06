"""An event loop whose time is virtual: it jumps to the next timer as soon as nothing is left to do."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from sidecar.clock import Clock

START_WALL_MS = 1_764_000_000_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs hours in milliseconds. No sockets; what is meant for another thread runs at once, in no time.

    It replaces asyncio's own turn, which asks a selector and keeps its timers as objects that are compared in Python:
    that is most of what a simulated day would cost. Timers of one moment ring in the order in which they were set.

    Attributes:
        now_s: The time, monotonic; it begins at 1000.
        turns: How often the loop went round: what nothing but a busy loop makes many of.
    """

    _ready: Any  # asyncio's own deque of handles

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.turns = 0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._set = 0
        super().__init__()

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._set += 1
        heapq.heappush(self._timers, (when, self._set, handle))
        return handle

    def _run_once(self) -> None:
        """One turn: what is ready runs; when nothing is, time jumps to the next timer."""
        self.turns += 1
        ready, timers = self._ready, self._timers
        while not ready:
            if not timers:
                raise AssertionError("nothing is left to do and nothing is awaited that time could bring")
            when, _, handle = heapq.heappop(timers)
            if not handle.cancelled():
                self.now_s = max(self.now_s, when)
                ready.append(handle)
        while timers and timers[0][0] <= self.now_s:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as e:  # noqa: BLE001 - as an executor does
            future.set_exception(e)
        return future


class VirtualClock(Clock):
    """The clocks of a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.wall_step_ms = 0

    def wall_ms(self) -> int:
        return START_WALL_MS + self.wall_step_ms + round((self.loop.now_s - 1000.0) * 1000)

    def boot_ms(self) -> int:
        return round(self.loop.now_s * 1000)

    def boot_id(self) -> str:
        return "virtual"

    def monotonic_s(self) -> float:
        return self.loop.now_s


def run(main: Coroutine[Any, Any, Any], loop: VirtualLoop) -> Any:
    """Run to the end, and end what is left."""
    asyncio.set_event_loop(loop)
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    try:
        result = loop.run_until_complete(main)
        assert not errors, errors
        return result
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()
