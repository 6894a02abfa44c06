"""A drain takes webhooks a little longer, then none; without a stop it ends by itself, and with one never."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from sidecar.daemon.drain import Drain
from tests.support.virtual import VirtualClock, VirtualLoop, run


class World:
    """The parts of a daemon, as far as a drain tells them something."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.owed = 3
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.drain = Drain(self, self, self, lambda: self.owed, self.clock)  # type: ignore[arg-type]

    def refuse_new(self) -> None:
        self.told.append("refuse new")

    def accept_again(self) -> None:
        self.told.append("accept again")

    def stop_accepting(self) -> None:
        self.told.append("stop accepting")

    def resume(self) -> None:
        self.told.append("resume")

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        run(work, self.loop)


@pytest.fixture
def world():
    return World()


def test_webhooks_are_taken_for_a_while_and_then_no_more(world):
    """Also when somebody asks for a drain again meanwhile."""

    async def work() -> None:
        world.drain.begin(10.0)
        assert world.drain.on
        await asyncio.sleep(5)
        world.drain.begin(10.0)
        assert world.told == ["refuse new"]
        await asyncio.sleep(5.1)
        assert world.told == ["refuse new", "stop accepting"]

    world.run(work())


def test_where_nobody_propagates_endpoints_none_is_taken(world):
    """A volume that dies with its Pod."""

    async def work() -> None:
        world.drain.begin(0.0)
        assert world.told == ["refuse new", "stop accepting"]

    world.run(work())


def test_a_drain_that_nobody_follows_up_ends_with_its_lease(world):
    """Asked for again it lasts a lease longer; afterwards it can begin anew."""

    async def work() -> None:
        assert await world.drain.lease(0.0, accept_for_s=1.0, lease_s=90.0) == 3
        await asyncio.sleep(89)
        await world.drain.lease(0.0, accept_for_s=1.0, lease_s=90.0)
        await asyncio.sleep(89)
        assert world.drain.on
        await asyncio.sleep(2)
        assert not world.drain.on
        assert world.told == ["refuse new", "stop accepting", "accept again", "resume"]
        world.drain.begin(0.0)
        assert world.drain.on

    world.run(work())


def test_a_lease_never_ends_before_the_wait(world):
    """Whoever waits longer than the lease is told what is left, still draining."""

    async def deliver(wait_s: float) -> int:
        await asyncio.sleep(wait_s - 0.1)
        return 1

    async def work() -> None:
        world.drain._dispatcher = type("Dispatcher", (), {"drain": staticmethod(deliver)})()
        assert await world.drain.lease(200.0, accept_for_s=1.0, lease_s=90.0) == 1
        assert "resume" not in world.told

    world.run(work())


def test_once_the_daemon_stops_no_lease_brings_webhooks_back(world):
    """Whether it was asked for before the stop or after it."""

    async def work() -> None:
        await world.drain.lease(0.0, accept_for_s=1.0, lease_s=90.0)
        world.drain.final = True
        await world.drain.lease(0.0, accept_for_s=1.0, lease_s=90.0)
        await asyncio.sleep(1000)
        assert world.drain.on
        assert world.told == ["refuse new", "stop accepting"]

    world.run(work())


def test_cancelled_timers_do_nothing_any_more(world):
    """Neither the end of taking webhooks nor the lease."""

    async def work() -> None:
        await world.drain.lease(0.0, accept_for_s=1.0, lease_s=90.0)
        world.drain.cancel_timers()
        await asyncio.sleep(1000)
        assert world.told == ["refuse new"]

    world.run(work())
