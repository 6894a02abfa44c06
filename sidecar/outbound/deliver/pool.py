"""The HTTP destination: a pool of connections to one backend, and the tries that run on them.

Between the dispatcher, which says what to send and when, and ``http.py``, which speaks HTTP on one connection. The
one re-send decided here is that of a request whose reused connection turned out to be closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from sidecar.clock import Clock
from sidecar.model import Delivery
from sidecar.outbound.deliver.dial import Dialer, DialFailed, Resolve, resolve_by_system, tls_context
from sidecar.outbound.deliver.headers import build_head, compile_template
from sidecar.outbound.deliver.http import Connection, Exchange, HttpOptions
from sidecar.outbound.deliver.kind import Done, Result
from sidecar.outbound.deliver.url import parse_url

__all__ = ["HttpDestination"]

CONNECT_WITHIN_S = 5.0
IDLE_FOR_S = 2.0  # an idle connection is used again for no longer
TICK_S = 0.1  # how late a deadline may be noticed; never early


class HttpDestination:
    """One configured HTTP backend: ``concurrency`` tries at once, further ones wait in line.

    Attributes:
        resent: Tries that were sent again at once because a reused connection turned out to be closed.
        connections: All that are open.
    """

    def __init__(self, name: str, options: HttpOptions, clock: Clock, *, resolve: Resolve = resolve_by_system) -> None:
        """Prepare it; nothing is opened.

        Raises:
            ValueError: ``url``, ``host`` or ``headers`` cannot be used.
            OSError: ``ca_file`` cannot be read, or holds no certificate.
        """
        target = parse_url(options.url)
        self.resent = 0
        self.connections: set[Connection] = set()
        self._template = compile_template(target, name, options.host, options.headers)
        self._timeout_s = options.timeout_s
        self._concurrency = options.concurrency
        self._clock = clock
        tls = tls_context(options.ca_file) if target.scheme == "https" else None
        self._dialer: Dialer[Connection] = Dialer(target, tls, clock, lambda: Connection(self), resolve)
        self._active: set[Exchange] = set()
        self._waiting: deque[Exchange] = deque()
        self._idle: list[Connection] = []  # by the time they became idle
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_lost = asyncio.Event()
        self._dials: set[asyncio.Task[None]] = set()

    # --- the dispatcher's side

    def attempt(self, delivery: Delivery, resigned: Sequence[tuple[bytes, bytes]], done: Done) -> Exchange:
        """Try once; see ``kind.Destination``. The time allowed begins when a slot is free."""
        exchange = Exchange(self, build_head(self._template, delivery, resigned), delivery.event.body, done)
        if self._closed:
            asyncio.get_running_loop().call_soon(exchange.cancel)
            self._waiting.append(exchange)
        elif len(self._active) < self._concurrency:
            self._start(exchange)
        else:
            self._waiting.append(exchange)
        return exchange

    def interrupt(self, exchange: Exchange) -> None:
        """Stop a try and report it as interrupted."""
        if exchange.settled:
            return
        if not exchange.started_s:
            self._waiting.remove(exchange)
            exchange.settled = True
            exchange.done(Result(None, "interrupted", "interrupted", started_at_ms=self._clock.wall_ms()))
            return
        if exchange.task is not None:
            exchange.task.cancel()
        conn = exchange.conn
        if conn is not None:
            conn.exchange = None
        self.finish(exchange, Result(None, "interrupted", "interrupted"), conn, keep=False)

    async def close(self) -> None:
        """Interrupt running tries, give up every connection, and wait until they are gone."""
        self._closed = True
        for waiting in list(self._waiting):
            waiting.cancel()
        for active in list(self._active):
            active.cancel()
        self._idle.clear()
        for conn in list(self.connections):
            conn.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._dialer.close()
        await asyncio.gather(*self._dials, return_exceptions=True)
        if self.connections:
            await self._all_lost.wait()

    # --- tries

    def _start(self, exchange: Exchange) -> None:
        now_s = self._clock.monotonic_s()
        exchange.started_s = now_s
        exchange.started_at_ms = self._clock.wall_ms()
        exchange.deadline_s = now_s + self._timeout_s
        self._active.add(exchange)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        idle = self._idle
        while idle:
            conn = idle.pop()
            if now_s - conn.idle_since_s <= IDLE_FOR_S and conn.usable():
                conn.send(exchange, reused=True)
                return
            conn.abort()
        self._open(exchange, now_s)

    def _open(self, exchange: Exchange, now_s: float) -> None:
        within_s = min(CONNECT_WITHIN_S, exchange.deadline_s - now_s)
        task = exchange.task = asyncio.get_running_loop().create_task(self._dial(exchange, within_s))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, exchange: Exchange, within_s: float) -> None:
        try:
            conn = await self._dialer.dial(within_s)
        except DialFailed as e:
            exchange.task = None
            self.finish(exchange, Result(None, e.failure, e.error), None, keep=False)
            return
        exchange.task = None
        if conn.transport is None or conn.transport.is_closing():
            self.finish(exchange, Result(None, "connect", "connection closed at once"), conn, keep=False)
        else:
            conn.send(exchange, reused=False)

    def resend(self, exchange: Exchange) -> None:
        """The reused connection was closed before it could answer: one immediate try on a fresh one."""
        self.resent += 1
        exchange.resent = True
        exchange.conn = None
        self._open(exchange, self._clock.monotonic_s())

    def finish(self, exchange: Exchange, result: Result, conn: Connection | None, *, keep: bool) -> None:
        """End a try: free its slot, start the next in line, then report."""
        assert not exchange.settled, "a try has one result"
        now_s = self._clock.monotonic_s()
        exchange.settled = True
        exchange.conn = exchange.task = None
        result.started_at_ms = exchange.started_at_ms
        result.duration_ms = int((now_s - exchange.started_s) * 1000)
        self._active.discard(exchange)
        if conn is not None:
            if keep:
                conn.idle_since_s = now_s
                self._idle.append(conn)
            else:
                conn.abort()
        if self._waiting and not self._closed:
            self._start(self._waiting.popleft())
        exchange.done(result)

    # --- connections and time

    def opened(self, conn: Connection) -> None:
        """Count a connection in."""
        self.connections.add(conn)

    def lost(self, conn: Connection) -> None:
        """Count a connection out."""
        self.connections.discard(conn)
        if self._closed and not self.connections:
            self._all_lost.set()

    def _tick(self) -> None:
        """Look at every deadline; one timer for all of them costs less than one each."""
        now_s = self._clock.monotonic_s()
        for exchange in list(self._active):
            conn = exchange.conn
            if conn is not None:
                if now_s >= exchange.deadline_s:
                    conn.time_out()
                else:
                    conn.look_again()
        idle = self._idle
        while idle and now_s - idle[0].idle_since_s > IDLE_FOR_S:
            idle.pop(0).abort()
        if self._active or idle:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        else:
            self._timer = None
