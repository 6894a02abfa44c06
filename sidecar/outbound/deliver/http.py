"""HTTP/1.1 on one connection: write a request, read its answer, be idle, again.

Between the pool (``pool.py``), which says when, and the socket. It sends exactly what it was told: no redirects, no
cookies, no proxies, nothing inflated. What an answer means is not decided here (``outbound.retry``).

The status line decides a try. The rest of an answer is only read so that the connection can be used again: a body
that is too long, broken or too slow costs the connection and changes nothing.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any, Protocol

import httptools
import msgspec

from sidecar.outbound.deliver.kind import Done, Failure, Result

__all__ = ["Connection", "Exchange", "HttpOptions", "Pool"]

ANSWER_HEAD_BYTES = 64 << 10
ANSWER_BODY_BYTES = 64 << 10
ANSWER_HEADERS = 128
JOIN_BYTES = 16 << 10  # up to here one write of a copy is cheaper than a vectored write
TLS_PIECE_BYTES = 256 << 10


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach one HTTP backend.

    Attributes:
        url: ``http://``, ``https://`` or ``unix:/socket:/path``, with ``{path}`` for the event's path; see ``url.py``.
        timeout_s: For one try, connecting included; connecting gets at most 5 s of it.
        concurrency: How many tries, and so connections, at once; at least 1.
        host: Host header; None = the URL's. Never changes whom TLS must prove to be: that is the URL's host.
        headers: Added to every delivery; they replace same-named ones.
        ca_file: PEM file with the certificate authorities to trust instead of the system's.
    """

    url: str
    timeout_s: float = 10.0
    concurrency: int = 16
    host: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    ca_file: str | None = None


class Pool(Protocol):
    """Who owns connections and tries."""

    def opened(self, conn: Connection) -> None:
        """A connection is there."""
        ...

    def lost(self, conn: Connection) -> None:
        """A connection is gone."""
        ...

    def finish(self, exchange: Exchange, result: Result, conn: Connection | None, *, keep: bool) -> None:
        """A try has ended; with ``keep`` its connection may be used again, else it is to be closed."""
        ...

    def resend(self, exchange: Exchange) -> None:
        """A reused connection was closed before any byte of its answer."""
        ...

    def interrupt(self, exchange: Exchange) -> None:
        """A try is to stop."""
        ...


class Exchange:
    """One try: a request, and later its result."""

    __slots__ = (
        "body", "conn", "deadline_s", "done", "head", "pool", "resent", "settled", "started_at_ms", "started_s", "task"
    )  # fmt: skip

    def __init__(self, pool: Pool, head: bytes, body: bytes, done: Done) -> None:
        self.pool = pool
        self.head = head
        self.body = body
        self.done = done
        self.conn: Connection | None = None
        self.task: asyncio.Task[None] | None = None  # while a connection is being opened for it
        self.started_s = 0.0
        self.started_at_ms = 0
        self.deadline_s = 0.0
        self.resent = False
        self.settled = False

    def cancel(self) -> None:
        """Stop it now; see ``kind.Handle``."""
        self.pool.interrupt(self)


class Connection(asyncio.Protocol):
    """One connection: writes a request, reads its answer, is idle, again.

    Bodies are in memory anyway (they are bounded by ``delivery.max_buffered``), and a plain socket's transport keeps
    a reference, not a copy: so a body is written whole, without waiting for the buffer to drain. TLS makes a copy
    and takes time, so there a large one goes in pieces, as fast as the backend reads.
    """

    __slots__ = (
        "body_limit", "complete", "exchange", "given_up", "headers", "idle_since_s", "keep", "parser", "paused", "pool", "raw",
        "received", "rest", "retry_after", "reused", "sent", "status", "transport", "unread"
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.given_up = False
        self.parser: Any = httptools.HttpResponseParser(self)
        self.raw: asyncio.Transport | None = None  # the socket's
        self.transport: asyncio.Transport | None = None  # ours to write to: TLS or the same
        self.exchange: Exchange | None = None
        self.idle_since_s = 0.0
        self.paused = False
        self.rest: memoryview | None = None  # of a large body over TLS
        self.unread = select.poll()  # tells what lies in the socket and has not been read
        self._begin(reused=False)

    def _begin(self, *, reused: bool) -> None:
        self.reused = reused
        self.received = 0
        self.body_limit = 0
        self.headers = 0
        self.status = 0  # of the final answer, once its head is complete
        self.retry_after = b""
        self.complete = False  # nothing more of the answer is wanted
        self.keep = False  # the connection may be used again
        self.sent = False  # the whole request has left this process

    # --- request

    def usable(self) -> bool:
        """Whether another request may go out on it: it is open, and nothing has come that nobody asked for.

        Between two turns of the loop the kernel may have taken in the backend's close, or bytes behind an answer. With the
        next request gone out, those would count as its answer (RFC 9112, 9.2: such data is no response).
        """
        transport = self.transport
        return transport is not None and not transport.is_closing() and not self.unread.poll(0)

    def send(self, exchange: Exchange, *, reused: bool) -> None:
        """Write a request; its answer or its failure goes to the exchange."""
        transport = self.transport
        assert transport is not None
        if reused:
            self._begin(reused=True)
        self.exchange = exchange
        exchange.conn = self
        body = exchange.body
        size = len(body)
        if size <= JOIN_BYTES:
            transport.write(exchange.head + body)
        elif size <= TLS_PIECE_BYTES or transport is self.raw:
            transport.writelines((exchange.head, body))
        else:
            transport.write(exchange.head)
            self.rest = memoryview(body)
            self._write_pieces()

    def _write_pieces(self) -> None:
        while self.rest is not None and not self.paused and self.transport is not None:
            piece, rest = self.rest[:TLS_PIECE_BYTES], self.rest[TLS_PIECE_BYTES:]
            self.rest = rest or None
            self.transport.write(piece)

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self.paused = True

    def resume_writing(self) -> None:
        """The transport can take more."""
        self.paused = False
        self._write_pieces()

    def all_sent(self) -> bool:
        """Whether nothing of the request is left in this process."""
        if not self.sent:
            transport, raw = self.transport, self.raw
            self.sent = (
                self.rest is None
                and transport is not None
                and raw is not None
                and not transport.get_write_buffer_size()
                and (transport is raw or not raw.get_write_buffer_size())
            )
        return self.sent

    # --- answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket's transport."""
        self.raw = self.transport = transport  # type: ignore[assignment]
        if self.given_up:
            self.abort()
        else:
            self.unread.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
            self.pool.opened(self)

    def data_received(self, data: bytes) -> None:
        """Read a part of the answer."""
        if self.exchange is None:
            self.abort()  # nothing is owed to us: whatever it is, it must not become the next answer
            return
        self.received += len(data)
        broken = False
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            broken = True
        if self.complete:
            if broken or self.headers > ANSWER_HEADERS:
                self.keep = False
            self._finish()
        elif self.status:
            if broken or self.received > self.body_limit or self.headers > ANSWER_HEADERS:
                self.complete = True
                self._finish()
        elif self.headers > ANSWER_HEADERS:
            self._overlong_head()  # also when it breaks behind them: in pieces, that would not have been read
        elif broken:
            self._fail("garbage", "the answer is not HTTP")
        elif self.received > ANSWER_HEAD_BYTES:
            self._overlong_head()

    def _overlong_head(self) -> None:
        # A header has been read, so the status code is this answer's and not one from before.
        status = self.parser.get_status_code() if self.headers else 0
        if status >= 200:
            self.status = status
            self.complete = True
            self._finish()
        else:
            self._fail("garbage", "the head of the answer is too long")

    def on_message_begin(self) -> None:
        """Parser: something begins, which must not happen behind a complete answer."""
        if self.complete:
            self.keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser: one header, or trailer."""
        self.headers += 1
        wanted = len(name) == 11 and not self.retry_after and not self.status and self.headers <= ANSWER_HEADERS
        if wanted and name.lower() == b"retry-after":
            self.retry_after = value

    def on_headers_complete(self) -> None:
        """Parser: a head is complete, perhaps only an interim one."""
        if self.complete:
            return  # of something behind the answer
        status = self.parser.get_status_code()
        if status < 200:
            self.retry_after = b""
            return
        self.status = status
        self.body_limit = self.received + ANSWER_BODY_BYTES
        exchange = self.exchange
        if exchange is not None and exchange.head.startswith(b"HEAD "):
            self.complete = True  # has no body whatever it declares; the parser cannot know

    def on_message_complete(self) -> None:
        """Parser: an answer is complete."""
        if self.status and not self.complete:
            self.complete = True
            self.keep = self.parser.should_keep_alive()

    def _finish(self) -> None:
        """The answer is complete enough: report it, unless a 2xx came before all of the request was sent."""
        exchange = self.exchange
        assert exchange is not None
        if not (self.sent or self.all_sent()):
            self.keep = False
            if 200 <= self.status < 300:
                return  # looked at again with each tick: delivered only when everything is out
        self.exchange = None
        exchange.pool.finish(exchange, Result(self.status, "", "", self.retry_after), self, keep=self.keep)

    def _fail(self, failure: Failure, error: str) -> None:
        exchange = self.exchange
        assert exchange is not None
        self.exchange = None
        exchange.pool.finish(exchange, Result(None, failure, error), self, keep=False)

    def look_again(self) -> None:
        """An early answer waits for the rest of the request to go out: is it out?"""
        if self.complete and self.all_sent():
            self._finish()

    def time_out(self) -> None:
        """The time for this try is up."""
        if self.status and (self.all_sent() or self.status >= 300):
            self.complete = True
            self._finish()  # only the body was late
        else:
            self._fail("timeout", "no answer in time")

    def connection_lost(self, exc: Exception | None) -> None:
        """Report a try that was cut off."""
        exchange = self.exchange
        # A plain transport that ends without an error has flushed its buffer first.
        sent = self.sent or (exc is None and self.rest is None and self.transport is self.raw)
        self.exchange = None
        self.transport = self.rest = self.parser = None  # the parser and we hold each other
        self.pool.lost(self)
        if exchange is None:
            return
        pool = exchange.pool
        if self.status and (sent or self.status >= 300):
            pool.finish(exchange, Result(self.status, "", "", self.retry_after), self, keep=False)
        elif self.reused and not self.received and not exchange.resent:
            pool.resend(exchange)
        elif self.status:
            error = "connection lost while the request was still being sent, behind an early answer"
            pool.finish(exchange, Result(None, "reset", error), self, keep=False)
        else:
            error = "connection closed before the answer was complete" if exc is None else "connection reset"
            pool.finish(exchange, Result(None, "reset", error), self, keep=False)

    def give_up(self) -> None:
        """Nobody waits for this connection any more: close it, also when it only comes up now.

        uvloop may have closed its socket already, and then never calls ``connection_lost``: so it is counted out here.
        """
        self.given_up = True
        self.abort()
        self.pool.lost(self)

    def abort(self) -> None:
        """Close without a word; what was written has long left, or is not wanted any more."""
        self.rest = None
        if self.transport is not None:
            self.transport.abort()
