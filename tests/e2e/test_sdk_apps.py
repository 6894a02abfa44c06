"""Stock SDKs behind the daemon: what they accept at once they must accept ten minutes late and on a replay next day.

Three processes live by one clock that is moved while they run: the daemon and the app with the provider's own
library. Nothing of the product knows about it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook

from tests.support.apps import APPS, App, AppKind, MovingClock
from tests.support.daemon import Daemon, eventually

TEN_MINUTES = 600
ONE_DAY = 86_400

pytestmark = [
    pytest.mark.skipif(bool(MovingClock.unavailable()), reason=MovingClock.unavailable() or "available"),
]


def configuration(app: App, signature: str = "fresh") -> str:
    """One source as the app's provider sends, one destination: the app."""
    return f"""
[sources.provider]
path = "{app.kind.path}"
verify = "{app.kind.preset}"
secrets = [{{ env = "PROVIDER_SECRET" }}]
public_url = "https://shop.example.com"
destinations = ["app"]

[destinations.app]
url = "{app.url}"
host = "shop.example.com"
signature = "{signature}"
"""


def daemon_of(app: App, folder: Path, clock: MovingClock, signature: str = "fresh") -> Daemon:
    """The daemon that has this app behind it and lives by this clock."""
    env = {"PROVIDER_SECRET": app.kind.secret, **clock.env}
    return Daemon(folder, configuration(app, signature), env=env)


def send(daemon: Daemon, app: App, number: int, clock: MovingClock) -> tuple[str, dict[str, str], bytes]:
    """Send one webhook as the provider does now; the id that it was acknowledged with, its headers and body."""
    headers, body = signed(app.kind, number, clock.now_s())
    status, answer, _ = daemon.post(app.kind.path, body, {"Content-Type": "application/json", **headers})
    assert status == 200, daemon.tail()
    return answer["webhook-sidecar-event-id"], headers, body


def signed(kind: AppKind, number: int, at_s: int) -> tuple[dict[str, str], bytes]:
    """Make a webhook as the provider would, by its own library or its own description, and not by ours."""
    event_id = f"evt_{kind.name}_{number}".replace("-", "_")
    if kind.preset == "stripe":
        body = json.dumps({"id": event_id, "object": "event", "type": "ping", "data": {"object": {}}}).encode()
        mac = hmac.new(kind.secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
        return {"Stripe-Signature": f"t={at_s},v1={mac}"}, body
    if kind.preset == "slack":
        body = json.dumps({"type": "event_callback", "event_id": event_id, "event": {"type": "app_mention"}}).encode()
        signature = SignatureVerifier(kind.secret).generate_signature(timestamp=str(at_s), body=body)
        assert signature is not None
        return {"X-Slack-Request-Timestamp": str(at_s), "X-Slack-Signature": signature}, body
    body = json.dumps({"type": "ping", "note": "Grüße"}).encode()
    when = dt.datetime.fromtimestamp(at_s, tz=dt.UTC)
    signature = Webhook(kind.secret).sign(event_id, when, body.decode())
    return {"webhook-id": event_id, "webhook-timestamp": str(at_s), "webhook-signature": signature}, body


@pytest.fixture(params=list(APPS.values()), ids=list(APPS))
def kind(request) -> AppKind:
    if request.param.unavailable():
        pytest.skip(request.param.unavailable())
    return request.param


@pytest.fixture
def clock(tmp_path) -> MovingClock:
    return MovingClock(tmp_path)


@pytest.fixture
def app(kind, tmp_path, clock) -> Iterator[App]:
    with App(kind, tmp_path, clock.env) as app:
        yield app


@pytest.fixture
def daemon(app, tmp_path, clock) -> Iterator[Daemon]:
    with daemon_of(app, tmp_path, clock) as daemon:
        yield daemon
        daemon.stop(signal.SIGINT)


def accepted(app: App, body: bytes, event_id: str) -> dict[str, str]:
    """Wait for the app to see something, and hold it to: taken by the SDK, our bytes, our id. Gives its headers."""
    row = app.next_row()
    assert row["accepted"], row["refusal"]
    assert row["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert row.get("secure", True), "the app must know that the sender used https"
    headers: dict[str, str] = row["headers"]
    assert headers["webhook-sidecar-event-id"] == event_id
    assert headers["host"] == "shop.example.com"
    return headers


def test_the_first_attempt_is_accepted_as_the_provider_signed_it(app, daemon, clock):
    app.start()
    event_id, headers, body = send(daemon, app, 1, clock)
    seen = accepted(app, body, event_id)
    assert seen["webhook-sidecar-attempt"] == "1"
    assert "webhook-sidecar-resigned" not in seen
    assert {name.lower(): value for name, value in headers.items()}.items() <= seen.items()


def test_a_delivery_after_ten_minutes_of_outage_is_accepted(app, daemon, clock):
    event_id, _, body = send(daemon, app, 2, clock)
    clock.move(TEN_MINUTES)
    app.start()
    seen = accepted(app, body, event_id)
    assert seen["webhook-sidecar-resigned"] == "true"
    assert seen["webhook-sidecar-attempt"] == "1", "an outage uses no attempt"


def test_a_replay_next_day_is_accepted(app, daemon, clock):
    app.start()
    event_id, _, body = send(daemon, app, 3, clock)
    accepted(app, body, event_id)
    eventually(lambda: daemon.metric("settled_total", destination="app", outcome="delivered") == 1)
    clock.move(ONE_DAY)
    done = daemon.command("events", "replay", event_id)
    assert done.returncode == 0, done.stderr
    seen = accepted(app, body, event_id)
    assert seen["webhook-sidecar-resigned"] == "true"
    assert seen["webhook-sidecar-replay"] == "1"


def test_without_a_fresh_signature_the_same_delivery_is_refused(app, tmp_path, clock):
    """The control: the apps do check, and the clock does move for them."""
    with daemon_of(app, tmp_path, clock, signature="original") as daemon:
        send(daemon, app, 4, clock)
        clock.move(TEN_MINUTES)
        app.start()
        row = app.next_row()
    assert not row["accepted"]
    assert "webhook-sidecar-resigned" not in row["headers"]
