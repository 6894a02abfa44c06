"""The values of the journal's verbs: sums that people and the drain go by, and queries that match everything unless told."""

import msgspec
import pytest

from sidecar.journal.types import AuditRow, Counters, EventQuery


@pytest.mark.parametrize(
    ("enqueued", "settled", "pending", "balanced"),
    [(0, 0, 0, True), (5, 3, 2, True), (5, 5, 0, True), (5, 3, 1, False), (5, 3, 3, False), (3, 5, 2, False)],
)
def test_a_row_is_balanced_when_what_came_is_what_left_and_what_is_there(enqueued, settled, pending, balanced):
    """Those that are dying are among the pending; the dead have left."""
    assert AuditRow("app", enqueued, settled, pending, dying=1, dead=1).balanced is balanced


def test_what_is_owed_to_a_destination_is_counted_over_all_sources_and_outcomes():
    """And over no other destination."""
    counters = Counters(
        enqueued={("orders", "app"): 10, ("users", "app"): 5, ("orders", "mail"): 100},
        settled={("app", "delivered"): 6, ("app", "dead"): 2, ("app", "redirected"): 1, ("mail", "delivered"): 100},
        scheduled={"app": 3},
        dying={"app": 1},
    )
    assert [counters.pending(name) for name in ("app", "mail", "nobody")] == [6, 0, 0]
    assert counters.owed == 6


def test_a_query_without_words_asks_for_the_newest_of_everything():
    """One page of them, and a bound on what is looked at."""
    empty = {name: value for name, value in msgspec.structs.asdict(EventQuery()).items() if not value}
    assert EventQuery(limit=50, max_scan=1_000_000, **empty) == EventQuery()
    assert set(empty) == set(EventQuery.__struct_fields__) - {"limit", "max_scan"}
