"""``verify --source --request``: the owner is told why a recorded request is refused; ``send`` works for what can be signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.config.describe import toml_value
from sidecar.inbound.verify import PRESETS
from tests.support.daemon import Daemon
from tests.support.providers import PARAMS, secret_of, verifier_of
from tests.support.senders import stripe
from tests.support.sink import Sink

SIGNABLE = sorted(name for name in PRESETS if verifier_of(name).can_sign)


def config(sink: Sink) -> str:
    text = ""
    for name in SIGNABLE:
        secret = secret_of(name)
        verify = {"preset": name, **PARAMS[name]} if name in PARAMS else name
        text += (
            f'\n[sources.{name}]\npath = "/{name}"\nverify = {toml_value(verify)}\n'
            f'secrets = [{{ id = "{secret.id}", value = {toml_value(secret.value.decode())} }}]\n'
            f'public_url = "https://hooks.example.com"\ndestinations = ["app"]\n'
        )
    return text + f'\n[destinations.app]\nurl = "{sink.url}{{path}}"\n'


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Sink() as sink, Daemon(tmp_path_factory.mktemp("explain"), config(sink)) as daemon:
        yield daemon


@pytest.mark.parametrize("name", SIGNABLE)
def test_send_signs_like_the_provider_and_is_accepted(daemon, name):
    """And with --bad-signature it is refused."""
    sent = daemon.command("send", "--source", name)
    assert sent.returncode == 0, (sent.stdout, sent.stderr)
    bad = daemon.command("send", "--source", name, "--bad-signature", "--json")
    assert bad.returncode == 0, (bad.stdout, bad.stderr)
    assert json.loads(bad.stdout)["status"] == 401


def recorded(headers: dict[str, str], body: bytes, path: str = "/stripe") -> bytes:
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return (
        f"POST {path} HTTP/1.1\r\nHost: hooks.example.com\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )


def explained(daemon: Daemon, tmp_path: Path, request: bytes, *more: str) -> dict:
    file = tmp_path / "request"
    file.write_bytes(request)
    done = daemon.command("verify", "--source", "stripe", "--request", str(file), "--json", *more)
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["accepted"] else 1), done.stderr
    return told


SECRET = secret_of("stripe").value.decode()
BODY = b'{"id":"evt_1", "object":"event"}'
COMPACT = b'{"id":"evt_1","object":"event"}'


def test_a_right_request_is_accepted_and_the_secret_is_named(daemon, tmp_path):
    told = explained(daemon, tmp_path, recorded(stripe(BODY, SECRET), BODY) + b"\n")
    assert (told["accepted"], told["secret"]) == (True, "1"), "a line end that an editor adds is not part of it"


@pytest.mark.parametrize(
    ("sign", "body", "more", "reason"),  # signed when the test runs: a whole run takes longer than the tolerance
    [
        (lambda: stripe(BODY, "whsec_other"), BODY, (), "wrong_secret"),
        (lambda: stripe(COMPACT, SECRET), b'{"id": "evt_1", "object": "event"}', (), "body_modified_suspected"),
        (lambda: stripe(BODY, SECRET, at_s=1_700_000_000), BODY, (), "stale_timestamp"),
        (
            lambda: stripe(BODY, SECRET, at_s=1_700_000_000),
            BODY + b"x",
            ("--at", "2023-11-14T22:13:20Z"),
            "wrong_secret",
        ),
        (dict, BODY, (), "missing_header"),
        (lambda: {"Stripe-Signature": "t=1"}, BODY, (), "malformed_signature"),
    ],
)
def test_a_refusal_is_explained(daemon, tmp_path, sign, body, more, reason):
    """With what to do; where the signed text can be made, with what each secret makes of it."""
    told = explained(daemon, tmp_path, recorded(sign(), body), *more)
    assert told["reason"] == reason
    assert told["advice"]
    if reason == "wrong_secret":
        assert any(line.startswith("signed: '") and "<body:" in line for line in told["outline"])
        assert any(line.startswith("expected with secret 1: ") for line in told["outline"])
    assert SECRET not in json.dumps(told)


def test_a_har_entry_is_read_as_well(daemon, tmp_path):
    """As a browser or proxy saves it, text or base64."""
    rows = [{"name": k, "value": v} for k, v in stripe(BODY, SECRET).items()]
    for posted in ({"text": BODY.decode()}, {"text": base64.b64encode(BODY).decode(), "encoding": "base64"}):
        entry = {"method": "POST", "url": "https://hooks.example.com/stripe?x=1", "headers": rows, "postData": posted}
        for document in (entry, {"request": entry}, {"log": {"entries": [{"request": entry}]}}):
            assert explained(daemon, tmp_path, json.dumps(document).encode())["accepted"]


@pytest.mark.parametrize("content", [b"", b"{}", b"POST\r\n\r\n", b"POST / HTTP/1.1\r\nnocolon\r\n\r\n", b"{junk"])
def test_what_is_no_recording_is_a_usage_error(daemon, tmp_path, content):
    """Exit 2, and what was expected."""
    (tmp_path / "request").write_bytes(content)
    done = daemon.command("verify", "--source", "stripe", "--request", str(tmp_path / "request"))
    assert done.returncode == 2
    assert b"the file is no" in done.stderr


def test_people_get_words_and_wrong_calls_are_refused(daemon, tmp_path):
    """The same facts, one a line."""
    file = tmp_path / "request"
    file.write_bytes(recorded(stripe(BODY, "whsec_other"), BODY))
    told = daemon.command("verify", "--source", "stripe", "--request", str(file))
    assert told.returncode == 1
    assert told.stdout.startswith(b"refused: wrong_secret\nwhat to do: copy the secret")
    file.write_bytes(recorded(stripe(BODY, SECRET), BODY))
    assert daemon.command("verify", "--source", "stripe", "--request", str(file)).stdout.startswith(
        b"accepted by secret 1"
    )
    assert daemon.command("verify", "--source", "nobody", "--request", str(file)).returncode == 3
    assert daemon.command("verify", "--source", "stripe").returncode == 2
    assert daemon.command("verify", "--source", "stripe", "--request", str(file), "--at", "now").returncode == 2
    shown = daemon.command("config", "show", "--preset", "stripe")
    assert b'scheme = "hmac"' in shown.stdout
    assert json.loads(daemon.command("config", "show", "--preset", "stripe", "--json").stdout)["sources"]["NAME"]
    assert daemon.command("config", "show", "--preset", "nobody").returncode == 2
    assert b'verify = "twilio"' in daemon.command("config", "init", "--provider", "twilio").stdout
    assert daemon.command("config", "init", "--provider", "nobody").returncode == 2
