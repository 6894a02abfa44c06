"""The workload whose power is cut: a journal and its dead letters from the first start to a compaction.

Runs as a process of its own under strace. Before it asks for something it writes a mark with what may become of it
("may"), and after the journal has said that it is done, one with what must be there from now on ("is").
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb

from sidecar.journal import environment, place, upkeep
from sidecar.journal.types import Appended, JournalOptions
from sidecar.journal.upkeep import compact
from sidecar.lifecycle import Change
from sidecar.outbound import folder
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters
from tests.support.clocks import FakeClock
from tests.support.journals import Books, make_claim, make_event

SIZES = (10, 200, 3_000, 70_000)
RETENTION_S = 3600.0


class Marks:
    """Lines that appear in the trace between the system calls of the workload."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def say(self, *words: object) -> None:
        self._file.write((" ".join(map(str, words)) + "\n").encode())


async def work(root: Path, marks: Marks, seed: int, failpoint: Callable[[str], None] = lambda _: None) -> None:
    """Everything that a journal does, each at least twice."""
    rand = random.Random(seed)
    clock = FakeClock()
    path = str(root / "volume" / "journal")
    options: dict[str, Any] = {"retention_s": RETENTION_S, "max_size_bytes": 32 << 20}
    books = Books.open(path, clock, failpoint=failpoint, **options)
    letters = DeadLetters(DeadLetterOptions(path=str(root / "letters")), books.journal.mac_key)
    letters.open()
    marks.say("key", books.journal.mac_key.hex())
    marks.say("is", "open")
    number = 0
    for turn in range(3):
        for _ in range(4):  # commits
            wanted = []
            for _ in range(rand.randint(1, 4)):
                number += 1
                body = (b"%d-" % number) * (rand.choice(SIZES) // 4 + 1)
                event = make_event(body, destinations=("app", "mail"), key=f"n{number}")
                wanted.append((books.append_later(event, make_claim(f"k{number}", body=body)), event, number))
            for future, event, n in wanted:
                answer = await future
                assert isinstance(answer, Appended)
                marks.say("is", "stored", event.id, hashlib.sha256(event.body).hexdigest(), f"k{n}")
        fresh = await books.fresh("app")
        for d in fresh:  # settlements
            change = rand.choice((Change.SUCCEED, Change.RETRY, Change.GIVE_UP, None))
            if change is None:
                continue
            after = {Change.SUCCEED: "delivered", Change.RETRY: "pending", Change.GIVE_UP: "dying"}[change]
            marks.say("may", "app", d.event.id, after)
            due = books.journal.clock_ms() + 10_000
            assert await books.settle(
                d, change, due_at_ms=due, status=500, reason="rejected" if after == "dying" else ""
            )
            marks.say("is", "app", d.event.id, after)
        dying = await books.journal.dying("app", limit=100, skip=())
        done = letters.write_many([(d, clock.wall_ms()) for d in dying])  # dead letters
        for d, written in zip(dying, done, strict=True):
            assert written.done, written
            marks.say("may", "app", d.event.id, "dead")
            assert await books.settle(d, Change.BURY)
            marks.say("is", "app", d.event.id, "dead")
        for d in [d for d in await books.fresh("mail") if rand.random() < 0.7]:
            marks.say("may", "mail", d.event.id, "delivered")
            assert await books.settle(d, Change.SUCCEED)
            marks.say("is", "mail", d.event.id, "delivered")
        if turn == 1:  # pruning, on the side of some commits
            marks.say("may", "prune")
            clock.advance(int(RETENTION_S * 1000) + 60_000)
            for _ in range(3):
                await books.settle_nothing()
        await books.journal.aclose()
        if turn != 1:
            compact(JournalOptions(path=path, **options), clock)
        books = Books.open(path, clock, failpoint=failpoint, **options)
    await books.journal.aclose()


def spoil(bug: str) -> None:
    """Make it wrong on purpose: a bug that the explorer must find."""
    honest = lmdb.open
    if bug in ("nosync", "nometasync"):
        flag = {"nosync": "sync", "nometasync": "metasync"}[bug]
        lmdb.open = lambda *a, **k: honest(*a, **({flag: False} | k))  # type: ignore[assignment]
    elif bug == "in_place":  # the journal is made under its own name, and not flushed as a whole
        environment.os = place.os = _InPlace()  # type: ignore[attr-defined]
    elif bug == "letters":
        folder.os = _InPlace()  # type: ignore[attr-defined]
    elif bug == "compacted":
        upkeep.fsync_path = lambda path: None  # type: ignore[attr-defined]
    else:
        assert not bug, bug


class _InPlace:
    """``os``, except that what is renamed is not on disk before, and no folder is ever flushed."""

    def __getattr__(self, name: str) -> object:
        import os

        return (lambda fd: None) if name == "fsync" else getattr(os, name)


if __name__ == "__main__":
    spoil(sys.argv[4] if len(sys.argv) > 4 else "")
    asyncio.run(work(Path(sys.argv[1]), Marks(Path(sys.argv[2])), int(sys.argv[3])))
