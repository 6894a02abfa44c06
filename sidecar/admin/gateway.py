"""What the admin plane needs from the daemon, as one protocol; the daemon implements it.

Nothing here does anything. The offline command line implements the smaller ``Books``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.feed import Feed
    from sidecar.inbound.handshake_book import HandshakeBook
    from sidecar.inbound.receive import Receiver
    from sidecar.journal import Journal
    from sidecar.metrics import Metrics
    from sidecar.outbound.deadletter import DeadLetters
    from sidecar.outbound.dispatch import Dispatcher

__all__ = ["AdminOptions", "Books", "DestinationInfo", "Gateway", "ReloadResult", "SourceInfo"]


class AdminOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the admin plane listens and who may ask.

    Attributes:
        listen: ``host:port`` or ``[::]:port`` (dual-stack); empty = no TCP listener.
        socket: Path of the Unix socket, at most 100 bytes; empty = none.
        token: What API and reload need over TCP; None = a fresh one for this process.
        hosts: More names that a Host header may carry, lower case, without port.
        max_connections: Cap for each of the two sites.
    """

    listen: str = "127.0.0.1:9787"
    socket: str = "data/admin.sock"
    token: str | None = None
    hosts: tuple[str, ...] = ()
    max_connections: int = 64

    def __repr__(self) -> str:
        return f"AdminOptions(listen={self.listen!r}, socket={self.socket!r})"


class SourceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One configured source, without its secrets."""

    name: str
    path: str
    preset: str = ""
    scheme: str = ""
    methods: tuple[str, ...] = ("POST",)
    destinations: tuple[str, ...] = ()
    max_body: int = 0


class DestinationInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One configured destination, without secrets (``url`` has its query values masked by the reader)."""

    name: str
    kind: str = "http"
    url: str = ""


class ReloadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload did: all or nothing.

    Attributes:
        ok: Whether the new configuration is in force (also when nothing had changed).
        problems: Why not, already formatted for people, secrets masked.
        restart_needed: Dotted keys that changed but take effect at the next start only.
    """

    ok: bool
    problems: tuple[str, ...] = ()
    restart_needed: tuple[str, ...] = ()


class Books(Protocol):
    """What looking things up takes; also there when no daemon runs."""

    @property
    def journal(self) -> Journal:
        """The journal; read-only when offline."""

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead-letter files. Its calls block: never on the loop."""

    @property
    def clock(self) -> Clock:
        """The machine's clocks."""

    def masked_headers(self, source: str) -> frozenset[bytes]:
        """Lower-case names of headers that carry this source's secret."""

    def refused_since(self, since_ms: int, source: str = "") -> dict[str, int]:
        """Requests refused since then, by reason; empty when nobody counted."""


class Gateway(Books, Protocol):
    """The running daemon, as the admin plane sees it. All calls are made on the event loop."""

    @property
    def dispatcher(self) -> Dispatcher:
        """The outbound lanes."""

    @property
    def receiver(self) -> Receiver:
        """The inbound application."""

    @property
    def handshakes(self) -> HandshakeBook:
        """Secrets that arrive by handshake."""

    @property
    def feed(self) -> Feed:
        """What is happening right now."""

    @property
    def metrics(self) -> Metrics:
        """Every metric of this process."""

    @property
    def started(self) -> bool:
        """Whether the journal is open, recovery is done and the listeners are bound."""

    @property
    def started_at_ms(self) -> int:
        """When this process started, wall clock."""

    @property
    def draining(self) -> bool:
        """Whether a drain is on: from its request or SIGTERM until its lease ends."""

    def loop_beat_ago_s(self) -> float:
        """Seconds since the event loop's last heartbeat."""

    def sources(self) -> Sequence[SourceInfo]:
        """The sources in force."""

    def destinations(self) -> Sequence[DestinationInfo]:
        """The destinations in force."""

    async def refresh(self) -> None:
        """Bring the gauges up to date that take a look into the journal; asked before a scrape."""

    async def drain(self, wait_s: float) -> int:
        """Begin or extend a drain, and deliver until the wait is over or nothing is pending.

        Args:
            wait_s: At most so long; 0 = only begin it.

        Returns:
            Deliveries that are still owed.
        """

    async def reload(self) -> ReloadResult:
        """Read the configuration again and put it in force, or change nothing."""
