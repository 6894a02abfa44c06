"""An event loop whose time is virtual: it jumps to the next timer as soon as nothing is left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from sidecar.clock import Clock

START_WALL_MS = 1_764_000_000_000


class _Selector(selectors.SelectSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("nothing is left to do and nothing is awaited that time could bring")
        if not ready and timeout and timeout > 0:
            self.loop.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs hours in milliseconds. No sockets; what is meant for another thread runs at once, in no time."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now_s = 1000.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s

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
