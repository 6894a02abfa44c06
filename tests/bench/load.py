"""The load generator, a process of its own: open loop or closed loop, raw bytes on uvloop.

    python -m tests.bench.load '{"url": "http://127.0.0.1:8787/webhooks/github", "mode": "open", "rate": 1000}'

Open loop: requests have their times before anything is sent (fixed or Poisson, seeded), and a latency counts from that
time, whether or not a connection was free then. So a server that stalls is charged for everybody who would have come
meanwhile; a closed loop would just send less and not notice. Closed loop: each connection sends its next request when it
has its answer; that gives the saturation rate and the CPU per request, and its latencies are not to be quoted.

The result goes to stdout as JSON. CPU of the processes in ``watch`` is taken at both ends of the measured window.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import random
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

from tests.bench.latency import summary
from tests.bench.machine import cpu_s
from tests.bench.webhook import Webhooks

__all__ = ["Load", "Result"]

PATIENCE_S = 20.0  # for answers that are still out when the window closes


class Load(msgspec.Struct, kw_only=True):
    """What to send.

    Attributes:
        mode: ``open`` (``rate`` a second) or ``closed`` (as fast as the answers come).
        arrivals: Of the open loop: ``poisson`` or ``fixed``.
        seconds: The measured window.
        warm_s: Sent before it in the same way, and not counted.
        watch: Name to process id.
    """

    url: str
    mode: str = "closed"
    connections: int = 64
    rate: float = 0.0
    arrivals: str = "poisson"
    seed: int = 1
    seconds: float = 5.0
    warm_s: float = 0.5
    body_bytes: int = 1024
    signing: str = "good"
    duplicates: float = 0.0
    watch: dict[str, int] = {}


class Result(msgspec.Struct, kw_only=True):
    """What came of it.

    Attributes:
        answered: Requests answered that belong to the window.
        seconds: From the window's begin to the last answer that belongs to it.
        lost: Requests whose connection ended without an answer.
        unanswered: Requests of the window that were still out after ``PATIENCE_S``.
        per_s: Answered a second.
        late_ms: How late the generator itself was in sending (open loop, a connection being free).
        cpu_s: User and system seconds of each watched process within the window.
        load_cpu_s: The generator's own.
    """

    answered: int
    statuses: dict[str, int]
    lost: int
    unanswered: int
    seconds: float
    per_s: float
    latency_ms: dict[str, float]
    late_ms: dict[str, float]
    cpu_s: dict[str, tuple[float, float]]
    load_cpu_s: float

    def good(self) -> int:
        """Requests answered with 2xx."""
        return sum(n for status, n in self.statuses.items() if status.startswith("2"))

    def cpu_us(self, name: str) -> float:
        """Microseconds of user + sys per request that was answered with 2xx."""
        return sum(self.cpu_s[name]) / max(1, self.good()) * 1e6


class Client(asyncio.Protocol):
    """One connection with at most one request out."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._due_s = -1.0  # when the request that is out was due; negative while none is

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._generator.free(self)

    def send(self, due_s: float) -> None:
        self._due_s = due_s
        for piece in self._generator.webhooks.next(int(due_s * 1e9)):
            self._transport.write(piece)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_complete(self) -> None:
        due_s, self._due_s = self._due_s, -1.0
        self._generator.answered(due_s, self._parser.get_status_code())
        if self._parser.should_keep_alive():
            self._generator.free(self)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due_s >= 0:
            self._generator.lost(self._due_s)
        self._generator.gone(self)


class Generator:
    """All connections, the timetable and the books."""

    def __init__(self, load: Load) -> None:
        self.load = load
        where = urlsplit(load.url)
        self._host, self._port = where.hostname or "", where.port or 80
        self.webhooks = Webhooks(
            where.netloc, where.path or "/", load.body_bytes, signing=load.signing, duplicates=load.duplicates
        )
        self._open = load.mode == "open"
        self._idle: deque[Client] = deque()
        self._due: deque[float] = deque()  # times of requests that wait for a free connection
        self._sending = False
        self._from_s = self._to_s = 0.0  # the window
        self._out = 0  # requests of the window that are due and not accounted for
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._statuses: dict[str, int] = {}
        self._lost = 0
        self._ended = asyncio.Event()
        self._empty = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Result:
        load = self.load
        await asyncio.gather(*(self._connect() for _ in range(load.connections)))
        start_s = time.monotonic()
        self._from_s = start_s + load.warm_s
        self._to_s = self._from_s + load.seconds
        self._sending = True
        loop = asyncio.get_running_loop()
        ends: list[tuple[float, dict[str, tuple[float, float]], float]] = []

        def look() -> None:
            ends.append((time.monotonic(), {n: cpu_s(pid) for n, pid in load.watch.items()}, time.process_time()))

        loop.call_at(loop.time() + load.warm_s, look)
        if self._open:
            self._follow(start_s)
        else:
            for client in [self._idle.popleft() for _ in range(len(self._idle))]:
                self.free(client)
            loop.call_at(loop.time() + load.warm_s + load.seconds, self._end)
        await self._ended.wait()
        if self._out:  # the window goes on until its last answer, so that a server behind its rate is charged for all
            try:
                await asyncio.wait_for(self._empty.wait(), PATIENCE_S)
            except TimeoutError:
                print(f"{self._out} requests were not answered within {PATIENCE_S} s", file=sys.stderr)
        look()
        self._sending = False
        (begin_s, before, mine), (end_s, after, mine_after) = ends
        return Result(
            answered=len(self._latencies),
            statuses=self._statuses,
            lost=self._lost,
            unanswered=self._out,
            seconds=end_s - begin_s,
            per_s=len(self._latencies) / (end_s - begin_s),
            latency_ms=summary(self._latencies),
            late_ms=summary(self._late),
            cpu_s={n: (after[n][0] - u, after[n][1] - s) for n, (u, s) in before.items()},
            load_cpu_s=mine_after - mine,
        )

    # --- connections

    async def _connect(self) -> None:
        create = asyncio.get_running_loop().create_connection
        for wait_s in (0.01, 0.05, 0.2, 1.0):
            with contextlib.suppress(OSError):
                await create(lambda: Client(self), self._host, self._port)
                return
            await asyncio.sleep(wait_s)
        await create(lambda: Client(self), self._host, self._port)

    def free(self, client: Client) -> None:
        """A connection can take a request."""
        if not self._sending:
            self._idle.append(client)
        elif not self._open:
            now_s = time.monotonic()
            if self._from_s <= now_s < self._to_s:
                self._out += 1
            client.send(now_s)
        elif self._due:
            client.send(self._due.popleft())
        else:
            self._idle.append(client)

    def gone(self, client: Client) -> None:
        """A connection ended; another takes its place."""
        if client in self._idle:
            self._idle.remove(client)
        if self._sending:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # --- the timetable

    def _times(self, start_s: float) -> Iterator[float]:
        rate, rng = self.load.rate, random.Random(self.load.seed)
        at_s = start_s
        while at_s < self._to_s:
            yield at_s
            at_s += rng.expovariate(rate) if self.load.arrivals == "poisson" else 1 / rate

    def _follow(self, start_s: float) -> None:
        times = self._times(start_s)
        alarm = Alarm()
        next_s = next(times)

        def ring() -> None:
            nonlocal next_s
            alarm.read()
            while next_s <= (now_s := time.monotonic()):
                self._arrive(next_s, now_s)
                later = next(times, None)
                if later is None:
                    alarm.close()
                    self._end()
                    return
                next_s = later
            alarm.set(next_s)

        asyncio.get_running_loop().add_reader(alarm.fd, ring)
        alarm.set(next_s)

    def _arrive(self, due_s: float, now_s: float) -> None:
        if due_s >= self._from_s:
            self._out += 1
        if self._idle:
            if due_s >= self._from_s:
                self._late.append(now_s - due_s)
            self._idle.popleft().send(due_s)
        else:
            self._due.append(due_s)

    def _end(self) -> None:
        self._ended.set()
        if not self._open:
            self._sending = False

    # --- the books

    def answered(self, due_s: float, status: int) -> None:
        """An answer came."""
        if self._from_s <= due_s < self._to_s:
            self._latencies.append(time.monotonic() - due_s)
            key = str(status)
            self._statuses[key] = self._statuses.get(key, 0) + 1
            self._settle()

    def lost(self, due_s: float) -> None:
        """A connection ended with a request out."""
        if self._from_s <= due_s < self._to_s:
            self._lost += 1
            self._settle()

    def _settle(self) -> None:
        self._out -= 1
        if not self._out and self._ended.is_set():
            self._empty.set()


class Alarm:
    """A timer of the kernel with a file descriptor: exact where an event loop's timers round to milliseconds."""

    _CLOCK_MONOTONIC, _ABSOLUTE, _FLAGS = 1, 1, os.O_NONBLOCK | os.O_CLOEXEC

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(self._CLOCK_MONOTONIC, self._FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = (ctypes.c_long * 4)()

    def set(self, at_s: float) -> None:
        """Ring at a time of the monotonic clock."""
        ns = int(at_s * 1e9)
        self._spec[2], self._spec[3] = divmod(ns, 1_000_000_000)
        if self._libc.timerfd_settime(self.fd, self._ABSOLUTE, ctypes.byref(self._spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def read(self) -> None:
        """Take note of the ring."""
        os.read(self.fd, 8)

    def close(self) -> None:
        """Ring no more."""
        asyncio.get_running_loop().remove_reader(self.fd)
        os.close(self.fd)


def main() -> None:
    """Run what the argument says."""
    load = msgspec.json.decode(sys.argv[1], type=Load)
    result = uvloop.run(Generator(load).run())
    print(json.dumps(msgspec.to_builtins(result)))


if __name__ == "__main__":
    main()
