"""Stock SDKs behind the daemon: what they accept at once they must accept ten minutes late and on a replay next day.

Three processes live by one clock that is moved while they run: the daemon and the app with the provider's own
library. Nothing of the product knows about it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook

from tests.support.apps import APPS, App, AppKind, MovingClock

TEN_MINUTES = 600
ONE_DAY = 86_400

pytestmark = [
    pytest.mark.skipif(bool(MovingClock.unavailable()), reason=MovingClock.unavailable() or "available"),
]


class Sidecar:
    """The real daemon as a process of its own, with one source and one destination."""

    def __init__(self, folder: Path, app: App, clock: MovingClock, signature: str = "fresh") -> None:
        kind = app.kind
        self._config = folder / "config.toml"
        self._config.write_text(
            f"""
            [server]
            listen = "127.0.0.1:0"
            public_url = "https://shop.example.com"
            [admin]
            listen = "127.0.0.1:0"
            [drain]
            accept_for = "0s"
            [sources.provider]
            path = "{kind.path}"
            verify = "{kind.preset}"
            secrets = [{{ env = "PROVIDER_SECRET" }}]
            destinations = ["app"]
            [destinations.app]
            url = "{app.url}"
            host = "shop.example.com"
            signature = "{signature}"
            """
        )
        self._env = {**os.environ, "PROVIDER_SECRET": kind.secret}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "run", "--config", str(self._config)],
            env={**self._env, **clock.env},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.lines: list[str] = []
        self.port = int(self._await_line("ready")["webhooks"].rpartition(":")[2])

    def _await_line(self, msg: str) -> dict[str, Any]:
        """Read the log up to the line with this message."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line)
            if line.startswith("{"):
                row: dict[str, Any] = json.loads(line)
                if row["msg"] == msg:
                    return row
        raise AssertionError("the daemon ended before it said " + msg + ":\n" + "".join(self.lines))

    def post(self, path: str, headers: dict[str, str], body: bytes) -> str:
        """Send one webhook; the event id that it was acknowledged with."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == 200
        event_id = answer.getheader("Webhook-Sidecar-Event-Id")
        assert event_id is not None
        return event_id

    def command(self, *arguments: str) -> str:
        """Run the command line against this daemon; what it printed."""
        command = [sys.executable, "-m", "sidecar", *arguments, "--config", str(self._config)]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        """End it in order and read the rest of its log."""
        self._process.send_signal(signal.SIGINT)
        try:
            _, rest = self._process.communicate(timeout=20)
            self.lines.append(rest)
        finally:
            self._process.kill()


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
def sidecar(app, tmp_path, clock) -> Iterator[Sidecar]:
    sidecar = Sidecar(tmp_path, app, clock)
    yield sidecar
    sidecar.stop()


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


def test_the_first_attempt_is_accepted_as_the_provider_signed_it(app, sidecar, clock):
    app.start()
    headers, body = signed(app.kind, 1, clock.now_s())
    event_id = sidecar.post(app.kind.path, headers, body)
    seen = accepted(app, body, event_id)
    assert seen["webhook-sidecar-attempt"] == "1"
    assert "webhook-sidecar-resigned" not in seen
    assert {name.lower(): value for name, value in headers.items()}.items() <= seen.items()


def test_a_delivery_after_ten_minutes_of_outage_is_accepted(app, sidecar, clock):
    headers, body = signed(app.kind, 2, clock.now_s())
    event_id = sidecar.post(app.kind.path, headers, body)
    clock.move(TEN_MINUTES)
    app.start()
    seen = accepted(app, body, event_id)
    assert seen["webhook-sidecar-resigned"] == "true"
    assert seen["webhook-sidecar-attempt"] == "1", "an outage uses no attempt"


def test_a_replay_next_day_is_accepted(app, sidecar, clock):
    app.start()
    headers, body = signed(app.kind, 3, clock.now_s())
    event_id = sidecar.post(app.kind.path, headers, body)
    accepted(app, body, event_id)
    clock.move(ONE_DAY)
    sidecar.command("events", "replay", event_id)
    seen = accepted(app, body, event_id)
    assert seen["webhook-sidecar-resigned"] == "true"
    assert seen["webhook-sidecar-replay"] == "1"


def test_without_a_fresh_signature_the_same_delivery_is_refused(app, tmp_path, clock):
    """The control: the apps do check, and the clock does move for them."""
    sidecar = Sidecar(tmp_path, app, clock, signature="original")
    try:
        headers, body = signed(app.kind, 4, clock.now_s())
        sidecar.post(app.kind.path, headers, body)
        clock.move(TEN_MINUTES)
        app.start()
        row = app.next_row()
    finally:
        sidecar.stop()
    assert not row["accepted"]
    assert "webhook-sidecar-resigned" not in row["headers"]
