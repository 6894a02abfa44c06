"""The HTTP destination against honest and hostile backends: what is sent, and what each answer is taken for."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import socket
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.clock import Clock
from sidecar.model import Delivery, Event, OutcomeKind, format_event_id
from sidecar.outbound.deliver import HttpDestination, HttpOptions, Result
from sidecar.outbound.deliver.dial import Dialer, DialFailed, tls_context
from sidecar.outbound.deliver.http import Connection
from sidecar.outbound.deliver.url import parse_url
from sidecar.outbound.retry import RetryPolicy, judge
from tests.support.backends import (
    OK,
    Backend,
    Certificates,
    Request,
    answers,
    black_hole,
    free_port,
    make_certificates,
    reset,
    running,
    silence,
)

DELIVERED, RETRYABLE, PERMANENT, UNREACHABLE = (
    OutcomeKind.DELIVERED,
    OutcomeKind.RETRYABLE,
    OutcomeKind.PERMANENT,
    OutcomeKind.UNREACHABLE,
)


class ShiftedClock(Clock):
    """The machine's clock, put forward by hand."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


def delivery(body: bytes = b'{"n":1}', **changes: Any) -> Delivery:
    event = Event(
        source="orders",
        destinations=("app",),
        received_at_ms=1_700_000_000_123,
        method=b"POST",
        path=b"/webhooks/orders",
        query=b"",
        headers=[(b"Host", b"hooks.example.com"), (b"Content-Type", b"application/json"), (b"X-Signature", b"abc")],
        body=body,
        forwarded_for=b"192.0.2.7",
        forwarded_proto=b"https",
        forwarded_host=b"hooks.example.com",
        seq=1,
        id=format_event_id(1_700_000_000_123, 7, 1),
    )
    for name, value in changes.items():
        setattr(event, name, value)
    return Delivery(event, "app")


async def tried(destination: HttpDestination, owed: Delivery | None = None, resigned: Any = ()) -> Result:
    """Make one try and wait for its result."""
    over: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    destination.attempt(owed or delivery(), resigned, over.set_result)
    return await asyncio.wait_for(over, 8)


def kind(result: Result) -> OutcomeKind:
    return judge(RetryPolicy(), result).kind


@contextlib.asynccontextmanager
async def to(
    url: str, clock: Clock | None = None, resolve: Any = None, **options: Any
) -> AsyncIterator[HttpDestination]:
    more = {} if resolve is None else {"resolve": resolve}
    made = HttpDestination("app", HttpOptions(url=url, **{"timeout_s": 5.0, **options}), clock or Clock(), **more)
    troubles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))
    try:
        yield made
    finally:
        await made.close()
    assert not made.connections
    assert troubles == []  # no exception in a callback that nobody waits for


# --- what is sent ----------------------------------------------------------------------------------


async def test_the_backend_receives_exactly_these_bytes() -> None:
    """Request line, Host, length, the sender's headers in order, then ours; then the body as it was."""
    body = b"\x00\xff exact \r\n"
    owed = delivery(body)
    async with running() as backend, to(backend.url + "{path}", headers=((b"X-Internal", b"s3"),)) as app:
        assert kind(await tried(app, owed)) is DELIVERED
    event_id = owed.event.id.encode()
    assert backend.requests[0].body == body
    assert backend.requests[0].head == (
        b"POST /webhooks/orders HTTP/1.1\r\n"
        b"Host: 127.0.0.1:%d\r\n"
        b"Content-Length: 11\r\n"
        b"Content-Type: application/json\r\n"
        b"X-Signature: abc\r\n"
        b"X-Forwarded-For: 192.0.2.7\r\n"
        b"X-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: hooks.example.com\r\n"
        b"Webhook-Sidecar-Event-Id: %b\r\n"
        b"Webhook-Sidecar-Source: orders\r\n"
        b"Webhook-Sidecar-Received-At: 2023-11-14T22:13:20.123Z\r\n"
        b"Idempotency-Key: %b-app\r\n"
        b"Webhook-Sidecar-Attempt: 1\r\n"
        b"X-Internal: s3\r\n"
        b"\r\n"
    ) % (backend.port, event_id, event_id)


@pytest.mark.parametrize("size", [0, 1, 16 << 10, (16 << 10) + 1, 8 << 20])
async def test_bodies_of_every_size_arrive_whole(size: int) -> None:
    """Joined, vectored or buffered: the bytes are the same."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with running() as backend, to(backend.url) as app:
        assert kind(await tried(app, delivery(body))) is DELIVERED
        assert kind(await tried(app, delivery(b"next"))) is DELIVERED
    assert [request.body for request in backend.requests] == [body, b"next"]
    assert backend.opened == 1


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    """A Unix socket is reached by its path and gets the path behind it."""
    path = tmp_path / "app.sock"
    async with running(unix=path) as backend, to(f"unix:{path}:/in{{path}}") as app:
        assert kind(await tried(app)) is DELIVERED
        assert kind(await tried(app)) is DELIVERED
    assert backend.requests[0].line == b"POST /in/webhooks/orders HTTP/1.1"
    assert backend.requests[0].values(b"Host") == [b"localhost"]
    assert backend.opened == 1


async def test_a_unix_socket_whose_queue_is_full_is_waited_for(tmp_path: Path) -> None:
    """As TCP does by itself: a burst is no sign that the backend is gone."""
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as other:
        listening.bind(str(path))
        listening.listen(0)
        other.connect(str(path))  # the only place
        async with to(f"unix:{path}:/", timeout_s=0.3) as app:
            result = await tried(app)
            assert (result.failure, result.error) == ("connect", "no connection within 0.3 s")
        async with to(f"unix:{path}:/") as app:
            trying = asyncio.create_task(tried(app))
            await asyncio.sleep(0.05)
            listening.setblocking(False)
            listening.accept()[0].close()
            server = await asyncio.start_unix_server(Backend().serve, sock=listening)
            assert kind(await trying) is DELIVERED
            server.close()


# --- answers ---------------------------------------------------------------------------------------


def status(code: int, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Whatever\r\n%bContent-Length: 0\r\n\r\n" % (code, more)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"
REUSED, DROPPED = True, False

ANSWERS = {
    "200": (OK, DELIVERED, REUSED),
    "201 without a reason": (b"HTTP/1.1 201\r\nContent-Length: 0\r\n\r\n", DELIVERED, REUSED),
    "204 has no body": (b"HTTP/1.1 204 No Content\r\n\r\n", DELIVERED, REUSED),
    "299": (status(299), DELIVERED, REUSED),
    "chunked with trailer": (CHUNKED, DELIVERED, REUSED),
    "cookies, Alt-Svc, HSTS": (
        status(200, b"Set-Cookie: a=b\r\nAlt-Svc: h3\r\nStrict-Transport-Security: max-age=1\r\n"),
        DELIVERED,
        REUSED,
    ),
    "1xx before": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
        DELIVERED,
        REUSED,
    ),
    "128 headers": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 127 + b"Content-Length: 0\r\n\r\n", DELIVERED, REUSED),
    "Connection: close": (status(200, b"Connection: close\r\n"), DELIVERED, DROPPED),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", DELIVERED, DROPPED),
    "HTTP/1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        DELIVERED,
        REUSED,
    ),
    "bytes behind the answer": (OK + b"HTTP/1.1 200 OK\r\n", DELIVERED, DROPPED),
    "a second answer": (OK + OK, DELIVERED, DROPPED),
    "junk behind a closing answer": (status(200, b"Connection: close\r\n") + b"junk", DELIVERED, DROPPED),
    "129 headers": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 128 + b"Content-Length: 0\r\n\r\n", DELIVERED, DROPPED),
    "130 headers and no end": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 131, DELIVERED, DROPPED),
    "10,000 headers": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", DELIVERED, DROPPED),
    "10,000 headers, 500": (b"HTTP/1.1 500 No\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", RETRYABLE, DROPPED),
    "headers without end": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 30_000, DELIVERED, DROPPED),
    "headers without end, 500": (b"HTTP/1.1 500 No\r\n" + b"a: b\r\n" * 30_000, RETRYABLE, DROPPED),
    "trailers without end": (CHUNKED[:-2] + b"a: b\r\n" * 30_000, DELIVERED, DROPPED),
    "broken chunk behind a 2xx": (CHUNKED.replace(b"3\r\nabc", b"zz\r\nabc"), DELIVERED, DROPPED),
    "300": (status(300), PERMANENT, REUSED),
    "304 has no body": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", PERMANENT, REUSED),
    "400": (status(400), PERMANENT, REUSED),
    "401": (status(401), PERMANENT, REUSED),
    "404": (status(404), PERMANENT, REUSED),
    "408": (status(408), RETRYABLE, REUSED),
    "409": (status(409), RETRYABLE, REUSED),
    "410": (status(410), PERMANENT, REUSED),
    "425": (status(425), RETRYABLE, REUSED),
    "429": (status(429), RETRYABLE, REUSED),
    "500": (status(500), RETRYABLE, REUSED),
    "503": (status(503), RETRYABLE, REUSED),
    "599": (status(599), RETRYABLE, REUSED),
    "999": (status(999), RETRYABLE, REUSED),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_judged_and_its_connection_kept_or_not(name: str) -> None:
    """Each answer means this for the delivery, and this for the connection."""
    answer, expected, kept = ANSWERS[name]
    async with running(answers(answer, OK)) as backend, to(backend.url) as app:
        result = await tried(app)
        assert kind(result) is expected
        assert result.duration_ms < 2000  # decided by what came, not by the deadline
        assert kind(await tried(app)) is DELIVERED
        assert app.resent == 0
    assert backend.opened == (1 if kept else 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nwhatever",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nBad Name\x00: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"x" * (70 << 10),
        b"HTTP/1.1 " + b"2" * (70 << 10),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
    ],
    ids=[
        "text",
        "ssh",
        "no status",
        "101",
        "two lengths",
        "length and chunked",
        "bad name",
        "long header",
        "long",
        "1xx only",
    ],
)
async def test_what_is_not_http_is_an_ambiguous_failed_attempt(answer: bytes) -> None:
    """No usable status line: the backend may have taken the event, so it counts as a failed attempt."""
    async with running(answers(answer, OK)) as backend, to(backend.url) as app:
        result = await tried(app)
        assert (result.failure, result.status) == ("garbage", None)
        assert kind(result) is RETRYABLE
        assert kind(await tried(app)) is DELIVERED
    assert backend.opened == 2


async def test_redirects_are_never_followed() -> None:
    """A 307 to somebody else is an answer like any other: nobody else is asked."""
    async with running() as other:
        moved = b"HTTP/1.1 307 Moved\r\nLocation: %b/x\r\nContent-Length: 0\r\n\r\n" % other.url.encode()
        async with running(answers(moved)) as backend, to(backend.url) as app:
            assert kind(await tried(app)) is PERMANENT
        assert (len(backend.requests), other.opened) == (1, 0)


async def test_cookies_are_not_kept() -> None:
    """What one answer sets, the next request does not carry."""
    async with running(answers(status(200, b"Set-Cookie: a=b\r\n"))) as backend, to(backend.url) as app:
        await tried(app)
        await tried(app)
    assert backend.requests[1].values(b"Cookie") == []
    assert backend.requests[1].head == backend.requests[0].head


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """http_proxy is for others."""
    async with running() as proxy, running() as backend:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with to(backend.url) as app:
            assert kind(await tried(app)) is DELIVERED
        assert (backend.opened, proxy.opened) == (1, 0)


async def test_retry_after_comes_with_the_result() -> None:
    """The first Retry-After of the final answer, in any case; not that of an interim one, nor a trailer."""
    interim = b"HTTP/1.1 103 Early\r\nRetry-After: 1\r\n\r\n"
    final = b"HTTP/1.1 503 No\r\nretry-AFTER: 17\r\nRetry-After: 18\r\nContent-Length: 0\r\n\r\n"
    trailer = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nRetry-After: 5\r\n\r\n"
    async with running(answers(interim + final, trailer)) as backend, to(backend.url) as app:
        first = await tried(app)
        assert (first.status, first.retry_after) == (503, b"17")
        assert (await tried(app)).retry_after == b""


async def test_a_head_request_has_an_answer_without_a_body() -> None:
    """A length in the answer to HEAD announces nothing."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
    async with running(answers(head)) as backend, to(backend.url) as app:
        result = await tried(app, delivery(b"", method=b"HEAD"))
        assert kind(result) is DELIVERED
        assert result.duration_ms < 2000
        assert kind(await tried(app, delivery(b"", method=b"HEAD"))) is DELIVERED
    assert backend.requests[0].line == b"HEAD / HTTP/1.1"


# --- answers that do not end -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 209715200\r\n", b"Transfer-Encoding: chunked\r\n", b""],
    ids=["200 MiB", "chunked", "until close"],
)
async def test_an_endless_body_costs_the_connection_not_the_delivery(head: bytes) -> None:
    """A 2xx counts; of the body little is read, and the backend is cut off."""

    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n" if b"chunked" in head else b"x" * 65536)
            await writer.drain()
            backend.written += 65536

    async with running(endless) as backend, to(backend.url) as app:
        assert kind(await tried(app)) is DELIVERED
        await asyncio.wait_for(backend.closed.wait(), 5)
    assert backend.written < 16 << 20  # what the kernel's buffers took


async def test_a_gzip_bomb_is_not_inflated() -> None:
    """Content-Encoding of an answer is nobody's business."""
    bomb = gzip.compress(b"\0" * (50 << 20))
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(bomb), bomb)
    async with running(answers(answer)) as backend, to(backend.url) as app:
        tracemalloc.start()
        assert kind(await tried(app)) is DELIVERED
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 << 20


async def test_a_body_that_drips_past_the_deadline_does_not_undo_a_2xx() -> None:
    """The status is known; only the connection is lost."""
    drip = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"
    async with running(answers(drip, OK)) as backend, to(backend.url, timeout_s=0.2) as app:
        result = await tried(app)
        assert kind(result) is DELIVERED
        assert result.duration_ms >= 200
        assert kind(await tried(app)) is DELIVERED
    assert backend.opened == 2


async def test_a_body_cut_off_does_not_undo_a_2xx() -> None:
    """The backend said yes before it broke."""
    async with (
        running(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", close=True)) as backend,
        to(backend.url) as app,
    ):
        assert kind(await tried(app)) is DELIVERED
        assert app.resent == 0
    assert backend.opened == 1


# --- cut off, late, early --------------------------------------------------------------------------


async def test_reset_after_the_request_is_ambiguous() -> None:
    """It may have been taken: a failed attempt, not sent again here."""
    async with running(reset) as backend, to(backend.url) as app:
        result = await tried(app)
        assert result.failure == "reset"
        assert judge(RetryPolicy(), result).speaks_about_backend
    assert len(backend.requests) == 1


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-"])
async def test_closed_before_the_head_is_complete_is_ambiguous(part: bytes) -> None:
    """Half a head is no answer, even when it begins with 200."""
    async with running(answers(part, close=True)) as backend, to(backend.url) as app:
        result = await tried(app)
        assert (result.failure, kind(result)) == ("reset", RETRYABLE)
    assert len(backend.requests) == 1


async def test_no_answer_in_time_is_ambiguous_and_never_early() -> None:
    """The whole timeout is given, and little more."""
    async with running(silence) as backend, to(backend.url, timeout_s=0.25) as app:
        result = await tried(app)
        assert (result.failure, kind(result)) == ("timeout", RETRYABLE)
        assert 250 <= result.duration_ms < 700
        await asyncio.wait_for(backend.closed.wait(), 5)


async def test_a_slow_answer_within_the_timeout_counts() -> None:
    """Slow is not late."""

    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.15)
        for n in range(len(OK)):
            writer.write(OK[n : n + 1])
            await asyncio.sleep(0.001)

    async with running(slow) as backend, to(backend.url, timeout_s=3.0) as app:
        result = await tried(app)
        assert kind(result) is DELIVERED
        assert result.duration_ms >= 150


async def test_an_early_2xx_counts_once_everything_is_sent() -> None:
    """Answered from the head alone; the rest of a large body goes out all the same, and only then it is delivered."""
    go_on = asyncio.Event()
    body = b"x" * (24 << 20)
    left = 0

    async def early(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        writer.write(OK)
        await writer.drain()
        await go_on.wait()
        reader = backend.readers[-1]
        left = len(body)
        while left:
            left -= len(await reader.read(1 << 20))

    async with running(early, read_bodies=False) as backend, to(backend.url) as app:
        over: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        app.attempt(delivery(body), (), over.set_result)
        done, _ = await asyncio.wait([over], timeout=0.4)
        assert not done  # the answer is here, the request is not out
        go_on.set()
        result = await asyncio.wait_for(over, 5)
        assert kind(result) is DELIVERED
        assert result.duration_ms < 3000
    assert left < 16 << 20


async def test_more_behind_an_early_2xx_changes_nothing() -> None:
    """The backend goes on talking while we still send."""

    async def early(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"more, which nobody asked for" + OK)
        await backend.readers[-1].readexactly(24 << 20)
        backend.read_bodies, backend.script = True, answers(OK)

    async with running(early, read_bodies=False) as backend, to(backend.url) as app:
        assert kind(await tried(app, delivery(b"x" * (24 << 20)))) is DELIVERED
        assert kind(await tried(app)) is DELIVERED
    assert backend.opened == 2


async def test_an_early_2xx_and_a_half_closed_connection() -> None:
    """The backend has said all it will and reads on: what is buffered still goes out, and then it is delivered."""
    body = b"x" * (24 << 20)
    got = 0

    async def early(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        writer.write(OK)
        writer.write_eof()
        await asyncio.sleep(0.1)
        while got < len(body) and (data := await backend.readers[-1].read(1 << 20)):
            got += len(data)

    async with running(early, read_bodies=False) as backend, to(backend.url) as app:
        assert kind(await tried(app, delivery(body))) is DELIVERED
        await asyncio.wait_for(backend.closed.wait(), 5)
    assert got == len(body)


@pytest.mark.parametrize("how", ["reset", "timeout"])
async def test_an_early_2xx_without_a_full_send_is_ambiguous(how: str) -> None:
    """A yes to half a body is no yes."""

    async def early(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        if how == "reset":
            await asyncio.sleep(0.05)
            await reset(request, writer)
        else:
            await asyncio.sleep(3)

    async with running(early, read_bodies=False) as backend, to(backend.url, timeout_s=0.5) as app:
        result = await tried(app, delivery(b"x" * (24 << 20)))
        assert (result.failure, kind(result)) == (how, RETRYABLE)


async def test_an_early_refusal_counts_at_once() -> None:
    """A 413 from the head alone is the backend's word; the rest is not sent, the connection not used again."""

    async def early(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(status(413))
        await writer.drain()
        await asyncio.sleep(3)

    async with running(early, read_bodies=False) as backend, to(backend.url, timeout_s=2.0) as app:
        result = await tried(app, delivery(b"x" * (24 << 20)))
        assert (result.status, kind(result)) == (413, PERMANENT)
        assert result.duration_ms < 1000
        backend.read_bodies, backend.script = True, answers(OK)
        assert kind(await tried(app)) is DELIVERED
    assert backend.opened == 2


# --- connections -----------------------------------------------------------------------------------


async def test_no_more_connections_than_concurrency() -> None:
    """Tries beyond it wait in line, and each still has its whole timeout."""
    most = 0
    running_now = 0

    async def count(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal most, running_now
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0.1)
        running_now -= 1
        writer.write(OK)

    async with running(count) as backend, to(backend.url, concurrency=3, timeout_s=0.35) as app:
        results = await asyncio.gather(*(tried(app) for _ in range(12)))
        assert {kind(result) for result in results} == {DELIVERED}
    assert (most, backend.opened) == (3, 3)


async def test_an_idle_connection_is_used_again_within_two_seconds_only() -> None:
    """Idle for 1.9 s: the same one. Idle for 2.1 s: a fresh one."""
    clock = ShiftedClock()
    async with running() as backend, to(backend.url, clock) as app:
        await tried(app)
        clock.ahead_s += 1.9
        await tried(app)
        assert backend.opened == 1
        clock.ahead_s += 2.1
        await tried(app)
        assert backend.opened == 2
        assert [request.connection for request in backend.requests] == [1, 1, 2]


async def test_an_idle_connection_is_closed_after_two_seconds() -> None:
    """Nobody has to ask for it: the backend sees it go."""
    clock = ShiftedClock()
    async with running() as backend, to(backend.url, clock) as app:
        await tried(app)
        clock.ahead_s += 2.1
        await asyncio.wait_for(backend.closed.wait(), 2)
        assert not app.connections


async def test_a_reused_connection_closed_without_an_answer_gets_one_fresh_try() -> None:
    """The backend closed it while idle, at the very moment we wrote: invisible to the caller, counted."""

    async def once_per_connection(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(backend.requests) == 2:
            writer.close()
        else:
            writer.write(OK)

    async with running(once_per_connection) as backend, to(backend.url) as app:
        assert kind(await tried(app)) is DELIVERED
        assert kind(await tried(app, delivery(b"second"))) is DELIVERED
        assert app.resent == 1
    assert [(r.connection, r.body) for r in backend.requests] == [(1, b'{"n":1}'), (1, b"second"), (2, b"second")]


async def test_there_is_only_one_such_try() -> None:
    """A backend that closes the fresh connection too has failed the attempt."""

    async def answer_first(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(backend.requests) == 1:
            writer.write(OK)
        else:
            writer.close()

    async with running(answer_first) as backend, to(backend.url) as app:
        await tried(app)
        assert (await tried(app)).failure == "reset"
        assert app.resent == 1
    assert len(backend.requests) == 3


async def test_a_reused_connection_cut_within_the_answer_is_not_tried_again() -> None:
    """One byte of an answer means that the request was read."""

    async def half(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(backend.requests) == 1:
            writer.write(OK)
        else:
            writer.write(b"H")
            writer.close()

    async with running(half) as backend, to(backend.url) as app:
        await tried(app)
        assert (await tried(app)).failure == "reset"
        assert app.resent == 0
    assert len(backend.requests) == 2


async def test_a_fresh_connection_cut_without_an_answer_is_not_tried_again() -> None:
    """Only a reused one may have been closed for being idle."""
    async with running(reset) as backend, to(backend.url) as app:
        assert (await tried(app)).failure == "reset"
        assert app.resent == 0
    assert backend.opened == 1


async def test_bytes_on_an_idle_connection_close_it() -> None:
    """An answer that nobody asked for must not be taken for the next one's."""
    async with running() as backend, to(backend.url) as app:
        await tried(app)
        backend.script = answers(status(500))
        backend.writers[0].write(OK)
        await asyncio.wait_for(backend.closed.wait(), 1)
        assert (await tried(app)).status == 500
    assert backend.opened == 2


@pytest.mark.parametrize("late", [OK, b"not empty"], ids=["a second answer", "more body than announced"])
async def test_bytes_that_came_in_the_turn_of_the_next_try_are_not_its_answer(late: bytes) -> None:
    """The kernel has them and the loop has not read them: the connection is given up, not used."""
    async with running() as backend, to(backend.url) as app:
        await tried(app)
        backend.script = answers(status(500))
        backend.writers[0].write(late)
        assert (await tried(app)).status == 500
        assert app.resent == 0
    assert backend.opened == 2


async def test_a_connection_that_was_closed_in_the_turn_of_the_next_try_is_not_used() -> None:
    """So nothing has to be sent again."""
    async with running() as backend, to(backend.url) as app:
        await tried(app)
        with socket.socket(fileno=os.dup(backend.writers[0].get_extra_info("socket").fileno())) as its_own:
            its_own.shutdown(socket.SHUT_WR)
        assert (await tried(app)).status == 200
        assert app.resent == 0
    assert backend.opened == 2


async def test_a_done_that_tries_again_at_once_gets_the_warm_connection() -> None:
    """The connection is free before the caller hears of the result."""
    over: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    async with running() as backend, to(backend.url, concurrency=1) as app:
        app.attempt(delivery(), (), lambda first: app.attempt(delivery(), (), over.set_result) and None)
        assert kind(await asyncio.wait_for(over, 5)) is DELIVERED
    assert backend.opened == 1


async def test_cancelling_closes_the_connection() -> None:
    """An interrupted request is not left half-way on a connection that another would use."""
    async with running(silence) as backend, to(backend.url) as app:
        handle = app.attempt(delivery(), (), lambda result: None)
        await backend.arrived.wait()
        handle.cancel()
        await asyncio.wait_for(backend.closed.wait(), 5)
        backend.script = answers(OK)
        assert kind(await tried(app)) is DELIVERED
    assert backend.opened == 2


# --- no connection ---------------------------------------------------------------------------------


async def test_refused() -> None:
    """Nobody listens: no attempt used, and the text says who was asked."""
    with free_port() as port:
        async with to(f"http://127.0.0.1:{port}") as app:
            result = await tried(app)
    assert (result.failure, kind(result)) == ("connect", UNREACHABLE)
    assert result.error == f"Connection refused (127.0.0.1:{port})"


async def test_no_unix_socket(tmp_path: Path) -> None:
    """A socket file that is not there is a backend that is not there."""
    async with to(f"unix:{tmp_path}/none.sock") as app:
        result = await tried(app)
    assert (result.failure, kind(result)) == ("connect", UNREACHABLE)


async def test_a_black_hole_uses_no_attempt() -> None:
    """No connection within the deadline is "connect", not an ambiguous timeout."""
    with black_hole() as port:
        async with to(f"http://127.0.0.1:{port}", timeout_s=0.3) as app:
            result = await tried(app)
    assert (result.failure, kind(result)) == ("connect", UNREACHABLE)
    assert 290 <= result.duration_ms < 900


async def test_connecting_gets_at_most_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long timeout is for the answer, not for the connection."""
    monkeypatch.setattr("sidecar.outbound.deliver.pool.CONNECT_WITHIN_S", 0.2)
    with black_hole() as port:
        async with to(f"http://127.0.0.1:{port}", timeout_s=60.0) as app:
            assert (await tried(app)).error == "no connection within 0.2 s"


async def test_unknown_name() -> None:
    """A name nobody knows is a backend that cannot be reached."""

    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with to("http://orders.invalid/", resolve=unknown) as app:
        result = await tried(app)
    assert (result.failure, kind(result)) == ("connect", UNREACHABLE)
    assert result.error == "cannot resolve orders.invalid: Name or service not known"


async def test_a_hanging_resolver_is_asked_once() -> None:
    """Impatient tries share one look-up; when it comes back at last, its answer is used."""
    asked = 0
    go_on = asyncio.Event()

    async def slow(host: str, port: int) -> list[str]:
        nonlocal asked
        asked += 1
        await go_on.wait()
        return ["127.0.0.1"]

    async with running() as backend, to(f"http://orders.test:{backend.port}/", resolve=slow, timeout_s=0.2) as app:
        results = await asyncio.gather(*(tried(app) for _ in range(8)))
        assert {kind(result) for result in results} == {UNREACHABLE}
        go_on.set()
        assert kind(await tried(app)) is DELIVERED
        assert asked == 1


async def test_names_are_looked_up_again_after_five_seconds() -> None:
    """A backend that moved is found; until then the resolver is left alone."""
    asked = 0
    clock = ShiftedClock()

    async def count(host: str, port: int) -> list[str]:
        nonlocal asked
        asked += 1
        return ["127.0.0.1"]

    async with (
        running(answers(status(200, b"Connection: close\r\n"))) as backend,
        to(f"http://orders.test:{backend.port}/", clock, resolve=count) as app,
    ):
        await tried(app)
        clock.ahead_s += 4.9
        await tried(app)
        assert asked == 1
        clock.ahead_s += 0.2
        await tried(app)
        assert asked == 2


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    """An address that refuses or swallows does not hide the one behind it, and is not asked first again."""

    async def both(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with (
        running(answers(status(200, b"Connection: close\r\n"))) as backend,
        to(f"http://orders.test:{backend.port}/", resolve=both) as app,
    ):
        assert kind(await tried(app)) is DELIVERED
        assert kind(await tried(app)) is DELIVERED


async def test_an_address_that_swallows_leaves_time_for_the_next() -> None:
    """The first of two takes half of the time at most, and is not asked first again."""

    async def both(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "127.0.0.2"]

    with black_hole() as port:
        async with (
            running(answers(status(200, b"Connection: close\r\n")), host="127.0.0.2", port=port),
            to(f"http://orders.test:{port}/", resolve=both, timeout_s=1.0) as app,
        ):
            result, again = await tried(app), await tried(app)
    assert kind(result) is kind(again) is DELIVERED
    assert again.duration_ms < 400
    assert 450 <= result.duration_ms < 950


@pytest.mark.parametrize("trouble", ["nothing", "not a name"])
async def test_a_look_up_without_an_address(trouble: str) -> None:
    """A resolver with nothing to say, or one that cannot even write the question."""

    async def resolve(host: str, port: int) -> list[str]:
        if trouble == "nothing":
            return []
        raise UnicodeError("label too long")

    async with to("http://orders.test/", resolve=resolve) as app:
        result = await tried(app)
    assert (result.failure, kind(result)) == ("connect", UNREACHABLE)
    assert result.error.startswith("cannot resolve orders.test: ")


async def test_a_connection_that_is_gone_before_anything_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted and closed in the same breath: nothing was written, so no attempt is used."""
    async with running() as backend, to(backend.url) as app:
        dial = app._dialer.dial

        async def dial_and_lose(within_s: float) -> Any:
            conn = await dial(within_s)
            conn.abort()
            return conn

        monkeypatch.setattr(app._dialer, "dial", dial_and_lose)
        result = await tried(app)
    assert (result.failure, kind(result)) == ("connect", UNREACHABLE)
    assert backend.requests == []


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1%lo", "fd00:ec2::254", "100.100.100.200"]
)
async def test_a_name_that_leads_to_metadata_is_not_dialled(address: str) -> None:
    """DNS cannot talk us into asking the cloud for its keys."""

    async def rebound(host: str, port: int) -> list[str]:
        return [address]

    async with to("http://orders.test/", resolve=rebound) as app:
        result = await tried(app)
    assert (result.failure, kind(result)) == ("connect", UNREACHABLE)
    assert re.fullmatch(r"orders\.test is .*, a (link-local|cloud metadata) address: never dialled", result.error)


async def test_a_literal_in_disguise_is_not_dialled() -> None:
    """169.254.169.254 as one number is still itself, by the system's own resolver."""
    async with to("http://2852039166/", timeout_s=2.0) as app:
        result = await tried(app)
    assert result.failure == "connect"
    assert "never dialled" in result.error or "cannot resolve" in result.error


async def test_the_address_that_was_checked_is_the_one_dialled() -> None:
    """One look-up, and its answer is dialled: there is no second one that could say something else."""
    given = iter([["127.0.0.1"], ["169.254.169.254"]])

    async def rebinding(host: str, port: int) -> list[str]:
        return next(given)

    async with running() as backend, to(f"http://orders.test:{backend.port}/", resolve=rebinding) as app:
        assert kind(await tried(app)) is DELIVERED
        assert backend.requests[0].values(b"Host") == [b"orders.test:%d" % backend.port]


# --- TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_tls_with_a_good_certificate(certificates: Certificates, host: str) -> None:
    """Name and address in the certificate are both accepted, and connections are used again."""
    async with (
        running(tls=certificates.context("good")) as backend,
        to(f"https://{host}:{backend.port}/", ca_file=certificates.ca, host="shop.example.com") as app,
    ):
        assert kind(await tried(app)) is DELIVERED
        assert kind(await tried(app)) is DELIVERED
    assert backend.opened == 1
    assert backend.requests[0].values(b"Host") == [b"shop.example.com"]


async def test_a_name_that_ends_in_a_dot_is_proved_without_it(certificates: Certificates) -> None:
    """A dot keeps a resolver from trying search domains, as in "orders.shop.svc.cluster.local."; certificates have none."""
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async with (
        running(tls=certificates.context("good")) as backend,
        to(f"https://localhost.:{backend.port}/", ca_file=certificates.ca, resolve=resolve) as app,
    ):
        assert kind(await tried(app)) is DELIVERED
    assert asked == ["localhost."]


@pytest.mark.parametrize(
    ("name", "trusted", "says"),
    [
        ("expired", True, "certificate not accepted: certificate has expired"),
        ("elsewhere", True, "certificate not accepted: Hostname mismatch"),
        ("good", False, "certificate not accepted: unable to get local issuer certificate"),
    ],
)
async def test_tls_with_a_bad_certificate(certificates: Certificates, name: str, trusted: bool, says: str) -> None:
    """Not a byte of the request is written to somebody who cannot prove who they are."""
    async with running(tls=certificates.context(name)) as backend:
        ca_file = certificates.ca if trusted else None
        async with to(f"https://localhost:{backend.port}/", ca_file=ca_file) as app:
            result = await tried(app)
    assert (result.failure, kind(result)) == ("tls", UNREACHABLE)
    assert result.error.startswith(says)
    assert backend.requests == []


async def test_a_handshake_that_hangs(certificates: Certificates) -> None:
    """A handshake that does not end in time is "tls": no attempt used."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        async with to(f"https://localhost:{port}/", ca_file=certificates.ca, timeout_s=0.3) as app:
            result = await tried(app)
    assert (result.failure, kind(result)) == ("tls", UNREACHABLE)
    assert result.error == "no TLS handshake within 0.3 s"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"", "TLS handshake failed: connection closed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "TLS handshake failed: wrong version number"),
    ],
    ids=["cut off", "plain HTTP"],
)
async def test_a_handshake_that_fails(certificates: Certificates, reply: bytes, says: str) -> None:
    """A connection closed in the middle of it, or a backend that does not speak TLS."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with to(f"https://localhost:{port}/", ca_file=certificates.ca) as app:
        result = await tried(app)
    server.close()
    await server.wait_closed()
    assert (result.failure, kind(result)) == ("tls", UNREACHABLE)
    assert result.error == says


async def test_a_connection_lost_before_the_handshake(certificates: Certificates) -> None:
    """Closed before TLS could begin: "tls", and nothing hangs."""

    class Lost(asyncio.Protocol):
        raw: Any = None
        transport: Any = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.raw = transport
            self.raw.abort()

    async with running() as backend:
        target = parse_url(f"https://127.0.0.1:{backend.port}/")
        dialer = Dialer(target, tls_context(certificates.ca), Clock(), Lost)
        with pytest.raises(DialFailed, match="closed before the TLS handshake") as failed:
            await dialer.dial(2.0)
        assert failed.value.failure == "tls"
        await dialer.close()


async def test_large_bodies_over_tls(certificates: Certificates) -> None:
    """Written in pieces, received whole, and the connection is good for another."""
    body = bytes(range(256)) * (12 << 12)
    async with (
        running(tls=certificates.context("good")) as backend,
        to(f"https://localhost:{backend.port}/", ca_file=certificates.ca) as app,
    ):
        assert kind(await tried(app, delivery(body))) is DELIVERED
        assert kind(await tried(app, delivery(body))) is DELIVERED
    assert [request.body == body for request in backend.requests] == [True, True]
    assert backend.opened == 1


async def test_an_early_2xx_over_tls_without_a_full_send_is_ambiguous(certificates: Certificates) -> None:
    """What is encrypted but still in this process has not been sent."""

    async def early(request: Request, writer: asyncio.StreamWriter) -> None:
        backend.readers[-1]._transport.pause_reading()
        writer.write(OK)
        await asyncio.sleep(3)

    async with (
        running(early, read_bodies=False, tls=certificates.context("good")) as backend,
        to(f"https://localhost:{backend.port}/", ca_file=certificates.ca, timeout_s=0.6) as app,
    ):
        result = await tried(app, delivery(b"x" * (24 << 20)))
    assert (result.failure, kind(result)) == ("timeout", RETRYABLE)


async def test_what_is_encrypted_but_not_written_has_not_been_sent() -> None:
    """TLS has taken all of the body, the socket has not: only the raw transport knows."""

    class Buffer(asyncio.Transport):
        size = 0

        def get_write_buffer_size(self) -> int:
            return self.size

    async with to("http://127.0.0.1:1/") as app:
        conn = Connection(app)
        conn.raw, conn.transport = Buffer(), Buffer()
        for holder in (conn.raw, conn.transport):
            holder.size = 1
            assert not conn.all_sent()
            holder.size = 0
        conn.rest = memoryview(b"x")
        assert not conn.all_sent()
        conn.rest = None
        assert conn.all_sent()
        assert conn.all_sent()


async def test_a_reused_tls_connection_closed_without_an_answer_gets_one_fresh_try(certificates: Certificates) -> None:
    """TLS changes nothing about it."""

    async def second_closes(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(backend.requests) == 2:
            writer.transport.abort()
        else:
            writer.write(OK)

    async with (
        running(second_closes, tls=certificates.context("good")) as backend,
        to(f"https://localhost:{backend.port}/", ca_file=certificates.ca) as app,
    ):
        assert kind(await tried(app)) is DELIVERED
        assert kind(await tried(app)) is DELIVERED
        assert app.resent == 1


def test_an_authority_that_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    """A missing or empty ca_file is found when the destination is made, not at the first delivery."""
    (tmp_path / "empty.pem").write_text("")
    for name in ("none.pem", "empty.pem"):
        with pytest.raises(OSError):
            HttpDestination("app", HttpOptions(url="https://localhost/", ca_file=str(tmp_path / name)), Clock())


def test_options_that_cannot_be_used_are_refused_at_once() -> None:
    """A bad URL or header is a ValueError of the constructor."""
    for options in (HttpOptions(url="ftp://x/"), HttpOptions(url="http://x/", headers=((b"Host", b"y"),))):
        with pytest.raises(ValueError):
            HttpDestination("app", options, Clock())


@pytest.mark.parametrize("steps", range(12))
async def test_a_connection_that_comes_up_while_its_try_is_given_up_is_closed(steps: int) -> None:
    """At whatever turn of the loop the try is cancelled: closing waits for no connection that nobody owns."""
    async with running() as backend, to(backend.url) as app:
        exchange = app.attempt(delivery(), (), lambda _: None)
        for _ in range(steps):
            await asyncio.sleep(0)
        if not exchange.settled:
            exchange.cancel()
        await asyncio.sleep(0.05)
        if not app._idle:
            assert not app.connections, "it is left behind, open"
        await asyncio.wait_for(app.close(), 2)
