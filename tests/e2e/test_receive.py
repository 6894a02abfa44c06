"""Receiving, over real sockets: how a webhook may come in, and what everything else is answered."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, eventually
from tests.support.senders import Answer, Raw, at_once, framed, fresh_id, github, rss_kib
from tests.support.sink import Sink

SECRET = "receive-test"
PATH = "/webhooks/github"
LIMIT = 64 << 10

CONFIG = """
[sources.github]
path = "/webhooks/github"
verify = "github"
secrets = [{{ value = "receive-test" }}]
max_body = "64KiB"
destinations = ["app"]

[sources.open]
path = "/open"
verify = "none"
allow_unverified = true
content_type = "application/json"
allow_empty = false
destinations = ["app"]

[destinations.app]
url = "{sink}{{path}}"
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, sink: Sink) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("receive")
    server = 'header_timeout = "700ms"\nbody_timeout = "900ms"'
    with Daemon(folder, CONFIG.format(sink=sink.url), server=server) as daemon:
        yield daemon


def good(body: bytes = b'{"ok":true}', **more: str) -> bytes:
    """A request that is accepted."""
    return framed(PATH, body, github(body, SECRET, fresh_id()) | more)


def delivered(sink: Sink, answer: Answer) -> bytes:
    """Wait for what was acknowledged; its body."""
    assert answer.status == 200, answer
    event_id = answer.headers["webhook-sidecar-event-id"]
    return eventually(lambda: [r for r in sink.requests if r.event_id == event_id], what=event_id)[0].body


def chunks(*parts: bytes, extra: bytes = b"", trailers: bytes = b"") -> bytes:
    body = b"".join(parts)
    head = "".join(f"{k}: {v}\r\n" for k, v in github(body, SECRET, fresh_id()).items()).encode()
    framed_parts = b"".join(b"%x%b\r\n%b\r\n" % (len(p), extra, p) for p in parts)
    return (
        b"POST /webhooks/github HTTP/1.1\r\nHost: t\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\n"
        + framed_parts + b"0\r\n" + trailers + b"\r\n"
    )  # fmt: skip


# --- the ways in


def test_a_connection_is_kept_for_the_next_webhook(daemon, sink):
    with Raw(daemon.port) as raw:
        for n in range(3):
            body = b'{"n":%d}' % n
            assert delivered(sink, raw.send(good(body)).answer()) == body


def test_pipelined_webhooks_are_answered_in_order(daemon, sink):
    bodies = [b'{"pipelined":%d}' % n for n in range(10)]
    with Raw(daemon.port) as raw:
        raw.send(b"".join(good(b) for b in bodies))
        answers = [raw.answer() for _ in bodies]
    assert [delivered(sink, a) for a in answers] == bodies


def test_a_chunked_webhook_is_put_together_and_its_trailers_are_dropped(daemon, sink):
    with Raw(daemon.port) as raw:
        raw.send(chunks(b'{"a":', b"1", b"}", extra=b";x=y", trailers=b"X-Trailer: 1\r\n"))
        answer = raw.answer()
    assert delivered(sink, answer) == b'{"a":1}'
    request = next(r for r in sink.requests if r.event_id == answer.headers["webhook-sidecar-event-id"])
    assert request.get("X-Trailer") is None
    assert request.get("Content-Length") == "7"


def test_a_webhook_that_arrives_byte_by_byte_is_the_same(daemon, sink):
    request = good(b'{"slow":1}')
    with Raw(daemon.port) as raw:
        raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n in range(len(request)):
            raw.send(request[n : n + 1])
        assert delivered(sink, raw.answer()) == b'{"slow":1}'


def test_expect_is_answered_before_the_body_and_only_when_it_will_be_read(daemon, sink):
    head, _, body = good(b'{"e":1}', Expect="100-continue").partition(b"\r\n\r\n")
    with Raw(daemon.port) as raw:
        assert raw.send(head + b"\r\n\r\n").answer().status == 100
        assert delivered(sink, raw.send(body).answer()) == b'{"e":1}'
    with Raw(daemon.port) as raw:  # too large: no 100, and the answer at once
        raw.send(head.replace(b"Content-Length: 7", b"Content-Length: 70000") + b"\r\n\r\n")
        assert raw.answer().code == "body_too_large"
        assert raw.ends()
    with Raw(daemon.port) as raw:
        assert raw.send(head.replace(b"100-continue", b"200-maybe") + b"\r\n\r\n").answer().status == 417


def test_a_unix_socket_takes_webhooks_with_the_mode_that_a_proxy_needs(tmp_path, sink):
    daemon = Daemon(tmp_path, CONFIG.format(sink=sink.url))
    path = str(tmp_path / "hooks.sock")
    daemon.config.write_text(daemon.config.read_text().replace(f"127.0.0.1:{daemon.port}", f"unix:{path}"))
    with daemon, Raw(path) as raw:
        answer = raw.send(good(b'{"unix":1}')).answer()
        assert delivered(sink, answer) == b'{"unix":1}'
        assert Path(path).stat().st_mode & 0o777 == 0o660
        first = daemon.pid
        daemon.kill()  # the socket file stays behind, and the next start replaces it
        daemon.start()
        assert daemon.pid != first
        with Raw(path) as raw2:
            assert raw2.send(good()).answer().status == 200


def test_tls_is_spoken_and_a_new_certificate_taken_over_without_a_restart(tmp_path, sink):
    certificate(tmp_path)
    with Daemon(tmp_path, CONFIG.format(sink=sink.url), server='tls = { cert = "tls.crt", key = "tls.key" }') as daemon:
        trusting = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
        with Raw(daemon.port, tls=trusting) as raw:
            answer = raw.send(good(b'{"tls":1}')).answer()
            assert delivered(sink, answer) == b'{"tls":1}'
            sent = next(r for r in sink.requests if r.event_id == answer.headers["webhook-sidecar-event-id"])
            assert sent.get("X-Forwarded-Proto") == "https"
        certificate(tmp_path)
        assert daemon.admin("POST", "/-/reload")[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            Raw(daemon.port, tls=trusting)
        with Raw(daemon.port, tls=ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))) as raw:
            assert raw.send(good()).answer().status == 200
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("DEFAULT")
        with Raw(daemon.port, tls=old) as raw:
            assert raw.send(good()).answer().status == 200, "TLS 1.2 is still spoken"
        with Raw(daemon.port) as raw:  # plain HTTP on a TLS port
            raw.send(good())
            assert raw.ends() or b"HTTP" not in raw._read


def certificate(folder: Path) -> None:
    """A new certificate for localhost, signed by itself."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", "tls.key", "-out", "tls.crt", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


# --- refusals

HOST = b"Host: t\r\n"
POST = b"POST /webhooks/github HTTP/1.1\r\n"
OPEN = b"POST /open HTTP/1.1\r\n"

REFUSED = {
    "length and chunked": (POST + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_framing"),
    "chunked and length": (POST + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, "bad_framing"),
    "two lengths that differ": (POST + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400, "bad_framing"),
    "two lengths that agree": (POST + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "bad_framing"),
    "a list of lengths": (POST + HOST + b"Content-Length: 2, 2\r\n\r\nhi", 400, "bad_framing"),
    "a signed length": (POST + HOST + b"Content-Length: +2\r\n\r\nhi", 400, "bad_framing"),
    "a negative length": (POST + HOST + b"Content-Length: -1\r\n\r\nhi", 400, "bad_framing"),
    "a length that overflows": (POST + HOST + b"Content-Length: 18446744073709551617\r\n\r\nh", 400, "bad_framing"),
    "chunked twice": (POST + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_framing"),
    "chunked, then identity": (POST + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400, "bad_framing"),
    "a coding that is almost chunked": (POST + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "bad_framing"),
    "a coding we do not have": (POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "unsupported_transfer_coding"),
    "chunked in HTTP/1.0": (b"POST /webhooks/github HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_framing"),
    "a bare line feed": (b"POST /webhooks/github HTTP/1.1\nHost: t\n\n", 400, "bad_framing"),
    "a folded header": (POST + HOST + b"X-A: 1\r\n 2\r\n\r\n", 400, "bad_framing"),
    "a space before the colon": (POST + b"Host : t\r\n\r\n", 400, "bad_framing"),
    "no Host": (POST + b"Content-Length: 0\r\n\r\n", 400, "bad_host"),
    "two Hosts": (POST + HOST + HOST + b"\r\n", 400, "bad_host"),
    "a NUL in a value": (POST + HOST + b"X-A: a\0b\r\n\r\n", 400, "bad_header"),
    "HTTP/2.0": (b"POST /webhooks/github HTTP/2.0\r\n" + HOST + b"\r\n", 505, "http_version"),
    "an unknown method": (b"BREW /webhooks/github HTTP/1.1\r\n" + HOST + b"\r\n", 400, ""),
    "a method in small letters": (b"post /webhooks/github HTTP/1.1\r\n" + HOST + b"\r\n", 400, ""),
    "another method": (b"GET /webhooks/github HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "TRACE": (b"TRACE /webhooks/github HTTP/1.1\r\n" + HOST + b"\r\n", 405, "method_not_allowed"),
    "another server's address": (b"POST http://evil/webhooks/github HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 421, "misdirected"),
    "dots in the path": (b"POST /webhooks/x/../github HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 404, "not_found"),
    "an encoded path": (b"POST /webhooks/git%68ub HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 404, "not_found"),
    "two slashes": (b"POST //webhooks/github HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 404, "not_found"),
    "a path parameter": (b"POST /webhooks/github;x HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 404, "not_found"),
    "a target of 9000 bytes": (b"POST /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "target_too_long"),
    "a header of 9000 bytes": (POST + HOST + b"X-A: " + b"a" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
    "129 headers": (POST + HOST + b"".join(b"X-%d: 1\r\n" % n for n in range(129)) + b"\r\n", 431, "headers_too_large"),
    "a chunk size that overflows": (chunks(b"x").replace(b"\r\n1\r\nx", b"\r\nfffffffffffffffff\r\nx"), 400, "bad_framing"),
    "a chunk size with 0x": (chunks(b"x").replace(b"\r\n1\r\nx", b"\r\n0x1\r\nx"), 400, "bad_framing"),
    "a signature twice": (POST + HOST + b"X-Hub-Signature-256: sha256=00\r\nX-Hub-Signature-256: sha256=00\r\nContent-Length: 2\r\n\r\n{}", 400, "duplicate_header"),
    "another media type": (OPEN + HOST + b"Content-Type: text/xml\r\nContent-Length: 2\r\n\r\n{}", 415, "unsupported_media_type"),
    "no body where one is wanted": (OPEN + HOST + b"Content-Type: application/json\r\nContent-Length: 0\r\n\r\n", 400, "empty_body"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_input_gets_the_answer_of_the_table_and_nothing_is_kept(case, daemon):
    request, status, code = REFUSED[case]
    before = daemon.last_seq
    with Raw(daemon.port) as raw:
        answer = raw.send(request).answer()
    assert (answer.status, answer.code) == (status, code or answer.code), answer
    assert answer.headers["content-type"] == "application/json"
    assert b"webhooks" not in answer.body, "nothing is echoed"
    if status == 405:
        assert "POST" in answer.headers["allow"]
    assert daemon.last_seq == before


@pytest.mark.parametrize(
    "prefix", [b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 4"]
)
def test_a_smuggled_second_request_is_never_seen(daemon, sink, prefix):
    """Whatever a proxy in front made of the first request: no byte behind a doubt is read as another request."""
    before, seen = daemon.last_seq, len(sink.requests)
    with Raw(daemon.port) as raw:
        raw.send(POST + HOST + prefix + b"\r\n\r\n0\r\n\r\n" + good(b'{"smuggled":1}'))
        assert raw.answer().code == "bad_framing"
        assert raw.ends(), "one answer, then closed"
    assert daemon.last_seq == before
    assert len(sink.requests) == seen


def test_a_truncated_webhook_is_not_kept(daemon):
    before = daemon.last_seq
    aborted = daemon.metric("received_total", source="github", outcome="aborted")
    with Raw(daemon.port) as raw:
        raw.send(good(b'{"cut":1}')[:-1])
        raw.sock.shutdown(socket.SHUT_WR)
        assert raw.ends()
    with Raw(daemon.port) as raw:
        raw.send(good(b'{"cut":2}')[:-1])
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    eventually(lambda: daemon.metric("received_total", source="github", outcome="aborted") == aborted + 2)
    assert daemon.last_seq == before


def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent(daemon):
    head, _, _ = good().partition(b"\r\n\r\n")
    with Raw(daemon.port) as raw:
        raw.send(head.replace(b"Content-Length: 11", b"Content-Length: %d" % (LIMIT + 1)) + b"\r\n\r\n")
        assert raw.answer().code == "body_too_large"
        assert raw.ends()
    eventually(
        lambda: any(
            (row.get("limit_bytes"), row.get("announced_bytes")) == (LIMIT, LIMIT + 1)
            for row in daemon.logged("request refused")
        ),
        what="both sizes in the log",
    )


def test_a_chunked_body_is_refused_at_the_limit_and_not_cut_there(daemon, sink):
    with Raw(daemon.port) as raw:
        answer = raw.send(chunks(b"x" * LIMIT)).answer()
        assert delivered(sink, answer) == b"x" * LIMIT
    with Raw(daemon.port) as raw:
        request = chunks(b"x" * LIMIT, b"y")
        raw.send(request[: -len(b"0\r\n\r\n")])  # never ends: the answer does not wait for that
        assert raw.answer().code == "body_too_large"
        assert raw.ends()


def test_a_slow_head_and_a_slow_body_time_out(daemon):
    head, _, _ = good().partition(b"\r\n\r\n")
    for part in (head[:40], head + b"\r\n\r\n" + b'{"o'):
        with Raw(daemon.port) as raw:
            started_s = time.monotonic()
            answer = raw.send(part).answer()
            assert (answer.status, answer.code) == (408, "timeout")
            assert 0.5 < time.monotonic() - started_s < 5
            assert raw.ends()


def test_trickling_does_not_keep_a_connection_alive(daemon):
    """One byte now and then resets no timer."""
    head, _, _ = good(b"x" * 5000).partition(b"\r\n\r\n")
    with Raw(daemon.port) as raw:
        raw.send(head + b"\r\n\r\n")
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.05):
                raw.send(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            started_s = time.monotonic()
            assert raw.answer().code == "timeout"
            assert time.monotonic() - started_s < 4
        finally:
            stop.set()
            thread.join()


def test_an_unsigned_request_is_refused_before_its_body(daemon):
    """No buffer for those who cannot even show the form of a signature."""
    with Raw(daemon.port) as raw:
        raw.send(POST + HOST + b"Content-Length: 60000\r\n\r\n")
        answer = raw.answer()
        assert (answer.status, answer.body) == (401, b'{"error":{"code":"unauthorized"}}')
        assert raw.ends()


def test_an_idle_connection_and_a_garbled_one_do_not_touch_the_others(daemon, sink):
    with Raw(daemon.port) as good_one, Raw(daemon.port) as bad_one, Raw(daemon.port):
        assert bad_one.send(b"\x16\x03\x01\x02\x00\x01\x00").answer().status == 400
        assert delivered(sink, good_one.send(good(b'{"still":1}')).answer()) == b'{"still":1}'


def test_200_slow_senders_with_large_bodies_do_not_fill_the_memory(tmp_path, sink):
    """200 x 4 MiB are declared; what is buffered stays below ``max_buffered``, and honest senders get through."""
    config = CONFIG.format(sink=sink.url).replace('max_body = "64KiB"', 'max_body = "4MiB"')
    with Daemon(tmp_path, config, server='max_buffered = "16MiB"\nbody_timeout = "20s"') as daemon:
        before = rss_kib(daemon.pid)
        body = b"x" * (4 << 20)
        request = good(body)
        part = request[: len(request) - len(body) + (512 << 10)]  # half a megabyte of it, then nothing more
        slow = [Raw(daemon.port) for _ in range(200)]
        try:
            senders = [threading.Thread(target=lambda raw=raw: send_some(raw, part)) for raw in slow]
            for t in senders:
                t.start()
            most, honest = 0, []
            deadline_s = time.monotonic() + 3.0
            while time.monotonic() < deadline_s:
                most = max(most, rss_kib(daemon.pid) - before)
                with Raw(daemon.port) as raw:
                    honest.append(raw.send(good()).answer().status)
            for raw in slow:
                raw.sock.shutdown(socket.SHUT_RDWR)
            for t in senders:
                t.join()
        finally:
            for raw in slow:
                raw.close()
        assert most < 48 << 10, f"grew by {most} KiB"
        assert honest, "nobody was served at all"
        assert honest.count(200) > 0.9 * len(honest), honest
        assert daemon.process is not None
        assert daemon.process.poll() is None


def send_some(raw: Raw, data: bytes) -> None:
    with contextlib.suppress(OSError):  # refused in the middle: that is the point
        raw.sock.sendall(data)


def test_many_senders_at_once_each_get_their_own_event(daemon, sink):
    bodies = [b'{"many":%d}' % n for n in range(40)]

    def one(body: bytes) -> Answer:
        with Raw(daemon.port) as raw:
            return raw.send(good(body)).answer()

    answers = at_once([lambda b=b: one(b) for b in bodies])
    assert len({a.headers["webhook-sidecar-event-id"] for a in answers}) == 40
    assert [delivered(sink, a) for a in answers] == bodies
