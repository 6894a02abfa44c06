"""What a connection of a TLS listener is until its handshake is done.

Stands between the door, which accepts in plain, and ``connection``, which gets its place among the others at once and
its requests from TLS. Nothing of TLS is made before the client's first bytes, so that one who is silent costs what a
plain connection costs. No request passes through here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import cast

from sidecar.inbound.connection import Connection

__all__ = ["Securing"]


class Securing(asyncio.Protocol):
    """The protocol object of one accepted connection; TLS takes its place, and ``connection`` speaks through that."""

    __slots__ = ("_connection", "_context", "_handshake", "_transport")

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        self._connection = connection
        self._context = context

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the connection its place, or see it turned away."""
        self._transport = cast(asyncio.Transport, transport)
        self._connection.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Begin the handshake with the client's first bytes."""
        self._transport.pause_reading()  # TLS reads what follows
        self._handshake = asyncio.get_running_loop().create_task(self._secure(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back: there was no handshake."""
        self._connection.connection_lost(exc)

    async def _secure(self, hello: bytes) -> None:
        transport, connection = self._transport, self._connection
        if transport.is_closing():
            return  # it had to go; connection_lost is on its way
        loop = asyncio.get_running_loop()
        loop.call_soon(self._hand_over, hello)  # start_tls puts TLS in our place before it waits
        del hello  # it may be large, and this waits as long as the client lets it
        with contextlib.suppress(OSError):  # what a client can do wrong, and a handshake that takes too long
            secured = await loop.start_tls(
                transport,
                connection,
                self._context,
                server_side=True,
                ssl_handshake_timeout=connection.shared.options.header_timeout_s,
            )
            if not transport.is_closing():  # when we close it meanwhile, start_tls returns as if all were well
                connection.secured(cast(asyncio.Transport, secured))
                return
        connection.connection_lost(None)  # TLS tells it of some ends only

    def _hand_over(self, data: bytes) -> None:
        tls = cast(asyncio.BufferedProtocol, self._transport.get_protocol())
        tls.get_buffer(len(data))[: len(data)] = data  # type: ignore[index]
        tls.buffer_updated(len(data))
