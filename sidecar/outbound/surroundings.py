"""What a lane is handed: its destination's options, the backend that was made of them, and what all lanes share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, Protocol

import msgspec

from sidecar.clock import Clock
from sidecar.feed import Feed
from sidecar.journal.types import DueWindow, FreshWindow, Settlement
from sidecar.metrics import Metrics
from sidecar.model import Delivery, Event
from sidecar.outbound.budget import Budget
from sidecar.outbound.deliver import Destination, Handle, HttpOptions
from sidecar.outbound.retry import RetryPolicy

__all__ = ["DestinationOptions", "LaneJournal", "Outlet", "Surroundings"]

Header = tuple[bytes, bytes]


class DestinationOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One configured destination.

    Attributes:
        name: As in the configuration.
        kind: Key of ``deliver.KINDS``.
        http: How to reach it.
        retry: When and how often.
        hold_after: So many failures in a row that speak about the backend, of different events, hold it; 0 = never.
        signature: ``fresh``: a late delivery carries a new signature where that is possible.
    """

    name: str
    kind: str = "http"
    http: HttpOptions
    retry: RetryPolicy = RetryPolicy()
    hold_after: int = 20
    signature: Literal["fresh", "original"] = "fresh"


class LaneJournal(Protocol):
    """What a lane needs of the journal."""

    def clock_ms(self) -> int:
        """The journal clock now."""
        ...

    def settle(self, settlement: Settlement, /) -> None:
        """Say what became of a claimed delivery."""
        ...

    def note_fresh_from(self, destination: str, seq: int, /) -> None:
        """Say where a restart may begin."""
        ...

    def fresh_from(self, destination: str, /) -> int:
        """Where to begin."""
        ...

    async def window(
        self, destination: str, from_seq: int, /, *, max_events: int, max_bytes: int, skip: Collection[int]
    ) -> FreshWindow:
        """Read fresh deliveries."""
        ...

    async def due(self, destination: str, /, *, max_events: int, max_bytes: int, skip: Collection[int]) -> DueWindow:
        """Read deliveries whose time has come."""
        ...

    async def oldest_pending_ms(self, destination: str, /) -> int | None:
        """Journal clock at acceptance of the oldest delivery owed."""
        ...


class Surroundings(msgspec.Struct):
    """What all lanes share."""

    journal: LaneJournal
    metrics: Metrics
    feed: Feed
    clock: Clock
    budget: Budget
    resign: Callable[[Event, int], list[Header] | None]
    rand: Callable[[], float]
    bury: Callable[[Delivery], None]  # takes over a delivery that is dying
    progress: Callable[[], None]  # told whenever a lane may have become idle


class Outlet:
    """A backend as it is configured now, with its running tries; a changed one is closed when they have ended."""

    def __init__(self, options: DestinationOptions, destination: Destination) -> None:
        self.options = options
        self.destination = destination
        self.running: dict[int, Handle] = {}
        self.retired = False
