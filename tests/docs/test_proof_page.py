"""Every promise is stated with its end, and with something that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.proof.catalog import SHARDS
from tests.proof.finds import FINDS
from tests.proof.promises import PROMISES, Promise

ROOT = Path(__file__).resolve().parents[2]


def test_the_promises_are_numbered_without_gaps():
    assert [p.number for p in PROMISES] == [f"P{n}" for n in range(1, len(PROMISES) + 1)]


def missing(promise: Promise) -> list[str]:
    """What a promise does not say about itself."""
    shards = [s.name for s in SHARDS.values() if promise.number in s.promises]
    said = {
        "one sentence": promise.says.endswith("."),
        "where it ends": bool(promise.not_covered),
        "what shows it": bool(shards or promise.tests),
        "files that exist": all((ROOT / path).is_file() for path in promise.tests),
        "a control": bool(shards or promise.control),
    }
    return [what for what, so in said.items() if not so]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda p: p.number)
def test_each_promise_says_where_it_ends_what_shows_it_and_what_that_catches(promise):
    assert missing(promise) == []


def test_a_promise_that_says_none_of_it_is_caught():
    assert missing(Promise("P0", "All is well", "", ("tests/none.py",))) == [
        "one sentence", "where it ends", "files that exist", "a control",
    ]  # fmt: skip
    assert missing(Promise("P0", "All is well.", "Nights.", (), "a bug")) == ["what shows it"]


def test_each_harness_names_promises_that_exist():
    known = {p.number for p in PROMISES}
    assert {n for s in SHARDS.values() for n in s.promises} <= known


def test_whatever_a_run_found_is_explained():
    rows = map(json.loads, (ROOT / "docs" / "proof" / "ledger.jsonl").read_text(encoding="utf-8").splitlines())
    found = {(r["at"], name) for r in rows for name, shard in r["shards"].items() if shard["found"]}
    assert found == set(FINDS)
