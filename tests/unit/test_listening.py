"""Listening sockets: what can be bound, what is refused by name, and that a lack of descriptors is sat out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import uvloop

from sidecar import listening
from sidecar.errors import SidecarError
from sidecar.listening import Door
from tests.support.senders import wanted_s


class Greeter(asyncio.Protocol):
    """Says hello and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"hello")  # type: ignore[attr-defined]
        transport.close()


async def knock(door: Door) -> bytes:
    if door.address.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(door.address.removeprefix("unix:"))
    else:
        host, _, port = door.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
    try:
        return await asyncio.wait_for(reader.read(), 2)
    finally:
        writer.close()


def run(work: Awaitable[None]) -> None:
    async def main() -> None:
        await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@contextlib.contextmanager
def files(limit: int) -> Iterator[None]:
    """Let this process open so many, whatever it has open already."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


GONE = "Connect call failed|refused|No such file"


@contextlib.asynccontextmanager
async def opened(listen: str, kind: type[Door] = Door) -> AsyncIterator[Door]:
    """A door that is closed at the end, also when the test fails: the loop would wait for it for ever."""
    door = kind(listen, Greeter, backlog=16)
    try:
        await door.open()
        yield door
    finally:
        door.close()


async def wanted(times: BinaryIO) -> float:
    """The share of a core that this thread wants for a moment."""
    before_s = wanted_s(times.fileno())
    await asyncio.sleep(0.3)
    return (wanted_s(times.fileno()) - before_s) / 0.3


# --- binding


def test_the_any_address_of_ipv6_takes_ipv4_too() -> None:
    door = Door("[::]:0", Greeter, backlog=16)
    assert door._sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
    assert door.address.startswith("[::]:")
    assert not door.address.endswith(":0")
    door.close()


@pytest.mark.parametrize("listen", ["127.0.0.1:notaport", "127.0.0.1:99999", "192.0.2.1:0", "no.such.host.invalid:1"])
def test_an_address_that_cannot_be_bound_is_named(listen: str) -> None:
    with pytest.raises(SidecarError, match=f"cannot listen on {listen}: "):
        Door(listen, Greeter, backlog=16)


def test_a_unix_socket_appears_with_its_mode_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.sock"
    door = Door(f"unix:{path}", Greeter, backlog=16, mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["a.sock"]
    door.close()
    assert os.listdir(path.parent) == []
    (path.parent / "a.sock.new").touch()  # from a crash
    Door(f"unix:{path}", Greeter, backlog=16).close()


def test_a_path_that_is_too_long_or_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SidecarError, match="longer than 100"):
        Door("unix:/" + "a" * 101, Greeter, backlog=16)
    (tmp_path / "file").touch()
    with pytest.raises(SidecarError, match=r"cannot listen on unix:.*: Not a directory"):
        Door(f"unix:{tmp_path}/file/a", Greeter, backlog=16)
    with pytest.raises(SidecarError, match=r"cannot listen on unix:.*: there is a file that is not a socket"):
        Door(f"unix:{tmp_path}/file", Greeter, backlog=16)


def test_a_unix_socket_with_somebody_behind_it_is_left_to_them(tmp_path: Path) -> None:
    """Also when its queue is full; and what a dead process left is replaced."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(0)
        for _ in ("which fills the queue", "which is full now"):
            with pytest.raises(SidecarError, match="Address already in use"):
                Door(f"unix:{path}", Greeter, backlog=16)
    Door(f"unix:{path}", Greeter, backlog=16).close()


# --- accepting


@pytest.fixture(params=["tcp", "unix"])
def listen(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/door"


@pytest.fixture
def times() -> Iterator[BinaryIO]:
    with open("/proc/self/schedstat", "rb") as file:
        yield file


def test_without_descriptors_it_is_shut_and_callers_wait(
    listen: str, times: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open, the loop spins: that is seen first, or there would be nothing to shut for."""
    said: list[str] = []
    monkeypatch.setattr(listening._log, "limited", lambda _, __, msg, **fields: said.append(msg))

    async def work() -> None:
        unix = listen.startswith("unix:")
        family = socket.AF_UNIX if unix else socket.AF_INET
        with socket.socket(family) as caller:
            async with opened(listen) as door:
                await door.look()
                assert await knock(door) == b"hello"
                with files(0):
                    caller.connect(listen.removeprefix("unix:") if unix else door._sock.getsockname())
                    spins = await wanted(times)
                    await door.look()
                    await door.look()
                    waits = min([await wanted(times) for _ in range(3)])
                assert spins > 0.5, "the loop waits by itself now: nothing has to be shut any more"
                assert waits < 0.3
                await door.look()
                caller.settimeout(0)
                assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(caller, 16), 2) == b"hello"
                assert await knock(door) == b"hello"
            door.close()
            with pytest.raises(OSError, match=GONE):
                await knock(door)

    run(work())
    assert said == [
        "no file descriptors are left: connections have to wait",
        "there are file descriptors again: connections are let in",
    ]


def test_it_is_shut_at_the_last_three_and_opened_at_eight() -> None:
    """Not at once again: it would be shut and opened all the time."""

    async def work() -> None:
        async with opened("127.0.0.1:0") as door:
            seen = []
            for left in (3, 2, 7, 8, 3):
                lowest = os.dup(0)
                os.close(lowest)
                with files(lowest + left):
                    await door.look()
                seen.append(door._server is not None)
            assert seen == [True, False, False, True, True]

    run(work())


def test_a_door_that_cannot_be_opened_again_is_tried_again() -> None:
    """At every look, whatever the reason."""

    async def work() -> None:
        calls: list[socket.socket] = []

        class Sometimes(Door):
            async def _serve(self, sock: socket.socket) -> asyncio.Server:
                calls.append(sock)
                if len(calls) == 2:
                    raise OSError(24, "Too many open files")
                return await super()._serve(sock)

        async with opened("127.0.0.1:0", Sometimes) as door:
            with files(0):
                await door.look()
            await door.look()
            assert door._server is None
            await door.look()
            assert await knock(door) == b"hello"

    run(work())


def test_a_door_that_is_closed_while_it_opens_stays_closed() -> None:
    """Shutting down meets a look that is under way."""

    async def work() -> None:
        going, on = asyncio.Event(), asyncio.Event()

        class Slow(Door):
            async def _serve(self, sock: socket.socket) -> asyncio.Server:
                going.set()
                await on.wait()
                return await super()._serve(sock)

        door = Slow("127.0.0.1:0", Greeter, backlog=16)
        opening = asyncio.ensure_future(door.open())
        await going.wait()
        door.close()
        on.set()
        await opening
        with pytest.raises(OSError, match=GONE):
            await knock(door)
        await door.look()

    run(work())


def test_an_address_that_cannot_be_opened_is_named() -> None:
    class Never(Door):
        async def _serve(self, sock: socket.socket) -> asyncio.Server:
            raise OSError(98, "Address already in use")

    async def work() -> None:
        door = Never("127.0.0.1:0", Greeter, backlog=16)
        with pytest.raises(SidecarError, match=f"cannot listen on {door.address}: Address already in use"):
            await door.open()
        door.close()

    run(work())
