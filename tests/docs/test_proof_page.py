"""Every promise is stated with its end, and with something that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof.catalog import SHARDS
from tests.proof.promises import PROMISES

ROOT = Path(__file__).resolve().parents[2]


def test_the_promises_are_numbered_without_gaps():
    assert [p.number for p in PROMISES] == [f"P{n}" for n in range(1, len(PROMISES) + 1)]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda p: p.number)
def test_each_promise_says_where_it_ends_and_what_shows_it(promise):
    assert promise.says.endswith(".")
    assert promise.not_covered or promise.number == "P25"
    shards = [s.name for s in SHARDS.values() if promise.number in s.promises]
    assert shards or promise.tests
    assert [path for path in promise.tests if not (ROOT / path).is_file()] == []


def test_each_harness_names_promises_that_exist():
    known = {p.number for p in PROMISES}
    assert {n for s in SHARDS.values() for n in s.promises} <= known
