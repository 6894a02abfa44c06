"""The connection that reads a backend's answer, without a socket."""

from __future__ import annotations

import socket
from typing import Any

from sidecar.outbound.deliver.http import Connection, Exchange
from sidecar.outbound.deliver.kind import Result
from tests.support.wire import Wire

__all__ = ["Results", "answered"]


_QUIET, _OTHER_END = socket.socketpair()  # nothing ever lies in it unread


class SentWire(Wire):
    """A wire that takes everything at once."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return _QUIET if name == "socket" else super().get_extra_info(name, default)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return 0


class Results:
    """Stands for the pool: notes how tries end."""

    def __init__(self) -> None:
        self.ended: list[Result] = []
        self.keeps: list[bool] = []

    def opened(self, conn: Connection) -> None:
        """Nothing waits for it here."""

    def lost(self, conn: Connection) -> None:
        """The same."""

    def finish(self, exchange: Exchange, result: Result, conn: Connection | None, *, keep: bool) -> None:
        self.ended.append(result)
        self.keeps.append(keep)

    def resend(self, exchange: Exchange) -> None:
        self.ended.append(Result(None, "reset", "closed before any byte"))
        self.keeps.append(False)

    def interrupt(self, exchange: Exchange) -> None:
        raise AssertionError("nobody stops a try here")


def answered(pieces: list[bytes]) -> Results:
    """One try, whose answer comes in pieces; a second one on the same connection where it may be used again."""
    pool, wire = Results(), SentWire()
    conn = Connection(pool)
    conn.connection_made(wire)
    conn.send(Exchange(pool, b"POST / HTTP/1.1\r\n\r\n", b"{}", lambda _: None), reused=False)
    for piece in pieces:
        if wire.closed:
            break
        conn.data_received(piece)
        if len(pool.ended) == 1 and pool.keeps[0] and conn.exchange is None:
            conn.send(Exchange(pool, b"POST / HTTP/1.1\r\n\r\n", b"{}", lambda _: None), reused=True)
    conn.connection_lost(None)
    return pool
