"""What a scrape reads off the parts is what the parts say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sidecar import log
from sidecar.daemon.gauges import Gauges
from sidecar.metrics import Metrics

NOW_MS = 1_000_000


class Parts:
    """A journal, lanes and dead letters that say what they are told to."""

    def __init__(self) -> None:
        self.oldest: dict[str, int | None] = {"app": NOW_MS - 5_000, "gone": None, "early": NOW_MS + 1}
        self.enqueued = {("shop", "app"): 7, ("old", "gone"): 2}
        self.letters: dict[str, Any] = {
            "app": SimpleNamespace(count=2, oldest_ms=NOW_MS - 3_000, bytes=100),
            "gone": SimpleNamespace(count=1, oldest_ms=NOW_MS + 1_000, bytes=11),
        }
        self.settings = SimpleNamespace(
            sources=[SimpleNamespace(name="shop", destinations=["app", "quiet"])],
            destinations=[SimpleNamespace(name="app"), SimpleNamespace(name="quiet")],
        )
        self.lanes = [SimpleNamespace(name="app", ready=1, scheduled=2, in_flight=3, dying=4)]
        journal = SimpleNamespace(
            stats=lambda: SimpleNamespace(used_bytes=10, capacity_bytes=20, disk_free_bytes=30),
            counters=lambda: SimpleNamespace(
                enqueued=self.enqueued,
                settled={
                    ("app", "delivered"): 5,
                    ("app", "dead"): 1,
                    ("gone", "delivered"): 1,
                    ("gone", "discarded"): 1,
                },
            ),
            dedup_evicted_early=lambda: {"old": 9},
            clock_ms=lambda: NOW_MS,
            destinations=lambda: list(self.oldest),
            oldest_pending_ms=self._oldest,
        )
        self.metrics = Metrics()
        self.gauges = Gauges(
            self.metrics,
            journal,  # type: ignore[arg-type]
            SimpleNamespace(status=lambda: self.lanes),  # type: ignore[arg-type]
            SimpleNamespace(totals=lambda: self.letters),  # type: ignore[arg-type]
            SimpleNamespace(wall_ms=lambda: NOW_MS),  # type: ignore[arg-type]
            lambda: self.settings,  # type: ignore[arg-type, return-value]
        )

    async def _oldest(self, name: str) -> int | None:
        return self.oldest[name]


def test_a_scrape_shows_what_the_parts_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was never counted is there at zero; what is configured no longer keeps its count."""
    monkeypatch.setattr(log, "counts", lambda: (3, 4))
    parts = Parts()
    parts.gauges.refresh()
    m = parts.metrics
    assert [g.values[()] for g in (m.journal_used, m.journal_capacity, m.journal_disk_free)] == [10, 20, 30]
    assert dict(m.enqueued.values) == {("shop", "app"): 7, ("shop", "quiet"): 0, ("old", "gone"): 2}
    assert dict(m.dedup_evicted_early.values) == {("shop",): 0, ("old",): 9}
    assert {labels: n for labels, n in m.settled.values.items() if labels[0] == "app"} == {
        ("app", "delivered"): 5,
        ("app", "dead"): 1,
        ("app", "discarded"): 0,
        ("app", "redirected"): 0,
    }
    assert dict(m.pending.values) == {
        ("app", "ready"): 1,
        ("app", "scheduled"): 2,
        ("app", "in_flight"): 3,
        ("app", "dying"): 4,
    }
    assert dict(m.dead_letters.values) == {("app",): 2, ("gone",): 1, ("quiet",): 0}
    assert dict(m.oldest_dead_letter.values) == {("app",): 3.0, ("gone",): 0, ("quiet",): 0}
    assert m.dead_letters_bytes.values[()] == 111
    assert (m.log_dropped.values[()], m.log_suppressed.values[()]) == (3, 4)


def test_what_a_destination_that_is_gone_was_owed_counts_as_settled() -> None:
    """It has no lane any more; enqueued less settled is what is pending, of it, too."""
    parts = Parts()
    parts.gauges.refresh()
    m = parts.metrics
    enqueued = sum(n for (_, name), n in m.enqueued.values.items() if name == "gone")
    settled = sum(n for (name, _), n in m.settled.values.items() if name == "gone")
    assert (enqueued, settled) == (2, 2)


def test_dead_letters_that_are_gone_leave_a_zero() -> None:
    """A gauge that kept its last value would ring an alert for ever."""
    parts = Parts()
    parts.gauges.refresh()
    parts.letters = {}
    parts.gauges.refresh()
    assert parts.metrics.dead_letters.values["app",] == 0
    assert parts.metrics.oldest_dead_letter.values["app",] == 0
    assert parts.metrics.dead_letters_bytes.values[()] == 0


def test_a_lane_and_a_folder_that_are_gone_leave_nothing() -> None:
    """The lane ends by a reload between two scrapes, with the last of it delivered; the folder by a person's hand."""
    parts = Parts()
    parts.gauges.refresh()
    parts.lanes = []
    parts.letters = {}
    parts.gauges.refresh()
    assert dict(parts.metrics.pending.values) == {}
    assert dict(parts.metrics.dead_letters.values) == {("app",): 0, ("quiet",): 0}
    assert dict(parts.metrics.oldest_dead_letter.values) == {("app",): 0, ("quiet",): 0}


async def test_the_age_of_the_oldest_is_looked_up_for_every_destination_that_ever_was() -> None:
    parts = Parts()
    await parts.gauges.look()
    assert dict(parts.metrics.oldest_pending.values) == {("app",): 5.0, ("gone",): 0, ("early",): 0}
