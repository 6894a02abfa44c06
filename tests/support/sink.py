"""A backend in a thread of the test: records every request byte for byte, answers as told."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Received:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    at_s: float = field(default_factory=time.monotonic)

    def get(self, name: str) -> str | None:
        """The first value of a header."""
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    @property
    def event_id(self) -> str:
        return self.get("Webhook-Sidecar-Event-Id") or ""

    @property
    def attempt(self) -> int:
        return int(self.get("Webhook-Sidecar-Attempt") or 0)


Answer = int | tuple[int, dict[str, str]] | None


class Sink:
    """The backend. ``answer`` may be a status, (status, headers), None (cut the connection), or a function of the request."""

    address = "127.0.0.1"

    def __init__(
        self, answer: Answer | Callable[[Received], Answer] = 200, *, port: int = 0, delay_s: float = 0.0
    ) -> None:
        self.answer = answer
        self.delay_s = delay_s
        self.requests: list[Received] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with sink._lock:
                    sink._open.add(self.connection)
                try:
                    while sink._serve_one(self):
                        pass
                finally:
                    with sink._lock:
                        sink._open.discard(self.connection)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 256

        self._server = Server((self.address, port), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def _serve_one(self, handler: socketserver.StreamRequestHandler) -> bool:
        try:
            line = handler.rfile.readline()
            if not line:
                return False
            method, target, _ = line.decode("latin-1").split(" ", 2)
            headers = []
            while (row := handler.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = row.decode("latin-1").partition(":")
                headers.append((name, value.strip()))
            length = next((int(v) for k, v in headers if k.lower() == "content-length"), 0)
            received = Received(method, target, headers, handler.rfile.read(length))
            with self._lock:
                self.requests.append(received)
            if self.delay_s:
                time.sleep(self.delay_s)
            answer = self.answer(received) if callable(self.answer) else self.answer
            if answer is None:
                return False
            status, extra = answer if isinstance(answer, tuple) else (answer, {})
            more = "".join(f"{k}: {v}\r\n" for k, v in extra.items())
            handler.wfile.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{more}\r\n".encode())
        except (OSError, ValueError):
            return False
        return True

    def ids(self) -> list[str]:
        """Event ids in order of arrival."""
        with self._lock:
            return [r.event_id for r in self.requests]

    def close(self) -> None:
        """Be gone, as a process that has ended: nobody listens, and open connections are cut."""
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the other side was quicker
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
