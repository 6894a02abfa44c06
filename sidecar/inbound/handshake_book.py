"""Secrets that arrived by handshake (Asana, Notion): on disk before the provider gets its answer, never replaced.

One file beside the journal, mode 0600. A secret is taken only while an operator expects it, one for each time; what is
here already stays and goes on counting until an operator forgets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
from collections.abc import Callable
from typing import Any

import msgspec

from sidecar import log
from sidecar.clock import Clock
from sidecar.errors import SidecarError
from sidecar.inbound.verify import Secret

__all__ = ["MAX_SECRETS", "HandshakeBook", "Learned"]

MAX_SECRETS = 8
"""Of one source."""
_FILE = "handshakes.json"

_log = log.get_logger("handshake")


class Learned(msgspec.Struct, frozen=True):
    """One secret.

    Attributes:
        id: ``handshake-1``, ...: metric label and log field, never given to another secret of the source.
        value: The text.
        at_ms: When it came, on the wall clock.
        peer: Who brought it.
    """

    id: str
    value: str
    at_ms: int
    peer: str = ""

    def __repr__(self) -> str:
        return f"Learned(id={self.id!r})"


class _Shelf(msgspec.Struct, frozen=True):
    """What one source has, in the form of the file.

    Attributes:
        last: Number of the last id that was given out; whoever names a forgotten secret must not hit a later one.
        learned: Its secrets, oldest first.
    """

    last: int = 0
    learned: list[Learned] = []


class HandshakeBook:
    """The secrets of all sources, and the windows in which one may arrive.

    Args:
        folder: Of the journal.
        clock: The machine's clocks.

    Raises:
        SidecarError: The file is there and cannot be used.
    """

    def __init__(self, folder: str, clock: Clock) -> None:
        self._path = os.path.join(folder, _FILE)
        self._clock = clock
        self._until_s: dict[str, float] = {}
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._shelves: dict[str, _Shelf] = self._read()

    def _read(self) -> dict[str, _Shelf]:
        try:
            with open(self._path, "rb") as f:
                found = msgspec.json.decode(f.read(), type=dict[str, _Shelf | list[Learned]])
            return {k: v if isinstance(v, _Shelf) else _shelve(v) for k, v in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            why = type(error).__name__
            raise SidecarError(f"{self._path} cannot be read ({why})", "mend it or move it away") from None

    def _shelf(self, source: str) -> _Shelf:
        return self._shelves.get(source, _Shelf())

    # --- what the receiver asks

    def secrets(self, source: str) -> tuple[Secret, ...]:
        """Those that have arrived for a source."""
        return tuple(Secret(s.id, s.value.encode()) for s in self._shelf(source).learned)

    def knows(self, source: str, value: bytes) -> bool:
        """Whether this secret is here already: a provider that asks twice gets its answer twice."""
        return any(hmac.compare_digest(s.value.encode(), value) for s in self._shelf(source).learned)

    def expected(self, source: str) -> bool:
        """Whether the operator's window is open."""
        return self._clock.monotonic_s() < self._until_s.get(source, float("-inf"))

    def learn(self, source: str, value: bytes, peer: str, done: Callable[[bool], None]) -> None:
        """Keep a secret that was expected; ``done`` hears whether it is on disk. The window closes at once."""
        self._until_s.pop(source, None)
        task = asyncio.ensure_future(self._learn(source, value, peer, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _learn(self, source: str, value: bytes, peer: str, done: Callable[[bool], None]) -> None:
        async with self._writing:
            shelf = self._shelf(source)
            number = shelf.last + 1
            fresh = Learned(f"handshake-{number}", value.decode(), self._clock.wall_ms(), peer)
            ok = await self._replace(source, _Shelf(number, [*shelf.learned, fresh]))
        if ok:
            _log.info("a secret arrived by handshake", source=source, key_id=fresh.id, peer=peer)
        done(ok)

    async def _replace(self, source: str, shelf: _Shelf) -> bool:
        """Put this in the place of what a source has; what it was made of is looked up with the lock held, too."""
        changed = {**self._shelves, source: shelf}
        try:
            await asyncio.to_thread(_write, self._path, changed)
        except OSError as error:
            _log.error("the secrets of handshakes could not be written", error=str(error.strerror))
            return False
        self._shelves = changed
        return True

    # --- what the operator asks

    def expect(self, source: str, for_s: float) -> bool:
        """Open the window of a source; False when it has as many secrets as it may have."""
        if len(self._shelf(source).learned) >= MAX_SECRETS:
            return False
        self._until_s[source] = self._clock.monotonic_s() + for_s
        return True

    def show(self, source: str) -> dict[str, Any]:
        """Everything about a source, secrets in clear."""
        left_s = self._until_s.get(source, 0.0) - self._clock.monotonic_s()
        rows = [
            {"id": s.id, "secret": s.value, "arrived_at_ms": s.at_ms, "peer": s.peer}
            for s in self._shelf(source).learned
        ]
        return {"source": source, "expected_for_s": max(0, round(left_s)), "secrets": rows}

    async def forget(self, source: str, key_id: str) -> bool:
        """Remove one secret; False when there is none of this id or it could not be written."""
        async with self._writing:
            shelf = self._shelf(source)
            kept = [s for s in shelf.learned if s.id != key_id]
            return len(kept) < len(shelf.learned) and await self._replace(source, _Shelf(shelf.last, kept))


def _shelve(learned: list[Learned]) -> _Shelf:
    """Read what an earlier build kept of a source: no number of its own."""
    return _Shelf(max((int(s.id.rpartition("-")[2]) for s in learned), default=0), learned)


def _write(path: str, shelves: dict[str, _Shelf]) -> None:
    """Replace the file: whole and on disk, or not at all."""
    folder = os.path.dirname(path)
    fresh = path + ".new"
    data = json.dumps(msgspec.to_builtins(shelves), indent=1).encode()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.rename(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
