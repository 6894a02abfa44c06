"""Delivery by the real daemon to real backends: what they get, when, how often, and what a bad one costs the others."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from tests.support.daemon import Daemon, eventually, free_port
from tests.support.senders import Raw, framed, fresh_id, github, rss_kib
from tests.support.sink import Answer, Received, Sink

SECRET = "deliver-test"


def source(*destinations: str, name: str = "github") -> str:
    listed = ", ".join(f'"{d}"' for d in destinations)
    return f"""
[sources.{name}]
path = "/{name}"
verify = "github"
secrets = [{{ value = "{SECRET}" }}]
destinations = [{listed}]
"""


def destination(name: str, url: str, settings: str = "", retry: str = 'base = "100ms"\njitter = 0') -> str:
    return f"""
[destinations.{name}]
url = "{url}"
{settings}
[destinations.{name}.retry]
{retry}
"""


def send(daemon: Daemon, body: bytes = b"{}", path: str = "/github", **headers: str) -> str:
    """Send one webhook; its event id."""
    status, answer, text = daemon.post(path, body, github(body, SECRET, fresh_id()) | headers)
    assert status == 200, text
    return answer["webhook-sidecar-event-id"]


def tries(sink: Sink, event_id: str) -> list[Received]:
    return [r for r in list(sink.requests) if r.event_id == event_id]


class Orders:
    """What a backend is told to say, by a word in the body; 200 to everything else."""

    def __init__(self) -> None:
        self.answers: dict[bytes, list[Answer]] = {}

    def __call__(self, request: Received) -> Answer:
        for word, answers in self.answers.items():
            if word in request.body:
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return 200


@pytest.fixture(scope="module")
def orders() -> Orders:
    return Orders()


@pytest.fixture(scope="module")
def sink(orders: Orders) -> Iterator[Sink]:
    with Sink(orders) as sink:
        yield sink


@pytest.fixture(scope="module")
def second() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, sink: Sink, second: Sink) -> Iterator[Daemon]:
    config = source("app", "mail") + source("plain", name="plain") + source("quick", name="quick")
    config += destination("app", f"{sink.url}/hooks{{path}}", 'headers = { X-Internal = "inside" }\ntimeout = "400ms"')
    config += destination("mail", f"{second.url}/mail?own=1", 'host = "mail.example.com"')
    config += destination("plain", f"{second.url}{{path}}")
    config += destination("quick", f"{sink.url}/quick", "concurrency = 2")
    with Daemon(tmp_path_factory.mktemp("deliver"), config) as daemon:
        yield daemon


def word() -> bytes:
    """A word that only one test's events carry."""
    return b"word-" + fresh_id().encode()


# --- what the backend gets


def test_the_backend_gets_exactly_the_bytes_that_came_in(daemon, second):
    """Compressed, with odd headers in odd order, some of them twice, and a query string: nothing is tidied up."""
    body = gzip.compress(b'{"n": 1}\r\n\x00\xff') + b"\r\n\r\n0\r\n\r\n"
    signature = github(body, SECRET)["X-Hub-Signature-256"]
    theirs = [
        ("x-ZULU", "first"),
        ("Content-Encoding", "gzip"),
        ("x-Hub-SIGNATURE-256", signature),
        ("X-Multi", "1"),
        ("Content-Type", "application/JSON ;  charset=utf-8"),
        ("x-multi", "2"),
        ("X-Empty", ""),
        ("X-Umlaut", "grün".encode().decode("latin-1")),
        ("Accept", "*/*"),
        ("User-Agent", "Odd/1.0 (really)"),
        ("Cookie", "a=b; c=d"),
        ("Authorization", "Bearer not-ours"),
    ]
    head = "".join(f"{k}: {v}\r\n" for k, v in theirs).encode("latin-1")
    with Raw(daemon.port) as raw:
        raw.send(
            b"POST /plain?a=%20b&a=2&&c HTTP/1.1\r\nHost: sender-says\r\n" + head
            + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )  # fmt: skip
        answer = raw.answer()
    assert answer.status == 200
    (got,) = eventually(lambda: tries(second, answer.headers["webhook-sidecar-event-id"]))
    assert got.body == body
    assert (got.method, got.target) == ("POST", "/plain?a=%20b&a=2&&c")
    assert [(k, v) for k, v in got.headers if k in dict(theirs)] == theirs, "order, case, repeats"
    assert got.get("Host") == second.url.removeprefix("http://")


def test_the_backend_learns_what_we_know_and_nothing_that_a_sender_made_up(daemon, sink, second):
    body = b'{"rules":1}'
    made_up = {
        "Connection": "keep-alive, X-Hop", "X-Hop": "1", "Keep-Alive": "timeout=5", "TE": "trailers", "Upgrade": "h2c",
        "Proxy-Authorization": "x", "Accept-Encoding": "gzip", "Webhook-Sidecar-Attempt": "99",
        "Webhook-Sidecar-Event-Id": "wse_forged", "Webhook-Sidecar-Resigned": "true", "X_Forwarded_For": "6.6.6.6",
        "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Original-URL": "/admin", "X-Forwarded-Prefix": "/x",
        "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example.com",
    }  # fmt: skip
    before_s = time.time()
    event_id = send(daemon, body, **made_up)
    (app,), (mail,) = (eventually(lambda s=s: tries(s, event_id)) for s in (sink, second))
    for got in (app, mail):
        names = Counter(k.lower() for k, _ in got.headers)
        dropped = {
            "x-hop", "keep-alive", "te", "upgrade", "proxy-authorization", "accept-encoding", "webhook-sidecar-resigned",
            "x_forwarded_for", "x-real-ip", "forwarded", "x-original-url", "x-forwarded-prefix", "expect",
            "transfer-encoding",
        }  # fmt: skip
        assert not dropped & names.keys()
        assert max(names.values()) == 1, names
        assert got.attempt == 1
        assert got.get("Webhook-Sidecar-Source") == "github"
        assert got.get("Webhook-Sidecar-Replay") is None
        received = got.get("Webhook-Sidecar-Received-At") or ""
        assert received.endswith("Z")
        assert abs(time.mktime(time.strptime(received[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone - before_s) < 5
        # The test is on 127.0.0.1, which is believed as a proxy by default.
        assert got.get("X-Forwarded-For") == "203.0.113.9, 127.0.0.1"
        assert got.get("X-Forwarded-Proto") == "https"
        assert got.get("X-Forwarded-Host") == "shop.example.com"
    assert (app.get("X-Internal"), mail.get("X-Internal")) == ("inside", None)
    assert (app.target, mail.target) == ("/hooks/github", "/mail?own=1")
    assert mail.get("Host") == "mail.example.com"
    assert app.get("Idempotency-Key") == f"{event_id}-app"
    assert mail.get("Idempotency-Key") == f"{event_id}-mail"


def test_the_senders_own_idempotency_key_is_left_alone(daemon, sink):
    event_id = send(daemon, b"{}", **{"Idempotency-Key": "theirs"})
    (got,) = eventually(lambda: tries(sink, event_id))
    assert [v for k, v in got.headers if k.lower() == "idempotency-key"] == ["theirs"]


def test_no_more_than_concurrency_at_once(daemon, orders, sink):
    mark = word()
    running, most, lock = 0, 0, threading.Lock()

    def slow(request: Received) -> Answer:
        nonlocal running, most
        if mark in request.body:
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.03)
            with lock:
                running -= 1
        return 200

    sink.answer = slow
    try:
        ids = [send(daemon, mark, "/quick") for _ in range(12)]
        eventually(lambda: len([i for i in sink.ids() if i in ids]) == 12)
    finally:
        sink.answer = orders
    assert most == 2


# --- failures


def gaps(requests: Sequence[Received]) -> list[float]:
    return [b.at_s - a.at_s for a, b in itertools.pairwise(requests)]


def near(measured: Sequence[float], expected: Sequence[float]) -> bool:
    """Never early; late by no more than a busy machine makes it."""
    return len(measured) == len(expected) and all(
        e - 0.02 <= m <= e + 0.6 for m, e in zip(measured, expected, strict=True)
    )


def test_a_failing_backend_is_tried_four_times_with_doubling_waits_and_then_no_more(daemon, orders, sink):
    mark = word()
    orders.answers[mark] = [500]
    event_id = send(daemon, mark)
    eventually(lambda: state(daemon, event_id) == "dead", what="dead")
    seen = tries(sink, event_id)
    assert [r.attempt for r in seen] == [1, 2, 3, 4]
    assert near(gaps(seen), [0.1, 0.2, 0.4]), gaps(seen)
    assert len({r.body for r in seen}) == 1
    assert {r.get("Webhook-Sidecar-Event-Id") for r in seen} == {event_id}
    (row,) = deliveries(daemon, event_id)
    assert (row["reason"], row["attempts"]) == ("attempts_exhausted", 4)
    assert [a["status"] for a in row["log"]] == [500] * 4


def deliveries(daemon: Daemon, event_id: str, name: str = "app") -> list[dict]:
    return [d for d in daemon.api(f"events/{event_id}")["deliveries"] if d["destination"] == name]


def state(daemon: Daemon, event_id: str, name: str = "app") -> str:
    return deliveries(daemon, event_id, name)[0]["state"]


def test_a_backend_that_recovers_gets_the_event_once_more_and_keeps_it(daemon, orders, sink):
    mark = word()
    orders.answers[mark] = [502, 408, 200]
    event_id = send(daemon, mark)
    eventually(lambda: state(daemon, event_id) == "delivered")
    assert [r.attempt for r in tries(sink, event_id)] == [1, 2, 3]


def test_the_other_destination_knows_nothing_of_it(daemon, orders, sink, second):
    mark = word()
    orders.answers[mark] = [500]
    event_id = send(daemon, mark)
    eventually(lambda: state(daemon, event_id, "mail") == "delivered")
    eventually(lambda: state(daemon, event_id) == "dead")
    assert len(tries(second, event_id)) == 1
    assert len(tries(sink, event_id)) == 4


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 410, 422, 451])
def test_a_refusal_for_good_and_a_redirect_are_final(status, daemon, orders, sink, second):
    mark = word()
    before = len(second.requests)
    orders.answers[mark] = [(status, {"Location": f"{second.url}/elsewhere"})]
    event_id = send(daemon, mark)
    eventually(lambda: state(daemon, event_id) == "dead")
    assert len(tries(sink, event_id)) == 1
    assert deliveries(daemon, event_id)[0]["reason"] == "rejected"
    assert "/elsewhere" not in {r.target for r in second.requests[before:]}, "a redirect is never followed"


def test_silence_and_a_cut_connection_are_failed_attempts(daemon, orders, sink):
    silent, cut = word(), word()

    def quiet(request: Received) -> Answer:
        if silent in request.body:
            time.sleep(0.6)  # the destination's timeout is 400 ms
        return orders(request)

    orders.answers[cut] = [None]
    sink.answer = quiet
    try:
        first, other = send(daemon, silent), send(daemon, cut)
        eventually(lambda: state(daemon, first) == state(daemon, other) == "dead")
    finally:
        sink.answer = orders
    assert [a["outcome"] for a in deliveries(daemon, first)[0]["log"]] == ["timeout"] * 4
    assert [a["outcome"] for a in deliveries(daemon, other)[0]["log"]] == ["reset"] * 4


def test_retry_after_delays_the_event_and_on_503_the_whole_destination(daemon, orders, sink):
    """A 500's wish concerns its event; a 503's the backend, so that an event sent meanwhile waits as well."""
    own, whole = word(), word()
    orders.answers[own] = [(500, {"Retry-After": "1"}), 200]
    event_id = send(daemon, own)
    eventually(lambda: tries(sink, event_id))
    bystander = send(daemon, b"bystander")
    eventually(lambda: tries(sink, bystander), timeout_s=0.9, what="others do not wait for it")
    eventually(lambda: state(daemon, event_id) == "delivered")
    assert near(gaps(tries(sink, event_id)), [1.0])
    orders.answers[whole] = [(503, {"Retry-After": "1"}), 200]
    event_id = send(daemon, whole)
    (first,) = eventually(lambda: tries(sink, event_id))
    bystander = send(daemon, b"bystander")
    eventually(lambda: state(daemon, event_id) == "delivered")
    (late,) = eventually(lambda: tries(sink, bystander))
    assert near([late.at_s - first.at_s], [1.0])
    for junk in ("-1", "soon", "1e9", ""):
        mark = word()
        orders.answers[mark] = [(503, {"Retry-After": junk}), 200]
        event_id = send(daemon, mark)
        eventually(lambda e=event_id: state(daemon, e) == "delivered", timeout_s=3, what=junk)


def test_with_the_defaults_a_delivery_is_tried_at_0_1_3_and_7_seconds(tmp_path):
    with Sink(500) as sink:
        config = source("app") + destination("app", sink.url, retry="jitter = 0")
        with Daemon(tmp_path, config) as daemon:
            event_id = send(daemon)
            eventually(lambda: daemon.lane()["dead_letters"] == 1, what="dead")
            seen = tries(sink, event_id)
    assert near(gaps(seen), [1, 2, 4]), gaps(seen)


# --- holds


def test_an_unreachable_backend_costs_no_attempt_and_gets_everything_when_it_is_back(tmp_path):
    port = free_port()
    config = source("app") + destination("app", f"http://127.0.0.1:{port}")
    with Daemon(tmp_path, config) as daemon:
        ids = [send(daemon) for _ in range(20)]
        eventually(lambda: daemon.lane()["held"], what="held")
        scrape = daemon.scrape()
        assert scrape.value("destination_held", destination="app") == 1
        assert scrape.total("pending_events", destination="app") == 20
        assert scrape.value("delivery_attempts_total", destination="app", outcome="connect") >= 1
        assert daemon.admin("GET", "/readyz")[0] == 200, "a backend that is down is no reason to refuse webhooks"
        assert {d["attempts"] for i in ids for d in deliveries(daemon, i)} == {0}
        with Sink(port=port) as sink:
            eventually(lambda: daemon.pending() == 0, timeout_s=20)
            assert Counter(sink.ids()) == Counter(ids)
            assert {r.attempt for r in sink.requests} == {1}
        assert daemon.scrape().value("destination_held", destination="app") == 0
        assert daemon.logged("destination held")
        assert daemon.logged("destination is back")


def test_enough_failures_of_different_events_hold_a_backend_and_its_probes_use_no_attempt(tmp_path):
    with Sink(503) as sink:
        config = source("app") + destination("app", sink.url, "hold_after = 3\nconcurrency = 1", 'base = "5s"')
        with Daemon(tmp_path, config) as daemon:
            ids = [send(daemon, b"%d" % n) for n in range(6)]
            eventually(lambda: daemon.lane()["held"], what="held")
            at_hold = len(sink.requests)
            assert at_hold <= 4, "held after three"
            eventually(lambda: len(sink.requests) > at_hold, timeout_s=5, what="a probe")
            counted = sum(d["attempts"] for i in ids for d in deliveries(daemon, i))
            assert counted == 3, "probes are not attempts"
            sink.answer = 200
            eventually(lambda: daemon.pending() == 0, timeout_s=20)


def test_events_that_are_wrong_do_not_hold_a_backend(tmp_path):
    with Sink(422) as sink:
        config = source("app") + destination("app", sink.url, "hold_after = 2")
        with Daemon(tmp_path, config) as daemon:
            for n in range(8):
                send(daemon, b"%d" % n)
            eventually(lambda: daemon.lane()["dead_letters"] == 8)
            assert not daemon.lane()["held"]
            assert not daemon.logged("destination held")


def test_a_dead_and_a_slow_destination_cost_a_healthy_one_nothing(tmp_path):
    with Sink() as healthy, Sink(delay_s=1.0) as slow:
        config = source("app", "slow", "gone") + source("app", name="alone")
        config += destination("app", healthy.url) + destination("slow", slow.url, "concurrency = 2")
        config += destination("gone", f"http://127.0.0.1:{free_port()}")
        with Daemon(tmp_path, config) as daemon:

            def latencies(path: str) -> list[float]:
                found = []
                for _ in range(60):
                    event_id = send(daemon, b"x" * 2000, path)
                    started_s = time.monotonic()
                    (got,) = eventually(lambda e=event_id: tries(healthy, e))
                    found.append(got.at_s - started_s)
                return sorted(found)

            latencies("/alone")  # warm
            alone, beside = latencies("/alone"), latencies("/github")
            assert daemon.pending("gone") == 60
            assert daemon.pending("slow") > 20
    # Medians, since a busy machine decides about the tail; both are counted from the acknowledgement.
    assert beside[30] < alone[30] + 0.02, (alone[30], beside[30])
    assert beside[54] < 0.25, beside[54]


# --- late deliveries


SIGNED = """
[sources.signed]
path = "/signed"
secrets = [{{ value = "fresh-secret" }}]
destinations = [{destinations}]
[sources.signed.verify]
scheme = "hmac"
header = "X-Signature"
signed = "{{timestamp}}.{{body}}"
timestamp = {{ header = "X-Timestamp", unit = "s", tolerance = "2s" }}
"""


def signed(body: bytes) -> dict[str, str]:
    t = str(int(time.time()))
    mac = hmac.new(b"fresh-secret", f"{t}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Timestamp": t, "X-Signature": mac}


def test_a_late_delivery_carries_a_fresh_signature_where_that_is_wanted(tmp_path):
    ports = [free_port(), free_port()]
    config = SIGNED.format(destinations='"app", "as-it-came"')
    config += destination("app", f"http://127.0.0.1:{ports[0]}")
    config += destination("as-it-came", f"http://127.0.0.1:{ports[1]}", 'signature = "original"')
    with Daemon(tmp_path, config) as daemon:
        body = b'{"late":1}'
        theirs = signed(body)
        status, answer, _ = daemon.post("/signed", body, theirs)
        assert status == 200
        accepted_s = time.time()
        event_id = answer["webhook-sidecar-event-id"]
        eventually(lambda: time.time() - accepted_s > 1.3, what="more than half the tolerance")
        with Sink(port=ports[0]) as fresh, Sink(port=ports[1]) as original:
            (late,) = eventually(lambda: tries(fresh, event_id))
            (old,) = eventually(lambda: tries(original, event_id))
            eventually(lambda: daemon.pending() == daemon.pending("as-it-came") == 0)
        assert late.get("Webhook-Sidecar-Resigned") == "true"
        t = late.get("X-Timestamp") or ""
        assert int(t) - int(theirs["X-Timestamp"]) >= 1
        assert late.get("X-Signature") == hmac.new(b"fresh-secret", f"{t}.".encode() + body, hashlib.sha256).hexdigest()
        assert late.body == old.body == body
        assert late.attempt == 1
        assert [k for k, _ in late.headers].count("X-Signature") == 1
        assert old.get("Webhook-Sidecar-Resigned") is None
        assert {k: v for k, v in old.headers if k in theirs} == theirs
        stored = dict(daemon.api(f"events/{event_id}")["headers"])
        assert stored["X-Timestamp"] == theirs["X-Timestamp"], "the journal keeps what came"
        assert daemon.metric("resigned_total", source="signed") == 1


def test_what_was_not_verified_is_never_signed(tmp_path):
    port = free_port()
    config = SIGNED.format(destinations='"app"').replace(
        "[sources.signed.verify]",
        '[sources.open]\npath = "/open"\nverify = "none"\nallow_unverified = true\ndestinations = ["app"]\n'
        "[sources.signed.verify]",
    )
    config += destination("app", f"http://127.0.0.1:{port}")
    with Daemon(tmp_path, config) as daemon:
        status, answer, _ = daemon.post("/open", b"{}", {"X-Timestamp": "1", "X-Signature": "forged"})
        assert status == 200
        accepted_s = time.time()
        eventually(lambda: time.time() - accepted_s > 1.3)
        with Sink(port=port) as sink:
            (got,) = eventually(lambda: tries(sink, answer["webhook-sidecar-event-id"]))
        assert got.get("Webhook-Sidecar-Resigned") is None
        assert got.get("X-Signature") == "forged"


# --- what waits


def test_a_removed_destination_keeps_its_deliveries_until_it_returns(tmp_path):
    port = free_port()
    both = source("app", "mail") + destination("app", f"http://127.0.0.1:{port}")
    with Sink() as mail:
        mail_config = destination("mail", mail.url)
        with Daemon(tmp_path, both + mail_config) as daemon:
            ids = [send(daemon) for _ in range(3)]
            eventually(lambda: daemon.lane()["held"])
            daemon.write(source("mail") + mail_config)
            assert daemon.admin("POST", "/-/reload")[0] == 200
            lane = daemon.lane()
            assert (lane["pending"], lane["held"], lane["configured"]) == (3, True, False)
            with Sink(port=port) as sink:
                only_mail = send(daemon)
                daemon.stop()
                daemon.start()  # also after a restart, and it warns again
                assert daemon.pending() == 3
                what = (
                    "destination is not configured, its deliveries are held; bring it back, or discard or redirect them"
                )
                assert len(daemon.logged(what)) == 2
                assert daemon.audit()["ok"]
                assert not sink.requests, "nothing goes to it meanwhile"
                daemon.write(both + mail_config)
                assert daemon.admin("POST", "/-/reload")[0] == 200
                eventually(lambda: daemon.pending() == 0)
                assert Counter(sink.ids()) == Counter(ids), "fan-out is fixed at acceptance"
            assert mail.ids().count(only_mail) == 1


def test_orphans_can_be_redirected_and_discarded(tmp_path):
    with Sink() as mail:
        gone = f"http://127.0.0.1:{free_port()}"
        with Daemon(tmp_path, source("app") + destination("app", gone) + destination("mail", mail.url)) as daemon:
            first, second = send(daemon, b"1"), send(daemon, b"2")
            daemon.write(source("mail") + destination("mail", mail.url))
            assert daemon.admin("POST", "/-/reload")[0] == 200
            status, rows = daemon.admin("POST", "/api/v1/events/discard", {"ids": [first], "to": "mail"})
            assert status == 200, rows
            assert json.loads(rows.splitlines()[-1])["outcomes"] == {"redirected": 1}
            daemon.admin("POST", "/api/v1/events/discard", {"ids": [second]})
            eventually(lambda: mail.ids() == [first])
            assert state(daemon, first) == "redirected"
            assert state(daemon, second) == "discarded"
            eventually(lambda: daemon.pending("mail") == 0)
            audit = daemon.audit()
            assert audit["ok"], audit
            scrape = daemon.scrape()
            assert scrape.value("settled_total", destination="app", outcome="redirected") == 1
            assert scrape.value("settled_total", destination="app", outcome="discarded") == 1
            assert scrape.total("enqueued_total", destination="mail") == 1


def test_what_is_too_old_expires_though_its_backend_is_down(tmp_path):
    config = source("app") + destination("app", f"http://127.0.0.1:{free_port()}", retry='max_age = "1s"')
    with Daemon(tmp_path, config) as daemon:
        event_id = send(daemon)
        eventually(lambda: daemon.lane()["dead_letters"] == 1, timeout_s=40, what="expired")
        assert deliveries(daemon, event_id)[0]["reason"] == "expired"
        assert daemon.metric("dead_lettered_total", destination="app", reason="expired") == 1


def test_a_backlog_of_20000_needs_no_memory_and_arrives_once_each(tmp_path):
    """The journal holds what waits, however long; without a crash nothing is delivered twice."""
    count, port = 20_000, free_port()
    config = source("app") + destination("app", f"http://127.0.0.1:{port}", "concurrency = 16")
    with Daemon(tmp_path, config) as daemon:
        for _ in range(50):
            send(daemon)  # warm: the interpreter's own growth is not the backlog's
        before = rss_kib(daemon.pid)
        ids = flood(daemon, count, b'{"pad":"' + b"x" * 1000 + b'"}')
        assert len(ids) == count
        grown = rss_kib(daemon.pid) - before
        assert grown < 60 << 10, f"grew by {grown} KiB"
        assert daemon.pending() == count + 50
        with Sink(port=port) as sink:
            eventually(lambda: daemon.pending() == 0, timeout_s=90, what="drained")
            seen = Counter(sink.ids())
            grown = rss_kib(daemon.pid) - before
        assert grown < 60 << 10, f"grew by {grown} KiB"
        assert not set(ids) - seen.keys(), "lost"
        assert set(seen.values()) == {1}, "delivered twice"
        assert len(seen) == count + 50
        assert daemon.audit()["ok"]


def flood(daemon: Daemon, count: int, body: bytes, connections: int = 8, depth: int = 32) -> list[str]:
    """Send many webhooks, pipelined; the ids that were acknowledged."""
    request_of = [framed("/github", body, github(body, SECRET, f"flood-{n}")) for n in range(count)]
    found: list[list[str]] = [[] for _ in range(connections)]

    def one(k: int) -> None:
        mine = request_of[k::connections]
        with Raw(daemon.port, timeout_s=60) as raw:
            for start in range(0, len(mine), depth):
                part = mine[start : start + depth]
                raw.send(b"".join(part))
                for _ in part:
                    answer = raw.answer()
                    if answer.status == 200:
                        found[k].append(answer.headers["webhook-sidecar-event-id"])

    threads = [threading.Thread(target=one, args=(k,)) for k in range(connections)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [i for part in found for i in part]
