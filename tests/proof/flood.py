"""A flood until there is no room, and what must go on: no false ack, deliveries, and accepting again by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.proof.crowd import crowd
from tests.proof.lives import Lives, until

__all__ = ["flood"]

SENDERS = 12
FILL_S = 30.0
MOST = 4_000  # acknowledgements before it is full: some 20 KB each, which no journal here has room for
RESUME_S = 20.0  # dead letters that found no room are tried again after 5 s, then after 10
REFUSALS = 30
LINES = 12  # of one kind in one flood: a journal at its limit goes to and fro, and says so each time


async def flood(
    lives: Lives,
    stranger: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    relief: Callable[[], None] = lambda: None,
    full: str = "the journal is full",
) -> list[str]:
    """Fill the journal while the backend is away, let the backend come, go on; what is wrong.

    Args:
        lives: It is started, and its backend is not there.
        stranger: Takes what is left of the disk for the length of a block.
        relief: Called in the end: makes room for dead letters that wait.
        full: What the log has to call full.
    """
    ledger, alive = lives.ledger, lambda: lives.alive
    async with crowd(lives.daemon.port, ledger, SENDERS, alive):
        await until(
            lambda: ledger.refused["storage_full"] >= REFUSALS or len(ledger.acked) > MOST or not alive(), FILL_S
        )
        if ledger.refused["storage_full"] < REFUSALS:
            return [
                f"flooded, and it is not full: {len(ledger.acked)} accepted, {ledger.refused}: {lives.daemon.tail(3)}"
            ]
        with stranger():
            await asyncio.sleep(0.5)
            async with lives.backend():
                await asyncio.sleep(0.5)
        if not alive():
            return [f"it ended when it was full: {lives.daemon.tail(3)}"]
        accepted = len(ledger.acked)
        async with lives.backend():
            resumed = await until(lambda: len(ledger.acked) > accepted or not alive(), RESUME_S)
            if not resumed or not alive():
                return [f"it does not accept again: {lives.daemon.tail(3)}"]
            await asyncio.sleep(0.5)
    relief()
    async with lives.backend():
        wrong = await lives.drained()
    return [*wrong, *_log(lives, full)]


def _log(lives: Lives, full: str) -> list[str]:
    said = len(lives.daemon.logged(f"{full}: answering 503"))
    return [] if 1 <= said <= LINES else [f"it said {said} times that {full}"]
