"""Sockets of the admin plane: dual-stack TCP, and a Unix socket that appears with its mode already right."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from sidecar.errors import SidecarError

__all__ = ["bind_tcp", "bind_unix", "shown"]

_MAX_PATH = 100  # sun_path holds 108 with its end, and a temporary name is a little longer


def bind_tcp(listen: str) -> socket.socket:
    """Bind ``host:port`` or ``[v6]:port``; ``[::]`` takes IPv4 as well.

    Raises:
        SidecarError: It cannot be bound.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        if not 0 <= int(port) <= 65535:  # getaddrinfo would take it modulo 65536
            raise ValueError(f"{port} is no port")  # noqa: TRY301
        found = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, ValueError) as e:
        raise SidecarError(f"admin.listen: cannot use {listen!r}: {e}", "see admin.listen in docs/config.md") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.setblocking(False)
    except OSError as e:
        sock.close()
        why = (e.strerror or "failed").lower()
        raise SidecarError(f"admin.listen: cannot bind {listen}: {why}", "is another instance running?") from None
    return sock


def bind_unix(path: str, mode: int) -> socket.socket:
    """Bind a Unix socket, replacing the file that a dead process left.

    It is bound under another name, given its mode and then renamed, so that nobody can connect in between.

    Raises:
        SidecarError: The path is too long, not a socket, or cannot be written.
    """
    if len(os.fsencode(path)) > _MAX_PATH:
        raise SidecarError(f"admin.socket: {path} is longer than {_MAX_PATH} bytes", "choose a shorter path")
    if _is_in_the_way(path):
        raise SidecarError(f"admin.socket: {path} exists and is not a socket", "remove it or choose another path")
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
    except OSError as e:
        sock.close()
        why = (e.strerror or "failed").lower()
        raise SidecarError(f"admin.socket: cannot bind {path}: {why}", "its folder must be writable") from None
    return sock


def _is_in_the_way(path: str) -> bool:
    try:
        return not stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def shown(sock: socket.socket) -> str:
    """Write the bound address, the port resolved."""
    address = sock.getsockname()
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
    return f"{host}:{address[1]}"
