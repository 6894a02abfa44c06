"""A small share of every proof harness in each run of the checks, and its control, which must be caught.

Those for root are run by ``tests/privileged``.
"""

from __future__ import annotations

import os

import pytest

from tests.proof.catalog import SHARDS
from tests.proof.run import in_process, missing

SEED = int(os.environ.get("PROOF_SEED", "0")) or 1  # the same in each run: what is new to find, `make proof` looks for
SECONDS = float(os.environ.get("PROOF_SHARE_SECONDS", "3"))

NAMES = [name for name, shard in SHARDS.items() if not shard.root]


def able(name: str) -> None:
    lacking = missing(SHARDS[name])
    if lacking:
        pytest.skip(lacking)


@pytest.mark.parametrize("name", NAMES)
def test_a_share_of_the_proof_finds_nothing(name: str) -> None:
    able(name)
    result = in_process(name, SEED, SECONDS)
    assert result["found"] == []
    assert result["count"] > 0, "it looked at something"


@pytest.mark.parametrize("name", NAMES)
def test_the_harness_catches_its_deliberate_bugs(name: str) -> None:
    able(name)
    assert in_process(name, SEED, SECONDS, control=True)["caught"]
