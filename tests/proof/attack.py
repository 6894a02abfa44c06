"""Slow clients: slowhttptest in its three ways, and senders that hold large bodies back but for their last byte."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

__all__ = ["Attack"]

HEAD = b"POST /open HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n"
HOARDED = 1 << 20
WAYS = ("-H", "-B", "-X")  # slow heads, slow bodies, answers that are read slowly


class Attack:
    """A number of slow connections to one port, a quarter of them in each way, for as long as it is held.

    Args:
        port: Whom.
        connections: How many in all.
        folder: For what slowhttptest says.
        seconds: How long it goes on when nobody closes its connections.
    """

    def __init__(self, port: int, connections: int, folder: Path, seconds: int) -> None:
        files = connections + 256
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))
        self._port = port
        self._share = connections // (len(WAYS) + 1)
        self._folder = folder
        self._seconds = seconds
        self._tools: list[subprocess.Popen[bytes]] = []
        self._hoarders: list[socket.socket] = []

    def __enter__(self) -> Self:
        for way in WAYS:
            path = "/open" if way == "-B" else "/nothing"
            command = [
                "slowhttptest", way, "-c", str(self._share), "-r", str(max(50, self._share)), "-i", "1", "-l", str(self._seconds),
                "-s", "8192", "-x", "8", "-k", "3", "-n", "1", "-w", "64", "-y", "128", "-z", "32", "-p", "30", "-v", "1",
                "-t", "POST" if way == "-B" else "GET", "-u", f"http://127.0.0.1:{self._port}{path}",
            ]  # fmt: skip
            with (self._folder / f"slow{way}.log").open("wb") as log:
                self._tools.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        return self

    def hoard(self) -> None:
        """Send large bodies but for their last byte, all at once; returns when nobody takes more."""
        body, unsent = memoryview(b"x" * HOARDED), {}
        head = HEAD % (HOARDED + 1)
        with selectors.DefaultSelector() as selector:
            for _ in range(self._share):
                sock = socket.create_connection(("127.0.0.1", self._port), 10)
                sock.sendall(head)
                sock.setblocking(False)
                self._hoarders.append(sock)
                selector.register(sock, selectors.EVENT_WRITE)
                unsent[sock] = HOARDED
            until_s = time.monotonic() + 20
            while unsent and time.monotonic() < until_s:
                for key, _ in selector.select(1.0):
                    sock = key.fileobj  # type: ignore[assignment]
                    try:
                        unsent[sock] -= sock.send(body[: unsent[sock]])
                    except BlockingIOError:
                        continue
                    except OSError:  # it was closed, which is what it is there for
                        unsent[sock] = 0
                    if unsent[sock] == 0:
                        del unsent[sock]
                        selector.unregister(sock)

    def __exit__(self, *exc: object) -> None:
        for tool in self._tools:
            with contextlib.suppress(ProcessLookupError):
                tool.kill()
            tool.wait()
        for sock in self._hoarders:
            sock.close()
