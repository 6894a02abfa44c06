"""What counts as memory that grows."""

from __future__ import annotations

import random

import pytest

from tests.proof.steady import Readings

LENGTH_S, EVERY_S = 3000.0, 0.25
OUTAGE_EVERY_S = 20.0


def soak(leak_mib_an_hour: float, seed: int = 7) -> list[str]:
    """What is found in 50 minutes of 45 MiB, with ten more whenever the backend is out, and a level that wanders a little."""
    rand = random.Random(seed)
    readings, wander = Readings(), 0.0
    for n in range(int(LENGTH_S / EVERY_S)):
        at_s = n * EVERY_S
        wander = 0.997 * wander + rand.gauss(0, 0.1)
        out = 10.0 if at_s % OUTAGE_EVERY_S < 2 else 0.0
        mib = 45 + wander + out + leak_mib_an_hour * at_s / 3600
        readings.at_s.append(at_s)
        readings.rss_kib.append(int(mib * 1024))
        readings.descriptors.append(20)
    return readings.flat()


def test_memory_that_swings_with_the_backends_does_not_grow():
    assert [found for seed in range(10) for found in soak(0.0, seed)] == []


@pytest.mark.parametrize("mib", [15.0, 40.0])
def test_a_leak_under_the_swings_is_found(mib):
    (found,) = soak(mib)
    assert found.startswith("memory grows by")
