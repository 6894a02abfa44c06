"""A client that sends exactly the bytes it is told to, and a small application to answer it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.inbound.ack import Answer, error_answer
from sidecar.inbound.application import Admit, Head
from sidecar.model import Refusal

OK = b'{"status":"accepted"}'
ACCEPTED = Answer(200, OK)


@dataclass
class Reply:
    """One answer as it came in."""

    status: int
    headers: dict[bytes, bytes]  # lower-case names
    body: bytes

    @property
    def code(self) -> str:
        """The error code; "" for an answer that is no error."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(self.body)["error"]["code"])
        return ""


class Peer:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: str, **kwargs: object) -> Peer:
        """Connect to "host:port", "[host]:port" or "unix:/path"."""
        if address.startswith("unix:"):
            return cls(*await asyncio.open_unix_connection(address.removeprefix("unix:"), **kwargs))
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host.strip("[]"), int(port), **kwargs))

    async def send(self, data: bytes) -> None:
        """Send bytes; a connection that the server closed in the meantime is no error."""
        with contextlib.suppress(OSError):
            self.writer.write(data)
            await self.writer.drain()

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self.writer.write_eof()

    async def reply(self, timeout_s: float = 3.0, *, bodiless: bool = False) -> Reply:
        """Read one answer; 100 Continue counts as one."""
        async with asyncio.timeout(timeout_s):
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *fields = head[:-4].split(b"\r\n")
            assert line.startswith(b"HTTP/1.1 "), line
            headers = {}
            for item in fields:
                name, _, value = item.partition(b": ")
                assert name.lower() not in headers
                headers[name.lower()] = value
            status = int(line[9:12])
            assert status in {100, 204} or b"content-length" in headers
            length = 0 if bodiless else int(headers.get(b"content-length", b"0"))
            return Reply(status, headers, await self.reader.readexactly(length))

    async def at_end(self, timeout_s: float = 3.0) -> bytes:
        """Wait until the server has closed; returns what came before that."""
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionResetError):
                return await self.reader.read()
            return b""

    async def close(self) -> None:
        """Close politely."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Vanish."""
        self.writer.transport.abort()


def vanish(peer: Peer) -> None:
    """End the connection with a reset."""
    sock = peer.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.reset()


@dataclass
class Desk:
    """An application with one path, ``/hook``, that answers at once unless told to wait."""

    max_body: int = 1 << 20
    holding: bool = False
    answer: Answer = ACCEPTED
    heads: list[Head] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    contexts: list[object] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    refused_contexts: list[object] = field(default_factory=list)
    aborts: list[object] = field(default_factory=list)
    waiting: list[Callable[[Answer], None]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def head(self, head: Head) -> Admit | Answer:
        self.heads.append(head)
        self.changed.set()
        if head.path == b"/bug":
            raise RuntimeError("bug")
        if head.path not in {b"/hook", b"/late-bug"}:
            return error_answer(Refusal.NOT_FOUND)
        if head.method != b"POST":
            return error_answer(Refusal.METHOD_NOT_ALLOWED, allow=b"POST")
        return Admit(self.max_body, len(self.heads))

    def complete(self, head: Head, context: object, body: bytes, reply: Callable[[Answer], None]) -> None:
        self.bodies.append(body)
        self.contexts.append(context)
        if head.path == b"/late-bug":
            raise RuntimeError("bug")
        if self.holding:
            self.waiting.append(reply)
        else:
            reply(self.answer)
        self.changed.set()

    def refused(self, context: object | None, head: Head | None, code: Refusal) -> None:
        self.refusals.append(code)
        self.refused_contexts.append(context)
        self.changed.set()

    def aborted(self, context: object | None) -> None:
        self.aborts.append(context)
        self.changed.set()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 3.0) -> None:
        """Wait until something that the application saw makes the condition true."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def post(body: bytes = b"{}", *, path: bytes = b"/hook", extra: bytes = b"") -> bytes:
    """A well-formed request; ``extra`` is further header lines, each with its CRLF."""
    return b"POST %b HTTP/1.1\r\nHost: t\r\n%bContent-Length: %d\r\n\r\n%b" % (path, extra, len(body), body)


def chunked(*chunks: bytes, extra: bytes = b"", trailers: bytes = b"") -> bytes:
    """A well-formed chunked request."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks)
    head = b"POST /hook HTTP/1.1\r\nHost: t\r\n%bTransfer-Encoding: chunked\r\n\r\n" % extra
    return head + body + b"0\r\n" + trailers + b"\r\n"
