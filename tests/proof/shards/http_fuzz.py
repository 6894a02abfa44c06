"""Mutated requests, thousands a second: no exception, no 5xx but those meant, one verdict however the bytes are cut."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

from sidecar.inbound import connection as connection_module
from tests.proof.corpus import short
from tests.proof.shard import Job, Shard
from tests.proof.spoil import spoil
from tests.proof.wire import Talk, talk

CHUNK = 500
MEANT_5XX = {501, 505}
PIECES = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"\x00",
    b"\xff",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 2\r\n",
    b"Content-Length: 0\r\n",
    b"Host: t\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"0\r\n\r\n",
    b"2\r\n{}\r\n",
    b"POST /hook HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"ffffffffffffffff",
    b"HTTP/1.1",
)


def cut(data: bytes, job: Job) -> list[bytes]:
    """The same bytes in a few pieces."""
    at = sorted({job.rand.randrange(len(data) + 1) for _ in range(3)} - {0, len(data)})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


def differs(whole: Talk, parts: Talk) -> bool:
    """Whether two cuts of the same bytes came to another verdict.

    What comes behind a final request is the exception: it is refused where it is seen before the answer is out, and
    ignored where the connection had ended; nothing of it is accepted either way. And ``100 Continue`` is left out where the
    body has come already (RFC 9110, 10.1.1).
    """
    if _final(whole) == _final(parts):
        return False
    if parts.bodies != whole.bodies[: len(parts.bodies)] and whole.bodies != parts.bodies[: len(whole.bodies)]:
        return True
    return not (whole.closed and parts.closed)


def _final(said: Talk) -> Talk:
    return replace(said, statuses=tuple(s for s in said.statuses if s != 100))


def judged(data: bytes, pieces: list[bytes]) -> tuple[str, Talk]:
    """What is wrong about the answers to these bytes, in one piece and in several; "" is what we want.

    Must be called inside a running loop.
    """
    whole, parts = talk([data]), talk(pieces)
    strange = [s for s in whole.statuses if s >= 500 and s not in MEANT_5XX]
    if strange:
        return f"answered {strange}", whole
    if differs(whole, parts):
        return f"{whole} in one piece, {parts} in several", whole
    if whole.left or parts.left:
        return f"{whole.left or parts.left} bytes are held for a connection that is gone", whole
    return "", whole


async def some(job: Job, seeds: list[bytes]) -> None:
    """A few hundred inputs."""
    for _ in range(CHUNK):
        data = spoil(job.rand, seeds, PIECES)
        try:
            wrong, whole = judged(data, cut(data, job))
            job.note("accepted requests", len(whole.bodies))
        except Exception as e:  # noqa: BLE001 - whatever it raises is what we look for
            wrong = f"{type(e).__name__} {e}"
        job.count += 1
        if wrong:
            job.found.append(f"seed {job.seed}: {data!r}: {wrong}")
        if not job.goes_on:
            return


def run(job: Job) -> None:
    """Go on mutating the corpus."""
    seeds = short()
    while job.goes_on:
        job.isolated(partial(_loop, job, seeds))


def _loop(job: Job, seeds: list[bytes]) -> None:
    for _ in range(20):
        if job.goes_on:
            asyncio.run(some(job, seeds))


@contextmanager
def _spoiled(bug: str) -> Any:
    honest = connection_module.Connection.data_received
    if bug == "forgets":

        def forgets(self: Any, data: bytes) -> None:
            honest(self, data[:-1] if data.endswith(b"\r") else data)

        spoiled: Any = forgets
    else:

        def raises(self: Any, data: bytes) -> None:
            if b"\x00" in data:
                raise ValueError("embedded null byte")
            honest(self, data)

        spoiled = raises
    with mock.patch.object(connection_module.Connection, "data_received", spoiled):
        yield


def control(job: Job) -> list[str]:
    """A listener that loses a byte when pieces end in an odd place, and one that raises on a NUL."""
    for bug in ("forgets", "raises"):
        attempt = job.sub(bug, 60)
        with _spoiled(bug):
            attempt.isolated(partial(_loop, attempt, short()))
        assert attempt.found, f"{bug}: {attempt.count} inputs, and nothing was wrong"
    return ["a byte lost where a piece ends", "an exception on a NUL"]


SHARD = Shard("http_fuzz", ("P3", "P11", "P21"), "raw HTTP inputs", run, control, weight=2.0)
