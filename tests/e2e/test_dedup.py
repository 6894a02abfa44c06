"""Repeats: the same webhook again is the same event, however often, however fast, and after whatever happened."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon, eventually
from tests.support.senders import Answer, Raw, at_once, framed, fresh_id, github, slack, stripe
from tests.support.sink import Received, Sink

SECRET = "dedup-test"

CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ value = "dedup-test" }}]
destinations = ["app"]
[sources.github.ack]
status = 202
body = "took {{id}}"
content_type = "text/x-took"

[sources.stripe]
path = "/stripe"
verify = "stripe"
secrets = [{{ value = "dedup-test" }}]
destinations = ["app"]

[sources.slack]
path = "/slack"
verify = "slack"
secrets = [{{ value = "dedup-test" }}]
destinations = ["app"]

[sources.bodies]
path = "/bodies"
verify = "github"
secrets = [{{ value = "dedup-test" }}]
destinations = ["app"]
dedup = {{ key = "body" }}

[sources.brief]
path = "/brief"
verify = "github"
secrets = [{{ value = "dedup-test" }}]
destinations = ["app"]
dedup = {{ ttl = "1s" }}

[sources.strict]
path = "/strict"
verify = "github"
secrets = [{{ value = "dedup-test" }}]
destinations = ["app"]
dedup = {{ key = "json:/order/id", missing = "body", redrive_dead = false }}

[destinations.app]
url = "{sink}{{path}}"
[journal]
path = "journal"
retention = "0s"
"""


KEEPING = CONFIG.replace('retention = "0s"', "")


def answer_of(request: Received) -> int:
    """A backend that refuses for good what says so, until it is told to recover."""
    return 400 if b"refuse me" in request.body and not RECOVERED else 200


RECOVERED: list[bool] = []


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink(answer_of) as sink:
        yield sink


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, sink: Sink) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("dedup"), CONFIG.format(sink=sink.url)) as daemon:
        yield daemon


def send(daemon: Daemon, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    with Raw(daemon.port) as raw:
        return raw.send(framed(path, body, headers)).answer()


def id_of(answer: Answer) -> str:
    assert 200 <= answer.status < 300, answer
    return answer.headers["webhook-sidecar-event-id"]


def same(first: Answer, again: Answer) -> None:
    """A repeat gets the first one's answer, and is marked."""
    assert "idempotent-replayed" not in first.headers
    assert again.headers.get("idempotent-replayed") == "true"
    assert (again.status, again.body, id_of(again)) == (first.status, first.body, id_of(first))
    assert again.headers.get("content-type") == first.headers.get("content-type")


def deliveries(daemon: Daemon, sink: Sink, event_id: str) -> int:
    """How often an event was delivered, once nothing is owed any more."""
    eventually(lambda: daemon.pending() == 0)
    return sink.ids().count(event_id)


def test_a_repeat_by_header_gets_the_first_answer_again(daemon, sink):
    headers = github(b"{}", SECRET, fresh_id())
    first = send(daemon, "/github", b"{}", headers)
    assert (first.status, first.body) == (202, f"took {id_of(first)}".encode())
    assert first.headers["content-type"] == "text/x-took"
    same(first, send(daemon, "/github", b"{}", headers))
    assert deliveries(daemon, sink, id_of(first)) == 1


def test_a_repeat_by_a_field_of_the_body_counts_though_it_is_signed_anew(daemon, sink):
    body = json.dumps({"id": f"evt_{fresh_id()}"}).encode()
    first = send(daemon, "/stripe", body, stripe(body, SECRET))
    same(first, send(daemon, "/stripe", body, stripe(body, SECRET, at_s=None) | {"X-Attempt": "2"}))
    assert deliveries(daemon, sink, id_of(first)) == 1


def test_a_repeat_by_the_whole_body(daemon, sink):
    body = fresh_id().encode()
    first = send(daemon, "/bodies", body, github(body, SECRET, fresh_id()))
    same(first, send(daemon, "/bodies", body, github(body, SECRET, fresh_id())))
    other = send(daemon, "/bodies", body + b"x", github(body + b"x", SECRET, fresh_id()))
    assert id_of(other) != id_of(first)


def test_twenty_copies_at_once_are_one_event_and_one_delivery(daemon, sink):
    for _ in range(5):
        headers, body = github(b'{"twenty":1}', SECRET, fresh_id()), b'{"twenty":1}'
        connections = [Raw(daemon.port) for _ in range(20)]
        request = framed("/github", body, headers)
        try:
            answers = at_once([lambda c=c, r=request: c.send(r).answer() for c in connections])
        finally:
            for c in connections:
                c.close()
        assert {a.status for a in answers} == {202}
        (event_id,) = {id_of(a) for a in answers}
        assert sum(a.headers.get("idempotent-replayed") == "true" for a in answers) == 19
        assert len({a.body for a in answers}) == 1
        assert deliveries(daemon, sink, event_id) == 1


def test_twenty_copies_pipelined_on_one_connection_are_one_event(daemon, sink):
    request = framed("/github", b"{}", github(b"{}", SECRET, fresh_id()))
    with Raw(daemon.port) as raw:
        raw.send(request * 20)
        answers = [raw.answer() for _ in range(20)]
    (event_id,) = {id_of(a) for a in answers}
    assert sum(a.headers.get("idempotent-replayed") == "true" for a in answers) == 19
    assert deliveries(daemon, sink, event_id) == 1


def test_a_repeat_is_known_after_the_event_was_pruned(daemon):
    headers = github(b'{"prune":1}', SECRET, fresh_id())
    first = send(daemon, "/github", b'{"prune":1}', headers)
    eventually(lambda: daemon.admin("GET", f"/api/v1/events/{id_of(first)}")[0] == 404, what="pruned")
    same(first, send(daemon, "/github", b'{"prune":1}', headers))


def test_repeats_are_known_after_a_restart_and_after_a_crash(tmp_path, sink):
    with Daemon(tmp_path, CONFIG.format(sink=sink.url)) as daemon:
        headers, body = github(b'{"restart":1}', SECRET, fresh_id()), b'{"restart":1}'
        first = send(daemon, "/github", body, headers)
        assert daemon.stop() == 0
        daemon.start()
        same(first, send(daemon, "/github", body, headers))
        second_headers = github(body, SECRET, fresh_id())
        second = send(daemon, "/github", body, second_headers)
        daemon.kill()
        daemon.start()
        same(second, send(daemon, "/github", body, second_headers))
        same(first, send(daemon, "/github", body, headers))
        assert daemon.admin("POST", "/-/reload")[0] == 200
        same(second, send(daemon, "/github", body, second_headers))


def test_the_first_answer_is_given_again_after_the_ack_was_reconfigured(tmp_path, sink):
    config = CONFIG.format(sink=sink.url)
    with Daemon(tmp_path, config) as daemon:
        headers = github(b"{}", SECRET, fresh_id())
        first = send(daemon, "/github", b"{}", headers)
        daemon.write(config.replace('"took {id}"', '"something else"').replace("202", "200"))
        assert daemon.admin("POST", "/-/reload")[0] == 200
        same(first, send(daemon, "/github", b"{}", headers))
        assert send(daemon, "/github", b"{}", github(b"{}", SECRET, fresh_id())).body == b"something else"


def test_a_key_outside_the_signature_cannot_be_claimed_for_other_bytes(daemon):
    """GitHub's delivery id is not signed: whoever captured one signed body cannot keep another event out with its id."""
    delivery = fresh_id()
    first = send(daemon, "/github", b'{"a":1}', github(b'{"a":1}', SECRET, delivery))
    second = send(daemon, "/github", b'{"a":2}', github(b'{"a":2}', SECRET, delivery))
    assert id_of(first) != id_of(second)
    assert "idempotent-replayed" not in second.headers


def test_a_key_inside_the_signature_is_a_duplicate_whatever_the_bytes_and_that_is_counted(daemon, sink):
    name = f"evt_{fresh_id()}"
    before = daemon.metric("dedup_conflicts_total", source="stripe")
    first_body, second_body = (json.dumps({"id": name, "n": n}).encode() for n in (1, 2))
    first = send(daemon, "/stripe", first_body, stripe(first_body, SECRET))
    same(first, send(daemon, "/stripe", second_body, stripe(second_body, SECRET)))
    assert daemon.metric("dedup_conflicts_total", source="stripe") == before + 1
    assert deliveries(daemon, sink, id_of(first)) == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_captured_request_is_a_duplicate_under_any_content_encoding(daemon, sink, coding):
    """No signature covers that header: it must not be a way to have the same webhook enqueued again and again."""
    body = json.dumps({"id": f"evt_{fresh_id()}"}).encode()
    headers = stripe(body, SECRET)
    first = send(daemon, "/stripe", body, headers)
    same(first, send(daemon, "/stripe", body, {**headers, "Content-Encoding": coding}))
    assert deliveries(daemon, sink, id_of(first)) == 1


def test_what_is_not_verified_never_touches_the_keys(daemon):
    """A stranger can neither use a key up nor learn that it is known (GHSA-cmwq-5829-xw24)."""
    delivery = fresh_id()
    for _ in range(3):
        refused = send(daemon, "/github", b"{}", github(b"{}", "strange", delivery))
        assert (refused.status, refused.code) == (401, "unauthorized")
    first = send(daemon, "/github", b"{}", github(b"{}", SECRET, delivery))
    assert "idempotent-replayed" not in first.headers
    known = send(daemon, "/github", b"{}", github(b"{}", "strange", delivery))
    assert (known.status, known.body) == (refused.status, refused.body)


def test_sources_do_not_share_keys(daemon):
    delivery = fresh_id()
    first = send(daemon, "/github", b"{}", github(b"{}", SECRET, delivery))
    second = send(daemon, "/brief", b"{}", github(b"{}", SECRET, delivery))
    assert id_of(first) != id_of(second)


def test_a_key_is_forgotten_after_its_time(daemon):
    headers = github(b"{}", SECRET, fresh_id())
    first = send(daemon, "/brief", b"{}", headers)
    same(first, send(daemon, "/brief", b"{}", headers))

    def forgotten() -> bool:
        return id_of(send(daemon, "/brief", b"{}", headers)) != id_of(first)

    eventually(forgotten, timeout_s=5)


def test_without_a_key_events_are_taken_and_counted_or_told_apart_by_their_bodies(daemon):
    before = daemon.metric("dedup_key_missing_total", source="github")
    headers = github(b"{}", SECRET)
    assert id_of(send(daemon, "/github", b"{}", headers)) != id_of(send(daemon, "/github", b"{}", headers))
    assert daemon.metric("dedup_key_missing_total", source="github") == before + 2
    body = json.dumps({"order": {"no": fresh_id()}}).encode()  # strict: missing = body
    same(*(send(daemon, "/strict", body, github(body, SECRET)) for _ in range(2)))


@pytest.mark.parametrize(
    "body",
    [b'{"order":{"id":1},"order":{"id":2}}', b"{" * 2000, b'{"order":{"id":' + b"9" * 5000 + b"}}", b"\xff\xfe{",
     b'{"order":{"id":NaN}}', b'{"order":{"id":"\\ud800"}}', b"[]", b"null"],
    ids=["a key twice", "deep", "long number", "UTF-16", "NaN", "surrogate", "list", "null"],
)  # fmt: skip
def test_a_key_that_cannot_be_read_without_doubt_is_no_reason_to_refuse_what_is_signed(body, daemon):
    body += b" " * (int(fresh_id(), 16) % 1000)
    assert send(daemon, "/strict", body, github(body, SECRET)).status == 200


def test_an_odd_delivery_id_is_an_id_and_does_no_harm(daemon):
    for odd in ("x" * 7000, "../../etc/passwd", "<script>", "%00", "a" * 256):
        headers = github(b"{}", SECRET, odd)
        same(send(daemon, "/github", b"{}", headers), send(daemon, "/github", b"{}", headers))


def test_a_redelivery_revives_what_is_dead_once(tmp_path):
    RECOVERED.clear()
    with Sink(answer_of) as sink, Daemon(tmp_path, KEEPING.format(sink=sink.url)) as daemon:
        body = b'{"text":"refuse me"}'
        headers = github(body, SECRET, fresh_id())
        first = send(daemon, "/github", body, headers)
        event_id = id_of(first)
        eventually(lambda: daemon.lane()["dead_letters"] == 1, what="dead")
        (letter,) = (tmp_path / "dead-letters" / "app").glob("*.json")
        RECOVERED.append(True)
        same(first, send(daemon, "/github", body, headers))
        eventually(lambda: sink.ids().count(event_id) == 2, what="revived")
        last = sink.requests[-1]
        assert last.get("Webhook-Sidecar-Replay") == "1"
        assert last.attempt == 1, "a fresh budget"
        assert last.body == body
        same(first, send(daemon, "/github", body, headers))
        eventually(lambda: daemon.pending() == 0)
        assert sink.ids().count(event_id) == 2
        assert daemon.audit()["ok"]
        eventually(lambda: not letter.exists(), what="the revived letter is gone")
        assert daemon.metric("enqueued_total", source="github", destination="app") == 2


def test_a_source_that_says_so_leaves_the_dead_alone(tmp_path):
    RECOVERED.clear()
    with Sink(answer_of) as sink, Daemon(tmp_path, CONFIG.format(sink=sink.url)) as daemon:
        body = b'{"order":{"id":7},"text":"refuse me"}'
        send(daemon, "/strict", body, github(body, SECRET))
        eventually(lambda: daemon.lane()["dead_letters"] == 1)
        assert send(daemon, "/strict", body, github(body, SECRET)).headers["idempotent-replayed"] == "true"
        assert daemon.pending() == 0
        assert len(sink.requests) == 1


def test_slack_retries_are_known_by_their_event_id(daemon, sink):
    body = json.dumps({"type": "event_callback", "event_id": f"Ev{fresh_id()}"}).encode()
    first = send(daemon, "/slack", body, slack(body, SECRET))
    again = send(daemon, "/slack", body, slack(body, SECRET) | {"X-Slack-Retry-Num": "1"})
    same(first, again)
    assert (first.status, first.body) == (200, b"")
    assert deliveries(daemon, sink, id_of(first)) == 1
