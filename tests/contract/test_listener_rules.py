"""The listener's own rules, over real sockets: clocks, budgets, caps, order, back-pressure, addresses, drain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sidecar.clock import Clock
from sidecar.errors import SidecarError
from sidecar.inbound import outgoing, shared
from sidecar.inbound.ack import Answer
from sidecar.inbound.application import ServerOptions
from sidecar.inbound.connection import Connection
from sidecar.inbound.server import Listener
from sidecar.metrics import Metrics
from sidecar.model import Refusal
from tests.support.raw_http import Desk, Peer, chunked, post, vanish
from tests.support.wire import Wire

Start = Callable[..., "asyncio.Future[Stage]"]
HAS_IPV6 = os.path.exists("/proc/net/if_inet6")
WAIT = Answer(200, b"late")


class Stage:
    """A listener, its application and its metrics."""

    def __init__(self, listener: Listener, desk: Desk, metrics: Metrics) -> None:
        self.listener = listener
        self.desk = desk
        self.metrics = metrics
        self.peers: list[Peer] = []

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that only a counter shows."""
        async with asyncio.timeout(3):
            while not condition():  # noqa: ASYNC110 - counters have no event
                await asyncio.sleep(0.002)

    async def gone(self) -> None:
        """Wait until no connection is open."""
        await self.until(lambda: stage_connections(self) == 0)

    async def peer(self, address: str = "", **kwargs: object) -> Peer:
        peer = await Peer.open(address or self.listener.addresses[0], **kwargs)
        self.peers.append(peer)
        return peer


def stage_connections(stage: Stage) -> float:
    return stage.metrics.connections.values[()]


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., object]]:
    stages: list[Stage] = []

    async def start(listen: str = "127.0.0.1:0", **options: object) -> Stage:
        desk, metrics = Desk(), Metrics()
        listener = Listener(ServerOptions(**options), desk, metrics, Clock())
        await listener.start(listen)
        stages.append(Stage(listener, desk, metrics))
        return stages[-1]

    yield start
    for stage in stages:
        for peer in stage.peers:
            await peer.close()
        await stage.listener.close()


def head(length: int) -> bytes:
    return b"POST /hook HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % length


# --- clocks


async def test_a_slow_head_gets_408(start: Start) -> None:
    """The whole head has header_timeout, however steadily it drips."""
    stage = await start(header_timeout_s=0.3)
    peer = await stage.peer()
    began = asyncio.get_running_loop().time()
    reply = None
    for byte in post(extra=b"X: y\r\n" * 20):
        await peer.send(bytes([byte]))
        with contextlib.suppress(TimeoutError):
            reply = await peer.reply(0.03)
            break
    assert reply is not None
    assert (reply.status, reply.code) == (408, "timeout")
    assert await peer.at_end() == b""
    assert 0.3 <= asyncio.get_running_loop().time() - began < 1.0
    assert stage.desk.refusals == [Refusal.TIMEOUT]


async def test_a_connection_that_says_nothing_is_closed_without_a_word(start: Start) -> None:
    """Before the first byte there is no request to answer."""
    stage = await start(header_timeout_s=0.1)
    peer = await stage.peer()
    assert await peer.at_end() == b""
    assert stage.desk.refusals == []


async def test_an_idle_connection_is_closed_after_the_keepalive_time(start: Start) -> None:
    """Counted from the last answer, and without a word."""
    stage = await start(keepalive_timeout_s=0.2)
    peer = await stage.peer()
    await peer.send(post())
    assert (await peer.reply()).status == 200
    began = asyncio.get_running_loop().time()
    assert await peer.at_end() == b""
    assert 0.18 <= asyncio.get_running_loop().time() - began < 1.0


@pytest.mark.parametrize(
    "begun", [head(10), head(10) + b"x", b"POST /hook HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5"]
)
async def test_a_body_that_does_not_come_gets_408(start: Start, begun: bytes) -> None:
    """The whole body has body_timeout."""
    stage = await start(body_timeout_s=0.2)
    peer = await stage.peer()
    await peer.send(begun)
    reply = await peer.reply()
    assert (reply.status, reply.code) == (408, "timeout")
    assert await peer.at_end() == b""
    assert stage.desk.refused_contexts == [1]
    assert stage.listener.buffered_bytes == 0


async def test_a_body_below_the_least_rate_gets_408_long_before_its_time(start: Start) -> None:
    """A sender that drips is told so after one window."""
    stage = await start(body_timeout_s=20.0, body_window_s=0.3, body_window_bytes=100)
    peer = await stage.peer()
    await peer.send(head(100_000))
    while True:
        await peer.send(b"x")
        try:
            reply = await peer.reply(0.05)
            break
        except TimeoutError:
            continue
    assert (reply.status, reply.code) == (408, "timeout")


async def test_a_body_at_the_least_rate_is_waited_for(start: Start) -> None:
    """Steady enough is good enough: three windows long."""
    stage = await start(body_timeout_s=20.0, body_window_s=0.2, body_window_bytes=100)
    peer = await stage.peer()
    await peer.send(head(60 * 200))
    for _ in range(60):
        await peer.send(b"x" * 200)
        await asyncio.sleep(0.01)
    assert (await peer.reply()).status == 200


async def test_waiting_for_the_application_is_not_the_clients_fault(start: Start) -> None:
    """No clock of the connection runs while its answer is ours to give."""
    stage = await start(header_timeout_s=0.05, body_timeout_s=0.05, keepalive_timeout_s=0.05)
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post())
    await stage.desk.until(lambda: bool(stage.desk.waiting))
    await asyncio.sleep(0.2)
    stage.desk.waiting[0](WAIT)
    assert (await peer.reply()).body == b"late"


# --- memory


async def test_a_body_counts_until_it_is_answered(start: Start) -> None:
    """Received, handed over and uncommitted is still in memory."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post(b"x" * 5000))
    await stage.desk.until(lambda: len(stage.desk.waiting) == 1)
    assert stage.listener.buffered_bytes == 5000
    stage.desk.waiting[0](WAIT)
    assert stage.listener.buffered_bytes == 0
    assert stage.metrics.received_bytes.values[()] == 5000


@pytest.mark.parametrize("request_bytes", [post(b"x" * 600), chunked(b"x" * 600)], ids=["length", "chunked"])
async def test_what_does_not_fit_is_told_overloaded(start: Start, request_bytes: bytes) -> None:
    """Bodies that wait for their commit cannot be sacrificed, so the new one has to go."""
    stage = await start(max_buffered_bytes=1000)
    stage.desk.holding = True
    first, second = await stage.peer(), await stage.peer()
    await first.send(post(b"x" * 500))
    await stage.desk.until(lambda: len(stage.desk.waiting) == 1)
    await second.send(request_bytes)
    reply = await second.reply()
    assert (reply.status, reply.code) == (503, "overloaded")
    assert reply.headers[b"retry-after"] == b"1"
    assert stage.desk.refusals == [Refusal.OVERLOADED]
    assert stage.listener.buffered_bytes == 500
    stage.desk.waiting[0](WAIT)
    assert (await first.reply()).status == 200


async def test_the_slowest_incomplete_body_goes_before_anyone_gets_503(start: Start) -> None:
    """Short of memory, 408 for the slowest; the faster one and the new one go on."""
    stage = await start(max_buffered_bytes=10_000)
    slow, fast, new = await stage.peer(), await stage.peer(), await stage.peer()
    await slow.send(head(9000) + b"s" * 1000)
    await fast.send(head(9000) + b"f" * 8000)
    await stage.desk.until(lambda: len(stage.desk.heads) == 2)
    await stage.until(lambda: stage.listener.buffered_bytes == 9000)
    await new.send(post(b"n" * 1500))
    assert (await new.reply()).status == 200
    reply = await slow.reply()
    assert (reply.status, reply.code) == (408, "timeout")
    await fast.send(b"f" * 1000)
    assert (await fast.reply()).status == 200
    assert [len(body) for body in stage.desk.bodies] == [1500, 9000]


async def test_nobody_is_sacrificed_in_vain(start: Start) -> None:
    """What would not fit anyway does not cost others their requests."""
    stage = await start(max_buffered_bytes=10_000)
    slow, huge = await stage.peer(), await stage.peer()
    await slow.send(head(2000) + b"s" * 1000)
    await stage.desk.until(lambda: len(stage.desk.heads) == 1)
    await huge.send(post(b"h" * 10_001))
    assert (await huge.reply()).status == 503
    await slow.send(b"s" * 1000)
    assert (await slow.reply()).status == 200


@pytest.mark.parametrize("big", [post(b"x" * 70_000), chunked(b"x" * 40_000, b"x" * 30_000)], ids=["length", "chunked"])
async def test_half_of_the_memory_is_kept_for_small_bodies(start: Start, big: bytes) -> None:
    """Large bodies fill their half and no more; small ones still get in."""
    stage = await start(max_buffered_bytes=200_000)
    stage.desk.holding = True
    first, second, small = await stage.peer(), await stage.peer(), await stage.peer()
    await first.send(big)
    await stage.desk.until(lambda: len(stage.desk.waiting) == 1)
    await second.send(big)
    assert (await second.reply()).code == "overloaded"
    await small.send(post(b"x" * 60_000))
    await stage.desk.until(lambda: len(stage.desk.waiting) == 2)
    assert stage.listener.buffered_bytes == 130_000


async def test_one_byte_reads_do_not_multiply_the_memory(start: Start) -> None:
    """A body in tiny pieces arrives whole."""
    stage = await start()
    peer = await stage.peer()
    peer.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await peer.send(head(300))
    for i in range(300):
        await peer.send(bytes([i % 256]))
        await asyncio.sleep(0)
    assert (await peer.reply()).status == 200
    assert stage.desk.bodies == [bytes(i % 256 for i in range(300))]


# --- connections


async def test_at_the_cap_the_one_longest_without_a_complete_request_goes(start: Start) -> None:
    """Not the oldest connection: the one that has been useful least recently."""
    stage = await start(max_connections=3)
    old, stale, dripping = await stage.peer(), await stage.peer(), await stage.peer()
    for peer in (old, stale, dripping):
        await peer.send(post())
        assert (await peer.reply()).status == 200
    await old.send(post())
    assert (await old.reply()).status == 200
    await stale.send(b"POST /hook HT")
    fresh = await stage.peer()
    await fresh.send(post())
    assert (await fresh.reply()).status == 200
    assert await stale.at_end() == b""
    assert stage.metrics.connections_shed.values[()] == 1
    assert stage_connections(stage) == 3
    for peer in (old, dripping):
        await peer.send(post())
        assert (await peer.reply()).status == 200


async def test_a_connection_that_waits_for_us_is_not_shed(start: Start) -> None:
    """With every place taken by an answer we owe, the new one has to go."""
    stage = await start(max_connections=1)
    stage.desk.holding = True
    first = await stage.peer()
    await first.send(post())
    await stage.desk.until(lambda: bool(stage.desk.waiting))
    second = await stage.peer()
    assert await second.at_end() == b""
    assert stage.metrics.connections_shed.values[()] == 1
    stage.desk.waiting[0](WAIT)
    assert (await first.reply()).body == b"late"


async def test_open_connections_are_counted(start: Start) -> None:
    """The gauge goes both ways."""
    stage = await start()
    peer = await stage.peer()
    await peer.send(post())
    await peer.reply()
    assert stage_connections(stage) == 1
    await peer.close()
    await stage.gone()


# --- order


async def test_answers_go_out_in_the_order_of_the_requests(start: Start) -> None:
    """Whatever order the application finds them in."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post(b"a") + chunked(b"b") + post(b"c"))
    await stage.desk.until(lambda: len(stage.desk.waiting) == 3)
    for i in (2, 0, 1):
        stage.desk.waiting[i](Answer(200, b"%d" % i))
    assert [(await peer.reply()).body for _ in range(3)] == [b"0", b"1", b"2"]


async def test_reading_ahead_is_bounded(start: Start) -> None:
    """With so many answers owed no further request is read, and what was received counts as memory."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    total = 100
    await peer.send(post() * total)
    await stage.desk.until(lambda: len(stage.desk.waiting) == outgoing.READ_AHEAD)
    await asyncio.sleep(0.05)
    assert len(stage.desk.heads) == outgoing.READ_AHEAD
    assert stage.listener.buffered_bytes == len(post()) * (total - outgoing.READ_AHEAD) + 2 * outgoing.READ_AHEAD
    answered = 0
    while answered < total:
        await stage.desk.until(lambda: bool(stage.desk.waiting))
        stage.desk.waiting.pop(0)(Answer(200, b"%d" % answered))
        answered += 1
    assert [(await peer.reply()).body for _ in range(total)] == [b"%d" % i for i in range(total)]
    assert stage.listener.buffered_bytes == 0


async def test_read_ahead_that_does_not_fit_ends_the_connection_behind_its_answers(start: Start) -> None:
    """A valid request dropped unanswered is harmless; one that was taken is answered."""
    stage = await start(max_buffered_bytes=400)
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post() * 100)
    await stage.desk.until(lambda: len(stage.desk.waiting) == outgoing.READ_AHEAD)
    for reply in stage.desk.waiting:
        reply(WAIT)
    replies = [await peer.reply() for _ in range(outgoing.READ_AHEAD)]
    assert replies[-1].headers[b"connection"] == b"close"
    assert await peer.at_end() == b""
    assert stage.listener.buffered_bytes == 0


async def test_an_error_goes_out_behind_the_answers_owed(start: Start) -> None:
    """And nothing behind it is read."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post() + b"BAD\r\n\r\n" + post())
    await stage.desk.until(lambda: bool(stage.desk.refusals))
    stage.desk.waiting[0](WAIT)
    assert [(await peer.reply()).status for _ in range(2)] == [200, 400]
    assert await peer.at_end() == b""
    assert len(stage.desk.bodies) == 1


async def test_100_continue_waits_for_the_answers_before_it(start: Start) -> None:
    """An interim answer must not overtake a final one."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post() + head(2).replace(b"Host", b"Expect: 100-continue\r\nHost"))
    await stage.desk.until(lambda: len(stage.desk.heads) == 2)
    with pytest.raises(TimeoutError):
        await peer.reply(0.05)
    stage.desk.waiting[0](WAIT)
    assert [(await peer.reply()).status for _ in range(2)] == [200, 100]
    await peer.send(b"{}")
    await stage.desk.until(lambda: len(stage.desk.waiting) == 2)
    stage.desk.waiting[1](WAIT)
    assert (await peer.reply()).status == 200


async def test_a_second_answer_is_dropped(start: Start) -> None:
    """The next request is not answered with it."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post() + post())
    await stage.desk.until(lambda: len(stage.desk.waiting) == 2)
    stage.desk.waiting[0](Answer(200, b"first"))
    stage.desk.waiting[0](Answer(200, b"again"))
    stage.desk.waiting[1](Answer(200, b"second"))
    assert [(await peer.reply()).body for _ in range(2)] == [b"first", b"second"]
    assert stage.listener.buffered_bytes == 0


async def test_an_answer_may_close_the_connection(start: Start) -> None:
    """Nothing goes out behind it, also if it was owed."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post() + post())
    await stage.desk.until(lambda: len(stage.desk.waiting) == 2)
    stage.desk.waiting[1](Answer(200, b"never seen"))
    stage.desk.waiting[0](Answer(401, b"", close=True))
    reply = await peer.reply()
    assert (reply.status, reply.headers[b"connection"]) == (401, b"close")
    assert await peer.at_end() == b""


# --- the client's end


async def test_a_half_closed_client_gets_its_answers(start: Start) -> None:
    """Shutting down its side is no reason to drop what it is owed."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post() * (outgoing.READ_AHEAD + 4))
    peer.half_close()
    for i in range(outgoing.READ_AHEAD + 4):
        await stage.desk.until(lambda i=i: len(stage.desk.waiting) > i)
        stage.desk.waiting[i](WAIT)
    assert [(await peer.reply()).body for _ in range(outgoing.READ_AHEAD + 4)] == [b"late"] * (outgoing.READ_AHEAD + 4)
    assert await peer.at_end() == b""
    assert stage.desk.aborts == []


async def test_a_half_close_in_the_middle_aborts_only_what_is_incomplete(start: Start) -> None:
    """The request before it is answered all the same."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post() + head(10) + b"x")
    await stage.desk.until(lambda: len(stage.desk.heads) == 2)
    peer.half_close()
    await stage.desk.until(lambda: bool(stage.desk.aborts))
    stage.desk.waiting[0](WAIT)
    assert (await peer.reply()).body == b"late"
    assert await peer.at_end() == b""
    assert stage.desk.aborts == [2]


async def test_the_answer_to_a_client_that_is_gone_only_frees_memory(start: Start) -> None:
    """Its request was complete, so it is the application's."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post(b"x" * 100))
    await stage.desk.until(lambda: bool(stage.desk.waiting))
    vanish(peer)
    await stage.gone()
    assert stage.listener.buffered_bytes == 100
    stage.desk.waiting[0](WAIT)
    assert stage.listener.buffered_bytes == 0
    assert stage.desk.aborts == []


async def test_a_client_that_does_not_read_is_not_read_from(start: Start) -> None:
    """Its answers wait in a bounded place; once it reads, all come."""
    stage = await start()
    stage.desk.answer = Answer(200, bytes(1 << 20))
    peer = await stage.peer(limit=1 << 12)
    total = 60
    await peer.send(post() * total)
    await stage.desk.until(lambda: len(stage.desk.bodies) > 1)
    await asyncio.sleep(0.1)
    taken = len(stage.desk.bodies)
    assert taken < total
    for _ in range(total):
        assert len((await peer.reply()).body) == 1 << 20
    assert len(stage.desk.bodies) == total


async def test_a_client_that_never_reads_is_cut_off(start: Start) -> None:
    """After body_timeout."""
    stage = await start(body_timeout_s=0.2)
    stage.desk.answer = Answer(200, bytes(8 << 20))
    peer = await stage.peer(limit=1 << 12)
    await peer.send(post())
    await stage.desk.until(lambda: bool(stage.desk.bodies))
    await stage.gone()


@pytest.mark.parametrize("sends", [True, False])
async def test_lingering_ends(start: Start, monkeypatch: pytest.MonkeyPatch, sends: bool) -> None:
    """A client that neither reads nor closes is not kept, whether it goes on sending or not."""
    monkeypatch.setattr(outgoing, "LINGER_IDLE_S", 0.15)
    monkeypatch.setattr(outgoing, "LINGER_MAX_S", 0.4)
    stage = await start(header_timeout_s=0.2)
    peer = await stage.peer()
    await peer.send(head(10_000_000))
    assert (await peer.reply()).status == 413
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(2):
        while stage_connections(stage):
            if sends:
                await peer.send(b"x" * 10)
            await asyncio.sleep(0.02)
    took = asyncio.get_running_loop().time() - began
    assert 0.35 < took < 0.8 if sends else 0.1 < took < 0.35


# --- addresses


async def test_an_ipv6_any_address_takes_ipv4_too(start: Start) -> None:
    """And tells an IPv4 client's address as such."""
    if not HAS_IPV6:
        pytest.skip("no IPv6 here")
    stage = await start("[::]:0")
    port = stage.listener.addresses[0].rpartition(":")[2]
    assert stage.listener.addresses == [f"[::]:{port}"]
    for address in (f"127.0.0.1:{port}", f"[::1]:{port}"):
        peer = await stage.peer(address)
        await peer.send(post())
        assert (await peer.reply()).status == 200
    assert [h.peer for h in stage.desk.heads] == ["127.0.0.1", "::1"]


async def test_a_unix_socket_is_for_the_group_and_leaves_with_us(start: Start, tmp_path: Path) -> None:
    """Mode 0660; a stale one is replaced."""
    path = tmp_path / "hooks.sock"
    left_over = socket.socket(socket.AF_UNIX)
    left_over.bind(str(path))
    left_over.close()
    stage = await start(f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    peer = await stage.peer()
    await peer.send(post())
    assert (await peer.reply()).status == 200
    assert stage.desk.heads[0].peer == "unix"
    stage.listener.stop_accepting()
    assert not path.exists()


async def test_a_unix_socket_in_use_and_a_file_are_left_alone(start: Start, tmp_path: Path) -> None:
    """Only what nobody listens on is replaced."""
    used, file = tmp_path / "used.sock", tmp_path / "file"
    file.write_text("precious")
    stage = await start(f"unix:{used}")
    for path in (used, file):
        with pytest.raises(SidecarError, match="cannot listen on unix:"):
            await start(f"unix:{path}")
    assert file.read_text() == "precious"
    await stage.peer()


async def test_a_successors_socket_is_left_alone(start: Start, tmp_path: Path) -> None:
    """A process that has taken the path over keeps it."""
    path = tmp_path / "hooks.sock"
    stage = await start(f"unix:{path}")
    path.unlink()
    path.write_text("successor")
    stage.listener.stop_accepting()
    assert path.read_text() == "successor"


async def test_several_addresses_share_one_application(start: Start, tmp_path: Path) -> None:
    """Every start adds one."""
    stage = await start()
    await stage.listener.start(f"unix:{tmp_path}/s")
    assert len(stage.listener.addresses) == 2
    for address in stage.listener.addresses:
        peer = await stage.peer(address)
        await peer.send(post())
        assert (await peer.reply()).status == 200


async def test_a_taken_port_is_an_error_with_a_hint(start: Start) -> None:
    """Said once, by name."""
    stage = await start()
    with pytest.raises(SidecarError, match=r"cannot listen on 127\.0\.0\.1:"):
        await start(stage.listener.addresses[0])


async def test_the_last_file_descriptors_are_kept_free(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that gets one of them takes the place of another, as at the cap; it is told once a minute."""
    said: list[dict[str, object]] = []
    monkeypatch.setattr(shared._log, "warning", lambda _, **fields: said.append(fields))
    limits = [1 << 20]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits[0], limits[0]))
    stage = await start(max_connections=8)
    peers = []
    for limit, lines, there in (
        (shared.FILES_LOW, 1, 1),  # the first: nobody's place to take
        (1 << 20, 1, 2),
        (shared.FILES_LOW, 1, 2),
        (resource.RLIM_INFINITY, 1, 3),
    ):
        limits[0] = limit
        stage.listener._shared.tick()
        peer = await stage.peer()
        await peer.send(post())
        assert (await peer.reply()).status == 200
        assert len(said) == lines
        assert stage_connections(stage) == there
        peers.append(peer)
    assert said == [{"limit": shared.FILES_LOW}]
    assert await peers[0].at_end() == b""
    assert stage.metrics.connections_shed.values[()] == 1


# --- answers


async def test_answers_carry_a_date(start: Start) -> None:
    """RFC 9110, 6.6.1."""
    stage = await start()
    peer = await stage.peer()
    await peer.send(post())
    assert (await peer.reply()).headers[b"date"].endswith(b" GMT")


async def test_head_gets_headers_only(start: Start) -> None:
    """Also for an error; the connection goes on."""
    stage = await start()
    peer = await stage.peer()
    await peer.send(b"HEAD /hook HTTP/1.1\r\nHost: t\r\n\r\n")
    reply = await peer.reply(bodiless=True)
    assert (reply.status, reply.body, reply.headers[b"content-length"]) == (405, b"", b"39")
    await peer.send(post())
    assert (await peer.reply()).status == 200


# --- the end


async def test_refuse_new_ends_each_connection_behind_its_answer(start: Start) -> None:
    """Requests are still taken, so that the application can say why not."""
    stage = await start()
    peer = await stage.peer()
    await peer.send(post())
    assert b"connection" not in (await peer.reply()).headers
    stage.listener.refuse_new()
    await peer.send(post())
    reply = await peer.reply()
    assert (reply.status, reply.headers[b"connection"]) == (200, b"close")
    assert await peer.at_end() == b""


async def test_drain_lets_answers_out_and_closes_what_is_idle(start: Start) -> None:
    """New connections are refused, idle ones end at once, the rest when it is done."""
    stage = await start()
    idle, waiting, sending = await stage.peer(), await stage.peer(), await stage.peer()
    await idle.send(post())
    assert (await idle.reply()).status == 200
    stage.desk.holding = True
    await waiting.send(post())
    await sending.send(head(2) + b"{")
    await stage.desk.until(lambda: len(stage.desk.heads) == 3)
    stage.listener.stop_accepting()
    drained = asyncio.ensure_future(stage.listener.drain(5))
    assert await idle.at_end() == b""
    with pytest.raises(OSError):
        await stage.peer()
    await sending.send(b"}")
    await stage.desk.until(lambda: len(stage.desk.waiting) == 2)
    assert not drained.done()
    for reply in stage.desk.waiting:
        reply(WAIT)
    for peer in (waiting, sending):
        reply = await peer.reply()
        assert (reply.body, reply.headers[b"connection"]) == (b"late", b"close")
        await peer.close()
    await asyncio.wait_for(drained, 2)


async def test_drain_ends_when_its_time_is_over(start: Start) -> None:
    """What is left is cut off by close; its request is still the application's."""
    stage = await start()
    stage.desk.holding = True
    peer = await stage.peer()
    await peer.send(post())
    await stage.desk.until(lambda: bool(stage.desk.waiting))
    await asyncio.wait_for(stage.listener.drain(0.05), 1)
    assert stage_connections(stage) == 1
    await stage.listener.close()
    assert await peer.at_end() == b""
    stage.desk.waiting[0](WAIT)
    assert stage.listener.buffered_bytes == 0


async def test_a_connection_that_comes_while_we_close_is_cut_off(start: Start) -> None:
    """It was accepted before the socket was closed, and its first call came after: nobody would ever end it."""
    stage = await start()
    await stage.listener.close()
    late = Wire()
    Connection(stage.listener._shared, secure=False).connection_made(late)
    assert late.closed
    await asyncio.wait_for(stage.listener.close(), 1)


async def test_close_is_safe_at_any_time() -> None:
    """Before the start, and twice."""
    listener = Listener(ServerOptions(), Desk(), Metrics(), Clock())
    await listener.close()
    await listener.start("127.0.0.1:0")
    await listener.close()
    await listener.close()
