"""Floods of requests that are refused: few and short lines, the same series of metrics, the same memory, nothing stored.

Every request is made up anew where a sender can make something up: path, query, names and values of headers, method, ids.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sidecar.log import MAX_LINE_BYTES
from tests.proof.shard import Job, Shard
from tests.support.daemon import Daemon
from tests.support.senders import rss_kib

LEAST = 20_000
CONTROL = 4_000
TOGETHER = 8  # requests on one connection, and one that ends it
BURST, PER_S = 10, 1  # lines of one kind: at once, and a second
GROWTH_KIB = 6 << 10  # from the first tenth of a flood to its end
CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{ value = "flood" }]
destinations = ["app"]
[sources.stripe]
path = "/stripe"
verify = "stripe"
secrets = [{ value = "flood" }]
destinations = ["app"]
[sources.standard]
path = "/standard"
verify = "standard-webhooks"
secrets = [{ value = "whsec_Zmxvb2QtZmxvb2QtZmxvb2QtZmxvb2Q=" }]
destinations = ["app"]
[destinations.app]
url = "http://127.0.0.1:9"
"""
_ANSWERS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def word(rand: random.Random) -> str:
    """Something new."""
    return f"{rand.getrandbits(rand.choice((16, 64, 512))):x}"


def stays(rand: random.Random) -> bytes:
    """A refused request behind which the connection goes on."""
    w = word(rand)
    line, header = rand.choice((
        (f"POST /{w}?{w}={w}", f"X-{w}: {w}"),
        (f"GET /{w}", f"Cookie: {w}"),
        (f"POST /github/{w}", f"X-Forwarded-For: {w}"),
        (f"{rand.choice(('GET', 'PUT', 'DELETE', 'PATCH'))} /github", f"User-Agent: {w}"),
    ))  # fmt: skip
    return f"{line} HTTP/1.1\r\nHost: {w[:60]}.example\r\n{header}\r\nContent-Length: 0\r\n\r\n".encode()


def ends(rand: random.Random) -> bytes:
    """A refused request behind which the connection ends."""
    w, digest, t = word(rand), f"{rand.getrandbits(256):064x}", rand.getrandbits(31)
    line, header, body = rand.choice((
        ("POST /github", f"X-GitHub-Delivery: {w}", w),
        ("POST /github", f"X-Hub-Signature-256: sha256={digest}\r\nX-GitHub-Delivery: {w}", w),
        ("POST /github", f"X-Hub-Signature-256: {w}\r\nX-Hub-Signature-256: {w}", w),
        ("POST /stripe", f"Stripe-Signature: t={t},v1={digest}", ""),
        ("POST /stripe", f"Stripe-Signature: {w}", ""),
        ("POST /standard", f"webhook-id: {w}\r\nwebhook-timestamp: {t}\r\nwebhook-signature: v1,{w}", ""),
        (f"POST /{w}", f"X: {w}", w),
        (f"{w.upper()} /{w}", f"X: {w}", ""),
        ("POST /github", f"Host: {w}", ""),
        ("POST /github", f"Content-Length: {rand.getrandbits(60)}", ""),
        ("POST /github", f"Transfer-Encoding: {w}", ""),
        ("POST /github", f"X {w}: y", ""),
        (f"POST http://{w}.example/github", f"X: {w}", ""),
        ("POST /github", f"Expect: {w}", w),
        ("POST /github", f"X: {w * 9000}"[:20_000], ""),
    ))  # fmt: skip
    return f"{line} HTTP/1.1\r\nHost: t\r\n{header}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def burst(rand: random.Random, port: int) -> Counter[int]:
    """One connection full of them; the statuses that it got."""
    data = b"".join(stays(rand) for _ in range(TOGETHER)) + ends(rand)
    got = b""
    with socket.create_connection(("127.0.0.1", port), 20) as sock, contextlib.suppress(ConnectionResetError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while piece := sock.recv(1 << 16):
            got += piece
    return Counter(int(status) for status in _ANSWERS.findall(got))


def knocks(rand: random.Random, port: int) -> int:
    """Requests to the admin listener without its token; the status of the last."""
    got = b""
    w = word(rand)
    with socket.create_connection(("127.0.0.1", port), 20) as sock, contextlib.suppress(ConnectionResetError):
        head = f"GET /api/v1/{w} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {w}\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode())
        while piece := sock.recv(1 << 16):
            got += piece
    return int(_ANSWERS.findall(got)[-1])


def series(daemon: Daemon) -> int:
    """How many there are."""
    return sum(len(rows) for rows in daemon.scrape().series.values())


def many_lines(log: Path, seconds: float) -> Iterator[str]:
    """Kinds of lines of which there are more than the limit allows, and lines that are too long."""
    kinds: Counter[tuple[object, ...]] = Counter()
    for line in log.read_bytes().splitlines():
        if len(line) > MAX_LINE_BYTES:
            yield f"a line of {len(line)} bytes: {line[:100]!r}"
        row = json.loads(line)
        kinds[row["msg"], row.get("source"), row.get("outcome"), row.get("reason")] += 1
    allowed = BURST + PER_S * seconds + 1
    yield from (f"{n} lines of {kind} in {seconds:.0f} s" for kind, n in kinds.items() if n > allowed)


def flood(job: Job, least: int, bug: str = "") -> None:
    """One flood over one daemon, as long as there is time and for at least so many."""
    command = (
        (sys.executable, str(Path(__file__).parents[1] / "flood_bugs.py")) if bug else (sys.executable, "-m", "sidecar")
    )
    daemon = Daemon(job.folder, CONFIG, command=command, env={"PROOF_FLOOD_BUG": bug})
    with daemon:
        began_s, before, early_kib = time.monotonic(), series(daemon), 0
        statuses: Counter[int] = Counter()
        while job.count < least or job.goes_on:
            statuses += burst(job.rand, daemon.port)
            if job.rand.random() < 0.05:
                statuses[knocks(job.rand, daemon.admin_port)] += 1
            job.count = statuses.total()
            if not early_kib and job.count >= least // 10:
                early_kib = rss_kib(daemon.pid)
        grown_kib = rss_kib(daemon.pid) - early_kib
        after = series(daemon)
        if after != before:
            job.found.append(
                f"seed {job.seed}: {before} series of metrics before, {after} behind {job.count:,} requests"
            )
        if grown_kib > GROWTH_KIB:
            job.found.append(f"seed {job.seed}: memory grew by {grown_kib:,} KiB over {job.count:,} requests")
        if missing := {400, 401, 404, 405, 421, 429, 431} - set(statuses):
            job.found.append(f"seed {job.seed}: nothing was answered {sorted(missing)}")
        if odd := {s: n for s, n in statuses.items() if s < 400 or s == 500}:
            job.found.append(f"seed {job.seed}: answers that refuse nothing: {odd}")
        if daemon.last_seq:
            job.found.append(f"seed {job.seed}: {daemon.last_seq} events were stored")
    job.found += [f"seed {job.seed}: {w}" for w in many_lines(daemon.log, time.monotonic() - began_s)]
    job.note("bytes of log", daemon.log.stat().st_size)
    for status, n in statuses.items():
        job.note(f"answered {status}", n)


def run(job: Job) -> None:
    """Flood it until the time is over."""
    flood(job, LEAST)


def control(job: Job) -> list[str]:
    """A line for each, a series for each path, and a memory of everything."""
    words = {"lines": "lines of", "series": "series of metrics", "memory": "memory grew"}
    for bug, said in words.items():
        attempt = job.sub(bug, 0)
        flood(attempt, CONTROL, bug)
        assert any(said in line for line in attempt.found), f"{bug}: {attempt.found}"
    return ["a line for each request", "a path as a label", "a memory of each request"]


SHARD = Shard("flood", ("P11", "P24"), "refused requests", run, control)
