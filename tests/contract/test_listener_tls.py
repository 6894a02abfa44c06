"""TLS on the listener, over real sockets: who shakes hands has a place like everybody else, and gives it back."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.clock import Clock
from sidecar.inbound.ack import Answer
from sidecar.inbound.application import ServerOptions
from sidecar.inbound.securing import Securing
from sidecar.inbound.server import Listener
from sidecar.metrics import Metrics
from tests.support.backends import Certificates, make_certificates
from tests.support.raw_http import Desk, Peer, post, vanish

CAP = 4
MANY = 40


class Context(ssl.SSLContext):
    """A context that knows which of its connections there are."""

    made = 0
    alive: weakref.WeakSet[ssl.SSLObject]

    def wrap_bio(self, *args: object, **kwargs: object) -> ssl.SSLObject:
        wrapped = super().wrap_bio(*args, **kwargs)  # type: ignore[arg-type]
        self.made += 1
        self.alive.add(wrapped)
        return wrapped


class Stage:
    """A listener that speaks TLS, its application and its metrics."""

    def __init__(self, certificates: Certificates, **options: object) -> None:
        self.desk, self.metrics = Desk(), Metrics()
        self.context = Context(ssl.PROTOCOL_TLS_SERVER)
        self.context.alive = weakref.WeakSet()
        self.context.load_cert_chain(certificates.folder / "good.pem", certificates.folder / "good.key")
        self.client = ssl.create_default_context(cafile=certificates.ca)
        self.listener = Listener(ServerOptions(**options), self.desk, self.metrics, Clock())
        self.peers: list[Peer] = []

    @property
    def address(self) -> str:
        return self.listener.addresses[0]

    @property
    def places(self) -> float:
        """How many are taken."""
        return self.metrics.connections.values[()]

    @property
    def shed(self) -> float:
        return self.metrics.connections_shed.values[()]

    async def plain(self, data: bytes = b"") -> Peer:
        """Somebody who connects and sends bytes of their own."""
        peer = await Peer.open(self.address)
        self.peers.append(peer)
        await peer.send(data)
        return peer

    async def honest(self) -> Peer:
        """Somebody who is served."""
        peer = await Peer.open(self.address, ssl=self.client, server_hostname="localhost")
        self.peers.append(peer)
        await self.served(peer)
        return peer

    async def served(self, peer: Peer) -> None:
        await peer.send(post())
        assert (await peer.reply()).status == 200

    async def crowd(self, data: bytes) -> list[Peer]:
        """Ten times as many as there are places, all of which have come in."""
        before = self.shed
        peers = [await self.plain(data) for _ in range(MANY)]
        await self.until(lambda: self.shed >= before + MANY - CAP)
        return peers

    async def close(self) -> None:
        async with asyncio.timeout(3):
            await self.listener.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(3):
            while not condition():  # noqa: ASYNC110 - counters have no event
                await asyncio.sleep(0.002)

    async def empty(self) -> None:
        """Wait until nothing is left: no place is taken, and no TLS and no task is there for anybody."""

        def empty() -> bool:
            gc.collect()
            return self.places == 0 and not self.context.alive and len(asyncio.all_tasks()) == 1

        await self.until(empty)


def hello() -> bytes:
    """What a client says first."""
    sent = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


Start = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def start(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Start]:
    stages: list[Stage] = []

    async def start(listen: str = "127.0.0.1:0", **options: object) -> Stage:
        stage = Stage(certificates, **options)
        await stage.listener.start(listen, ssl=stage.context)
        stages.append(stage)
        return stage

    yield start
    for stage in stages:
        for peer in stage.peers:
            await peer.close()
        await stage.close()
        await stage.empty()
    assert caplog.messages == []  # the loop tells of what nobody expected


# --- speaking it


@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_tls(start: Start, family: str, tmp_path: Path) -> None:
    """Requests, early answers and the half-close work the same; the head says that it was secure."""
    stage = await start("127.0.0.1:0" if family == "tcp" else f"unix:{tmp_path}/s")
    peer = await stage.honest()
    await peer.send(post(b"x" * 100_000) + post())
    assert [(await peer.reply()).status for _ in range(2)] == [200, 200]
    assert [h.secure for h in stage.desk.heads] == [True] * 3
    stage.desk.max_body = 10
    await peer.send(post(b"x" * (1 << 20)))
    reply = await peer.reply()
    assert (reply.status, reply.code) == (413, "body_too_large")
    plain = await stage.plain(post())
    assert b"HTTP" not in await plain.at_end()


async def test_a_handshake_may_come_in_pieces(start: Start) -> None:
    """Byte by byte: the first begins it, and none is lost."""
    stage = await start()
    sent, got = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = stage.client.wrap_bio(got, sent, server_hostname="localhost")
    peer = await stage.plain()
    async with asyncio.timeout(3):
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in sent.read():
                    await peer.send(bytes([byte]))
                    await asyncio.sleep(0)
                got.write(await peer.reader.read(1 << 16))
    client.write(post())
    await peer.send(sent.read())  # the end of the handshake and a request in one
    await stage.desk.until(lambda: stage.desk.bodies == [b"{}"])


async def test_a_handshake_begins_once_however_much_comes_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the loop reads in one go: what follows the first is TLS's own to read, and none of ours."""
    stage = await start()
    stage.listener._doors[0]._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    begun: list[int] = []
    honest_begin = Securing.data_received
    monkeypatch.setattr(Securing, "data_received", lambda self, d: (begun.append(len(d)), honest_begin(self, d)))
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sock.connect(("127.0.0.1", int(stage.address.rpartition(":")[2])))
        sock.setblocking(False)
        sent = sock.send(hello() + bytes(1 << 20))
        await stage.until(lambda: bool(begun))
        await stage.empty()
    assert (len(begun), begun[0] < sent) == (1, True)


# --- places


async def test_those_who_say_nothing_have_a_place_each_and_no_tls(start: Start) -> None:
    """The one longest without a complete request goes, as with plain ones; whoever is honest gets in."""
    stage = await start(max_connections=CAP)
    await stage.crowd(b"")
    assert (stage.places, stage.context.made) == (CAP, 0)
    first = await stage.honest()
    await stage.crowd(b"")
    assert await first.at_end() == b"", "an idle one makes room"
    await stage.honest()
    assert (stage.places, stage.context.made) == (CAP, 2)


@pytest.mark.parametrize("part", ["its first byte", "half of it", "all of it"])
async def test_handshakes_that_do_not_go_on_are_no_more_than_there_are_places(start: Start, part: str) -> None:
    """However far they have come; an honest one beside them gets in."""
    stage = await start(max_connections=CAP)
    data = hello()
    data = {"its first byte": data[:1], "half of it": data[: len(data) // 2], "all of it": data}[part]
    for _ in range(2):
        await stage.crowd(data)
        assert stage.places == CAP
        await stage.until(lambda: len(stage.context.alive) <= CAP)
        await stage.honest()
    assert stage.context.made > 2 * CAP, "they have begun"


async def test_at_the_cap_who_waits_for_us_stays_and_the_new_one_goes_without_tls(start: Start) -> None:
    stage = await start(max_connections=1)
    stage.desk.holding = True
    first = await Peer.open(stage.address, ssl=stage.client, server_hostname="localhost")
    await first.send(post())
    await stage.desk.until(lambda: bool(stage.desk.waiting))
    second = await stage.plain(hello())
    assert await second.at_end() == b""
    assert (stage.context.made, stage.shed, stage.places) == (1, 1, 1)
    stage.desk.waiting[0](Answer(200, b"late"))
    assert (await first.reply()).body == b"late"
    await first.close()


async def fails(stage: Stage) -> None:
    peer = await stage.plain(b"GET / HTTP/1.1\r\n\r\n")
    await peer.at_end()


async def distrusts(stage: Stage) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await Peer.open(stage.address, ssl=ssl.create_default_context(), server_hostname="localhost")


async def closes_before(stage: Stage) -> None:
    await (await stage.plain()).close()


async def closes_within(stage: Stage) -> None:
    peer = await stage.plain(hello())
    await peer.reader.read(1)
    await peer.close()


async def closes_behind_its_hello(stage: Stage) -> None:
    await (await stage.plain(hello())).close()


async def vanishes_before(stage: Stage) -> None:
    vanish(await stage.plain())


async def vanishes_within(stage: Stage) -> None:
    peer = await stage.plain(hello())
    await peer.reader.read(1)
    vanish(peer)


async def vanishes_behind_its_hello(stage: Stage) -> None:
    vanish(await stage.plain(hello()))


@pytest.mark.parametrize(
    "ends",
    [
        fails, distrusts, closes_before, closes_within, closes_behind_its_hello, vanishes_before, vanishes_within,
        vanishes_behind_its_hello,
    ],
)  # fmt: skip
async def test_a_handshake_that_ends_gives_its_place_back(
    start: Start, ends: Callable[[Stage], Awaitable[None]]
) -> None:
    """However it ends: nobody has to make room for the next, and nothing of it is left."""
    stage = await start(max_connections=CAP)
    for _ in range(3 * CAP):
        await ends(stage)
        await stage.until(lambda: stage.places == 0)
    await stage.empty()
    await stage.honest()
    assert stage.shed == 0


@pytest.mark.parametrize("moment", ["as it begins", "as it ends"])
async def test_whoever_has_to_go_at_that_very_moment_goes(
    start: Start, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Between the first bytes and TLS, and between its end and our hearing of it."""
    stage = await start()
    honest_begin, honest_make = Securing.data_received, Context.wrap_bio
    seen: list[Securing] = []

    def begin(self: Securing, data: bytes) -> None:
        honest_begin(self, data)
        seen.append(self)
        if moment == "as it begins":
            self._connection.shed()

    def make(self: Context, *args: object, **kwargs: object) -> ssl.SSLObject:
        wrapped = honest_make(self, *args, **kwargs)
        shake = wrapped.do_handshake

        def do_handshake() -> None:
            shake()
            seen[0]._connection.shed()

        wrapped.do_handshake = do_handshake  # type: ignore[method-assign]
        return wrapped

    monkeypatch.setattr(Securing, "data_received", begin)
    if moment == "as it ends":
        monkeypatch.setattr(Context, "wrap_bio", make)
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await stage.honest()
    assert seen
    assert stage.desk.heads == []
    await stage.empty()


# --- time


@pytest.mark.parametrize("data", [b"", hello()[:1], hello()], ids=["nothing", "a byte", "a hello"])
async def test_a_handshake_has_the_time_of_a_head(start: Start, data: bytes) -> None:
    """From the accept on, and its place is free then."""
    stage = await start(header_timeout_s=0.3)
    began = asyncio.get_running_loop().time()
    peer = await stage.plain(data)
    await peer.at_end()
    assert 0.25 <= asyncio.get_running_loop().time() - began < 1.0
    await stage.empty()


async def test_a_head_has_its_time_from_the_handshake_on(start: Start) -> None:
    """Whoever was slow to say hello is not cut off for that."""
    stage = await start(header_timeout_s=0.6)
    sock = socket.create_connection(("127.0.0.1", int(stage.address.rpartition(":")[2])))
    sock.setblocking(False)
    await asyncio.sleep(0.4)
    peer = Peer(*await asyncio.open_connection(sock=sock, ssl=stage.client, server_hostname="localhost"))
    stage.peers.append(peer)
    await asyncio.sleep(0.4)
    await stage.served(peer)


# --- the end


@pytest.mark.parametrize("way", ["drain", "close"])
async def test_handshakes_under_way_end_with_the_listener(start: Start, way: str) -> None:
    """They are idle: nobody waits for them, and none is left behind."""
    stage = await start()
    peers = [await stage.plain(data) for data in (b"", hello()[:1], hello())]
    await stage.until(lambda: stage.places == 3 and stage.context.made == 2)
    stage.listener.stop_accepting()
    began = asyncio.get_running_loop().time()
    await (stage.listener.drain(5) if way == "drain" else stage.close())
    assert asyncio.get_running_loop().time() - began < 1.0
    assert stage.places == 0
    for peer in peers:
        await peer.at_end()
    await stage.empty()


async def test_what_comes_while_all_is_closed_is_turned_away(start: Start) -> None:
    """Accepted, but not yet let in: no handshake begins."""
    stage = await start()
    peer = await stage.plain(hello())
    stage.listener._shared.closing = True
    late = await stage.plain(hello())
    assert await late.at_end() == b""
    assert stage.context.made <= 1
    await peer.close()
