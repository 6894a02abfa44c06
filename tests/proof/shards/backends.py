"""Backends that answer anything: each try has one result that the bytes justify, and the next delivery gets its own answer.

Real sockets. A delivery meets a hostile answer; the one behind it, to the same destination, meets an honest backend. Answers
are whole, cut at a byte, spoiled, written in pieces and ended in every way.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import uvloop

from sidecar.clock import Clock
from sidecar.model import Delivery, Event, format_event_id
from sidecar.outbound.deliver import HttpDestination, HttpOptions, Result
from sidecar.outbound.deliver import http as http_module
from sidecar.outbound.retry import RetryPolicy, judge, next_delay_s
from tests.proof.answers import CASES, HONEST, PIECES, expected, may_be_2xx
from tests.proof.shard import Job, Shard
from tests.proof.spoil import spoil

AT_ONCE = 256
TIMEOUT_S = 1.0
OWN = 418  # what the second delivery is answered, and nobody else
MOST_READ = 8 << 20  # of an answer without end, kernel buffers included
ENDS = ("stay", "close", "reset")
POLICY = RetryPolicy()


@dataclass
class Try:
    """One hostile answer, as it will be written.

    Attributes:
        taken_for: What the try must be taken for; None where only the bytes limit it.
        warm: An honest delivery uses the connection before.
    """

    name: str
    pieces: list[bytes]
    end: str
    taken_for: int | str | None = None
    warm: bool = False

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


class Backend(asyncio.Protocol):
    """One connection; the path of a request says which try it belongs to."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._read = b""
        self._room = asyncio.Event()
        self._room.set()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        if b"\r\n\r\n" in self._read:
            number = int(self._read.split(b" ", 2)[1][1:])
            self._read = b""
            self._world.answer(number, self)

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.set()

    def say(self, status: int) -> None:
        self._transport.write(b"HTTP/1.1 %d Mine\r\nContent-Length: 0\r\n\r\n" % status)

    async def run(self, one: Try, number: int) -> None:
        """Write what this try is answered."""
        transport = self._transport
        for piece in one.pieces:
            if not transport.is_closing():
                transport.write(piece)
            await asyncio.sleep(0.001 if len(one.pieces) > 1 else 0)
        while one.end == "on" and not transport.is_closing() and self._world.written[number] <= MOST_READ:
            transport.write(b"x" * 65536)
            self._world.written[number] += 65536
            await asyncio.sleep(0)
            await self._room.wait()
        if transport.is_closing():
            return
        if one.end == "reset":
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        elif one.end == "close":
            transport.close()


class World:
    """A server on a Unix socket, and the tries that go to it."""

    def __init__(self, job: Job, tries: list[Try]) -> None:
        self.job = job
        self.tries = tries
        self.written = [0] * len(tries)
        self._honest = [1 if one.warm else 0 for one in tries]  # deliveries before the hostile one
        self._met = [False] * len(tries)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._socket = str(job.folder / "backend.sock")
        Path(self._socket).unlink(missing_ok=True)

    def answer(self, number: int, backend: Backend) -> None:
        if self._honest[number]:
            self._honest[number] = 0
            backend.say(OWN)
        elif self._met[number]:
            backend.say(OWN)
        else:
            self._met[number] = True
            self._tasks[number] = asyncio.get_running_loop().create_task(backend.run(self.tries[number], number))

    def wrong(self, number: int, text: str) -> None:
        one = self.tries[number]
        said = one.raw if len(one.raw) < 300 else one.raw[:150] + b"..." + one.raw[-150:]
        self.job.found.append(f"seed {self.job.seed}: {one.name} ({said!r}, then {one.end}): {text}")

    async def run(self) -> None:
        """Meet every one of them, many at once."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, context: self.job.found.append(f"seed {self.job.seed}: an exception nobody waits for: {context}")
        )
        server = await loop.create_unix_server(lambda: Backend(self), self._socket, backlog=2 * AT_ONCE)
        await asyncio.gather(*(self._meet(n) for n in range(len(self.tries))))
        server.close()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await server.wait_closed()

    async def _meet(self, number: int) -> None:
        one = self.tries[number]
        options = HttpOptions(url=f"unix:{self._socket}:/{number}", timeout_s=TIMEOUT_S, concurrency=1)
        app = HttpDestination("app", options, Clock())
        try:
            if one.warm:
                await self._try(app)
            result = await self._try(app)
            if len(one.pieces) > 1 and number in self._tasks:
                # What comes when the next request is out already is its answer by the rules, so all of it comes before.
                await asyncio.wait((self._tasks[number],))
                await asyncio.sleep(0.003)
            after = await self._try(app)
        except TimeoutError:
            self.wrong(number, "a try had no result in ten times its time")
            return
        finally:
            await app.close()
        self.job.count += 1
        if app.connections:
            self.wrong(number, "a connection stayed open")
        if not one.raw and one.end in ("close", "reset") and one.warm:
            self.job.note("sent again on a fresh connection")
            if result.status != OWN or app.resent != 1:
                self.wrong(number, f"a reused connection that closed gave {result}, {app.resent} sent again")
            return
        self._judge(number, result)
        if after.status != OWN:
            self.wrong(number, f"the delivery behind it was answered {after}")
        if self.written[number] > MOST_READ:
            self.wrong(number, f"{self.written[number]:,} bytes of its answer were read")

    def _judge(self, number: int, result: Result) -> None:
        one = self.tries[number]
        got = result.failure if result.status is None else result.status
        if one.taken_for is not None and got != one.taken_for:
            self.wrong(number, f"taken for {got}, not for {one.taken_for}")
        outcome = judge(POLICY, result)
        if outcome.kind.name == "DELIVERED" and not may_be_2xx(one.raw):
            self.wrong(number, f"delivered on the strength of {result}")
        if result.status is None and result.failure not in ("timeout", "reset", "garbage"):
            self.wrong(number, f"it ended as {result}")
        if not (result.error.isascii() and result.error.isprintable()):
            self.wrong(number, f"its words came through: {result.error!r}")
        delay_s = next_delay_s(POLICY, 1, 0.5, outcome.retry_after_s)
        if delay_s is None or not POLICY.base_s <= delay_s <= POLICY.max_delay_s:
            self.wrong(number, f"the next try would come after {delay_s} s")
        self.job.note("delivered", int(outcome.kind.name == "DELIVERED"))
        self.job.note("without an answer", int(result.status is None))

    async def _try(self, app: HttpDestination) -> Result:
        over: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        app.attempt(_delivery(), (), over.set_result)
        return await asyncio.wait_for(over, TIMEOUT_S * 10)


def _delivery() -> Delivery:
    event = Event(
        source="s", destinations=("app",), received_at_ms=1, method=b"POST", path=b"/", query=b"",
        headers=[], body=b"", seq=1, id=format_event_id(1, 1, 1),
    )  # fmt: skip
    return Delivery(event, "app")


def known() -> Iterator[Try]:
    """Each hostile answer, each honest one cut at each of its bytes; on fresh and on used connections."""
    for warm in (False, True):
        for name, case in CASES.items():
            if case.raw or case.end == "stay" or not warm:
                yield Try(name, [case.raw], case.end, case.taken_for, warm)
    for name, raw in HONEST.items():
        for at in range(len(raw) + 1):
            for end in ENDS:
                yield Try(f"{name}, to byte {at}", [raw[:at]], end, expected(raw[:at], end), at % 2 == 1)
    for end in ("close", "reset"):
        yield Try("a used connection that closes", [b""], end, None, warm=True)


def spoiled(job: Job, seeds: list[bytes]) -> Try:
    """An answer changed a little and cut anywhere."""
    rand = job.rand
    data = spoil(rand, seeds, PIECES)
    cuts = sorted({rand.randrange(len(data) + 1) for _ in range(rand.choice((0, 0, 1, 3)))})
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return Try("spoiled", pieces, rand.choices(ENDS, (1, 4, 2))[0], None, rand.random() < 0.5)


def meet(job: Job, tries: list[Try]) -> None:
    """Let deliveries meet these answers."""
    uvloop.run(World(job, tries).run())


def run(job: Job) -> None:
    """The known ones once, then spoiled ones until the time is over."""
    listed = list(known())
    job.rand.shuffle(listed)
    seeds = [*HONEST.values(), *(c.raw for c in CASES.values() if c.raw and len(c.raw) < 1000)]
    while listed and job.goes_on:
        job.isolated(partial(meet, job, listed[:AT_ONCE]))
        del listed[:AT_ONCE]
    while job.goes_on:
        job.isolated(partial(_loop, job, seeds))


def _loop(job: Job, seeds: list[bytes]) -> None:
    for _ in range(10):
        if job.goes_on:
            meet(job, [spoiled(job, seeds) for _ in range(AT_ONCE)])


@contextmanager
def reads_without_end() -> Any:
    """Answers are read for as long as they come."""
    with (
        mock.patch.object(http_module, "ANSWER_BODY_BYTES", 1 << 50),
        mock.patch.object(http_module, "ANSWER_HEAD_BYTES", 1 << 50),
    ):
        yield


@contextmanager
def takes_leftovers() -> Any:
    """What comes while nothing is owed is the next answer."""
    honest_received, honest_send = http_module.Connection.data_received, http_module.Connection.send
    late: dict[Any, bytes] = {}

    def data_received(self: Any, data: bytes) -> None:
        if self.exchange is None:
            late[self] = late.get(self, b"") + data
        else:
            honest_received(self, data)

    def send(self: Any, exchange: Any, *, reused: bool) -> None:
        honest_send(self, exchange, reused=reused)
        if self in late:
            asyncio.get_running_loop().call_soon(honest_received, self, late.pop(self))

    with (
        mock.patch.object(http_module.Connection, "usable", lambda self: self.transport is not None),
        mock.patch.object(http_module.Connection, "data_received", data_received),
        mock.patch.object(http_module.Connection, "send", send),
    ):
        yield


def control(job: Job) -> list[str]:
    """An answer read without end, and what is left of one answer taken for the next."""
    two = HONEST["200"]
    bait = {
        reads_without_end: [Try("a body without end", [CASES["a body without end"].raw], "on", 200)],
        takes_leftovers: [Try("two answers, the second late", [two, two], "stay", 200)],
    }
    for bug, tries in bait.items():
        sound = job.sub(f"sound-{bug.__name__}", 30)
        sound.isolated(partial(meet, sound, tries))
        assert not sound.found, sound.found
        attempt = job.sub(bug.__name__, 30)
        with bug():
            attempt.isolated(partial(meet, attempt, tries))
        assert attempt.found, f"{bug.__name__}: nothing was wrong"
    return ["an answer read without end", "a leftover taken as the next answer"]


SHARD = Shard("backends", ("P11", "P16"), "answers of backends", run, control)
