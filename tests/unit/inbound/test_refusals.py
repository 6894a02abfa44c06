"""Refusals are counted by the hour, for seven days, by source and reason."""

from sidecar.inbound.refusals import RefusalRing

HOUR = 3_600_000


def test_counts_come_back_by_reason():
    """Of one source or of all, from the hour that the moment lies in."""
    ring = RefusalRing()
    ring.add(10 * HOUR, "a", "wrong_secret")
    ring.add(10 * HOUR + 1, "a", "wrong_secret")
    ring.add(11 * HOUR, "b", "wrong_secret")
    ring.add(12 * HOUR, "a", "stale_timestamp")
    assert ring.since(0) == {"wrong_secret": 3, "stale_timestamp": 1}
    assert ring.since(0, "a") == {"wrong_secret": 2, "stale_timestamp": 1}
    assert ring.since(11 * HOUR - 1) == {"wrong_secret": 3, "stale_timestamp": 1}
    assert ring.since(11 * HOUR) == {"wrong_secret": 1, "stale_timestamp": 1}
    assert ring.since(13 * HOUR) == {}


def test_only_a_week_is_kept():
    """The oldest hour goes when there are more than 168."""
    ring = RefusalRing()
    for hour in range(200):
        ring.add(hour * HOUR, "a", "r")
    assert ring.since(0) == {"r": 168}


def test_a_clock_that_went_back_loses_nothing():
    """It counts into the newest hour."""
    ring = RefusalRing()
    ring.add(100 * HOUR, "a", "r")
    ring.add(90 * HOUR, "a", "r")
    assert ring.since(100 * HOUR) == {"r": 2}
