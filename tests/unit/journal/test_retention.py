"""When finished events go before their time."""

from __future__ import annotations

import pytest

from sidecar.journal.retention import EARLY_FILL, early_fill

MIB = 1 << 20


@pytest.mark.parametrize(("capacity", "reserve"), [(16, 8), (20, 8), (26, 8), (40, 8), (80, 8), (1024, 103)])
def test_pruning_begins_well_before_webhooks_are_refused(capacity, reserve):
    """Else a small journal with nothing owed would go on refusing until the retention is over."""
    assert early_fill(capacity * MIB, reserve * MIB) <= 0.85 * (1 - reserve / capacity)


def test_a_journal_of_usual_size_prunes_from_70_percent():
    assert early_fill(1024 * MIB, 102 * MIB) == EARLY_FILL == 0.70
