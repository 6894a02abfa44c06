"""One connection of the webhook listener: bytes in, requests to the application.

Stands between ``server`` (which accepts, ticks and drains) and the application; answers go out through
``outgoing``. Two readers look at every message: our own gate (``framing``, ``chunked``) decides, llhttp
(``witness``) tokenises the head and reads the body along; where they disagree, the request is refused. No
task and no timer per connection or request (TLS has both until its handshake is done): each connection has one
``deadline_s`` that the listener's tick compares with the clock.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast

from sidecar import log
from sidecar.inbound import framing
from sidecar.inbound.ack import Answer, error_answer, render
from sidecar.inbound.application import Admit, Head
from sidecar.inbound.body import SMALL_BODY, Body
from sidecar.inbound.outgoing import BODY, DEAF, HEADS, LINGER, OVER, READ_AHEAD, Exchange, Outgoing
from sidecar.inbound.shared import NEVER, Shared
from sidecar.inbound.witness import Witness
from sidecar.model import Refusal

__all__ = ["Connection"]

_NONE: frozenset[bytes] = frozenset()

_log = log.get_logger("inbound")


class Connection(Outgoing):
    """The protocol object of one accepted connection."""

    __slots__ = (
        "_body",
        "_host",
        "_peer",
        "_secure",
        "_started_s",
        "_tail",
        "_used",
        "_witness",
    )

    def __init__(self, shared: Shared, *, secure: bool = False) -> None:
        super().__init__(shared)
        self._secure = secure
        self._peer = ""
        self._witness = Witness()
        self._tail = b""  # an incomplete head
        self._body: Body | None = None  # an incomplete body
        self._host: bytes | None = None  # the last Host that was found well-formed
        self._started_s = 0.0
        self._used = False  # at least one request was complete

    # --- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or be turned away when no other connection can make room."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        self._started_s = now_s = self.shared.now()
        socket = transport.get_extra_info("socket")
        if not self.shared.admit(self, socket.fileno() if socket is not None else -1):
            self._phase = OVER
            self.abort()
            return
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) and name else "unix"
        self.deadline_s = now_s + self.shared.options.header_timeout_s

    def secured(self, transport: asyncio.Transport) -> None:
        """Go on through TLS, whose handshake is done; a head has its whole time from here."""
        self._transport = transport
        self.deadline_s = self.shared.now() + self.shared.options.header_timeout_s

    def data_received(self, data: bytes) -> None:
        """Read requests, or go on with the one that is incomplete."""
        phase = self._phase
        if phase == HEADS:
            if not self._tail:
                if not self._held:
                    self._started_s = self.shared.now()
                    self._take(data, 0)
                else:
                    self.hold(self._held + data)
            else:
                seen = max(0, len(self._tail) - 3)
                data = self._tail + data
                self._tail = b""
                if data.find(b"\r\n\r\n", seen) < 0:
                    self._partial(data)
                else:
                    self._take(data, 0)
        elif phase == BODY:
            pos = self._more(data, 0)
            if pos < len(data) and self._phase == HEADS:
                self.take(data, pos)
        elif phase == LINGER:
            self.linger()
        else:
            self._surplus = True

    def eof_received(self) -> bool:
        """The client has sent all it wants to: keep the connection for the answers it is owed."""
        self._eof = True
        if self.give_up():
            self._phase = DEAF
        if (self.owed or self._held) and not self._secure:  # TLS has no half-closed connections
            return True
        self._phase = OVER
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection; requests handed to the application run on, and free their bytes when answered."""
        self._transport = None
        self.give_up()
        self.hold(b"")
        self._phase = OVER
        self.owed.clear()
        self.shared.forget(self)
        self._witness.forget()

    def expire(self, now_s: float) -> None:
        """Act on ``deadline_s``, which has passed."""
        body = self._body
        if self._stuck or self._phase in {LINGER, OVER}:
            self.abort()
        elif body is not None:
            again_s = body.next_check_s(self.shared.options, now_s)
            if again_s is None:
                self._refuse(Refusal.TIMEOUT, body.context, body.head)
            else:
                self.deadline_s = again_s
        elif self._tail:
            self._refuse(Refusal.TIMEOUT)
        else:
            self.leave()

    # --- what the outgoing half asks for

    def has_begun(self) -> bool:
        """Whether a request is incomplete."""
        return self._body is not None or bool(self._tail)

    def give_up(self) -> bool:
        """Drop a request that will not be complete; False when there is none."""
        body = self._body
        if body is not None:
            self._drop()
            self.shared.app.aborted(body.context)
        elif self._tail:
            self._tail = b""
            self.shared.app.aborted(None)
        else:
            return False
        return True

    def rearm(self) -> None:
        """Set the deadline anew after a time in which it meant something else."""
        options = self.shared.options
        now_s = self.shared.now()
        if self._body is not None:
            self.deadline_s = self._body.next_check_s(options, now_s) or now_s
        elif self._tail:
            self.deadline_s = now_s + options.header_timeout_s
        else:
            self.deadline_s = NEVER if self.owed else now_s + options.keepalive_timeout_s

    # --- request heads

    def take(self, data: bytes, pos: int) -> None:
        """Read the requests that begin at ``pos``, as many as there are, from now on."""
        self._started_s = self.shared.now()
        self._take(data, pos)

    def _take(self, data: bytes, pos: int) -> None:
        size = len(data)
        match = framing.HEAD.match
        self._taking = True
        while True:
            if self._stuck or len(self.owed) >= READ_AHEAD:
                self.hold(data[pos:])
                break
            m = match(data, pos)
            if m is None and (m := framing.PADDED_HEAD.match(data, pos)) is None:
                self._partial(data[pos:] if pos else data)
                break
            pos = self._request(data, pos, m)
            if pos == size or self._phase != HEADS:
                break
        self._taking = False
        if not self.owed and self._phase == HEADS and not self._tail and not self._stuck:
            self.deadline_s = self.shared.idle_until_s

    def _partial(self, data: bytes) -> None:
        fault = framing.unread_head(data, first=not self._used)
        if fault is None:
            self._tail = data
            self.deadline_s = self._started_s + self.shared.options.header_timeout_s
        elif fault is Refusal.HTTP_VERSION and framing.is_simple_request(data):
            self.shared.app.refused(None, None, fault)
            self.end_with(b"")
        else:
            self._refuse(fault)

    def _request(self, data: bytes, pos: int, m: re.Match[bytes]) -> int:
        """Judge the head that was matched at ``pos`` and begin, or finish, its request.

        Returns:
            Position behind what was read; means nothing when no further head is to be read.
        """
        method, target, minor = m.groups()
        end = m.end()
        if end - pos > framing.LINE_LIMIT:
            limit = framing.oversize(data[pos:end])
            if limit is not None:
                return self._refuse(limit)
        if method == b"CONNECT":  # names no path, so no application can say what is allowed
            self.shared.app.refused(None, None, Refusal.METHOD_NOT_ALLOWED)
            answer = error_answer(Refusal.METHOD_NOT_ALLOWED, allow=b"POST")
            return self.end_with(render(answer, self.shared.date, True))
        plain = target[0] == 47  # "/"
        if not plain and framing.has_odd_target(method, target):
            return self._refuse(Refusal.BAD_REQUEST)
        witness = self._witness
        raw = data[pos:end]
        headers = witness.head(raw)
        if headers is None:
            return self._refuse(Refusal.BAD_FRAMING)
        if m.re is framing.PADDED_HEAD:
            headers = [(name, value.rstrip(b" \t")) for name, value in headers]  # llhttp leaves it there
        lower = {name.lower(): value for name, value in headers}
        repeated = _NONE
        if len(lower) != len(headers):
            if len(headers) > framing.HEADERS_LIMIT:
                return self._refuse(Refusal.HEADERS_TOO_LARGE)
            lower, repeated = framing.first_values(headers)
        elif len(lower) > framing.HEADERS_LIMIT:
            return self._refuse(Refusal.HEADERS_TOO_LARGE)
        length = framing.body_length(lower, repeated, minor)
        if isinstance(length, Refusal):
            return self._refuse(length)
        if not witness.expects_body(length):
            return self._refuse(Refusal.BAD_FRAMING)
        host = lower.get(b"host")
        if host != self._host or repeated or host is None:
            if not framing.has_host(lower, repeated, minor):
                return self._refuse(Refusal.BAD_HOST)
            self._host = host
        path, _, query = target.partition(b"?")
        if not plain:
            split = framing.split_target(target, host, self.shared.options.authorities)
            if isinstance(split, Refusal):
                return self._refuse(split)
            path, query = split
        declared = None if length < 0 else length
        head = Head(
            method,
            target,
            path,
            query,
            headers,
            lower,
            repeated,
            declared,
            self._peer,
            self._secure,
            self._started_s,
            raw.isascii(),
        )
        keep = minor == b"1" and framing.keeps_alive(lower, repeated)
        try:
            verdict = self.shared.app.head(head)
        except Exception as e:  # noqa: BLE001 - the top of a request
            verdict = self._bug(e, head)
        if isinstance(verdict, Admit):
            expect = lower.get(b"expect") if minor == b"1" else None  # RFC 9110, 10.1.1: HTTP/1.0 cannot mean it
            return self._admitted(head, verdict, data, end, length, keep, expect)
        return self._early(head, verdict, end, keep)

    def _admitted(
        self, head: Head, admit: Admit, data: bytes, end: int, length: int, keep: bool, expect: bytes | None
    ) -> int:
        """Take the body if all of it is here, or begin to wait for it."""
        if length > admit.max_body:
            return self._refuse(Refusal.BODY_TOO_LARGE, admit.context, head)
        if expect is not None and (expect.lower() != b"100-continue" or b"expect" in head.repeated):
            return self._refuse(Refusal.EXPECTATION_FAILED, admit.context, head)
        stop = end + length
        if length < 0 or stop > len(data):
            return self._begin_body(head, admit, data, end, keep, expect is not None)
        shared = self.shared
        witness = self._witness
        body = data[end:stop]
        shared.received[()] += length
        if (length and not witness.body(body)) or not witness.ends() or (not keep and stop < len(data)):
            # The last: bytes follow what was said to be the last request.
            return self._refuse(Refusal.BAD_FRAMING, admit.context, head)
        large = length > SMALL_BODY
        if not shared.budget.take(length, large):
            full = shared.budget.claim(length, self._started_s, large)
            if full is not None:
                return self._refuse(full, admit.context, head)
        self._complete(head, admit.context, body, keep, large)
        return stop

    def _early(self, head: Head, answer: Answer, end: int, keep: bool) -> int:
        """Answer from the head alone; whoever announced a body is not waited for."""
        bodiless = head.method == b"HEAD"
        if head.length != 0:
            return self.end_with(render(answer, self.shared.date, True, bodiless))
        self._witness.ends()
        x = Exchange(self, bodiless, not keep, 0, False)
        self._owe(x)
        x.reply(answer)
        return end

    def _complete(self, head: Head, context: object, body: bytes, keep: bool, large: bool) -> None:
        """Hand a complete request to the application."""
        x = Exchange(self, head.method == b"HEAD", not keep, len(body), large)
        self._owe(x)
        try:
            self.shared.app.complete(head, context, body, x.reply)
        except Exception as e:  # noqa: BLE001 - the top of a request
            answer = self._bug(e, head)
            if x.out is None:
                x.reply(answer)

    def _owe(self, x: Exchange) -> None:
        self._used = True
        self.shared.touch(self)
        self.deadline_s = NEVER
        if x.close:
            self._phase = DEAF
        self.owed.append(x)

    def _bug(self, error: Exception, head: Head) -> Answer:
        _log.limited("internal_error", "error", "a request met a bug", error=type(error).__name__)
        self.shared.app.refused(None, head, Refusal.INTERNAL_ERROR)
        return error_answer(Refusal.INTERNAL_ERROR)

    def _refuse(self, code: Refusal, context: object | None = None, head: Head | None = None) -> int:
        """Answer in the application's place and end the connection behind it."""
        self._drop()
        self._tail = b""
        self.shared.app.refused(context, head, code)
        bodiless = head is not None and head.method == b"HEAD"
        return self.end_with(render(error_answer(code), self.shared.date, True, bodiless))

    # --- bodies

    def _begin_body(self, head: Head, admit: Admit, data: bytes, end: int, keep: bool, expects: bool) -> int:
        now_s = self.shared.now()
        body = Body(head, admit.context, admit.max_body, now_s, keep=keep, starve=self._starve)
        self._body = body
        self._phase = BODY
        self.deadline_s = body.next_check_s(self.shared.options, now_s) or now_s
        if end < len(data):
            return self._more(data, end)
        if expects:
            self._owes_continue = True
            if not self.owed:
                self.go_on()
        return end

    def _more(self, data: bytes, pos: int) -> int:
        """Take further bytes of the body.

        Returns:
            Position behind the body, or behind data; means nothing after a refusal.
        """
        body = self._body
        assert body is not None
        self._owes_continue = False
        parts: list[bytes] = []
        fault: Refusal | None = None
        if body.length is None:
            stop = body.chunks.take(data, pos, parts)
            fault = body.chunks.fault
            done = body.chunks.done
        else:
            due = body.length - body.received
            stop = min(len(data), pos + due)
            parts.append(data[pos:stop])
            done = stop - pos == due
        size = sum(map(len, parts))
        self.shared.received[()] += size
        if fault is None and not self._witness.body(data[pos:stop]):
            fault = Refusal.BAD_FRAMING
        if fault is None and size:
            fault = self.shared.budget.grow(body, size, self.shared.now())
            if fault is None:
                for part in parts:
                    body.add(part)
        if fault is None and done and (not self._witness.ends() or (not body.keep and stop < len(data))):
            fault = Refusal.BAD_FRAMING
        if fault is not None:
            return self._refuse(fault, body.context, body.head)
        if done:
            self._body = None
            self._phase = HEADS
            self.shared.budget.settle(body)
            self._complete(body.head, body.context, body.whole(), body.keep, body.large)
        return stop

    def _drop(self) -> None:
        if self._body is not None:
            self.shared.budget.drop(self._body)
            self._body = None

    def _starve(self) -> None:
        """Make room for faster senders."""
        if self._body is not None:
            self._refuse(Refusal.TIMEOUT, self._body.context, self._body.head)
