"""Backends that deliveries go to, as a process of their own: fast, slow or failing.

    python -m tests.bench.backend [--delay-ms 0] [--status 200]       prints its port

Any path takes deliveries. ``GET /count`` tells how many came to each path, ``GET /stats`` also how long the way was from the moment the sender meant to
send (header ``X-Bench-Sent-At``) to here; ``GET /reset`` forgets what came so far.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from typing import Any

import httptools
import uvloop

from tests.bench.latency import summary
from tests.bench.webhook import SENT_AT


class Books:
    """What came."""

    def __init__(self) -> None:
        self.paths: Counter[str] = Counter()
        self.way_s: dict[str, list[float]] = {}

    def note(self, path: str, sent_at_ns: int) -> None:
        self.paths[path] += 1
        if sent_at_ns:
            self.way_s.setdefault(path, []).append(time.monotonic() - sent_at_ns / 1e9)

    def forget(self) -> None:
        self.paths.clear()
        self.way_s.clear()

    def stats(self, *, way: bool) -> bytes:
        sums = {path: summary(sample) for path, sample in self.way_s.items()} if way else {}
        return json.dumps({"count": self.paths.total(), "paths": self.paths, "way_ms": sums}).encode()


class Backend(asyncio.Protocol):
    """One connection."""

    def __init__(self, books: Books, options: argparse.Namespace) -> None:
        self._books = books
        self._delay_s = options.delay_ms / 1000
        self._answer = f"HTTP/1.1 {options.status} X\r\nContent-Length: 0\r\n\r\n".encode()
        self._path = ""
        self._sent_at_ns = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        at = data.find(SENT_AT)  # a head comes in one piece here, and a look for each header would cost more
        if at >= 0:
            self._sent_at_ns = int(data[at + len(SENT_AT) : data.index(b"\r", at)])
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url.decode()

    def on_message_complete(self) -> None:
        if self._path in {"/stats", "/count"}:
            body = self._books.stats(way=self._path == "/stats")
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return
        if self._path == "/reset":
            self._books.forget()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        self._books.note(self._path, self._sent_at_ns)
        self._sent_at_ns = 0
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._transport.write, self._answer)
        else:
            self._transport.write(self._answer)


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--status", type=int, default=200)
    options = parser.parse_args()
    books = Books()
    server = await asyncio.get_running_loop().create_server(
        lambda: Backend(books, options), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
