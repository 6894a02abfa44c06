"""Operators, reloads, restarts and failing backends all at once, on a real journal, real files and real sockets.

Any order of them, drawn from a seed. When everything works again, what was accepted is delivered or has its end; nothing is
stuck, found under no id, counted twice, or a dead letter of what is not dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from sidecar.admin import commands, redrive
from sidecar.admin.filters import BulkRequest
from sidecar.admin.gateway import DestinationInfo, SourceInfo
from sidecar.admin.queries import letter_names
from sidecar.clock import Clock
from sidecar.journal.types import EventQuery
from sidecar.model import State
from sidecar.outbound.retry import RetryPolicy
from tests.contract.test_dispatch_with_journal import Sidecar, said, to
from tests.support.backends import Backend, Request, running
from tests.support.journals import DESTINATIONS, make_claim, make_event

STEPS = 80
SEEDS = int(os.environ.get("MIX_SEEDS", "2"))
FIRST_SEED = int(os.environ.get("MIX_FIRST_SEED", "1"))


class Town:
    """One sidecar, its three backends, and an operator who never sleeps; the ``Gateway`` of that operator's commands."""

    def __init__(self, path: Path, seed: int, backends: dict[str, Backend], nowhere: int) -> None:
        self.rand = random.Random(seed)
        self.path = path
        self.backends = backends
        self.nowhere = nowhere
        self.mood = dict.fromkeys(DESTINATIONS, "well")
        self.away: set[str] = set()
        self.removed: set[str] = set()
        self.retention_ms = self.rand.choice((1, 10**9, 10**9))
        self.clock = Clock()
        self.running: set[asyncio.Task[None]] = set()
        self.start()

    # --- what the commands ask of a daemon

    @property
    def journal(self) -> Any:
        return self.sidecar.journal

    @property
    def dead_letters(self) -> Any:
        return self.sidecar.letters

    def destinations(self) -> list[DestinationInfo]:
        return [DestinationInfo(name=name) for name in self.present()]

    def sources(self) -> list[SourceInfo]:
        return [SourceInfo(name="shop", path="/")]

    # --- life

    def start(self) -> None:
        self.sidecar = Sidecar(self.path, max_buffered=self.rand.choice((2000, 1 << 20)))
        self.journal._writer._retention.retention_ms = self.retention_ms
        self.configure()
        self.sidecar.dispatcher.start()

    def present(self) -> list[str]:
        return [name for name in DESTINATIONS if name not in self.removed]

    def configure(self) -> None:
        draw = self.rand.choice
        options = []
        for name in self.present():
            url = f"http://127.0.0.1:{self.nowhere}" if name in self.away else self.backends[name].url
            retry = RetryPolicy(base_s=0.02, max_attempts=draw((2, 4)), max_delay_s=0.2)
            options.append(to(url, name, retry=retry, hold_after=draw((0, 2, 5)), concurrency=draw((1, 2, 8))))
        self.sidecar.configure(*options)

    async def restart(self) -> None:
        if self.running:
            await asyncio.wait(set(self.running))
        await self.sidecar.stop()
        self.start()

    # --- what happens

    def arrivals(self) -> None:
        draw = self.rand
        for _ in range(draw.choice((1, 3, 30, 80))):
            key = f"k{draw.randrange(40)}" if draw.random() < 0.3 else ""
            claim = make_claim(key, ttl_ms=draw.choice((200, 86_400_000)), redrive_dead=False) if key else None
            owed = [name for name in DESTINATIONS if draw.random() < 0.6] or ["app"]
            body = os.urandom(draw.choice((10, 10, 300, 40_000 if draw.random() < 0.05 else 10)))
            self.sidecar.books.append_later(make_event(body, destinations=owed), claim)

    async def some(self) -> list[str]:
        page = await self.journal.events(EventQuery(limit=200))
        ids = [view.event.id for view in page.events]
        return self.rand.sample(ids, min(len(ids), 20))

    async def command(self) -> None:
        """One of an operator's, waited for or not."""
        draw = self.rand
        ids, somewhere = await self.some(), draw.choice(["", "", *self.present()])
        which: dict[str, Any] = draw.choice(({"all": True}, {"destination": draw.choice(DESTINATIONS)}))
        rows: AsyncIterator[dict[str, Any]] = draw.choice(
            (
                lambda: commands.discard_events(self, BulkRequest(ids=ids, all=True, to=somewhere)),
                lambda: commands.replay_events(self, BulkRequest(ids=ids, all=True, to=somewhere)),
                lambda: commands.replay_events(self, BulkRequest(state="dead", **which)),
                lambda: redrive.replay_letters(self, BulkRequest(to=somewhere, max=draw.choice((0, 3)), **which)),
                lambda: redrive.remove_letters(self, BulkRequest(max=draw.choice((1, 3)), **which)),
            )
        )()
        task = self.later(self.drive(rows))
        if draw.random() < 0.5:
            await task

    async def drive(self, rows: AsyncIterator[dict[str, Any]]) -> None:
        async for _ in rows:
            pass

    def later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

    async def restore(self) -> None:
        event = make_event(b"edited")
        await self.journal.restore(event, self.rand.choice(DESTINATIONS), (), verified=False)

    async def step(self) -> None:
        draw = self.rand
        name, what = draw.choice(DESTINATIONS), draw.random()
        if what < 0.3:
            self.arrivals()
            if what < 0.1:  # in the middle of what arrives
                self.later(self.restore())
                await asyncio.sleep(0)
                self.arrivals()
        elif what < 0.42:
            self.mood[name] = draw.choice(("well", "slow", "cut", "refuses", "refuses", "busy"))
        elif what < 0.54:
            (self.away if what < 0.49 else self.removed).symmetric_difference_update({name})
            self.configure()
        elif what < 0.85:
            await self.command()
        elif what < 0.90:
            await self.restart()
        else:
            await asyncio.sleep(draw.random() * 0.2)
        if draw.random() < 0.5:
            await asyncio.sleep(draw.random() * 0.02)

    # --- what must hold

    async def recover(self) -> None:
        """Let everything work, and wait for the end."""
        self.mood = dict.fromkeys(DESTINATIONS, "well")
        self.away.clear()
        self.removed.clear()
        self.configure()
        dispatcher = self.sidecar.dispatcher
        await self.sidecar.until(
            lambda: not self.journal.counters().owed and not self.running and not dispatcher._undertaker.busy, 60
        )

    async def check(self) -> None:
        assert all(row.balanced for row in (await self.journal.audit(full=True)).rows)
        assert self.sidecar.dispatcher._budget.used_bytes == 0
        files = letter_names(self.dead_letters.options.path)
        page = await self.journal.events(EventQuery(limit=100_000))
        for view in page.events:
            assert await self.journal.event(view.event.id) is not None, view.event.seq
            for delivery in view.deliveries:
                there = (delivery.destination, view.event.id) in files
                assert there is (delivery.state is State.DEAD), (view.event.seq, delivery)


@contextlib.asynccontextmanager
async def town(path: Path, seed: int) -> AsyncIterator[Town]:
    async with contextlib.AsyncExitStack() as stack:
        backends: dict[str, Backend] = {}
        nobody = stack.enter_context(socket.socket())  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        towns: list[Town] = []

        def answering(name: str) -> Any:
            async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
                mood, draw = towns[0].mood[name] if towns else "well", random.random()
                if mood == "slow":
                    await asyncio.sleep(draw * 0.05)
                if mood == "cut":
                    writer.close()
                    return
                status = 422 if mood == "refuses" and draw < 0.5 else 503 if mood == "busy" and draw < 0.7 else 200
                writer.write(said(status, *(["Retry-After: 0"] if draw < 0.2 else [])))

            return answer

        for name in DESTINATIONS:
            backends[name] = await stack.enter_async_context(running(answering(name)))
        towns.append(Town(path, seed, backends, nobody.getsockname()[1]))
        try:
            yield towns[0]
        finally:
            await towns[0].sidecar.stop()


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS))
async def test_whatever_operators_do_amid_reloads_restarts_and_failures_all_ends_well(tmp_path, monkeypatch, seed):
    monkeypatch.setattr("sidecar.outbound.hold.FIRST_WAIT_S", 0.05)
    monkeypatch.setattr("sidecar.outbound.hold.LAST_WAIT_S", 0.2)
    monkeypatch.setattr("sidecar.outbound.bury.AGAIN_S", 0.2)
    async with town(tmp_path, seed) as place:
        for _ in range(STEPS):
            await place.step()
        await place.recover()
        await place.check()
