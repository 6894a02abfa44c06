"""[P] The gate for chunked bodies: where the body ends and which bytes are payload.

``connection`` lets llhttp read the same bytes along and refuses the request when both do not end at the
same byte. Extensions and trailers are measured and dropped.
"""

from __future__ import annotations

import re

from sidecar.model import Refusal

__all__ = ["CHUNKS_LIMIT", "OVERHEAD_LIMIT", "ChunkReader"]

CHUNKS_LIMIT = 10_000
OVERHEAD_LIMIT = 4 * 1024  # bytes of all extensions and trailers of one message

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb"\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+\""
# Below 2**60, so that no reader overflows. RFC 9112, 7.1 and 7.1.1, without the "bad" whitespace it only tolerates.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15}+)((?:;%b(?:=(?:%b|%b))?+)*+)\r\n" % (_TOKEN, _TOKEN, _QUOTED))
_TRAILER = re.compile(rb"%b:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n" % _TOKEN)

_AT_SIZE, _IN_DATA, _IN_TRAILERS = range(3)


class ChunkReader:
    """Reads one chunked body as it arrives.

    Attributes:
        limit: Payload bytes allowed; what announces more is refused at once.
        size: Payload bytes announced so far.
        done: Whether the body is complete.
        fault: Why the body is refused; None = nothing wrong so far.
    """

    __slots__ = ("_chunks", "_left", "_line", "_overhead", "_state", "done", "fault", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.done = False
        self.fault: Refusal | None = None
        self._state = _AT_SIZE
        self._left = 0  # of the current chunk: payload and its CRLF
        self._line = b""  # an incomplete size or trailer line
        self._chunks = 0
        self._overhead = 0

    def take(self, data: bytes, pos: int, parts: list[bytes]) -> int:
        """Read on.

        Args:
            data: Received bytes.
            pos: Where the unread ones begin.
            parts: Payload is appended here, in order.

        Returns:
            Position behind the last byte that belongs to this body; ``len(data)`` unless ``done``. Means nothing
            once ``fault`` is set.
        """
        end = len(data)
        while pos < end and not self.done and self.fault is None:
            pos = self._payload(data, pos, parts) if self._state == _IN_DATA else self._next_line(data, pos)
        return pos

    def _payload(self, data: bytes, pos: int, parts: list[bytes]) -> int:
        payload = self._left - 2
        if payload > 0:
            part = data[pos : pos + payload]
            parts.append(part)
            self._left -= len(part)
            return pos + len(part)
        # The CRLF behind the payload, maybe in two pieces.
        due = b"\r\n"[2 - self._left :]
        got = data[pos : pos + self._left]
        if not due.startswith(got):
            self.fault = Refusal.BAD_FRAMING
            return pos
        self._left -= len(got)
        if self._left == 0:
            self._state = _AT_SIZE
        return pos + len(got)

    def _next_line(self, data: bytes, pos: int) -> int:
        stop = data.find(b"\n", pos) + 1
        piece = data[pos : stop or len(data)]
        line = self._line + piece if self._line else piece
        if len(line) > OVERHEAD_LIMIT + 32:
            self.fault = Refusal.HEADERS_TOO_LARGE
        elif not stop:
            self._line = line
        else:
            self._line = b""
            self.fault = self._size_line(line) if self._state == _AT_SIZE else self._trailer_line(line)
        return pos + len(piece)

    def _size_line(self, line: bytes) -> Refusal | None:
        m = _SIZE.fullmatch(line)
        if m is None:
            return Refusal.BAD_FRAMING
        size = int(m[1], 16)
        self._overhead += len(m[2])
        if self._overhead > OVERHEAD_LIMIT:
            return Refusal.HEADERS_TOO_LARGE
        if size == 0:
            self._state = _IN_TRAILERS
            return None
        self.size += size
        self._chunks += 1
        if self.size > self.limit:
            return Refusal.BODY_TOO_LARGE
        if self._chunks > CHUNKS_LIMIT:
            return Refusal.TOO_MANY_CHUNKS
        self._left = size + 2
        self._state = _IN_DATA
        return None

    def _trailer_line(self, line: bytes) -> Refusal | None:
        if line == b"\r\n":
            self.done = True
            return None
        self._overhead += len(line)
        if self._overhead > OVERHEAD_LIMIT:
            return Refusal.HEADERS_TOO_LARGE
        return None if _TRAILER.fullmatch(line) else Refusal.BAD_FRAMING
