"""The webhook listener: binds, accepts, ticks, drains.

The requests themselves are read by ``connection``, judged by ``framing`` and ``chunked``, and decided by the
application (``receive``). No payload and no decision passes through here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl as ssl_module

import msgspec

from sidecar.clock import Clock
from sidecar.inbound.ack import Answer, error_answer
from sidecar.inbound.application import Admit, Application, Head, ServerOptions
from sidecar.inbound.connection import Connection
from sidecar.inbound.securing import Securing
from sidecar.inbound.shared import Shared
from sidecar.listening import Door
from sidecar.metrics import Metrics

__all__ = ["Admit", "Answer", "Application", "Head", "Listener", "ServerOptions", "error_answer"]

BACKLOG = 1024  # the kernel caps it at net.core.somaxconn
_TICK_S = 0.25
_TICK_FLOOR_S = 0.01


class Listener:
    """An HTTP/1.1 server for one application, on any number of addresses.

    Memory, at worst: ``max_connections`` x (16 KiB of head + what the transport has read and not handed over,
    with TLS 0.6 MiB more: the loop keeps its buffers, as large as they once were) plus ``max_buffered_bytes`` of
    bodies. A connection is one of them from the accept on, whether or not its TLS handshake comes to an end. Bodies
    count from their first byte until the application has answered; so does input read ahead of answers. Answers wait
    in the transport of a client that does not read them: at most ``READ_AHEAD`` of them and 64 KiB, for
    ``body_timeout_s``.
    """

    def __init__(self, options: ServerOptions, app: Application, metrics: Metrics, clock: Clock) -> None:
        shortest = min(
            options.header_timeout_s,
            options.body_timeout_s,
            options.keepalive_timeout_s,
            options.body_window_s,
        )
        self._tick_s = max(_TICK_FLOOR_S, min(_TICK_S, shortest / 8))
        self._shared = Shared(options, app, metrics, clock, tick_s=self._tick_s)
        self._shared.on_first = self._begin_ticking
        self._doors: list[Door] = []
        self._timer: asyncio.TimerHandle | None = None
        #: What was bound, port 0 resolved: "127.0.0.1:8787", "[::]:8787", "unix:/path".
        self.addresses: list[str] = []

    @property
    def buffered_bytes(self) -> int:
        """Body bytes received or waiting for their answer."""
        return self._shared.budget.used

    def configure(self, authorities: frozenset[bytes]) -> None:
        """Take over, from the next request on, which names are ours; see ``ServerOptions.authorities``."""
        self._shared.options = msgspec.structs.replace(self._shared.options, authorities=authorities)

    async def start(self, listen: str, *, ssl: ssl_module.SSLContext | None = None) -> None:
        """Begin to accept on one more address.

        Args:
            listen: ``host:port``, ``[::]:port`` (IPv4 too), or ``unix:/path`` (mode 0660; a stale socket is replaced).
            ssl: Our certificate, for TLS.

        Raises:
            SidecarError: The address cannot be bound.
        """
        shared = self._shared

        def accept() -> Connection:
            return Connection(shared)

        def accept_tls() -> Securing:
            assert ssl is not None
            return Securing(Connection(shared, secure=True), ssl)

        door = Door(listen, accept if ssl is None else accept_tls, backlog=BACKLOG)
        self._doors.append(door)
        await door.open()
        self.addresses.append(door.address)

    async def look(self) -> None:
        """See that every address still accepts; to be called twice a second."""
        for door in self._doors:
            await door.look()

    def _begin_ticking(self) -> None:
        if self._timer is None:
            self._tick()

    def _tick(self) -> None:
        self._shared.tick()
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick_on)

    def _tick_on(self) -> None:
        """Tick while there is a connection: without one nothing can be late, and an idle process stays asleep."""
        self._timer = None
        if self._shared.order:
            self._tick()

    def stop_accepting(self) -> None:
        """Close the listening sockets; open connections go on. Safe to call twice."""
        for door in self._doors:
            door.close()
        self._doors.clear()

    def refuse_new(self) -> None:
        """From now on every answer ends its connection."""
        self._shared.refusing = True

    def accept_again(self) -> None:
        """Take ``refuse_new`` back: connections are kept again."""
        self._shared.refusing = False

    async def drain(self, timeout_s: float) -> None:
        """Let the answers owed go out and requests that have begun end; idle connections close at once.

        Args:
            timeout_s: How long at most; what is left then stays open until ``close``.
        """
        self.refuse_new()
        for connection in list(self._shared.order):
            connection.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._shared.wait_empty()

    async def close(self) -> None:
        """Stop accepting and cut off what is still open. Safe to call twice, and before ``start``."""
        self._shared.closing = True
        self.stop_accepting()
        for connection in list(self._shared.order):
            connection.abort()
        await self._shared.wait_empty()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
