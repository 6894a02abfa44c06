"""The listener's protocol without a socket: pieces of bytes in, answers and accepted requests out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.clock import Clock
from sidecar.inbound.application import ServerOptions
from sidecar.inbound.connection import Connection
from sidecar.inbound.shared import Shared
from sidecar.metrics import Metrics
from tests.support.raw_http import Desk
from tests.support.wire import Wire

__all__ = ["Talk", "converse"]

_STATUS = re.compile(rb"HTTP/1\.1 (\d+) ")
_CODE = re.compile(rb'\{"error":\{"code":"(\w+)"\}\}$')


@dataclass(frozen=True)
class Talk:
    """What came of one connection."""

    statuses: tuple[int, ...]
    code: str
    bodies: tuple[bytes, ...]
    closed: bool
    left: int  # bytes that the connection still holds after its end: none may stay


def converse(pieces: Iterable[bytes], max_body: int = 1000) -> Talk:
    """Hand pieces to a fresh connection, one after the other, then end it."""
    return asyncio.run(_converse(pieces, max_body))


async def _converse(pieces: Iterable[bytes], max_body: int) -> Talk:
    return talk(pieces, max_body)


def talk(pieces: Iterable[bytes], max_body: int = 1000) -> Talk:
    """The same inside a running loop."""
    desk = Desk(max_body=max_body)
    shared = Shared(ServerOptions(), desk, Metrics(), Clock(), tick_s=1.0)
    wire = Wire()
    connection = Connection(shared)
    connection.connection_made(wire)
    for piece in pieces:
        connection.data_received(piece)
    sent = bytes(wire.sent)
    connection.connection_lost(None)
    code = _CODE.search(sent)
    return Talk(
        tuple(int(s) for s in _STATUS.findall(sent)),
        code[1].decode() if code else "",
        tuple(desk.bodies),
        wire.closed,
        shared.budget.used + len(shared.order),
    )
