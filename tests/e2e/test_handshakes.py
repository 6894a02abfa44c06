"""Handshakes against a real daemon: answered and counted, never delivered; secrets that arrive are the operator's to see."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon, eventually
from tests.support.sink import Sink

SECRET = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81"

CONFIG = """
[sources.asana]
path = "/asana"
verify = "asana"
destinations = ["app"]

[sources.notion]
path = "/notion"
verify = "notion"
destinations = ["app"]

[sources.meta]
path = "/meta"
verify = "meta"
secrets = [{{ value = "app-secret" }}]
handshake_token = {{ value = "verify-t0ken" }}
destinations = ["app"]

[sources.trello]
path = "/trello"
verify = "trello"
secrets = [{{ value = "oauth-secret" }}]
public_url = "https://hooks.example.com"
destinations = ["app"]

[sources.xero]
path = "/xero"
verify = "xero"
secrets = [{{ value = "xero-key" }}]
destinations = ["app"]

[sources.events]
path = "/events"
verify = {{ scheme = "token", header = "X-Token" }}
handshake = "cloudevents"
handshake_allow = ["eventemitter.example.com"]
secrets = [{{ value = "a-token" }}]
destinations = ["app"]

[sources.shop]
path = "/shop"
verify = "woocommerce"
secrets = [{{ value = "wc" }}]
destinations = ["app"]

[destinations.app]
url = "{sink}{{path}}"
"""


@pytest.fixture
def daemon(tmp_path, sink: Sink) -> Iterator[Daemon]:
    with Daemon(tmp_path, CONFIG.format(sink=sink.url)) as daemon:
        yield daemon


def signed(secret: str, body: bytes) -> dict[str, str]:
    return {"X-Hook-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def test_asanas_secret_is_taken_when_it_is_expected_and_survives_a_restart(daemon, sink, tmp_path):
    """No window: 401. A window: one secret, echoed once it is on disk, never a second one, never in the log."""
    hook = {"X-Hook-Secret": SECRET}
    assert daemon.post("/asana", b"", hook)[0] == 401
    shown = daemon.command("handshake", "show", "asana")
    assert b"none has arrived" in shown.stdout
    assert daemon.command("handshake", "expect", "asana", "--for", "1m").returncode == 0
    status, headers, _ = daemon.post("/asana", b"", hook)
    assert (status, headers["x-hook-secret"]) == (200, SECRET)
    assert daemon.post("/asana", b"", {"X-Hook-Secret": "f" * 64})[0] == 401, "the window closed with the first"
    assert daemon.post("/asana", b"", hook)[0] == 200, "the provider may ask twice"
    told = json.loads(daemon.command("handshake", "show", "asana", "--json").stdout)
    assert [(s["id"], s["secret"], s["peer"]) for s in told["secrets"]] == [("handshake-1", SECRET, "127.0.0.1")]
    body = b'{"events":[{"action":"changed"}]}'
    assert daemon.post("/asana", body, signed(SECRET, body))[0] == 200
    daemon.kill()
    daemon.start()
    body = b'{"events":[{"action":"added"}]}'
    status, answer, _ = daemon.post("/asana", body, signed(SECRET, body))
    assert status == 200
    eventually(lambda: [r for r in sink.requests if r.event_id == answer["webhook-sidecar-event-id"]])
    assert daemon.metric("signature_key_matched_total", source="asana", key_id="handshake-1") == 1
    assert SECRET not in daemon.log.read_text()
    assert SECRET not in daemon.scrape().text
    assert daemon.command("send", "--source", "asana").returncode == 0, "it signs with the secret that arrived"
    recorded = tmp_path / "request"
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed(SECRET, body).items())
    recorded.write_bytes(f"POST /asana HTTP/1.1\r\n{lines}\r\n".encode() + body)
    told = daemon.command("verify", "--source", "asana", "--request", str(recorded))
    assert told.stdout.startswith(b"accepted by secret handshake-1"), told
    assert daemon.command("handshake", "forget", "asana", "handshake-1").returncode == 0
    assert daemon.post("/asana", body + b" ", signed(SECRET, body + b" "))[0] == 401
    assert daemon.command("handshake", "forget", "asana", "handshake-1").returncode == 3
    assert daemon.command("handshake", "show", "nobody").returncode == 3
    assert daemon.command("handshake", "expect", "asana", "--for", "soon").returncode == 2


def test_notions_token_is_read_by_the_operator(daemon):
    """It is pasted into Notion's page; the log has only its name."""
    body = json.dumps({"verification_token": "secret_tMrlL1qK5vuQAh1b6cZG"}).encode()
    json_type = {"Content-Type": "application/json"}
    assert daemon.post("/notion", body, json_type)[0] == 401
    assert daemon.command("handshake", "expect", "notion").returncode == 0
    assert daemon.post("/notion", body, json_type)[0] == 200
    assert b"secret_tMrlL1qK5vuQAh1b6cZG" in daemon.command("handshake", "show", "notion").stdout
    assert "secret_tMrlL1qK5vuQAh1b6cZG" not in daemon.log.read_text()
    event = b'{"id":"1","type":"page.created"}'
    mac = hmac.new(b"secret_tMrlL1qK5vuQAh1b6cZG", event, hashlib.sha256).hexdigest()
    assert daemon.post("/notion", event, {"X-Notion-Signature": f"sha256={mac}"})[0] == 200


def test_urls_are_tried_without_anything_being_delivered(daemon, sink):
    """GET, HEAD, OPTIONS and an unsigned form: each answered as its provider wants, and counted."""
    before = len(sink.requests)
    challenge = "/meta?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    status, headers, text = daemon.post(challenge + "verify-t0ken", b"", method="GET")
    assert (status, text, headers["content-type"]) == (200, b"1158201444", "text/plain")
    assert daemon.post(challenge + "wrong", b"", method="GET")[0] == 401
    assert daemon.post("/meta", b"", method="GET")[0] == 405
    assert daemon.post("/trello", b"", method="HEAD")[0] == 200
    origin = {"WebHook-Request-Origin": "eventemitter.example.com"}
    status, headers, _ = daemon.post("/events", b"", origin, method="OPTIONS")
    assert (status, headers["webhook-allowed-origin"]) == (200, "eventemitter.example.com")
    assert daemon.post("/events", b"", {"WebHook-Request-Origin": "evil.example.com"}, method="OPTIONS")[0] == 404
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert daemon.post("/shop", b"webhook_id=142", form)[0] == 200
    assert daemon.post("/shop", b"webhook_id=142&more=1", form)[0] == 401
    body = b'{"events":[],"firstEventSequence":0}'
    mac = base64.b64encode(hmac.new(b"xero-key", body, hashlib.sha256).digest()).decode()
    assert daemon.post("/xero", body, {"x-xero-signature": mac})[::2] == (200, b"")
    assert daemon.post("/xero", body, {"x-xero-signature": mac[:-4] + "AAA="})[0] == 401
    scrape = daemon.scrape()
    for source in ("meta", "trello", "events", "shop", "xero"):
        assert scrape.value("received_total", source=source, outcome="handshake") == 1, source
    assert len(sink.requests) == before


def test_secrets_are_handled_over_the_socket_only(daemon):
    """Not even the admin token opens them over TCP; without one there is nothing at all."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.admin_port, timeout=10)
    connection.request("GET", "/api/v1/handshakes/asana")
    assert connection.getresponse().status in {401, 403}
    connection.close()
