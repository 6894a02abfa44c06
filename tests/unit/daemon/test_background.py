"""Work beside the requests runs to its end or to ours; its failure is said, and takes nothing with it."""

from __future__ import annotations

import asyncio

from sidecar.daemon import background as module
from sidecar.daemon.background import Background


async def test_a_failure_is_logged_and_the_rest_goes_on(monkeypatch):
    """Told as a bug is told: its type, never what it quotes."""
    lines: list[tuple[str, object]] = []
    monkeypatch.setattr(module._log, "error", lambda message, **fields: lines.append((message, fields["error"])))
    done: list[str] = []

    async def fail() -> None:
        raise ValueError("a secret")

    async def work() -> None:
        await asyncio.sleep(0)
        done.append("work")

    background = Background()
    background.keep(fail())
    background.keep(work())
    for _ in range(5):
        await asyncio.sleep(0)
    assert done == ["work"]
    assert [message for message, _ in lines] == ["a background task failed"]
    assert "ValueError" in str(lines[0][1])
    assert "a secret" not in str(lines)


async def test_stopping_cancels_what_runs_and_waits_for_it():
    """So that nothing runs any more when the parts are closed."""
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("work")

    background = Background()
    background.keep(work())
    await asyncio.sleep(0)
    await background.stop()
    assert ended == ["work"]
    assert background._tasks == set()
