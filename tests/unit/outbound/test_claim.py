"""A read that is given up leaves nothing behind, whenever that happens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidecar.clock import Clock
from sidecar.outbound.budget import Budget
from sidecar.outbound.claim import Claim
from sidecar.outbound.hand import Hand
from sidecar.outbound.retry import RetryPolicy


class Lane:
    """Wants nothing."""

    policy = RetryPolicy()

    def wants(self, *, probing: bool) -> bool:
        return not probing

    def expire(self, delivery: object) -> None:
        raise AssertionError

    def look(self) -> None:
        raise AssertionError


class Slow:
    """A journal whose reads do not end."""

    async def window(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    due = window


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_a_read_that_is_given_up_gives_its_share_of_memory_back(turns):
    """Before its first step, too: a destination may go in the very turn of the loop in which the read was begun."""
    budget = Budget(64 << 20)
    hand = Hand("app", budget, 256, 0)
    claim = Claim(Lane(), hand, Slow(), Clock())  # type: ignore[arg-type]
    read = hand.plan(0, probing=False)
    assert read is not None
    claim.fetch(asyncio.get_running_loop(), read)
    for _ in range(turns):
        await asyncio.sleep(0)
    assert budget.used_bytes == read.max_bytes
    claim.stop()
    for _ in range(3):
        await asyncio.sleep(0)
    assert budget.used_bytes == 0
    assert hand.reading is None
    assert not claim.busy
