"""[P] What receiving needs of its neighbours: the journal, the key store, the book of handshakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from sidecar.inbound.verify import Fetch, Fetched, Secret
from sidecar.journal.types import AppendDone, Claim
from sidecar.model import AckTemplate, Event

__all__ = ["Book", "Journal", "Keys"]


class Journal(Protocol):
    """What receiving needs of the journal."""

    def append(self, event: Event, claim: Claim | None, ack: AckTemplate, done: AppendDone) -> None:
        """Store an event and call ``done`` on the loop after the commit."""
        ...


class Keys(Protocol):
    """What receiving needs of the key store."""

    @property
    def snapshot(self) -> Mapping[str, Fetched]:
        """The keys that are here."""
        ...

    def ask(self, fetch: Fetch, done: Callable[[bool], None]) -> bool:
        """Get one more; see ``KeyStore.ask``."""
        ...


class Book(Protocol):
    """What receiving needs of the secrets that arrive by handshake; see ``HandshakeBook``."""

    def secrets(self, source: str) -> tuple[Secret, ...]:
        """Those that have arrived."""
        ...

    def knows(self, source: str, value: bytes) -> bool:
        """Whether this one has."""
        ...

    def expected(self, source: str) -> bool:
        """Whether one may arrive now."""
        ...

    def learn(self, source: str, value: bytes, peer: str, done: Callable[[bool], None]) -> None:
        """Keep one."""
        ...
