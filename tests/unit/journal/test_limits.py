"""What a journal may hold, by what binds it."""

from __future__ import annotations

import pytest

from sidecar.journal.limits import EARLY_FILL, dedup_bytes, dedup_keys, early_fill, limit_bytes, reserve_bytes

MIB = 1 << 20


@pytest.mark.parametrize(
    ("of_map", "of_file", "free", "limit"),
    [
        (64, 4, 10_000, 64),  # the map
        (64, 4, 20, 24),  # the disk: what the file has is its own already
        (64, 20, 4, 24),  # the same disk later: that the file has grown takes nothing away
        (64, 24, 0, 24),  # somebody took the rest
        (64, 64, 0, 64),
    ],
)
def test_the_limit_is_the_map_or_the_file_with_what_the_disk_has_left(of_map, of_file, free, limit):
    assert limit_bytes(of_map * MIB, of_file * MIB, free * MIB) == limit * MIB


@pytest.mark.parametrize(("limit", "reserve"), [(1, 8), (16, 8), (80, 8), (100, 10), (1000, 100)])
def test_a_tenth_is_kept_for_settling_and_never_less_than_8_mib(limit, reserve):
    assert reserve_bytes(limit * MIB) == reserve * MIB


@pytest.mark.parametrize(("capacity", "reserve"), [(16, 8), (20, 8), (26, 8), (40, 8), (80, 8), (1024, 103)])
def test_pruning_begins_well_before_webhooks_are_refused(capacity, reserve):
    """Else a small journal with nothing owed would go on refusing until the retention is over."""
    assert early_fill(capacity * MIB, reserve * MIB) <= 0.85 * (1 - reserve / capacity)


def test_a_journal_of_usual_size_prunes_from_70_percent():
    assert early_fill(1024 * MIB, 102 * MIB) == EARLY_FILL == 0.70


def test_dedup_keys_keep_to_a_quarter():
    assert dedup_bytes(1024 * MIB) == 256 * MIB
    assert dedup_keys(1024 * MIB) == 4_194_304
