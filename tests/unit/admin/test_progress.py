"""Pace and tally of a bulk command."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.admin.progress import Pace, Tally
from sidecar.clock import Clock


class Hands(Clock):
    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s


@pytest.mark.parametrize(("rate", "size"), [(0, 100), (0.5, 1), (3, 1), (50, 12), (10_000, 100)])
def test_slices_are_a_quarter_of_a_second_at_most(rate, size):
    assert Pace(Hands(), rate).slice == size


async def test_a_pace_waits_until_the_handled_ones_are_due(monkeypatch):
    slept: list[float] = []

    async def sleep(s: float) -> None:
        slept.append(s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    clock = Hands()
    pace = Pace(clock, 10)
    clock.now_s = 1.0
    await pace.keep(25)
    clock.now_s = 9.0
    await pace.keep(25)
    await Pace(clock, 0).keep(1000)
    assert slept == [pytest.approx(1.5), 0.0, 0.0]


def test_a_tally_names_a_thousand_refusals_and_counts_all():
    clock = Hands()
    tally = Tally(Pace(clock, 0))
    assert tally.progress()["rate"] == 0.0
    tally.ok("replayed", 3)
    tally.ok("replayed", 0)
    told = [row for n in range(1500) for row in tally.refuse(str(n), "app", "gone")]
    clock.now_s = 2.0
    assert len(told) == 1000
    summary = tally.summary(matched=4)
    assert (summary["done"], summary["failed"], summary["matched"]) == (3, 1500, 4)
    assert summary["outcomes"] == {"gone": 1500, "replayed": 3}
    assert summary["rate"] == pytest.approx(751.5)
