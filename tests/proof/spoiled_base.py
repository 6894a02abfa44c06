"""A journal with something in every state, made by the daemon itself, and all that its senders and its operator know of it.

The daemon runs in this very process, on this very loop: a life costs a fifth of what it costs as a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidecar import log
from sidecar.clock import Clock
from sidecar.config.load import load_settings
from sidecar.daemon import Daemon
from sidecar.journal import Journal
from sidecar.journal.types import JournalOptions
from sidecar.model import ACK_DEFAULT, State, parse_event_id
from tests.proof.history import digest, read_journal
from tests.proof.lives import until
from tests.proof.shard import Job
from tests.support.backends import Backend, Request, running
from tests.support.daemon import free_port
from tests.support.journals import make_claim, make_event
from tests.support.senders import framed, github

__all__ = ["DESTINATIONS", "Answer", "Base", "House", "Known", "Lines", "copy_base", "make_base"]

SECRET = "spoiled-test"
DESTINATIONS = ("app", "mail", "late", "stuck")
NOISE = 40  # keys: with few in memory (``shards/spoiled.py``) enough for two generations, so that one is sealed in a segment
SIZES = (10, 300, 300, 5_000, 40_000, 150_000)
ANSWER_S = 20.0

CONFIG = """
[server]
listen = "127.0.0.1:{port}"
[admin]
listen = "127.0.0.1:{admin}"
socket = "{folder}/admin.sock"
[log]
format = "json"
[drain]
accept_for = "0s"
[sources.code]
path = "/code"
max_body = "1MiB"
verify = "github"
secrets = [{{ value = "{secret}" }}]
destinations = ["app", "mail"]
[sources.slow]
path = "/slow"
max_body = "1MiB"
verify = "github"
secrets = [{{ value = "{secret}" }}]
destinations = ["late", "app"]
[sources.dull]
path = "/dull"
max_body = "1MiB"
verify = "github"
secrets = [{{ value = "{secret}" }}]
destinations = ["stuck"]
[journal]
path = "{folder}/journal"
max_size = "16MiB"
retention = "{retention}"
[dead_letters]
path = "{folder}/dead-letters"
"""
DESTINATION = """
[destinations.{name}]
url = "{url}/{name}"
hold_after = 0
[destinations.{name}.retry]
base = "{base}"
max_delay = "{base}"
max_attempts = 1000
"""


@dataclass
class Known:
    """One event, as its sender knows it.

    Attributes:
        id: Ours, as its sender was told.
        seq: Its number.
        block: Number of the first event of its block; 0 = not known.
        states: What became of it at each destination, before the damage.
        revives: Destinations where it is dead, and a repeat brings it to life.
        ids: Of it, and of later ones that a repeat was taken as.
    """

    key: str
    source: str
    body: bytes
    id: str = ""
    seq: int = 0
    block: int = 0
    states: dict[str, State] = field(default_factory=dict)
    revives: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)

    @property
    def seqs(self) -> set[int]:
        """The numbers of all that it was taken as."""
        return {parts[2] for i in self.ids if (parts := parse_event_id(i)) is not None}

    def request(self) -> bytes:
        """The webhook, the same each time."""
        headers = github(self.body, SECRET, self.key) | {"Connection": "close"}
        return framed(f"/{self.source}", self.body, headers)


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def rows(self) -> list[dict[str, Any]]:
        """The lines of a stream."""
        return [json.loads(line) for line in self.body.splitlines() if line]


class Lines:
    """What the daemon logs."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, text: str) -> int:
        """One line, or, if it is no line of ours, whatever else goes to stderr."""
        for line in text.splitlines():
            try:
                self.rows.append(json.loads(line))
            except ValueError:
                self.rows.append({"level": "error", "msg": line})
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        """It is no terminal."""
        return False


class House:
    """A daemon in a folder, its backend, and a way to talk to both.

    Args:
        folder: Everything lives here.
        backend: Where all destinations are.
        retention: Of the journal.
        base: Wait before a retry.
        away: Destinations that are not there.
    """

    def __init__(
        self, folder: Path, backend: Backend, *, retention: str = "72h", base: str = "10ms", away: tuple[str, ...] = ()
    ) -> None:
        self.folder, self.port = folder, free_port()
        self.config = folder / "config.toml"
        text = CONFIG.format(folder=folder, port=self.port, admin=free_port(), secret=SECRET, retention=retention)
        for name in DESTINATIONS:
            url = "http://127.0.0.1:9" if name in away else backend.url
            text += DESTINATION.format(name=name, url=url, base=base)
        self.config.write_text(text)
        self.backend = backend
        self.lines = Lines()
        self.daemon: Daemon | None = None
        self.code: int | None = None
        self._serving: asyncio.Task[int] | None = None

    @property
    def ended(self) -> bool:
        """Whether the daemon has ended."""
        return self._serving is None or self._serving.done()

    @contextlib.asynccontextmanager
    async def alive(self, end: int = signal.SIGTERM) -> AsyncIterator[None]:
        """The daemon runs for the length of a block; then it is told to stop.

        Raises:
            SidecarError: It refuses to start.
        """
        with contextlib.redirect_stderr(self.lines):  # type: ignore[type-var]
            settings = load_settings(str(self.config), env=os.environ)
            for logger in log._loggers.values():
                logger._buckets.clear()  # a daemon begins with its limits; the lives before it here have used them up
            log.start(settings.log)
            try:
                self.daemon = Daemon(settings, str(self.config))
                self._serving = asyncio.create_task(self.daemon.serve())
                await until(lambda: self.ended or (self.daemon and self.daemon.started), ANSWER_S)
                yield
                if not self.ended:
                    os.kill(os.getpid(), end)
                    await until(lambda: self.ended, ANSWER_S)
                self.code = self._serving.result() if self.ended else None
            finally:
                if self._serving is not None and not self._serving.done():
                    self._serving.cancel()
                    await asyncio.wait([self._serving])
                log.stop()

    async def send(self, event: Known) -> Answer:
        """One webhook, on a connection of its own."""
        return await _exchange(asyncio.open_connection("127.0.0.1", self.port), event.request())

    async def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """One request over the admin socket."""
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nWebhook-Sidecar-Request: 1\r\n"
            f"Webhook-Sidecar-Drain: 1\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        return await _exchange(asyncio.open_unix_connection(f"{self.folder}/admin.sock"), head.encode() + data)

    def arrivals(self) -> Counter[tuple[str, str]]:
        """How often each destination got each event."""
        return Counter(
            (r.line.split(b" ")[1][1:].decode(), r.values(b"Webhook-Sidecar-Event-Id")[0].decode())
            for r in self.backend.requests
        )


async def _exchange(connecting: Any, request: bytes) -> Answer:
    async with asyncio.timeout(ANSWER_S):
        reader, writer = await connecting
        try:
            writer.write(request)
            raw = await reader.read(-1)
        finally:
            writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *rows = head.decode().split("\r\n")
    headers = {k.lower(): v for k, _, v in (row.partition(": ") for row in rows)}
    if headers.get("transfer-encoding") == "chunked":
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
        body = whole
    return Answer(int(line.split(" ")[1]), headers, body)


# --- the journal


@dataclass
class Base:
    """What every life begins with, but for the damage.

    Attributes:
        folder: Of journal and dead letters; copied for each life.
        known: Every event that matters.
        numbers: Of the destinations.
    """

    folder: Path
    known: list[Known]
    numbers: dict[str, int]


def mood(request: Request) -> str:
    """What the body says that this destination does with it: ok, no or later."""
    name = request.line.split(b" ")[1][1:].decode()
    return str(json.loads(request.body)[name])


async def first_life(request: Request, writer: asyncio.StreamWriter) -> None:
    """The backend while the journal is made."""
    status = {"ok": 200, "no": 400, "later": 500}[mood(request)]
    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)


def _events(job: Job) -> list[Known]:
    rand, known = job.rand, []
    for n in range(rand.choice((8, 12, 24))):
        moods = {name: rand.choice(("ok", "ok", "no", "no", "later")) for name in DESTINATIONS} | {"stuck": "no"}
        key = f"k{n}-{rand.randrange(1 << 40):x}"
        body = json.dumps({"key": key, **moods, "pad": "x" * rand.choice(SIZES)}).encode()
        known.append(Known(key, rand.choices(("code", "slow", "dull"), (6, 3, 1))[0], body))
    return known


async def _noise(path: Path) -> None:
    """Many keys of events that are nobody's concern."""
    journal = Journal.open(JournalOptions(path=str(path), max_size_bytes=16 << 20), Clock())
    journal.register(["noise"], [])
    loop = asyncio.get_running_loop()
    journal.start(loop)
    for _ in range(NOISE):
        future: asyncio.Future[Any] = loop.create_future()
        event = make_event(b"{}", source="noise", destinations=())
        journal.append(event, make_claim(os.urandom(8).hex()), ACK_DEFAULT, future.set_result)
        await future
    await journal.aclose()


async def make_base(folder: Path, job: Job) -> Base:
    """Run a daemon until it has something in every state."""
    known, noise_first = _events(job), job.rand.random() < 0.5
    if noise_first:
        await _noise(folder / "journal")
    async with running(first_life) as backend:
        house = House(folder, backend, base="1s", away=("late",))
        (folder / "dead-letters").mkdir()
        (folder / "dead-letters" / "stuck").touch()  # no folder: what dies there waits for its letter
        async with house.alive(signal.SIGINT):  # in a hurry: some never get what they want here
            await _fill(house, known, job)
        (folder / "dead-letters" / "stuck").unlink()
        assert house.code == 0, house.lines.rows[-5:]
    if not noise_first:
        await _noise(folder / "journal")
    stored = read_journal(folder / "journal", folder / "dead-letters")
    assert not stored.unreadable
    for event in known:
        view = stored.events[event.id]
        assert digest(view.event.body) == digest(event.body)
        event.seq, event.block = view.event.seq, view.event.block
        event.states = {d.destination: d.state for d in view.deliveries}
        event.revives = {d.destination for d in view.deliveries if d.state is State.DEAD and not d.round}
    numbers = {name: n for n, name in enumerate(_names(folder / "journal"))}
    return Base(folder, known, numbers)


def _names(path: Path) -> list[str]:
    journal = Journal.open(JournalOptions(path=str(path)), Clock(), read_only=True)
    try:
        return journal.destinations()
    finally:
        journal.close()


async def _fill(house: House, known: list[Known], job: Job) -> None:
    half = len(known) // 2
    for event in known[:half]:  # a block each
        await _accepted(house, event)
    await asyncio.gather(*[_accepted(house, event) for event in known[half:]])  # together in some

    def settled() -> bool:
        assert house.daemon is not None
        books = house.daemon.journal.counters()
        lanes = {lane.name: lane for lane in house.daemon.dispatcher.status()}
        quiet = all(lanes[n].ready == lanes[n].in_flight == 0 for n in ("app", "mail", "stuck"))
        return quiet and not any(books.dying.get(n) for n in ("app", "mail"))

    assert await until(settled, ANSWER_S, 0.01), "the journal is never quiet"
    ids = [event.id for event in known if event.source == "slow"]
    job.rand.shuffle(ids)
    few = len(ids) // 4
    for path, body in (
        ("events/discard", {"ids": ids[:few], "destination": "late"}),
        ("events/discard", {"ids": ids[few : 2 * few], "destination": "late", "to": "mail"}),
        ("events/replay", {"ids": ids[2 * few : 3 * few], "state": "dead"}),
    ):
        if body["ids"]:
            answer = await house.ask("POST", f"/api/v1/{path}", body)
            assert answer.status == 200, answer
    assert await until(settled, ANSWER_S, 0.01), "the journal is never quiet"


async def _accepted(house: House, event: Known) -> None:
    answer = await house.send(event)
    assert answer.status == 200, answer
    event.id = answer.headers["webhook-sidecar-event-id"]
    event.ids.add(event.id)


def copy_base(base: Base, to: Path) -> None:
    """A life's own copy."""
    shutil.copytree(base.folder / "journal", to / "journal")
    shutil.copytree(base.folder / "dead-letters", to / "dead-letters")
