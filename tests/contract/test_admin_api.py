"""The admin plane over real sockets, on a real journal and real dead-letter files."""

# ruff: noqa: ASYNC230, ASYNC240 - a look at a temporary folder does not hold anybody up

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import socket
import stat
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from sidecar.admin import commands, redrive
from sidecar.admin import server as server_module
from sidecar.admin.filters import BulkRequest
from sidecar.admin.gateway import AdminOptions, DestinationInfo, ReloadResult, SourceInfo
from sidecar.admin.server import AdminServer
from sidecar.clock import Clock
from sidecar.errors import JournalError, SidecarError
from sidecar.feed import Feed
from sidecar.inbound.handshake_book import HandshakeBook
from sidecar.journal import Journal
from sidecar.journal.records import events_key
from sidecar.journal.types import JournalOptions, Ref, Settlement
from sidecar.lifecycle import Change
from sidecar.metrics import Metrics
from sidecar.model import ACK_DEFAULT, Attempt, Delivery, Event, State, format_event_id
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters

TOKEN = "t0ken-of-this-test"


class Lane(msgspec.Struct):
    """One lane's status as the dispatcher tells it."""

    name: str
    in_flight: int = 0
    held: bool = False


class StillDispatcher:
    """A dispatcher that delivers nothing, so that states stay where a test puts them."""

    def status(self) -> list[Lane]:
        return [Lane("app", held=True)]


class OpenReceiver:
    accepting = True
    changed = ()

    def secrets_changed(self, name: str) -> None:
        self.changed = (*self.changed, name)


class World:
    """A Gateway with a real journal, real dead letters and nothing that moves by itself."""

    def __init__(self, folder: str) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.feed = Feed()
        self.journal = Journal.open(JournalOptions(path=f"{folder}/journal", max_size_bytes=16 << 20), self.clock)
        self.journal.register(["github", "slack"], ["app", "audit"])
        options = DeadLetterOptions(path=f"{folder}/dlq")
        self.dead_letters = DeadLetters(options, self.journal.mac_key)
        self.dead_letters.open()
        self.dispatcher = StillDispatcher()
        self.receiver = OpenReceiver()
        self.handshakes = HandshakeBook(f"{folder}/journal", self.clock)
        self.started = True
        self.started_at_ms = self.clock.wall_ms()
        self.draining = False
        self.beat_ago_s = 0.0
        self.refusals: dict[str, int] = {}
        self.drained: list[float] = []
        self.reload_result = ReloadResult(ok=True)
        self.refreshed = 0

    def loop_beat_ago_s(self) -> float:
        return self.beat_ago_s

    def masked_headers(self, source: str) -> frozenset[bytes]:
        return frozenset({b"x-hook-word"}) if source == "github" else frozenset()

    def refused_since(self, since_ms: int, source: str = "") -> dict[str, int]:
        return self.refusals

    def sources(self) -> list[SourceInfo]:
        return [SourceInfo(name="github", path="/hooks/github"), SourceInfo(name="slack", path="/hooks/slack")]

    def destinations(self) -> list[DestinationInfo]:
        url = "http://user:pw@127.0.0.1:3000/in?key=abc"
        return [DestinationInfo(name="app", url=url), DestinationInfo(name="audit")]

    async def refresh(self) -> None:
        self.refreshed += 1

    async def drain(self, wait_s: float) -> int:
        self.drained.append(wait_s)
        self.draining = True
        return 3

    async def reload(self) -> ReloadResult:
        return self.reload_result

    # --- putting things in

    async def accept(self, body: bytes = b"{}", **more: Any) -> Event:
        """Store one event for ``app``."""
        fields: dict[str, Any] = {
            "source": "github",
            "destinations": ("app",),
            "received_at_ms": self.clock.wall_ms(),
            "method": b"POST",
            "path": b"/hooks/github",
            "query": b"",
            "headers": [(b"Content-Type", b"application/json"), (b"X-Hook-Word", b"canary")],
            "verified": True,
        } | more
        done = asyncio.get_running_loop().create_future()
        event = Event(body=body, **fields)
        self.journal.append(event, None, ACK_DEFAULT, done.set_result)
        await done
        return event

    async def settle(self, event: Event, change: Change, destination: str = "app", **more: Any) -> None:
        """Say what became of its first delivery."""
        done = asyncio.get_running_loop().create_future()
        delivery = Delivery(event, destination, round=more.pop("round", 0), attempts=more.pop("attempts", 0))
        more.setdefault("attempt", None)
        self.journal.settle(Settlement(delivery, change, done=lambda _s, applied: done.set_result(applied), **more))
        assert await done

    async def kill(self, event: Event, destination: str = "app", *, round: int = 0, buried: bool = True) -> None:
        """Let it die, with its file; not ``buried``, the journal has not heard of that yet."""
        attempt = Attempt(1, self.clock.wall_ms(), 12, "4xx", 422, "status 422", round)
        await self.settle(event, Change.GIVE_UP, destination, attempt=attempt, reason="rejected", round=round)
        dying = (await self.journal.dying(destination, limit=10, skip=()))[0]
        assert self.dead_letters.write_many([(dying, self.clock.wall_ms())])[0].done
        if buried:
            await self.settle(event, Change.BURY, destination, round=round, attempts=1)

    def rot(self, event: Event, at: int = -3) -> None:
        """Flip a bit of its record; at 1 it is one of the frame."""
        environment = self.journal._environment
        key, table = events_key(event.block), environment.db[b"events"]
        with environment.env.begin(write=True) as txn:
            block = bytearray(txn.get(key, db=table))
            block[at] ^= 1
            txn.put(key, bytes(block), db=table)

    async def state(self, event_id: str, destination: str = "app") -> State | None:
        view = await self.journal.event(event_id)
        assert view is not None
        return next((d.state for d in view.deliveries if d.destination == destination), None)

    def letter(self, event: Event, destination: str = "app") -> str:
        return os.path.join(self.dead_letters.options.path, destination, event.id + ".json")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(self.path)


class Asker:
    """Asks the running server from a thread, as a client outside would."""

    def __init__(self, server: AdminServer, socket_path: str) -> None:
        self.server = server
        self.socket_path = socket_path
        self.port = int(server.addresses[-1].rpartition(":")[2])

    async def __call__(
        self, method: str, path: str, body: Any = None, *, tcp: bool = False, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        def ask() -> tuple[int, dict[str, str], bytes]:
            c = (
                http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                if tcp
                else UnixConnection(self.socket_path)
            )
            try:
                sent = {"Webhook-Sidecar-Request": "1"} if method == "POST" else {}
                data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
                c.request(method, path, data, sent | (headers or {}))
                r = c.getresponse()
                return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
            finally:
                c.close()

        return await asyncio.to_thread(ask)

    async def json(self, path: str) -> Any:
        status, _, body = await self("GET", path)
        assert status == 200, body
        return json.loads(body)

    async def rows(self, path: str, body: Any) -> list[dict[str, Any]]:
        status, _, answer = await self("POST", path, body)
        assert status == 200, answer
        return [json.loads(line) for line in answer.splitlines() if line]

    async def raw(self, data: bytes, *, wait_eof: bool = True) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        answer = await asyncio.wait_for(reader.read() if wait_eof else reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()
        return answer


BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def world(tmp_path) -> AsyncIterator[World]:
    w = World(str(tmp_path))
    w.journal.start(asyncio.get_running_loop())
    yield w
    await w.journal.aclose()


@pytest.fixture
async def ask(world, tmp_path) -> AsyncIterator[Asker]:
    path = str(tmp_path / "admin.sock")
    server = AdminServer(world, AdminOptions(listen="127.0.0.1:0", socket=path, token=TOKEN, max_connections=4))
    await server.start()
    yield Asker(server, path)
    await server.close()


# --- who may ask


async def test_the_socket_is_for_its_owner_only_and_needs_no_token(ask):
    assert stat.S_IMODE(os.stat(ask.socket_path).st_mode) == 0o600
    assert (await ask("GET", "/api/v1/status"))[0] == 200


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/events", "/api/v1/nothing"])
async def test_over_tcp_the_api_needs_the_token(ask, path):
    status, headers, body = await ask("GET", path, tcp=True)
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert json.loads(body)["error"]["code"] == "unauthorized"
    assert (await ask("GET", path, tcp=True, headers={"Authorization": "Bearer wrong"}))[0] == 401
    assert (await ask("GET", path, tcp=True, headers=BEARER))[0] == (404 if "nothing" in path else 200)


async def test_over_tcp_reload_needs_the_token(ask):
    assert (await ask("POST", "/-/reload", tcp=True))[0] == 401
    assert (await ask("POST", "/-/reload", tcp=True, headers=BEARER))[0] == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/metrics"])
async def test_probes_and_metrics_are_asked_by_pod_ip_without_a_token(ask, path):
    assert (await ask("GET", path, tcp=True, headers={"Host": "10.1.2.3:9787"}))[0] == 200


async def test_the_front_page_needs_no_token_and_says_where_it_is_needed(ask):
    status, headers, body = await ask("GET", "/", tcp=True)
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    text = body.decode()
    assert TOKEN not in text
    for path in re.findall(r"^  (/\S+)(?:  (/\S+))?", text, re.MULTILINE):
        for named in filter(None, path):
            token = BEARER if named.startswith("/api") else {}
            assert (await ask("GET", named, tcp=True, headers=token))[0] == 200, f"{named} is not what the page says"
    assert (await ask("HEAD", "/", tcp=True))[2] == b""
    assert (await ask("GET", "/"))[0] == 200
    assert (await ask("POST", "/", tcp=True))[0] == 405
    assert (await ask("GET", "/", tcp=True, headers={"Host": "evil.example"}))[0] == 421
    assert (await ask("GET", "/", tcp=True, headers={"Sec-Fetch-Site": "cross-site"}))[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9787", "localhost.evil.example", "10.9.9.9", ""])
async def test_a_foreign_host_is_misdirected_even_with_the_token(ask, host):
    status, _, body = await ask("GET", "/api/v1/status", tcp=True, headers=BEARER | {"Host": host})
    assert (status, json.loads(body)["error"]["code"]) == (421, "misdirected")


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1:9787", "[::1]:8080"])
async def test_our_own_hosts_are_served_whatever_the_port(ask, host):
    assert (await ask("GET", "/api/v1/status", tcp=True, headers=BEARER | {"Host": host}))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_a_foreign_page_is_refused_even_with_the_token(ask, headers):
    status, _, body = await ask("GET", "/api/v1/status", tcp=True, headers=BEARER | headers)
    assert (status, json.loads(body)["error"]["code"]) == (403, "cross_site")


async def test_a_mutation_needs_post_and_our_header(ask):
    status, headers, _ = await ask("GET", "/api/v1/events/replay", tcp=True, headers=BEARER)
    assert (status, headers["allow"]) == (405, "POST")
    bare = await ask("POST", "/api/v1/events/replay", {"all": True}, headers={"Webhook-Sidecar-Request": ""})
    assert bare[0] == 200  # any value will do
    raw = f"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n"
    assert b" 403 " in await ask.raw(raw.encode(), wait_eof=False)


async def test_guessing_the_token_is_slowed_down_but_the_socket_is_not(ask):
    statuses = [
        (await ask("GET", "/api/v1/status", tcp=True, headers={"Authorization": f"Bearer {n}"}))[0] for n in range(12)
    ]
    assert statuses[:10] == [401] * 10
    assert statuses[10:] == [429, 429]
    assert (await ask("GET", "/api/v1/status", tcp=True, headers=BEARER))[0] == 429
    assert (await ask("GET", "/api/v1/status"))[0] == 200


# --- hostile bytes


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n", b"505"),
        (b"GET http://evil.example/api/v1/status HTTP/1.1\r\nHost: localhost\r\n", b"421"),
        (b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n", b"400"),
        (b"POST /-/reload HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: magic\r\n", b"417"),
        (b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 60, b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
    ],
)
async def test_hostile_heads_get_a_fixed_answer_and_a_close(ask, head, status):
    answer = await ask.raw(head + b"\r\n")
    assert answer.startswith((b"HTTP/1.1 " + status, b"HTTP/1.0 " + status))
    assert b'{"error":{"code":' in answer
    assert b"magic" not in answer
    assert b"aaaa" not in answer


async def test_an_oversized_body_is_refused_while_it_comes_in(ask):
    head = f"POST /api/v1/events/replay HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
    head += b"Webhook-Sidecar-Request: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await ask.raw(head + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 5)
    assert b"413" in answer.split(b"\r\n")[0]


async def test_at_the_cap_the_idle_connection_goes_and_a_new_one_is_served(ask):
    idle = [await asyncio.open_connection("127.0.0.1", ask.port) for _ in range(4)]
    assert (await ask("GET", "/livez", tcp=True))[0] == 200
    assert await asyncio.wait_for(idle[0][0].read(), 2) == b""
    for _, writer in idle:
        writer.close()


@pytest.mark.parametrize("path", ["//", "/api", "/console/../api/v1/status", "//api/v1/status", "/API/V1/status"])
async def test_only_exact_raw_paths_are_known(ask, path):
    assert (await ask("GET", path, tcp=True, headers=BEARER))[0] == 404


async def test_a_body_that_does_not_come_is_given_up(ask, monkeypatch):
    monkeypatch.setattr(server_module, "_BODY_S", 0.05)
    head = f"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
    answer = await ask.raw(head + b"Webhook-Sidecar-Request: 1\r\nContent-Length: 5\r\n\r\n{")
    assert b" 408 " in answer.split(b"\r\n")[0] + b" "


async def test_expect_100_gets_its_100_only_after_the_gate(ask):
    head = b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nWebhook-Sidecar-Request: 1\r\nExpect: 100-continue\r\n"
    refused = await ask.raw(head + b"Content-Length: 2\r\n\r\n", wait_eof=False)
    assert b" 401 " in refused
    token = f"Authorization: Bearer {TOKEN}\r\n".encode()
    assert (await ask.raw(head + token + b"Content-Length: 2\r\n\r\n", wait_eof=False)).startswith(b"HTTP/1.1 100 ")


async def test_a_bug_is_answered_without_its_text(ask, world, monkeypatch):
    def fail() -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(world, "sources", fail)
    status, _, body = await ask("GET", "/api/v1/sources")
    assert status == 500
    assert b"canary" not in body


# --- probes, metrics, drain


async def test_livez_fails_when_the_loop_or_the_writer_is_stuck(ask, world):
    assert (await ask("GET", "/livez"))[2] == b"ok"
    world.beat_ago_s = 7.0
    status, _, body = await ask("GET", "/livez")
    assert status == 503
    assert b"[-]event-loop failed: last beat 7s ago\n[+]journal-writer ok\nlivez check failed" in body


async def test_readyz_is_false_from_the_start_of_a_drain_and_livez_is_not(ask, world):
    assert (await ask("GET", "/readyz?verbose"))[2].startswith(b"[+]startup ok\n[+]journal ok\n[+]drain ok\n")
    status, _, body = await ask("GET", "/-/drain?wait=20s", tcp=True, headers={"Webhook-Sidecar-Drain": "1"})
    assert (status, json.loads(body)) == (200, {"draining": True, "left": 3})
    assert world.drained == [20.0]
    assert (await ask("GET", "/readyz"))[0] == 503
    assert (await ask("GET", "/livez"))[0] == 200


async def test_startupz_and_readyz_wait_for_the_start(ask, world):
    world.started = False
    assert (await ask("GET", "/startupz"))[0] == 503
    assert (await ask("GET", "/readyz"))[0] == 503
    assert (await ask("GET", "/livez"))[0] == 200
    assert (await ask("GET", "/api/v1/status"))[0] == 503


@pytest.mark.parametrize(("query", "status"), [("", 200), ("?wait=5m", 200), ("?wait=junk", 400), ("?wait=2h", 400)])
async def test_drain_needs_its_header_and_a_sane_wait(ask, world, query, status):
    assert (await ask("GET", "/-/drain" + query, tcp=True))[0] == 403
    assert not world.draining
    assert (await ask("POST", "/-/drain" + query, tcp=True, headers={"Webhook-Sidecar-Drain": "1"}))[0] == status


async def test_metrics_come_in_both_forms_and_are_kept_for_a_second(ask, world):
    status, headers, body = await ask("GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"webhook_sidecar_journal_used_bytes" in body
    assert b"process_resident_memory_bytes" in body
    assert b"python_gc_collections_total" in body
    _, headers, body = await ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert world.refreshed == 2
    await ask("GET", "/metrics")
    assert world.refreshed == 2


async def test_a_refused_reload_says_why(ask, world):
    world.reload_result = ReloadResult(ok=False, problems=("config.toml:1:1: C101 x",))
    status, _, body = await ask("POST", "/-/reload")
    assert status == 422
    assert json.loads(body)["problems"] == ["config.toml:1:1: C101 x"]


# --- looking


async def test_an_event_is_found_by_id_prefix_and_the_providers_key_with_secrets_masked(ask, world):
    event = await world.accept(b'{"order":123}', key="order 123", query=b"a=1&token=canary")
    for name in (event.id, event.id[:24], "order%20123"):
        shown = await ask.json(f"/api/v1/events/{name}")
        assert shown["id"] == event.id
        assert shown["body"] == '{"order":123}'
        assert shown["deliveries"][0]["state"] == "pending"
        assert ["X-Hook-Word", "****"] in shown["headers"]
        assert "canary" not in json.dumps(shown)


async def test_a_prefix_of_several_is_ambiguous_and_an_unknown_name_is_not_found(ask, world):
    now = world.clock.wall_ms()
    await world.accept(received_at_ms=now)
    await world.accept(received_at_ms=now)
    assert (await ask("GET", "/api/v1/events/wse_0"))[0] == 409
    assert (await ask("GET", "/api/v1/events/nobody"))[0] == 404
    assert (await ask("GET", "/api/v1/events/wse_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"))[0] == 404


async def test_a_body_is_an_attachment_of_raw_bytes(ask, world):
    event = await world.accept(b"<script>\xff\x00")
    status, headers, body = await ask("GET", f"/api/v1/events/{event.id}/body")
    assert (status, body) == (200, b"<script>\xff\x00")
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"].startswith("attachment;")
    assert headers["x-content-type-options"] == "nosniff"


async def test_events_page_by_cursor_and_filter(ask, world):
    made = [(await world.accept(key=str(n), source="slack" if n % 2 else "github")).id for n in range(5)]
    first = await ask.json("/api/v1/events?limit=2")
    second = await ask.json(f"/api/v1/events?limit=2&cursor={first['next_cursor']}")
    third = await ask.json(f"/api/v1/events?limit=2&cursor={second['next_cursor']}")
    assert [e["id"] for p in (first, second, third) for e in p["events"]] == made[::-1]
    assert third["next_cursor"] is None
    assert [e["key"] for e in (await ask.json("/api/v1/events?source=slack"))["events"]] == ["3", "1"]
    assert len((await ask.json(f"/api/v1/events?ids={made[0]},{made[3]}"))["events"]) == 2


async def test_a_no_says_how_far_it_looked(ask, world):
    await world.accept(key="other")
    world.refusals = {"wrong_secret": 12, "stale_timestamp": 2}
    page = await ask.json("/api/v1/events?key=order-123")
    assert (page["events"], page["scanned"]) == ([], 1)
    assert page["oldest_at"] is not None
    assert page["refused"] == {"wrong_secret": 12, "stale_timestamp": 2}


@pytest.mark.parametrize("query", ["state=lost", "since=yesterday", "limit=x", "reason=bad", "ids=wse_short"])
async def test_a_filter_that_makes_no_sense_is_refused(ask, query):
    status, _, body = await ask("GET", f"/api/v1/events?{query}")
    assert (status, json.loads(body)["error"]["code"]) == (400, "bad_request")


async def test_status_sources_config_and_stats_name_no_secret(ask, world):
    await world.accept()
    status = await ask.json("/api/v1/status")
    assert status["destinations"][0]["pending"] == 1
    assert status["destinations"][0]["held"] is True
    assert status["destinations"][0]["url"] == "http://****@127.0.0.1:3000/in?key=****"
    assert (await ask.json("/api/v1/sources"))["sources"][0]["path"] == "/hooks/github"
    assert "pw" not in json.dumps(await ask.json("/api/v1/config"))
    assert (await ask.json("/api/v1/journal/stats"))["last_seq"] >= 1
    assert "refused" in await ask.json("/api/v1/refused?since=2h")


# --- dead letters


async def test_a_dead_letter_is_listed_and_shown_with_secrets_masked(ask, world):
    event = await world.accept(b'{"n":1}', key="k-1")
    await world.kill(event)
    listed = await ask.json("/api/v1/dead-letters")
    assert [(r["event_id"], r["reason"], r["source"]) for r in listed["dead_letters"]] == [
        (event.id, "rejected", "github")
    ]
    assert listed["totals"]["app"]["count"] == 1
    for query in ("source=slack", "key=other", "contains=zzz", "reason=expired", "destination=audit"):
        assert (await ask.json(f"/api/v1/dead-letters?{query}"))["dead_letters"] == [], query
    shown = (await ask.json(f"/api/v1/dead-letters/{event.id[:25]}"))["dead_letters"][0]
    assert shown["log"][0]["status"] == 422
    assert shown["problem"] is None
    assert "canary" not in json.dumps(shown)
    assert (await ask("GET", "/api/v1/dead-letters/nothing"))[0] == 404


async def test_replaying_a_dead_letter_commits_then_removes_the_file(ask, world):
    event = await world.accept()
    await world.kill(event)
    rows = await ask.rows("/api/v1/dead-letters/replay", {"ids": [event.id]})
    assert (rows[-1]["type"], rows[-1]["done"], rows[-1]["failed"]) == ("summary", 1, 0)
    assert rows[-1]["outcomes"] == {"replayed": 1}
    assert await world.state(event.id) is State.PENDING
    assert not os.path.exists(world.letter(event))


async def test_a_delivery_that_dies_again_at_once_keeps_its_new_letter(ask, world):
    event = await world.accept()
    await world.kill(event)
    replay = world.journal.replay

    async def replay_and_die(refs: Any, *, to: str | None = None) -> Any:
        result = await replay(refs, to=to)
        await world.kill(event, round=1)
        return result

    world.journal.replay = replay_and_die
    await ask.rows("/api/v1/dead-letters/replay", {"all": True})
    assert await world.state(event.id) is State.DEAD
    assert os.path.exists(world.letter(event))


async def test_a_dry_run_changes_nothing(ask, world):
    event = await world.accept()
    await world.kill(event)
    for path in ("dead-letters/replay", "dead-letters/rm", "events/replay"):
        rows = await ask.rows(f"/api/v1/{path}", {"all": True, "dry_run": True})
        assert (rows[-1]["matched"], rows[-1]["done"], rows[-1]["dry_run"]) == (1, 0, True)
    assert await world.state(event.id) is State.DEAD
    assert os.path.exists(world.letter(event))


async def test_replaying_to_another_destination_takes_the_letter_away(ask, world):
    event = await world.accept()
    await world.kill(event)
    await ask.rows("/api/v1/dead-letters/replay", {"ids": [event.id], "to": "audit"})
    assert await world.state(event.id, "audit") is State.PENDING
    assert await world.state(event.id, "app") is State.DISCARDED
    assert not os.path.exists(world.letter(event))


@pytest.mark.parametrize("path", ["dead-letters/replay", "events/replay", "events/discard"])
async def test_what_comes_to_life_at_another_destination_leaves_no_letter_there(ask, world, path):
    """It died there, too: the next replay of dead letters would send it once more."""
    event = await world.accept(destinations=("audit", "app"))
    await world.kill(event)
    if path != "events/discard":
        await world.kill(event, "audit")
    rows = await ask.rows(f"/api/v1/{path}", {"ids": [event.id], "destination": "audit", "to": "app"})
    assert (rows[-1]["done"], rows[-1]["failed"]) == (1, 0)
    assert await world.state(event.id) is State.PENDING
    assert not os.path.exists(world.letter(event))


@pytest.mark.parametrize(("path", "more"), [("rm", {}), ("replay", {"to": "audit"}), ("replay", {})])
async def test_a_letter_that_is_just_being_written_stays(ask, world, path, more):
    """It has its name already, and its delivery is about to be dead: it would be dead without a letter."""
    event = await world.accept()
    await world.kill(event, buried=False)
    rows = await ask.rows(f"/api/v1/dead-letters/{path}", {"all": True} | more)
    assert rows[0] == {"type": "refused", "event_id": event.id, "destination": "app", "reason": "dying"}
    assert os.path.exists(world.letter(event))
    assert await world.state(event.id, "audit") is None
    await world.settle(event, Change.BURY, attempts=1)
    rows = await ask.rows(f"/api/v1/dead-letters/{path}", {"all": True} | more)
    assert (rows[-1]["done"], rows[-1]["failed"]) == (1, 0)


def edit(path: str, change: Callable[[dict[str, Any]], None]) -> None:
    with open(path, encoding="ascii") as f:
        content = json.load(f)
    change(content)
    with open(path, "w", encoding="ascii") as f:
        json.dump(content, f)


async def test_an_edited_letter_is_taken_only_when_told_and_never_as_verified(ask, world):
    event = await world.accept(b'{"n":1}')
    await world.kill(event)
    edit(world.letter(event), lambda c: c["request"].update(body='{"n":2}'))
    rows = await ask.rows("/api/v1/dead-letters/replay", {"all": True})
    assert rows[0] == {
        "type": "refused", "event_id": event.id, "destination": "app", "reason": "mac_mismatch",
    }  # fmt: skip
    assert await world.state(event.id) is State.DEAD
    rows = await ask.rows("/api/v1/dead-letters/replay", {"all": True, "edited": True})
    made = next(r for r in rows if r["type"] == "restored")
    view = await world.journal.event(made["event_id"])
    assert view.event.body == b'{"n":2}'
    assert (view.event.verified, view.event.replay_of) == (False, event.id)
    assert view.deliveries[0].state is State.PENDING
    assert not os.path.exists(world.letter(event))
    assert await world.state(event.id) is State.DISCARDED


async def test_a_letter_of_another_journal_comes_in_as_unverified_where_its_names_are_known(ask, world, tmp_path):
    other = World(str(tmp_path / "other"))
    other.journal.start(asyncio.get_running_loop())
    event = await other.accept(b"foreign")
    await other.kill(event)
    await other.journal.aclose()
    os.makedirs(os.path.dirname(world.letter(event)), mode=0o700)
    os.rename(other.letter(event), world.letter(event))
    rows = await ask.rows("/api/v1/dead-letters/replay", {"all": True})
    assert rows[-1]["outcomes"] == {"restored_unverified": 1}
    made = next(r for r in rows if r["type"] == "restored")
    view = await world.journal.event(made["event_id"])
    assert (view.event.body, view.event.verified) == (b"foreign", False)


def pruned(world: World, destination: str = "app", **more: Any) -> Event:
    """A sealed letter of ours whose event the journal no longer has."""
    now = world.clock.wall_ms()
    world.journal._seq = 6000  # its number was given out
    fields: dict[str, Any] = {"source": "github", "verified": True} | more
    event = Event(
        destinations=(destination,), received_at_ms=now, method=b"POST", path=b"/hooks/github", query=b"",
        headers=[(b"A", b"b")], body=b"pruned", id=format_event_id(now, world.journal.journal_id, 5000), **fields,
    )  # fmt: skip
    log = (Attempt(1, now, 5, "4xx", 422, "status 422"),)
    delivery = Delivery(event, destination, State.DYING, attempts=1, reason="rejected", log=log)
    assert world.dead_letters.write_many([(delivery, now)])[0].done
    return event


@pytest.mark.parametrize("verified", [True, False])
async def test_a_letter_whose_event_was_pruned_comes_back_as_itself_verified_as_it_was(ask, world, verified):
    event = pruned(world, verified=verified)
    rows = await ask.rows("/api/v1/dead-letters/replay", {"ids": [event.id]})
    assert rows[-1]["outcomes"] == {"restored": 1}
    view = await world.journal.event(event.id)
    assert (view.event.body, view.event.verified, view.event.headers) == (b"pruned", verified, [(b"A", b"b")])
    assert (view.deliveries[0].state, view.deliveries[0].round) == (State.PENDING, 1)
    assert view.deliveries[0].log[0].status == 422
    assert not os.path.exists(world.letter(event))


async def test_all_letters_of_a_pruned_event_come_back_in_one_replay(ask, world):
    """One for each destination that never took it: the first brings the event back, the others find it there."""
    event = pruned(world)
    now = world.clock.wall_ms()
    other = Delivery(event, "audit", State.DYING, attempts=1, reason="rejected")
    assert world.dead_letters.write_many([(other, now)])[0].done
    rows = await ask.rows("/api/v1/dead-letters/replay", {"ids": [event.id]})
    assert (rows[-1]["done"], rows[-1]["failed"]) == (2, 0)
    for destination in ("app", "audit"):
        assert await world.state(event.id, destination) is State.PENDING
        assert not os.path.exists(world.letter(event, destination))


async def test_a_letter_from_after_the_backup_comes_back_as_a_new_event_verified_as_it_was(ask, world):
    """Its number is another event's in the journal that was restored, or will be."""
    event = pruned(world)
    world.journal._seq = 5000
    rows = await ask.rows("/api/v1/dead-letters/replay", {"ids": [event.id]})
    assert rows[-1]["outcomes"] == {"restored": 1}
    made = next(r for r in rows if r["type"] == "restored")
    assert (made["replay_of"], made["verified"]) == (event.id, True)
    view = await world.journal.event(made["event_id"])
    assert (view.event.body, view.event.verified, view.event.replay_of) == (b"pruned", True, event.id)
    assert not os.path.exists(world.letter(event))


async def test_a_pruned_letter_of_a_destination_that_is_gone_needs_another_one(ask, world):
    event = pruned(world, "old")
    rows = await ask.rows("/api/v1/dead-letters/replay", {"ids": [event.id]})
    assert rows[0]["reason"] == "unknown_destination"
    assert os.path.exists(world.letter(event, "old"))
    rows = await ask.rows("/api/v1/dead-letters/replay", {"ids": [event.id], "to": "audit"})
    assert rows[-1]["done"] == 1
    assert await world.state(event.id, "audit") is State.PENDING
    assert not os.path.exists(world.letter(event, "old"))


async def test_a_changed_letter_must_name_a_source_of_ours(ask, world):
    event = await world.accept()
    await world.kill(event)
    edit(world.letter(event), lambda c: c.update(source="invented"))
    rows = await ask.rows("/api/v1/dead-letters/replay", {"all": True, "edited": True})
    assert rows[0]["reason"] == "unknown_source"
    assert os.path.exists(world.letter(event))


async def test_a_full_journal_refuses_to_restore_and_keeps_the_file(ask, world, monkeypatch):
    event = pruned(world)

    async def refuse(*_: Any, **__: Any) -> str:
        raise JournalError("the journal takes nothing now: storage_full")

    monkeypatch.setattr(world.journal, "restore", refuse)
    rows = await ask.rows("/api/v1/dead-letters/replay", {"ids": [event.id]})
    assert rows[0]["reason"].startswith("the journal takes nothing now")
    assert os.path.exists(world.letter(event))


@pytest.mark.parametrize("command", [redrive.replay_letters, redrive.remove_letters, commands.replay_events])
async def test_a_command_on_large_letters_has_few_of_them_in_memory(world, monkeypatch, command):
    """A hundred of 25 MiB, as some providers send them, would be more than a small container has."""
    monkeypatch.setattr(redrive, "SLICE_BYTES", 2 << 20, raising=False)
    for _ in range(30):
        event = await world.accept()
        await world.kill(event)
        edit(world.letter(event), lambda c: c["request"].update(body="x" * (1 << 20)))
    tracemalloc.start()
    try:
        rows = [row async for row in command(world, BulkRequest(all=True))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows[-1]["matched"] == 30
    assert peak < 16 << 20


@pytest.mark.parametrize("command", [redrive.replay_letters, redrive.remove_letters, commands.replay_events])
async def test_a_command_that_is_cut_off_leaves_no_letter_of_what_it_has_committed(world, monkeypatch, command):
    """As by a stop: its next start would find the journal in order and the letters of deliveries that are not dead."""
    events = [await world.accept() for _ in range(3)]
    for event in events:
        await world.kill(event)
    verb = "remove_dead" if command is redrive.remove_letters else "replay"
    begun, real = asyncio.Event(), getattr(world.journal, verb)

    async def change(*refs: Any, **more: Any) -> Any:
        begun.set()
        return await real(*refs, **more)

    monkeypatch.setattr(world.journal, verb, change)

    async def run() -> None:
        async for _ in command(world, BulkRequest(all=True)):
            pass

    task = asyncio.ensure_future(run())
    await begun.wait()
    task.cancel()
    await asyncio.wait((task,))
    async with asyncio.timeout(5):
        while any(os.path.exists(world.letter(e)) for e in events):  # noqa: ASYNC110 - a thread removes them
            await asyncio.sleep(0.01)
    assert {await world.state(event.id) for event in events} <= {State.PENDING, State.DISCARDED}


async def test_left_over_files_are_swept_and_those_of_the_dead_stay(world):
    alive, still_dead = await world.accept(), await world.accept()
    for event in (alive, still_dead):
        await world.kill(event)
    await world.journal.replay([Ref(alive.id, "app")])  # and the process died before it came to unlink
    kept = pruned(world)
    assert await redrive.remove_left_over(world) == 1
    assert not os.path.exists(world.letter(alive))
    assert os.path.exists(world.letter(still_dead))
    assert os.path.exists(world.letter(kept))


async def test_an_event_that_rotted_is_named_and_the_others_of_a_command_are_done(ask, world):
    """It is shown as damaged and refused as corrupt; its letter, the last of it there is, stays."""
    rotten, sound = await world.accept(), await world.accept()
    for event in (rotten, sound):
        await world.kill(event)
    world.rot(rotten)
    status, _, body = await ask("GET", f"/api/v1/events/{rotten.id}")
    assert (status, json.loads(body)["error"]["code"]) == (500, "failed")
    assert b"a record is damaged" in body
    for path in ("events/replay", "dead-letters/replay"):
        rows = await ask.rows(f"/api/v1/{path}", {"ids": [rotten.id, sound.id]})
        refused = next(r for r in rows if r["type"] == "refused")
        assert (refused["event_id"], refused["reason"]) == (rotten.id, "corrupt")
        assert rows[-1]["type"] == "summary"
    assert await world.state(sound.id) is State.PENDING
    assert os.path.exists(world.letter(rotten))


async def test_what_is_owed_of_an_event_that_rotted_can_be_dropped_and_nothing_else(ask, world):
    """Nobody will ever deliver it; without that its destination would be behind for ever."""
    rotten, sound = await world.accept(), await world.accept()
    world.rot(rotten)
    ids = {"ids": [rotten.id, sound.id], "destination": "app"}
    rehearsed = await ask.rows("/api/v1/events/discard", ids | {"dry_run": True})
    assert rehearsed[-1]["matched"] == 2
    moved = await ask.rows("/api/v1/events/discard", {"ids": [rotten.id], "to": "audit"})
    assert [r["reason"] for r in moved if r["type"] == "refused"] == ["corrupt"], "there is nothing to send elsewhere"
    rows = await ask.rows("/api/v1/events/discard", ids)
    assert rows[-1]["outcomes"] == {"discarded": 2}
    assert world.journal.counters().pending("app") == 0
    assert all(row.balanced for row in (await world.journal.audit(full=True)).rows)


@pytest.mark.parametrize("at", [1, -3], ids=["frame", "content"])
async def test_lists_and_the_audit_leave_an_event_out_that_rotted(ask, world, at):
    """The others are there, and the audit counts it, also where the event is a dead one."""
    rotten, sound = await world.accept(), await world.accept()
    await world.kill(rotten)
    world.rot(rotten, at)
    for query, found in ((f"ids={rotten.id},{sound.id}", [sound.id]), (f"key={rotten.id}", []), ("", [sound.id])):
        status, _, body = await ask("GET", f"/api/v1/events?{query}")
        assert (status, [e["id"] for e in json.loads(body)["events"]]) == (200, found)
    for full in ("", "?full=1"):
        status, _, body = await ask("GET", f"/api/v1/audit{full}")
        assert status == 200
        assert json.loads(body)["ok"]
    assert json.loads(body)["quarantined"] == 1


async def test_a_sweep_of_left_over_files_passes_over_an_event_that_rotted(world):
    rotten, alive = await world.accept(), await world.accept()
    for event in (rotten, alive):
        await world.kill(event)
    await world.journal.replay([Ref(alive.id, "app")])
    world.rot(rotten)
    assert await redrive.remove_left_over(world) == 1
    assert await redrive.remove_left_over_of(world, rotten.id) == 0
    assert os.path.exists(world.letter(rotten))


async def test_a_letter_that_is_a_link_or_lies_in_another_folder_is_not_taken(ask, world):
    event = await world.accept()
    await world.kill(event)
    path = world.letter(event)
    os.makedirs(os.path.dirname(world.letter(event, "audit")), mode=0o700)
    os.rename(path, world.letter(event, "audit"))
    os.symlink(world.letter(event, "audit"), path)
    rows = await ask.rows("/api/v1/dead-letters/replay", {"all": True})
    assert sorted(r["reason"] for r in rows if r["type"] == "refused") == ["name_mismatch", "not_regular"]
    assert await world.state(event.id) is State.DEAD


async def test_the_letter_of_a_delivery_that_is_not_dead_is_a_left_over_and_is_removed(ask, world):
    event = await world.accept()
    await world.kill(event)
    with open(world.letter(event), "rb") as f:
        kept = f.read()
    await ask.rows("/api/v1/dead-letters/replay", {"all": True})
    with open(world.letter(event), "wb") as f:  # as after a crash between commit and unlink
        f.write(kept)
    rows = await ask.rows("/api/v1/dead-letters/replay", {"all": True})
    assert rows[-1]["outcomes"] == {"left_over_removed": 1}
    assert not os.path.exists(world.letter(event))
    assert await world.state(event.id) is State.PENDING


async def test_removing_a_dead_letter_discards_it(ask, world):
    event = await world.accept()
    await world.kill(event)
    rows = await ask.rows("/api/v1/dead-letters/rm", {"ids": [event.id]})
    assert rows[-1]["outcomes"] == {"removed": 1}
    assert await world.state(event.id) is State.DISCARDED
    assert not os.path.exists(world.letter(event))
    rows = await ask.rows("/api/v1/dead-letters/rm", {"ids": [event.id]})
    assert (rows[0]["reason"], rows[-1]["failed"]) == ("gone", 1)


# --- bulk on events


async def test_delivered_events_are_replayed_by_filter_and_pending_ones_left_alone(ask, world):
    delivered = await world.accept(source="slack")
    await world.settle(delivered, Change.SUCCEED)
    waiting = await world.accept(source="slack")
    rows = await ask.rows("/api/v1/events/replay", {"source": "slack"})
    assert (rows[-1]["done"], rows[-1]["skipped"]) == (1, 1)
    assert await world.state(delivered.id) is State.PENDING
    view = await world.journal.event(delivered.id)
    assert view.deliveries[0].round == 1
    assert (await world.journal.event(waiting.id)).deliveries[0].round == 0


async def test_replaying_a_dead_event_removes_its_letter(ask, world):
    event = await world.accept()
    await world.kill(event)
    await ask.rows("/api/v1/events/replay", {"ids": [event.id]})
    assert await world.state(event.id) is State.PENDING
    assert not os.path.exists(world.letter(event))


async def test_named_events_that_do_not_fit_are_refused_by_name(ask, world):
    event = await world.accept()
    unknown = event.id[:-1] + ("0" if event.id[-1] != "0" else "1")
    rows = await ask.rows("/api/v1/events/replay", {"ids": [event.id, unknown]})
    reasons = {(r["event_id"], r["reason"]) for r in rows if r["type"] == "refused"}
    assert reasons == {(event.id, "pending"), (unknown, "not_found")}


async def test_a_bug_in_the_middle_of_a_stream_ends_it_with_a_line(ask, world, monkeypatch):
    """A second head behind the first would be read as a chunk, and the client would think that we died."""
    events = [await world.accept() for _ in range(2)]
    for event in events:
        await world.kill(event)
    replay, calls = world.journal.replay, []

    async def fail_later(refs: Any, *, to: str | None = None) -> Any:
        calls.append(refs)
        if len(calls) > 1:
            raise RuntimeError("canary")
        return await replay(refs, to=to)

    monkeypatch.setattr(world.journal, "replay", fail_later)
    rows = await ask.rows("/api/v1/events/replay", {"ids": [event.id for event in events]})
    assert [row["type"] for row in rows] == ["progress", "error"]
    assert rows[-1]["message"] == "a bug: see the log"


async def test_pending_deliveries_are_discarded_or_redirected(ask, world):
    first, second = await world.accept(), await world.accept()
    rows = await ask.rows("/api/v1/events/discard", {"ids": [first.id]})
    assert rows[-1]["outcomes"] == {"discarded": 1}
    rows = await ask.rows("/api/v1/events/discard", {"destination": "app", "to": "audit"})
    assert rows[-1]["outcomes"] == {"redirected": 1}
    assert await world.state(first.id) is State.DISCARDED
    assert await world.state(second.id, "audit") is State.PENDING


async def test_a_bulk_command_keeps_to_its_rate_and_its_maximum(ask, world):
    for _ in range(5):
        await world.settle(await world.accept(), Change.SUCCEED)
    rows = await ask.rows("/api/v1/events/replay", {"all": True, "rate": 20, "max": 4})
    assert rows[-1]["done"] == 4
    assert rows[-1]["elapsed_s"] >= 0.19


@pytest.mark.parametrize(
    "body",
    [{}, {"all": True, "to": "nowhere"}, {"all": True, "rate": -1}, {"al": True}, b"{", {"ids": ["x"]}, b"\xff"],
)
async def test_a_bulk_request_that_makes_no_sense_is_an_error_and_not_a_stream(ask, body):
    status, _, answer = await ask("POST", "/api/v1/events/replay", body)
    assert (status, json.loads(answer)["error"]["code"]) == (400, "bad_request")


# --- audit, backup, tail


async def test_the_audit_balances_and_reports_a_letter_that_somebody_removed_as_gone(ask, world):
    event = await world.accept()
    await world.kill(event)
    await world.accept()
    report = await ask.json("/api/v1/audit?full=1")
    row = report["destinations"][0]
    assert report["ok"] is True
    assert (row["enqueued"], row["settled"], row["pending"], row["dead"], row["files"]) == (2, 1, 1, 1, 1)
    os.unlink(world.letter(event))
    report = await ask.json("/api/v1/audit")
    assert report["ok"] is True
    assert report["gone"] == [{"event_id": event.id, "destination": "app"}]


async def test_a_backup_is_made_over_the_socket_only(ask, world, tmp_path):
    target = {"path": str(tmp_path / "copy")}
    assert (await ask("POST", "/api/v1/journal/backup", target, tcp=True, headers=BEARER))[0] == 403
    assert (await ask("POST", "/api/v1/journal/backup", target))[0] == 200
    assert os.path.exists(tmp_path / "copy" / "data.mdb")
    assert (await ask("POST", "/api/v1/journal/backup", target))[0] == 409
    assert (await ask("POST", "/api/v1/journal/backup", {"path": "relative"}))[0] == 400


async def test_tail_streams_what_happens_and_unwatches_when_its_reader_goes(ask, world):
    reader, writer = await asyncio.open_unix_connection(ask.socket_path)
    writer.write(b"GET /api/v1/tail?source=github HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"\n\r\n")  # the first, empty line: the watcher is there
    assert world.feed.watched
    world.feed.publish({"type": "received", "source": "slack"})
    world.feed.publish({"type": "received", "source": "github", "key": "\u202e"})
    assert b'{"type":"received","source":"github","key":"\\\\u202e"}' in await reader.readuntil(b"}\n\r\n")
    writer.close()
    for _ in range(100):
        world.feed.publish({"type": "received", "source": "github"})
        await asyncio.sleep(0.01)
        if not world.feed.watched:
            break
    assert not world.feed.watched


# --- life


async def test_a_stale_socket_is_replaced_and_anything_else_is_left_alone(world, tmp_path):
    path = str(tmp_path / "x.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    server = AdminServer(world, AdminOptions(listen="", socket=path))
    await server.start()
    await server.close()
    await server.close()
    assert not os.path.exists(path)
    with open(path, "w", encoding="ascii") as f:
        f.write("mine")
    with pytest.raises(SidecarError, match="not a socket"):
        await AdminServer(world, AdminOptions(listen="", socket=path)).start()
    with open(path, encoding="ascii") as f:
        assert f.read() == "mine"


async def test_without_a_configured_token_each_start_makes_its_own(world, tmp_path):
    one = AdminServer(world, AdminOptions(listen="127.0.0.1:0", socket=""))
    two = AdminServer(world, AdminOptions(listen="127.0.0.1:0", socket=""))
    assert one.token != two.token
    await one.start()
    assert one.front_url.startswith("http://127.0.0.1:")
    assert one.front_url.endswith(f"/#token={one.token}")
    await one.close()
    kept = one.token
    assert not one.configure(None)
    assert one.token == kept
    assert not one.configure("changed")
    assert one.token == "changed"
    assert one.configure(None), "a fresh one, of which somebody has to be told"
    assert one.token not in {kept, "changed"}
    every = AdminServer(world, AdminOptions(listen="[::]:0", socket=""))
    await every.start()
    assert every.front_url.startswith("http://[::1]:"), "an address that can be dialled, and whose Host is served"
    await every.close()


# --- secrets that arrive by handshake


async def test_secrets_of_handshakes_are_handled_over_the_socket_only(world, ask):
    """The token opens everything else over TCP, but no secret leaves the machine that way."""
    for method, body in (("GET", None), ("POST", {"for_s": 60})):
        status, _, answer = await ask(method, "/api/v1/handshakes/github", body, tcp=True, headers=BEARER)
        assert (status, json.loads(answer)["error"]["code"]) == (403, "forbidden")
    assert not world.handshakes.expected("github")


async def test_a_window_is_opened_shown_and_a_secret_forgotten(world, ask):
    """With times as people read them."""
    assert (await ask("POST", "/api/v1/handshakes/github", {"for_s": 60}))[0] == 200
    assert world.handshakes.expected("github")
    done = asyncio.get_running_loop().create_future()
    world.handshakes.learn("github", b"a-secret", "198.51.100.1", done.set_result)
    assert await done
    shown = await ask.json("/api/v1/handshakes/github")
    assert shown["secrets"][0]["secret"] == "a-secret"
    assert shown["secrets"][0]["arrived_at"].endswith("Z")
    assert (await ask("POST", "/api/v1/handshakes/github", {"forget": "handshake-1"}))[0] == 200
    assert world.receiver.changed == ("github",)
    assert (await ask("POST", "/api/v1/handshakes/github", {"forget": "handshake-1"}))[0] == 404


@pytest.mark.parametrize(
    ("source", "body", "status"),
    [
        ("nobody", {"for_s": 60}, 404),
        ("github", {}, 400),
        ("github", {"for_s": 90_000}, 400),
        ("github", {"for_s": "x"}, 400),
    ],
)
async def test_what_makes_no_sense_is_refused(ask, source, body, status):
    """Unknown sources, no time, more than a day."""
    assert (await ask("POST", f"/api/v1/handshakes/{source}", body))[0] == status


async def test_a_source_has_only_so_many_secrets(world, ask):
    """Then one must be forgotten first."""
    for n in range(8):
        done = asyncio.get_running_loop().create_future()
        world.handshakes.learn("github", b"secret-%d" % n, "", done.set_result)
        assert await done
    assert (await ask("POST", "/api/v1/handshakes/github", {"for_s": 60}))[0] == 409
