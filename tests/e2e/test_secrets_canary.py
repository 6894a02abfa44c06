"""No secret and no payload comes out where it does not belong: logs, metrics, answers, every command's output.

Each secret and each payload carries a marker; everything that the process and its commands say is searched for it, plain
and in the encodings that hide it. A line that leaks on purpose shows that the search finds one.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.backends import make_certificates
from tests.support.daemon import REPOSITORY, Daemon, eventually, free_port
from tests.support.senders import Answer, Raw, framed, fresh_id, github, slack, standard, stripe
from tests.support.sink import Sink

SECRET, PAYLOAD = "zQ7xKsecret", "vW3yKpayload"


def secret(name: str) -> str:
    return f"{SECRET}{name}{SECRET}"


def forms(marker: str) -> list[bytes]:
    """A marker as it would look in clear, in hex, and at each of the three places that base64 can put it."""
    raw = marker.encode()
    encoded = [base64.b64encode(b"\0" * n + raw)[(0, 2, 3)[n] : -4] for n in range(3)]
    return [raw.lower(), raw.hex().encode(), *(e.lower() for e in encoded)]


def found(said: dict[str, bytes], *markers: str) -> dict[str, list[str]]:
    """Where any of these is, with what is around it."""
    leaks: dict[str, list[str]] = {}
    for where, text in said.items():
        lower = text.lower()
        for marker in markers:
            for form in forms(marker):
                at = lower.find(form)
                if at >= 0:
                    leaks.setdefault(where, []).append(repr(text[max(0, at - 80) : at + 80]))
    return leaks


def test_the_search_finds_what_is_hidden_in_an_encoding():
    for n in range(6):
        text = f"{'x' * n}{secret('any')}".encode()
        for hidden in (text, text.hex().encode(), base64.b64encode(text), base64.urlsafe_b64encode(text), text.upper()):
            assert found({"it": hidden}, SECRET), hidden
    assert not found({"it": b"nothing of that kind"}, SECRET, PAYLOAD)


class World:
    """Secrets of every kind, where each kind lives; and the configuration that refers to them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.env = {
            "CANARY_GITHUB": secret("env"),
            "CANARY_HEADER": secret("header-env"),
            "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
        }
        self.token = secret("admin")
        self.standard = "whsec_" + base64.b64encode(secret("standard").encode()).decode()
        (folder / "credentials").mkdir()
        for name, content in {
            "stripe": secret("file"),
            "admin": self.token,
            "header": secret("header-file"),
            "credentials/slack": secret("credential"),
            "standard": self.standard,
        }.items():
            (folder / name).write_text(content + "\n")
            (folder / name).chmod(0o600)
        made = folder / "tls"
        made.mkdir()
        self.certificates = make_certificates(made)
        key = (made / "good.key").read_text().splitlines()
        self.key_line = key[len(key) // 2]
        self.server = f'tls = {{ cert = "{made}/good.pem", key = "{made}/good.key" }}'
        self.admin = f'token = {{ file = "{folder}/admin" }}'
        self.config = f"""
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ env = "CANARY_GITHUB" }}]
destinations = ["app", "picky", "down"]
[sources.stripe]
path = "/stripe"
verify = "stripe"
secrets = [{{ file = "{folder}/stripe" }}]
destinations = ["app"]
[sources.slack]
path = "/slack"
verify = "slack"
secrets = [{{ credential = "slack" }}]
destinations = ["app"]
[sources.standard]
path = "/standard"
verify = "standard-webhooks"
secrets = [{{ file = "{folder}/standard" }}]
destinations = ["app"]
[sources.token]
path = "/token"
verify = {{ scheme = "token", header = "X-Shop" }}
secrets = [{{ value = "{secret("token")}" }}]
destinations = ["app", "picky"]
[sources.basic]
path = "/basic"
verify = {{ scheme = "basic" }}
secrets = [{{ value = "user:{secret("basic")}" }}]
destinations = ["app", "picky"]
[destinations.app]
url = "{url}/app"
headers = {{ X-Internal = {{ env = "CANARY_HEADER" }}, Authorization = {{ file = "{folder}/header" }} }}
[destinations.picky]
url = "{url}/picky?api_key={secret("query")}"
headers = {{ X-Literal = {{ value = "{secret("header-value")}" }} }}
[destinations.picky.retry]
base = "100ms"
[destinations.down]
url = "http://127.0.0.1:{free_port()}"
[log]
level = "debug"
"""

    def signed(self, source: str, body: bytes) -> dict[str, str]:
        """Headers of a good request."""
        made: dict[str, str] = {
            "github": lambda: github(body, secret("env"), fresh_id()),
            "stripe": lambda: stripe(body, secret("file")),
            "slack": lambda: slack(body, secret("credential")),
            "standard": lambda: standard(body, self.standard, fresh_id()),
            "token": lambda: {"X-Shop": secret("token")},
            "basic": lambda: {
                "Authorization": "Basic " + base64.b64encode(f"user:{secret('basic')}".encode()).decode()
            },
        }[source]()
        return made

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificates.ca)

    def daemon(self, **more: Any) -> Daemon:
        config = self.config.replace('[log]\nlevel = "debug"\n', "")
        daemon = Daemon(self.folder, config, server=self.server, admin=self.admin, env=self.env, **more)
        daemon.config.write_text(daemon.config.read_text().replace("[log]", '[log]\nlevel = "debug"'))
        return daemon

    def send(self, daemon: Daemon, source: str, body: bytes, headers: dict[str, str], path: str = "") -> Answer:
        with Raw(daemon.port, tls=self.client()) as raw:
            return raw.send(framed(path or f"/{source}", body, headers)).answer()


SOURCES = ("github", "stripe", "slack", "standard", "token", "basic")


def payload(name: str) -> bytes:
    return json.dumps({"id": fresh_id(), "name": name, "text": f"{PAYLOAD} {name} {PAYLOAD}"}).encode()


@pytest.fixture
def sink():
    with Sink(lambda r: 422 if r.target.startswith("/picky") else 200) as sink:
        yield sink


@pytest.fixture
def world(sink, tmp_path):
    return World(tmp_path, sink.url)


def drive(world: World, daemon: Daemon, said: dict[str, bytes]) -> list[str]:
    """Success and every refusal of each source; the answers go to ``said``. Gives the ids that were accepted."""
    ids = []
    for source in SOURCES:
        body = payload(source)
        good = world.signed(source, body)
        answer = world.send(
            daemon, source, body, good | {"Cookie": secret("cookie")}, f"/{source}?token={secret('query')}"
        )
        said[f"answer {source}"] = repr((answer.headers, answer.body)).encode()
        assert answer.status == 200, (source, answer)
        ids.append(answer.headers["webhook-sidecar-event-id"])
        bad: dict[str, tuple[bytes, dict[str, str]]] = {
            "nothing": (body, {}),
            "wrong": (body, {k: f"{secret('mine')}" for k in good}),
            "changed": (body + b" ", good),
            "doubled": (body, {**good, **{k.lower(): v for k, v in good.items()}}),
            "long": (body, {k: v + secret("long") * 200 for k, v in good.items()}),
            "not ascii": (body, {k: v + "\u00e9\u202e" for k, v in good.items()}),
        }
        for name, (sent, headers) in bad.items():
            answer = world.send(daemon, source, sent, headers)
            said[f"answer {source} {name}"] = repr((answer.headers, answer.body)).encode()
            assert answer.status in {200, 400, 401, 431}, (source, name, answer)
    for name, raw_request in {
        "path": framed(f"/{secret('path')}", payload("path"), {}),
        "method": framed("/github", payload("method"), {}, method=PAYLOAD.upper()),
        "framing": f"POST /github HTTP/1.1\r\nHost: a\r\nHost: {PAYLOAD}\r\nX-A: {secret('h')}\r\n\r\n".encode(),
        "line": f"{PAYLOAD} {secret('line')}\r\n\r\n".encode(),
        "too large": framed("/github", b"x", {"Content-Length": "99999999999"}),
    }.items():
        with Raw(daemon.port, tls=world.client()) as raw:
            answer = raw.send(raw_request).answer()
        said[f"answer {name}"] = repr((answer.headers, answer.body)).encode()
        assert answer.status >= 400
    return ids


def ask(daemon: Daemon, said: dict[str, bytes], token: str, ids: list[str]) -> None:
    """Everything that the admin plane says, with and without the token."""
    for path in ("status", "events", "dead-letters", "audit?full=1", "journal/stats", "config", "sources", "refused"):
        said[f"api {path}"] = daemon.admin("GET", f"/api/v1/{path}")[1]
    for event_id in ids:
        for path in (f"events/{event_id}", f"dead-letters/{event_id}"):
            said[f"shown api {path}"] = daemon.admin("GET", f"/api/v1/{path}")[1]
    said["metrics"] = daemon.admin("GET", "/metrics")[1]
    for authorization in ("", f"Authorization: Bearer {secret('guess')}\r\n", f"Authorization: Bearer {token}\r\n"):
        for path in ("/api/v1/status", f"/{secret('path')}", "/api/v1/events?state=" + quote(secret("state"))):
            with Raw(daemon.admin_port) as raw:
                head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n"
                answer = raw.send(head.encode()).answer()
            if "state=" not in path:  # a refused filter names what it got, to the one who asked
                said[f"admin {path[:12]} {bool(authorization)} {answer.status}"] = repr(
                    (answer.headers, answer.body)
                ).encode()


def commands(daemon: Daemon, said: dict[str, bytes], ids: list[str]) -> None:
    """Every command with every kind of output; those that show a request to the person who asks are marked."""
    plain: list[tuple[str, ...]] = [
        ("check",), ("check", "--json"), ("check", "--offline"), ("config", "show"), ("config", "show", "--origin"),
        ("config", "show", "--json"), ("config", "show", "--offline"), ("config", "schema"), ("config", "init"),
        ("status",), ("status", "--json"), ("doctor",), ("doctor", "--json"), ("events", "ls"), ("events", "ls", "--json"),
        ("events", "ls", "--key", "none"), ("dlq", "ls"), ("dlq", "ls", "--json"), ("audit",), ("audit", "--full", "--json"),
        ("journal", "stats"), ("journal", "stats", "--json"), ("healthcheck",), ("version",), ("events", "show", "none"),
        ("dlq", "replay", "--dry-run", "--all"), ("dlq", "replay", "--all", "--json"), ("events", "replay", ids[0]),
        ("events", "discard", ids[0], "--yes"), ("dlq", "rm", "--all", "--yes"), ("journal", "verify"),
        ("send", "--source", "token", "--json"), ("send", "--source", "basic"), ("send", "--source", "stripe", "--stale"),
        ("send", "--source", "slack", "--bad-signature"), ("send", "--source", "github", "--duplicate"),
    ]  # fmt: skip
    shown = [(c, "show", i, *j) for i in ids for c in ("events", "dlq") for j in ((), ("--json",))]
    for arguments in shown:
        result = daemon.command(*arguments)
        said["shown " + " ".join(arguments)] = result.stdout + result.stderr
    for arguments in plain:
        result = daemon.command(*arguments)
        assert b"Traceback" not in result.stderr, (arguments, result.stderr)
        said[" ".join(arguments)] = result.stdout + result.stderr


def log_of(daemon: Daemon) -> bytes:
    return daemon.log.read_bytes()


def test_no_secret_and_no_payload_is_said_by_anything(world, sink):
    said: dict[str, bytes] = {}
    with world.daemon() as daemon:
        ids = drive(world, daemon, said)
        eventually(lambda: daemon.pending("app") == daemon.pending("picky") == 0, 30)
        assert [r for r in sink.requests if r.get("X-Internal") == secret("header-env")], "they do reach the backend"
        ask(daemon, said, world.token, ids)
        commands(daemon, said, ids)
        said["log"] = log_of(daemon)
        assert len(said["log"].splitlines()) > 10
        pending = {k: v for k, v in said.items() if not k.startswith("shown ")}
        assert not found(pending, SECRET, PAYLOAD, world.key_line)
        shown = {k: v for k, v in said.items() if k.startswith("shown ")}
        assert not found(shown, SECRET, world.key_line), "a request is shown with its secrets masked"
        assert found(shown, PAYLOAD), "the body is shown to who asks for it, so that the search had something to find"


def test_no_reload_error_and_no_refused_start_shows_a_secret(world):
    said: dict[str, bytes] = {}
    with world.daemon() as daemon:
        good = daemon.config.read_text()
        broken = {
            "syntax": good.replace('secrets = [{ value = "', "secrets = [{ value = ", 1),
            "unknown key": good.replace("value =", "valeu ="),
            "literal": good.replace('{ env = "CANARY_GITHUB" }', f'"{secret("literal")}"'),
            "url": good.replace("http://", f"http://user:{secret('userinfo')}@", 1),
            "header": good.replace("X-Literal", "X Literal"),
            "number": good.replace('{ env = "CANARY_HEADER" }', f'{{ value = ["{secret("list")}"] }}'),
            "standard": good.replace(
                f'{{ file = "{world.folder}/standard" }}', f'{{ value = "{secret("no-base64")}!" }}'
            ),
            "variable": good.replace('"/github"', f'"${{NOT_SET:?{"x"}}}"'),
        }
        for name, text in broken.items():
            daemon.config.write_text(text)
            status, body = daemon.admin("POST", "/-/reload")
            said[f"reload {name}"] = body
            assert status == 422, (name, body)
            for arguments in (
                ("check",),
                ("check", "--json"),
                ("doctor",),
                ("config", "show"),
                ("run",),
                ("send", "--source", "token"),
            ):
                result = daemon.command(*arguments)
                said[f"{name} {arguments}"] = result.stdout + result.stderr
                assert result.returncode != 0, (name, arguments)
                assert b"Traceback" not in result.stderr, result.stderr
        daemon.config.write_text(good)
        for name, content in {
            "stripe": "",
            "standard": secret("no-base64") + "!",
            "header": f"{secret('two')}\nlines",
        }.items():
            before = (world.folder / name).read_text()
            (world.folder / name).write_text(content)
            status, body = daemon.admin("POST", "/-/reload")
            said[f"reload file {name}"] = body
            assert status == 422, (name, body)
            (world.folder / name).write_text(before)
        key = world.folder / "tls" / "good.key"
        whole = key.read_text()
        key.write_text(whole.replace("-----END", f"{SECRET}\n-----END"))
        status, said["reload key"] = daemon.admin("POST", "/-/reload")
        assert status == 422
        key.write_text(whole)
        assert daemon.admin("POST", "/-/reload")[0] == 200
        said["log"] = log_of(daemon)
    assert not found(said, SECRET, PAYLOAD, world.key_line)


def test_a_bug_is_told_with_its_place_and_without_what_it_had_in_hand(world, sink):
    """Exceptions that quote body, headers and secrets, in every part: the log names type and place."""
    said: dict[str, bytes] = {}
    command = (sys.executable, str(REPOSITORY / "tests" / "support" / "buggy.py"))
    with world.daemon(command=command) as daemon:
        for bug, status in (("judge", 500), ("callback", 200), ("stored", None), ("attempt", 200), ("bury", 200)):
            body = payload(f"BUG-{bug}")
            headers = world.signed("token", body)
            with Raw(daemon.port, tls=world.client()) as raw:
                raw.send(framed("/token", body, headers))
                if status is not None:
                    answer = raw.answer()
                    said[f"answer {bug}"] = answer.body
                    assert answer.status == status, (bug, answer)
        status, said["api"] = daemon.admin("GET", "/api/v1/status")
        assert status == 500
        os.kill(daemon.pid, 1)
        for message in (
            "request failed on a bug",
            "a callback failed on a bug",
            "answering failed",
            "a try could not begin",
            "writing dead letters failed",
            "admin request failed on a bug",
            "a background task failed",
        ):
            row = eventually(lambda m=message: daemon.logged(m), 20, message)[0]
            assert row["error"].startswith("ValueError"), row
        for message in ("a callback failed on a bug", "a try could not begin", "a background task failed"):
            assert " buggy.py:" in daemon.logged(message)[0]["error"], "the place is there"
        said["log"] = log_of(daemon)
        said["metrics"] = daemon.admin("GET", "/metrics")[1]
        assert b"Traceback" not in said["log"]
        assert not found(said, SECRET, PAYLOAD, world.key_line)
        # The control: one line that leaks, and the same search finds both in it.
        body = payload("BUG-leak")
        assert world.send(daemon, "token", body, world.signed("token", body)).status == 200
        eventually(lambda: daemon.logged("a line that should not be"))
        leaking = {"log": log_of(daemon)}
        assert found(leaking, SECRET)
        assert found(leaking, PAYLOAD)
