"""Backends to deliver to: small real servers, honest and hostile, and the certificates they show.

A backend runs a script for each request it has read; the script writes whatever bytes it likes. What came in is kept
byte by byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Request:
    """One request as it came in."""

    head: bytes  # with the empty line
    body: bytes
    connection: int  # 1, 2, ... in the order they were opened

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        lines = self.head.split(b"\r\n")[1:-2]
        return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]

    def values(self, name: bytes) -> list[bytes]:
        return [value for n, value in self.headers if n.lower() == name.lower()]


Script = Callable[[Request, asyncio.StreamWriter], Awaitable[object]]


def answers(*answers: bytes, close: bool = False) -> Script:
    """Write these bytes, one string for each request, the last one again and again."""
    left = list(answers)

    async def script(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        if close:
            writer.close()

    return script


async def silence(request: Request, writer: asyncio.StreamWriter) -> None:
    """Read the request and say nothing."""


async def reset(request: Request, writer: asyncio.StreamWriter) -> None:
    """Cut the connection with a RST, in the middle of whatever was written."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


@dataclass
class Backend:
    """A running server.

    Attributes:
        requests: All that were read completely.
        opened: Connections accepted so far.
        writers: The connections, in that order.
        written: Bytes a script says it got rid of.
    """

    script: Script = field(default_factory=lambda: answers(OK))
    read_bodies: bool = True  # False: the script runs as soon as the head is there, and reads nothing more
    requests: list[Request] = field(default_factory=list)
    opened: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    readers: list[asyncio.StreamReader] = field(default_factory=list)
    written: int = 0
    port: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)  # a client has closed its connection

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        number = self.opened
        self.writers.append(writer)
        self.readers.append(reader)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                request = Request(head, b"", number)
                length = int((request.values(b"Content-Length") or [b"0"])[0])
                if self.read_bodies:
                    request.body = await reader.readexactly(length)
                self.requests.append(request)
                self.arrived.set()
                await self.script(request, writer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            self.closed.set()
        finally:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def running(
    script: Script | None = None,
    *,
    read_bodies: bool = True,
    tls: ssl.SSLContext | None = None,
    unix: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Backend]:
    """Run a backend on a port of this machine, or on a Unix socket."""
    backend = Backend(script or answers(OK), read_bodies)
    if unix is not None:
        server = await asyncio.start_unix_server(backend.serve, str(unix), limit=1 << 20)
    else:
        sock = socket.create_server((host, port))
        backend.port = sock.getsockname()[1]
        server = await asyncio.start_server(backend.serve, sock=sock, ssl=tls, limit=1 << 20)
    try:
        yield backend
    finally:
        server.close()
        for writer in backend.writers:
            writer.transport.abort()
        await server.wait_closed()


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """A port of 127.0.0.1 on which nobody listens, and nobody will."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.1 that swallows connection requests: its queue is full and nobody accepts."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.05)
            try:
                filler.connect(sock.getsockname())
            except TimeoutError:
                break
        yield sock.getsockname()[1]


# --- certificates ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """A small authority and what it issued; ``context(name)`` is a server's side of it."""

    folder: Path

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.pem")

    def context(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context


def make_certificates(folder: Path) -> Certificates:
    """Issue ``good`` (localhost, 127.0.0.1), ``expired`` and ``elsewhere`` (another host), with the openssl binary."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=20)

    def key(name: str) -> None:
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")

    key("ca")
    openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=Test authority", "-days", "2", "-out", "ca.pem")
    for name, host, days in (
        ("good", "localhost", "2"),
        ("expired", "localhost", "-1"),
        ("elsewhere", "example.com", "2"),
    ):
        key(name)
        openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={host}", "-out", f"{name}.csr")
        names = f"DNS:{host}" + (",IP:127.0.0.1" if host == "localhost" else "")
        (folder / f"{name}.ext").write_text(f"subjectAltName={names}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", days, "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )  # fmt: skip
    return Certificates(folder)
