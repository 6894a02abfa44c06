"""Both ends of HTTP, without a socket: the listener's connection, and the one that reads a backend's answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sidecar.outbound.deliver.http import ANSWER_BODY_BYTES, ANSWER_HEAD_BYTES
from sidecar.outbound.retry import RetryPolicy, judge
from tests.proof.corpus import short
from tests.proof.guided.target import Target
from tests.proof.shards.http_fuzz import PIECES, judged
from tests.support.answers import answered

__all__ = ["answer", "request"]

CUTS = 2  # leading bytes of an input that say where the rest is cut
HEADS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\nConnection: close\r\n\r\nlater",
    b"HTTP/1.0 500 Oops\r\n\r\nno length",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)


def cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """The bytes behind the cuts, whole and in pieces."""
    rest = data[CUTS:]
    at = sorted({n * len(rest) // 256 for n in data[:CUTS]} - {0, len(rest)})
    return rest, [rest[a:b] for a, b in zip([0, *at], [*at, len(rest)], strict=True)]


def request(_folder: Path) -> Target:
    """Bytes of a stranger, in pieces, to the listener's connection."""
    loop = asyncio.new_event_loop()

    async def one(data: bytes) -> str:
        return judged(*cut(data))[0]

    seeds = [b"\x40\xa0" + raw for raw in short()]
    return Target(seeds, lambda data: loop.run_until_complete(one(data)), PIECES)


def _judge_answer(data: bytes) -> str:
    whole_bytes, pieces = cut(data)
    whole, parts = answered([whole_bytes]), answered(pieces)
    for seen in (whole, parts):
        if not 1 <= len(seen.ended) <= 2:
            return f"a try ended {len(seen.ended)} times"
        for result in seen.ended:
            if (result.status is None) is not bool(result.failure):
                return f"neither an answer nor a failure, or both: {result}"
            if result.status is not None and not 200 <= result.status <= 999:
                return f"an answer that is none: {result}"
            judge(RetryPolicy(), result)
        if seen.keeps[0] and seen.ended[0].failure:
            return "a connection that failed is kept"
    if len(whole_bytes) < min(ANSWER_HEAD_BYTES, ANSWER_BODY_BYTES):
        first, again = whole.ended[0], parts.ended[0]
        if (first.status, first.failure, first.retry_after) != (again.status, again.failure, again.retry_after):
            return f"{first} in one piece, {again} in several"
    return ""


def answer(_folder: Path) -> Target:
    """Bytes of a backend, in pieces, to the connection that waits for its answer."""
    return Target(
        [b"\x40\xa0" + head for head in HEADS], _judge_answer, (*PIECES, b"Retry-After: ", b"HTTP/1.1 200 OK\r\n")
    )
