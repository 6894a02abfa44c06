"""[P] What backends may answer: honest answers, hostile ones, and what a try must be taken for."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["CASES", "HONEST", "PIECES", "Case", "expected", "may_be_2xx"]


class Case(NamedTuple):
    """One answer.

    Attributes:
        raw: What the backend writes.
        end: What it does then: ``stay``, ``close``, ``reset``, or ``on`` = goes on with ``x`` for ever.
        taken_for: A status, or the failure.
    """

    raw: bytes
    end: str
    taken_for: int | str


def _answer(status: int, *headers: bytes, body: bytes = b"") -> bytes:
    lines = b"".join(h + b"\r\n" for h in headers)
    return b"HTTP/1.1 %d Reason\r\n%b\r\n%b" % (status, lines, body)


NOTHING = b"Content-Length: 0"
CHUNKED = b"Transfer-Encoding: chunked"
ESCAPES = b"\x1b]0;owned\x07\x1b[2J\xc2\x9b31m"

# Complete answers with one final head; any prefix of them is cut off and judged by where the head ends.
HONEST = {
    "200": _answer(200, NOTHING),
    "200 with a body": _answer(200, b"Content-Length: 5", body=b"hello"),
    "204": _answer(204),
    "304": _answer(304),
    "chunked": _answer(202, CHUNKED, body=b"3\r\nabc\r\n0\r\nX: y\r\n\r\n"),
    "behind interim answers": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
    + _answer(200, NOTHING),
    "422": _answer(422, b"Content-Length: 2", body=b"no"),
    "503": _answer(503, b"Retry-After: 7", NOTHING),
    "until the end": _answer(200, b"Connection: close", body=b"whatever"),
}

CASES = {
    "nothing at all": Case(b"", "close", "reset"),
    "a reset": Case(b"", "reset", "reset"),
    "silence": Case(b"", "stay", "timeout"),
    "half a status line": Case(b"HTTP/1.1 20", "close", "reset"),
    "half a status line and silence": Case(b"HTTP/1.1 20", "stay", "timeout"),
    "garbage": Case(b"\x00\xff\xfe garbage \r\n\r\n", "stay", "garbage"),
    "garbage for ever": Case(b"\x00", "on", "garbage"),
    "another protocol": Case(b"220 mail.example ESMTP\r\n", "stay", "garbage"),
    "HTTP/2": Case(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "stay", "garbage"),
    "an alert of TLS": Case(b"\x15\x03\x03\x00\x02\x02\x28", "close", "garbage"),
    "a status that is none": Case(b"HTTP/1.1 0x2 OK\r\n\r\n", "stay", "garbage"),
    "a status of four digits": Case(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", "stay", "garbage"),
    "a status below 100": Case(b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", "close", "reset"),
    "HTTP/9.9": Case(b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n", "stay", "garbage"),
    "a reason with escapes": Case(b"HTTP/1.1 200 " + ESCAPES + b"\r\nContent-Length: 0\r\n\r\n", "stay", 200),
    "headers without end": Case(b"HTTP/1.1 503 No\r\nX: ", "on", "garbage"),
    "a header of 1 MiB": Case(b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n", "stay", "garbage"),
    "a 101": Case(_answer(101, b"Connection: upgrade", b"Upgrade: websocket", body=b"\x81\x00"), "stay", "garbage"),
    "interim answers without end": Case(b"HTTP/1.1 103 Early\r\n\r\n" * 5000, "stay", "garbage"),
    "two lengths": Case(_answer(200, b"Content-Length: 2", b"Content-Length: 3", body=b"ok"), "stay", "garbage"),
    "a length below zero": Case(_answer(200, b"Content-Length: -1"), "stay", "garbage"),
    "a length beyond 64 bit": Case(_answer(200, b"Content-Length: 99999999999999999999"), "stay", "garbage"),
    "length and chunked": Case(_answer(200, b"Content-Length: 2", CHUNKED, body=b"ok"), "stay", "garbage"),
    "a body that lacks bytes": Case(_answer(200, b"Content-Length: 50", body=b"short"), "close", 200),
    "a body with more bytes": Case(_answer(200, b"Content-Length: 2", body=b"longer than that"), "stay", 200),
    "a body of 1 TiB": Case(_answer(200, b"Content-Length: 1099511627776"), "on", 200),
    "a chunk of 1 TiB": Case(_answer(500, CHUNKED, body=b"10000000000\r\n"), "on", 500),
    "a chunk that is none": Case(_answer(200, CHUNKED, body=b"zz\r\n"), "stay", 200),
    "a chunk extension without end": Case(_answer(200, CHUNKED, body=b"1;"), "on", 200),
    "trailers without end": Case(_answer(200, CHUNKED, body=b"0\r\nX: "), "on", 200),
    "a body without end": Case(_answer(200), "on", 200),
    "a 204 with a body": Case(_answer(204, b"Content-Length: 9", body=b"not empty"), "stay", 204),
    "a 304 with a body": Case(_answer(304, b"Content-Length: 9", body=b"not empty"), "stay", 304),
    "two answers": Case(_answer(200, NOTHING) * 2, "stay", 200),
    "a refusal behind a success": Case(_answer(200, NOTHING) + _answer(500, NOTHING), "stay", 200),
    "a success behind a refusal": Case(_answer(422, NOTHING) + _answer(200, NOTHING), "stay", 422),
    "a success inside the body of a refusal": Case(
        _answer(422, b"Content-Length: 38", body=_answer(200, NOTHING)[:38]), "stay", 422
    ),
    "a status of 600": Case(_answer(600, NOTHING), "stay", 600),
    "cookies and a place to go": Case(
        _answer(302, b"Set-Cookie: a=b; Domain=.", b"Location: http://169.254.169.254/latest", NOTHING), "stay", 302
    ),
    "a wait of ages": Case(_answer(503, b"Retry-After: " + b"9" * 300, NOTHING), "stay", 503),
    "a wait below zero": Case(_answer(429, b"Retry-After: -99999999999999999999", NOTHING), "stay", 429),
    "a wait until the year 0": Case(_answer(503, b"Retry-After: Sat, 00 Jan 0000 99:99:99 GMT", NOTHING), "stay", 503),
    "a wait of escapes": Case(_answer(503, b"Retry-After: \xff\xfe\xd9\xa3", NOTHING), "stay", 503),
}

PIECES = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b":", b"0", b"\x00", b"\xff", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 ", b"chunked",
    b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b"Content-Length: 9\r\n", b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"0\r\n\r\n", b"ffffffffffffffff", b"Retry-After: 1\r\n",
)  # fmt: skip

_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_SUCCESS = re.compile(rb"HTTP/\d\.\d 2\d\d", re.IGNORECASE)


def expected(raw: bytes, end: str) -> int | str:
    """What the beginning of an honest answer must be taken for: its status where the final head is complete.

    Args:
        raw: An honest answer, or the beginning of one.
        end: ``stay``, ``close`` or ``reset``.
    """
    at = 0
    while (head := raw.find(b"\r\n\r\n", at)) >= 0:
        line = _LINE.match(raw, at)
        assert line is not None, "an honest answer"
        if line[1][:1] != b"1":
            return int(line[1])
        at = head + 4
    return "timeout" if end == "stay" else "reset"


def may_be_2xx(raw: bytes) -> bool:
    """Whether bytes contain anything that could be the status line of a success."""
    return _SUCCESS.search(raw) is not None
