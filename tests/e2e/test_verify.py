"""Verification over real sockets: real payloads, rotation, the providers' vectors, and one answer for every reason."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, Scrape, eventually
from tests.support.senders import Raw, framed, fresh_id, github, slack, standard, stripe
from tests.support.sink import Sink

TESTS = Path(__file__).resolve().parents[1]
PAYLOADS = sorted((TESTS / "data" / "github").glob("*.json"))
VECTORS = [json.loads(line) for line in (TESTS / "vectors" / "signatures.jsonl").read_text().splitlines()]
UNAUTHORIZED = b'{"error":{"code":"unauthorized"}}'

STANDARD_SECRET = "whsec_" + base64.b64encode(b"a standard secret of 32 bytes!!!").decode()

CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ id = "new", value = "new-secret" }}, {{ id = "old", value = "old-secret" }}]
destinations = ["app"]

[sources.retired]
path = "/retired"
verify = "github"
secrets = [
  {{ id = "now", value = "now-secret" }},
  {{ id = "past", value = "past-secret", not_after = 2020-01-01T00:00:00Z }},
  {{ id = "next", value = "next-secret", not_before = 2120-01-01T00:00:00Z }},
]
destinations = ["app"]

[sources.stripe]
path = "/stripe"
verify = "stripe"
secrets = [{{ value = "whsec_one" }}, {{ value = "whsec_two" }}]
destinations = ["app"]

[sources.slack]
path = "/slack"
verify = "slack"
secrets = [{{ value = "slack-secret" }}]
destinations = ["app"]

[sources.standard]
path = "/standard"
verify = "standard-webhooks"
secrets = [{{ value = "{standard}" }}]
destinations = ["app"]

[sources.basic]
path = "/basic"
verify = {{ scheme = "basic" }}
secrets = [{{ value = "user:pass:word" }}]
destinations = ["app"]

[sources.token]
path = "/token"
verify = {{ scheme = "token", header = "X-Token" }}
secrets = [{{ value = "a-token" }}]
destinations = ["app"]

[sources.open]
path = "/open"
verify = "none"
allow_unverified = true
destinations = ["app"]

[destinations.app]
url = "{sink}{{path}}"
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, sink: Sink) -> Iterator[Daemon]:
    config = CONFIG.format(sink=sink.url, standard=STANDARD_SECRET)
    with Daemon(tmp_path_factory.mktemp("verify"), config) as daemon:
        yield daemon


def reasons(scrape: Scrape, source: str) -> dict[str, float]:
    """Failed verifications of a source by reason, those that were."""
    rows = scrape.rows("verification_failures_total")
    return {labels["reason"]: value for labels, value in rows if labels["source"] == source and value}


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: p.stem)
def test_real_github_payloads_come_out_as_they_went_in(payload, daemon, sink):
    body = payload.read_bytes()
    headers = github(body, "new-secret", fresh_id(), payload.stem)
    status, answer, _ = daemon.post("/github", body, headers)
    assert status == 200
    event_id = answer["webhook-sidecar-event-id"]
    (got,) = eventually(lambda: [r for r in sink.requests if r.event_id == event_id])
    assert got.body == body
    assert got.get("X-GitHub-Event") == payload.stem
    assert got.get("X-Hub-Signature-256") == headers["X-Hub-Signature-256"]
    assert json.loads(got.body) == json.loads(body)


@pytest.mark.parametrize("payload", PAYLOADS[:3], ids=lambda p: p.stem)
def test_one_altered_byte_is_refused(payload, daemon):
    body = payload.read_bytes()
    headers = github(body, "new-secret", fresh_id())
    status, _, text = daemon.post("/github", body[:-3] + b" " + body[-2:], headers)
    assert (status, text) == (401, UNAUTHORIZED)


def test_both_secrets_of_a_rotation_are_taken_and_the_metric_tells_which(daemon):
    before = daemon.scrape()
    for secret in ("new-secret", "old-secret"):
        assert daemon.post("/github", b"{}", github(b"{}", secret, fresh_id()))[0] == 200
    after = daemon.scrape()
    for key_id in ("new", "old"):
        name = "signature_key_matched_total"
        grown = after.value(name, source="github", key_id=key_id) - before.value(name, source="github", key_id=key_id)
        assert grown == 1, key_id
    assert daemon.post("/github", b"{}", github(b"{}", "older-secret", fresh_id()))[0] == 401


def test_a_retired_secret_and_a_future_one_are_refused_like_a_wrong_one(daemon):
    assert daemon.post("/retired", b"{}", github(b"{}", "now-secret"))[0] == 200
    answers = [daemon.post("/retired", b"{}", github(b"{}", s)) for s in ("past-secret", "next-secret", "no-secret")]
    assert {a[0] for a in answers} == {401}
    assert len({a[2] for a in answers}) == 1
    assert reasons(daemon.scrape(), "retired") == {"retired_secret": 2, "wrong_secret": 1}


def test_every_signature_of_a_stripe_rotation_is_tried(daemon):
    """Peers compared only the first ``v1`` entry."""
    for secrets in (["whsec_one"], ["whsec_two"], ["whsec_strange", "whsec_two"], ["whsec_one", "whsec_strange"]):
        body = json.dumps({"id": f"evt_{fresh_id()}"}).encode()
        assert daemon.post("/stripe", body, stripe(body, *secrets))[0] == 200, secrets
    body = b'{"id":"evt_x"}'
    assert daemon.post("/stripe", body, stripe(body, "whsec_strange"))[0] == 401


def test_timestamps_count_and_every_strange_one_is_refused(daemon):
    now = time.time()
    body = json.dumps({"id": f"evt_{fresh_id()}"}).encode()
    assert daemon.post("/stripe", body, stripe(body, "whsec_one", at_s=now - 290))[0] == 200
    assert daemon.post("/stripe", body, stripe(body, "whsec_one", at_s=now - 310))[0] == 401
    slack_body = json.dumps({"event_id": fresh_id()}).encode()
    assert daemon.post("/slack", slack_body, slack(slack_body, "slack-secret", now + 310))[0] == 401
    for strange in (
        "nan",
        "1e9",
        "1_700",
        "-5",
        "",
        "9" * 5000,
        str(int(now * 1000)),
        "١٧٠٠".encode().decode("latin-1"),
    ):
        headers = slack(slack_body, "slack-secret") | {"X-Slack-Request-Timestamp": strange}
        request = framed("/slack", slack_body, headers)
        with Raw(daemon.port) as raw:
            answer = raw.send(request).answer()
        assert (answer.status, answer.body) == (401, UNAUTHORIZED), strange[:20]


def test_all_refusals_look_the_same_from_outside(daemon):
    """Nobody can tell a wrong secret from a bad form, a stale timestamp or a weak scheme."""
    body = b'{"id":"evt_1"}'
    good = github(body, "new-secret")
    sha1 = {k: v for k, v in good.items() if "256" not in k} | {"X-Hub-Signature": "sha1=" + "0" * 40}
    asked = [
        ("/github", {}),
        ("/github", sha1),
        ("/github", good | {"X-Hub-Signature-256": "sha256=zz"}),
        ("/github", good | {"X-Hub-Signature-256": "sha256= " + "0" * 63}),
        ("/github", good | {"X-Hub-Signature-256": good["X-Hub-Signature-256"][7:]}),
        ("/github", good | {"X-Hub-Signature-256": "sha256=" + "é" * 32}),
        ("/github", good | {"X-Hub-Signature-256": "sha256=" + "0" * 64}),
        ("/github", {"X_Hub_Signature_256": good["X-Hub-Signature-256"]}),
        ("/stripe", stripe(body, "whsec_one", at_s=1)),
        ("/stripe", stripe(body, *["whsec_wrong"] * 50)),
        ("/standard", standard(body, STANDARD_SECRET, "msg_1") | {"webhook-id": "msg_2"}),
        ("/basic", {"Authorization": "Basic " + base64.b64encode(b"user:wrong").decode()}),
        ("/token", {"X-Token": "b-token"}),
        ("/token", {"X-Token": ""}),
    ]
    seen = set()
    for path, headers in asked:
        with Raw(daemon.port) as raw:
            answer = raw.send(framed(path, body, headers)).answer()
        kept = {k: v for k, v in answer.headers.items() if k != "date"}
        seen.add((answer.status, answer.body, tuple(sorted(kept.items()))))
    assert len(seen) == 1, seen
    assert next(iter(seen))[:2] == (401, UNAUTHORIZED)
    scrape = daemon.scrape()
    assert scrape.value("received_total", source="github", outcome="unauthorized") >= 8
    assert len(reasons(scrape, "github")) >= 3, "inside, the reasons are told apart"


def test_passwords_with_colons_and_tokens_are_taken(daemon):
    basic = {"Authorization": "Basic " + base64.b64encode(b"user:pass:word").decode()}
    assert daemon.post("/basic", b"{}", basic)[0] == 200
    assert daemon.post("/token", b"{}", {"X-Token": "a-token"})[0] == 200
    assert daemon.post("/open", b"{}")[0] == 200


def test_the_presets_with_a_timestamp_take_what_is_signed_now(daemon):
    """Their vectors are of the past; the same bodies, signed now as the provider says, are accepted."""
    for provider, send in (("slack", slack), ("stripe", stripe), ("standard", standard)):
        bodies = {base64.b64decode(v["body_base64"]) for v in VECTORS if v["provider"].startswith(provider)}
        for body in bodies - {b""}:
            secret = {"slack": "slack-secret", "stripe": "whsec_two", "standard": STANDARD_SECRET}[provider]
            headers = standard(body, secret, f"msg_{fresh_id()}") if provider == "standard" else send(body, secret)
            assert daemon.post(f"/{provider}", body, headers)[0] == 200, body


def test_slacks_url_verification_is_answered_and_not_kept(daemon, sink):
    events = daemon.api("events?source=slack")["events"]
    body = json.dumps({"type": "url_verification", "token": "x", "challenge": "3eZbrw1aB<b>"}).encode()
    status, headers, text = daemon.post("/slack", body, slack(body, "slack-secret"))
    assert (status, text) == (200, b"3eZbrw1aB<b>")
    assert headers["content-type"] == "text/plain"
    assert "webhook-sidecar-event-id" not in headers
    assert daemon.post("/slack", body, slack(body, "wrong"))[0] == 401, "an unsigned challenge is not answered"
    assert daemon.metric("received_total", source="slack", outcome="handshake") == 1
    assert daemon.api("events?source=slack")["events"] == events
    assert not [r for r in sink.requests if b"url_verification" in r.body]


def test_compressed_bodies_are_verified_and_delivered_as_they_came(daemon, sink):
    body = gzip.compress(b'{"zipped":true}' * 100)
    headers = github(body, "new-secret", fresh_id()) | {"Content-Encoding": "gzip"}
    status, answer, _ = daemon.post("/github", body, headers)
    assert status == 200
    event_id = answer["webhook-sidecar-event-id"]
    (got,) = eventually(lambda: [r for r in sink.requests if r.event_id == event_id])
    assert got.body == body
    assert got.get("Content-Encoding") == "gzip"


def test_why_somebody_was_refused_is_in_the_log_and_in_the_look_up(daemon):
    daemon.post("/retired", b"{}", {"X-Hub-Signature-256": "sha256=" + "1" * 64})
    rows = eventually(lambda: [r for r in daemon.logged("request refused") if r["source"] == "retired"])
    assert {r["reason"] for r in rows} <= {"wrong_secret", "retired_secret", "no_active_secret"}
    assert {r["outcome"] for r in rows} == {"unauthorized"}
    assert "wrong_secret" in daemon.api("refused?source=retired")["refused"]
