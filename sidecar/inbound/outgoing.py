"""What leaves a connection: answers in the order of the requests, the close behind the last one, flow control.

The outgoing half of ``connection``, which reads requests. Nothing here looks at request bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from sidecar import log
from sidecar.inbound.ack import Answer, render
from sidecar.inbound.shared import NEVER, Shared

__all__ = [
    "BODY",
    "DEAF",
    "HEADS",
    "LINGER",
    "LINGER_IDLE_S",
    "LINGER_MAX_S",
    "OVER",
    "READ_AHEAD",
    "Exchange",
    "Outgoing",
]

READ_AHEAD = 16  # requests of one connection that may wait for their answers; then it is not read any more
LINGER_IDLE_S = 1.0
LINGER_MAX_S = 5.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# What a connection is doing with its input.
HEADS: Final = 0  # waiting for, or in the middle of, a request head
BODY: Final = 1
DEAF: Final = 2  # no further request is read; answers are still owed
LINGER: Final = 3  # the last answer is out; what still comes is thrown away, so that no reset overtakes it
OVER: Final = 4

_log = log.get_logger("inbound")


class Exchange:
    """One request whose answer is owed: its place in the order, and the bytes of its body in the budget."""

    __slots__ = ("bodiless", "close", "conn", "large", "out", "size")

    def __init__(self, conn: Outgoing, bodiless: bool, close: bool, size: int, large: bool) -> None:
        self.conn = conn
        self.bodiless = bodiless
        self.close = close
        self.size = size
        self.large = large
        self.out: bytes | None = None

    def reply(self, answer: Answer) -> None:
        """Answer the request; the answer goes out when those before it have. A second call is a bug and is logged."""
        if self.out is not None:
            _log.limited("answered_twice", "error", "a request was answered twice; the second answer is dropped")
            return
        conn = self.conn
        shared = conn.shared
        if self.size:
            shared.budget.give(self.size, self.large)
        if shared.refusing or answer.close:
            self.close = True
        self.out = render(answer, shared.date, self.close, self.bodiless)
        owed = conn.owed
        if owed and owed[0] is self:  # not so when the client is gone
            conn.flush()


class Outgoing(asyncio.Protocol):
    """The outgoing half of one connection.

    Attributes:
        shared: What all connections of the listener share.
        deadline_s: Monotonic time when ``expire`` is due.
        owed: Requests whose answers have not gone out, in order.
    """

    __slots__ = (
        "_eof",
        "_held",
        "_linger_until_s",
        "_owes_continue",
        "_phase",
        "_reading",
        "_stuck",
        "_surplus",
        "_taking",
        "_transport",
        "deadline_s",
        "owed",
        "shared",
    )

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.deadline_s = NEVER
        self.owed: deque[Exchange] = deque()
        self._transport: asyncio.Transport | None = None
        self._phase: int = HEADS
        self._held = b""  # received, but not read until answers have gone out; counted in the budget
        self._linger_until_s = 0.0
        self._owes_continue = False
        self._surplus = False  # input was thrown away: close with care
        self._reading = True
        self._stuck = False  # the client does not read its answers
        self._taking = False  # inside the loop over pipelined requests, which goes on by itself
        self._eof = False  # the client has shut down its side

    # --- what the incoming half does

    def has_begun(self) -> bool:
        """Whether a request is incomplete."""
        raise NotImplementedError

    def give_up(self) -> bool:
        """Drop a request that will not be complete; False when there is none."""
        raise NotImplementedError

    def take(self, data: bytes, pos: int) -> None:
        """Read the requests that begin at ``pos``."""
        raise NotImplementedError

    def rearm(self) -> None:
        """Set the deadline of what is being read."""
        raise NotImplementedError

    def expire(self, now_s: float) -> None:
        """Act on ``deadline_s``, which has passed."""
        raise NotImplementedError

    # --- answers

    def flush(self) -> None:
        """Send the answers whose turn it is."""
        owed = self.owed
        transport = self._transport
        if transport is None:
            return
        while owed:
            out = owed[0].out
            if out is None:
                return
            if out:
                transport.write(out)
            if owed.popleft().close:
                self._finish(transport)
                return
        if self._taking:  # the loop over requests looks at all that follows
            return
        if self._held:
            self._resume()
        elif self._phase == HEADS:
            if self._eof:
                self._finish(transport)
            elif not self._stuck and not self.has_begun():
                self.deadline_s = self.shared.idle_until_s
        elif self._eof:
            self._finish(transport)
        elif self._owes_continue:
            self.go_on()

    def go_on(self) -> None:
        """Ask for the body: all that the head can decide is decided, and no answer is owed before this one's."""
        self._owes_continue = False
        if self._transport is not None:
            self._transport.write(_CONTINUE)

    def end_with(self, out: bytes) -> int:
        """Send these bytes behind the answers owed, and nothing after them; input may be unread.

        Returns:
            No position: what ``take`` and its like make of it is to stop.
        """
        self._phase = DEAF
        self._surplus = True
        self.deadline_s = NEVER
        x = Exchange(self, False, True, 0, False)
        x.out = out
        self.owed.append(x)
        if self.owed[0] is x:
            self.flush()
        return -1

    # --- the end

    def _finish(self, transport: asyncio.Transport) -> None:
        """Close behind the last answer so that the client gets it: unread input would turn the close into a reset."""
        careful = self.give_up() or self._surplus or bool(self._held)
        self.hold(b"")
        self.owed.clear()
        now_s = self.shared.now()
        self._linger_until_s = now_s + LINGER_MAX_S
        self.shared.demote(self)
        if not careful or self._eof:
            self._phase = OVER
            self.deadline_s = self._linger_until_s
            transport.close()
            return
        self._phase = LINGER
        self.deadline_s = now_s + LINGER_IDLE_S
        if transport.can_write_eof():
            transport.write_eof()
        self._read(True)

    def linger(self) -> None:
        """Note that a client we are done with still sends."""
        self.deadline_s = min(self.shared.now() + LINGER_IDLE_S, self._linger_until_s)

    def leave(self) -> bool:
        """Close if nothing is owed and nothing has begun; otherwise say False."""
        if self.owed or self._held or self._phase != HEADS or self._transport is None or self.has_begun():
            return False
        self._phase = OVER
        self.deadline_s = self.shared.now() + LINGER_MAX_S
        self._transport.close()
        return True

    def shed(self) -> None:
        """Be closed at once, to make room for another connection."""
        self.shared.forget(self)
        self.abort()

    def abort(self) -> None:
        """Be cut off."""
        self.deadline_s = NEVER
        if self._transport is not None:
            self._transport.abort()

    # --- flow control

    def pause_writing(self) -> None:
        """Answers pile up: stop reading too, and give the client ``body_timeout_s`` to read them."""
        self._stuck = True
        self.deadline_s = self.shared.now() + self.shared.options.body_timeout_s
        self._read(False)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stuck = False
        if self._phase >= LINGER:
            self.deadline_s = self._linger_until_s
        else:
            self.rearm()
        self._resume()

    def hold(self, data: bytes) -> None:
        """Keep input for later, in place of what was kept, and stop reading; without room for it the connection ends."""
        budget = self.shared.budget
        budget.give(len(self._held), False)
        self._held = b""
        if not data:
            return
        self._read(False)
        if budget.take(len(data), False):
            self._held = data
            return
        self._phase = DEAF
        self._surplus = True
        if self.owed:
            self.owed[-1].close = True
        elif self._transport is not None:
            self._finish(self._transport)

    def _resume(self) -> None:
        if self._stuck or len(self.owed) >= READ_AHEAD:
            return
        self._read(True)
        held = self._held
        if held and self._phase == HEADS:
            self.hold(b"")
            self.take(held, 0)

    def _read(self, on: bool) -> None:
        if on is self._reading or self._eof or self._transport is None:
            return
        self._reading = on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
