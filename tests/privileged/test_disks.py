"""A small share of the proof harnesses that need root, real file systems mostly, and their deliberate bugs."""

from __future__ import annotations

import pytest

from tests.proof.catalog import SHARDS
from tests.proof.run import in_process, missing

pytestmark = pytest.mark.privileged

SEED = 1  # the same in each run: what is new to find, `make proof` looks for
SECONDS = 5.0
NAMES = [name for name, shard in SHARDS.items() if shard.root]


@pytest.mark.parametrize("name", NAMES)
def test_a_share_of_the_proof_finds_nothing(name: str) -> None:
    assert missing(SHARDS[name]) == ""
    result = in_process(name, SEED, SECONDS)
    assert result["found"] == []
    assert result["count"] > 0, "it looked at something"


@pytest.mark.parametrize("name", NAMES)
def test_the_harness_catches_its_deliberate_bugs(name: str) -> None:
    assert missing(SHARDS[name]) == ""
    assert in_process(name, SEED, SECONDS, control=True)["caught"]
