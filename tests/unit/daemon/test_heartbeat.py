"""The loop's beat is seen, its lateness is measured, and only a daemon that is well gives signs of life."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.daemon.heartbeat import BEAT_S, Heartbeat
from sidecar.metrics import Metrics
from tests.support.virtual import VirtualClock, VirtualLoop, run


class Manager:
    """A service manager that wants a sign at each beat."""

    def __init__(self) -> None:
        self.signs: list[float] = []

    def alive_due(self, now_s: float) -> bool:
        return True

    def alive(self, now_s: float) -> None:
        self.signs.append(now_s)


@pytest.mark.parametrize("well", [True, False])
def test_signs_of_life_come_at_each_beat_while_all_is_well(well):
    """A daemon that a restart would help is silent; it beats on."""
    loop, manager, metrics = VirtualLoop(), Manager(), Metrics()
    clock = VirtualClock(loop)
    looks: list[float] = []

    async def look() -> None:
        looks.append(clock.monotonic_s())

    heart = Heartbeat(metrics, manager, lambda: well, clock, look)  # type: ignore[arg-type]

    async def work() -> None:
        beating = asyncio.ensure_future(heart.run())
        await asyncio.sleep(0)
        await asyncio.sleep(BEAT_S * 3.5)
        assert heart.beat_ago_s() == pytest.approx(BEAT_S / 2)
        assert metrics.loop_lag.values[()] == pytest.approx(0)
        loop.now_s += 2.0  # something held the loop up
        await asyncio.sleep(0.01)
        assert metrics.loop_lag.values[()] == pytest.approx(2.0 - BEAT_S / 2)
        beating.cancel()

    run(work(), loop)
    assert len(manager.signs) == (4 if well else 0)
