"""Bodies of any bytes, framed in any way, and headers in any order, case and number: what leaves is what came.

What must be left out is written down here again, from docs/promises.md and RFC 9110, 7.6.1, and not taken from the code.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.daemon import REPOSITORY, Daemon, eventually
from tests.support.senders import Raw
from tests.support.sink import Sink

CONFIG = """
[sources.open]
path = "/open"
verify = { scheme = "none" }
allow_unverified = true
destinations = ["app"]
[destinations.app]
url = "%s"
concurrency = 4
"""
SEED, CASES = 1, 150
PASSES = (
    "Content-Type", "content-encoding", "X-GitHub-Event", "x-signature", "X-SIGNATURE", "Accept", "User-Agent", "Cookie",
    "Date", "ETag", "traceparent", "X-1", "a", "Authorization", "Warning", "Cache-Control", "Via", "Max-Forwards",
)  # fmt: skip
DROPPED = (
    "Keep-Alive", "Proxy-Connection", "TE", "X-Under_score", "X_Real_IP", "X-Forwarded-For", "x-forwarded-anything",
    "Forwarded", "X-Real-IP", "X-Original-URL", "Webhook-Sidecar-Attempt", "X-Dotted.Name", "Accept-Encoding", "Upgrade",
)  # fmt: skip
ONCE = ("content-type", "content-encoding", "authorization", "x-forwarded-for", "forwarded")  # two of them are refused
OURS = ("host", "content-length", "idempotency-key", "x-forwarded-", "webhook-sidecar-")
VALUES = "".join(chr(c) for c in range(0x21, 0x7F)) + "\t äöü漢字🙂"


@dataclass
class Sent:
    """One request, and what of it must arrive."""

    raw: bytes
    headers: list[tuple[str, str]]
    body: bytes


def a_body(rand: random.Random) -> bytes:
    kind = rand.randrange(5)
    if kind == 0:
        return rand.randbytes(rand.choice((0, 1, 100, 5000, 70_000)))
    text = json.dumps(
        {"b": 1, "a": [1.0, 1e3, "\u20ac"], "n": rand.random()}, indent=rand.choice((None, 1, 3))
    ).encode()
    if kind == 1:
        return b"\xef\xbb\xbf" + text + b"\r\n"
    if kind == 2:
        return gzip.compress(text)
    return text if kind == 3 else b"a=1&a=2;b=%20+\r\n" * rand.choice((1, 40))


def framed(rand: random.Random, body: bytes) -> tuple[list[str], bytes]:
    """Header lines of the framing, and the bytes behind the head."""
    if rand.random() < 0.5:
        return [f"Content-Length: {len(body)}"], body
    pieces, at = b"", 0
    while at < len(body):
        piece = body[at : at + rand.choice((1, 7, 1000, 1 << 20))]
        pieces += b"%X%b\r\n%b\r\n" % (len(piece), rand.choice((b"", b";x=y")), piece)
        at += len(piece)
        if len(pieces) > 20_000 and at < len(body):
            pieces, at = pieces + b"%x\r\n%b\r\n" % (len(body) - at, body[at:]), len(body)
    return ["Transfer-Encoding: chunked"], pieces + b"0\r\n" + rand.choice((b"", b"X-Trailer: no\r\n")) + b"\r\n"


def a_request(rand: random.Random, number: int) -> Sent:
    body = a_body(rand)
    framing, rest = framed(rand, body)
    headers = [("X-Case", str(number))]
    for _ in range(rand.randrange(12)):
        value = "".join(rand.choices(VALUES, k=rand.randrange(1, 40))).strip(" \t") or "v"
        name = rand.choice(PASSES + DROPPED)
        if name.lower() not in ONCE or name.lower() not in [n.lower() for n, _ in headers]:
            headers.append((name, value))
    hop = rand.choice(("", "", "X-Hop", "x-1, X-HOP"))
    rand.shuffle(headers)
    if hop:
        headers.insert(rand.randrange(len(headers)), ("X-Hop", "for one hop"))
        headers.append(("Connection", hop))
    one_hop = {"connection", *(name.strip().lower() for name in hop.split(","))}
    passes = {name.lower() for name in (*PASSES, "X-Case", "X-Hop")} - one_hop
    lines = ["POST /open HTTP/1.1", "Host: t", *(f"{n}: {v}" for n, v in headers), *framing]
    kept = [(n, v) for n, v in headers if n.lower() in passes]
    return Sent("\r\n".join([*lines, "", ""]).encode() + rest, kept, body)


def differences(daemon: Daemon, sink: Sink) -> list[str]:
    """Send them all; what arrived otherwise than it was sent."""
    rand = random.Random(SEED)
    sent = {str(n): a_request(rand, n) for n in range(CASES)}
    for number, one in sent.items():
        with Raw(daemon.port) as raw:
            answer = raw.send(one.raw).answer()
            assert answer.status == 200, (number, one.raw[:500], answer)
    eventually(lambda: len(sink.requests) >= CASES, 30, "all have arrived")
    found = []
    for got in sink.requests:
        one = sent.pop(got.get("X-Case") or "")
        theirs = [(n, v.encode("latin-1").decode()) for n, v in got.headers if not n.lower().startswith(OURS)]
        if got.body != one.body:
            found.append(f"{one.body[:100]!r} arrived as {got.body[:100]!r}")
        if theirs != one.headers:
            found.append(f"{one.headers} arrived as {theirs}")
    assert not sent
    return found


@pytest.fixture
def make(tmp_path) -> Iterator[Any]:
    with Sink() as sink:
        made: list[Daemon] = []

        def make(bug: str = "") -> tuple[Daemon, Sink]:
            more: dict[str, Any] = {}
            if bug:
                command = (sys.executable, str(REPOSITORY / "tests" / "support" / "altering.py"))
                more = {"command": command, "env": {"ALTERING_BUG": bug}}
            made.append(Daemon(tmp_path, CONFIG % sink.url, **more))
            made[-1].start()
            return made[-1], sink

        yield make
        for daemon in made:
            daemon.end()


def test_what_leaves_is_what_came(make):
    assert differences(*make()) == []


@pytest.mark.parametrize("bug", ["json", "inflate", "order"])
def test_a_daemon_that_alters_is_caught(make, bug):
    assert differences(*make(bug))
