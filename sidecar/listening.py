"""Listening sockets: bound with clear errors, and shut while there is no descriptor for those who come.

Out of descriptors, libuv accepts and closes with one that it holds in reserve. When another thread takes that one,
each turn of the loop fails to accept and the next follows at once: a whole core for nothing (``uv__server_io`` in
src/unix/stream.c of libuv 1.52). So a door is shut while almost none are left; clients wait in the kernel's queue.
To be shut and opened again, it lets the loop have a copy of its socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import stat
from collections.abc import Callable

from sidecar.errors import SidecarError
from sidecar.log import get_logger

__all__ = ["Door"]

_FEW = 3  # so few descriptors below our limit, and it is shut
_ENOUGH = 8
_MAX_PATH = 100  # sun_path holds 108 with its end, and a temporary name is a little longer

_log = get_logger("listener")


class Door:
    """One address that is bound, and listened on from ``open`` to ``close``.

    Args:
        listen: ``host:port``, ``[v6]:port`` (``[::]`` takes IPv4 too), or ``unix:/path``: its folder is made, and a
            socket on which nobody listens any more is replaced.
        protocol: Makes what speaks with a connection.
        backlog: How many may wait in the kernel; it caps that at net.core.somaxconn.
        mode: Permissions of a Unix socket. It appears with them, so that nobody can connect before.

    Raises:
        SidecarError: It cannot be bound.
    """

    def __init__(
        self,
        listen: str,
        protocol: Callable[[], asyncio.BaseProtocol],
        *,
        backlog: int,
        mode: int = 0o660,
    ) -> None:
        self._protocol, self._backlog = protocol, backlog
        self._server: asyncio.Server | None = None
        self._path = listen.removeprefix("unix:") if listen.startswith("unix:") else ""
        try:
            self._sock = _bind_unix(self._path, mode) if self._path else _bind_tcp(listen)
        except (OSError, ValueError) as e:
            raise _cannot(listen, e) from None
        self._shut = False
        self._inode = _inode(self._path)
        #: What was bound, port 0 resolved: "127.0.0.1:8787", "[::]:8787", "unix:/path".
        self.address = listen if self._path else _shown(self._sock)

    async def open(self) -> None:
        """Let the loop accept.

        Raises:
            SidecarError: There is no descriptor for it, or somebody else was faster.
        """
        try:
            await self._accept()
        except OSError as e:
            raise _cannot(self.address, e) from None

    async def _accept(self) -> None:
        copy = self._sock.dup()
        try:
            server = await self._serve(copy)
        except BaseException:
            copy.close()
            raise
        if self._sock.fileno() < 0:  # closed meanwhile
            server.close()
            return
        self._server = server

    async def _serve(self, sock: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if self._path else loop.create_server
        return await create(self._protocol, sock=sock, backlog=self._backlog)

    async def look(self) -> None:
        """Shut it when almost no descriptor is left, open it when there are enough. To be called twice a second."""
        left = _descriptors_left(self._sock)
        if self._server is not None and left < _FEW:
            self._server.close()
            self._server = None
            self._shut = True
            _log.limited("shut", "error", "no file descriptors are left: connections have to wait", at=self.address)
        elif self._shut and left >= _ENOUGH:
            try:
                await self._accept()
            except OSError as e:
                _log.limited("open", "error", "connections still have to wait", at=self.address, error=e.strerror)
                return
            self._shut = False
            _log.limited("open", "info", "there are file descriptors again: connections are let in", at=self.address)

    def close(self) -> None:
        """Listen no more; a Unix socket of ours is removed. Safe to call twice."""
        self._shut = False
        if self._server is not None:
            self._server.close()
            self._server = None
        self._sock.close()
        if self._inode is not None and self._inode == _inode(self._path):  # a successor may have put its own there
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def _cannot(listen: str, e: OSError | ValueError) -> SidecarError:
    why = getattr(e, "strerror", None) or str(e)
    return SidecarError(f"cannot listen on {listen}: {why}", "is another process there, or the address not ours?")


def _bind_tcp(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not 0 <= int(port) <= 65535:  # getaddrinfo would take it modulo 65536
        raise ValueError(f"{port} is no port")
    found = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(path: str, mode: int) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH:
        raise ValueError(f"longer than {_MAX_PATH} bytes")
    _demand_free(path)
    new = path + ".new"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        sock.bind(new)
        os.chmod(new, mode)
        os.rename(new, path)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _demand_free(path: str) -> None:
    """Raise OSError when there is something that is not a socket, or a socket with somebody behind it."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file that is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _descriptors_left(sock: socket.socket) -> float:
    """How many more can be opened, at most; the kernel gives out the lowest number that is free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    try:
        lowest = os.dup(sock.fileno())
    except OSError:
        return 0
    os.close(lowest)
    return limit - lowest


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _shown(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
