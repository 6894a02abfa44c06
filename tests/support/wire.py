"""A transport without a socket, for protocols that are handed their bytes one piece at a time."""

from __future__ import annotations

import asyncio

__all__ = ["Wire"]


class Wire(asyncio.Transport):
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.1", 4711) if name == "peername" else default

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Nothing here reads by itself."""

    def resume_reading(self) -> None:
        """The same."""
