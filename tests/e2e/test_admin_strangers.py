"""Requests to the admin listener without its token, from programs and from pages in somebody's browser, change nothing.

Every endpoint that changes something is taken from the table of the API, so that a new one is asked too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from sidecar.admin.api import ROUTES
from tests.support.daemon import REPOSITORY, Daemon, eventually, free_port
from tests.support.senders import Raw, fresh_id, github
from tests.support.sink import Sink

TOKEN, SECRET = "strangers-do-not-know", "strangers"
CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{ value = "%s" }]
destinations = ["picky", "down"]
[destinations.picky]
url = "%s"
[destinations.down]
url = "http://127.0.0.1:%d"
"""
OURS = {"Webhook-Sidecar-Request": "1", "Webhook-Sidecar-Drain": "1"}


class Stranger(NamedTuple):
    """How somebody asks.

    Attributes:
        headers: Host included, where there is one.
        page: A browser sends it, so that not even a drain may begin.
        method: Instead of the right one.
        start: Of the request line's target, before the path.
    """

    headers: dict[str, str]
    page: bool = True
    method: str = ""
    start: str = ""
    version: str = "1.1"


def strangers(port: int) -> dict[str, Stranger]:
    here = {"Host": f"127.0.0.1:{port}"}
    evil = f"http://evil.example:{port}"
    rebound = {"Host": f"evil.example:{port}", "Origin": evil, "Sec-Fetch-Site": "same-origin"}
    return {
        "a program": Stranger(here | OURS, page=False),
        "a wrong token": Stranger(here | OURS | {"Authorization": f"Bearer {TOKEN}x"}, page=False),
        "no bearer": Stranger(here | OURS | {"Authorization": TOKEN}, page=False),
        "a token as a cookie": Stranger(here | OURS | {"Cookie": f"token={TOKEN}"}, page=False),
        "a rebound name": Stranger(rebound | OURS),
        "a rebound name in an old browser": Stranger({"Host": "evil.example"} | OURS),
        "a rebound name that looks like us": Stranger({"Host": "127.0.0.1.evil.example"} | OURS),
        "another that does": Stranger({"Host": f"localhost:{port}@evil.example"} | OURS),
        "a form": Stranger(here | {"Origin": evil, "Content-Type": "text/plain", "Sec-Fetch-Site": "cross-site"}),
        "a form in a sandbox": Stranger(here | {"Origin": "null", "Content-Type": "text/plain"}),
        "a script of another site": Stranger(here | OURS | {"Origin": evil, "Sec-Fetch-Site": "cross-site"}),
        "a script of another port": Stranger(
            here | OURS | {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"}
        ),
        "an image": Stranger(here | {"Sec-Fetch-Site": "cross-site"}, method="GET"),
        "a method in disguise": Stranger(here | {"X-HTTP-Method-Override": "POST"}, method="GET"),
        "a preflight": Stranger(here | {"Origin": evil, "Access-Control-Request-Method": "POST"}, method="OPTIONS"),
        "an absolute target": Stranger({"Host": "evil.example"} | OURS, start=f"http://127.0.0.1:{port}"),
        "no Host": Stranger(OURS, version="1.0"),
    }


def endpoints() -> list[tuple[str, dict[str, Any]]]:
    """Whatever changes something, with a body that would."""
    bodies = {"journal/backup": {"path": "/nonexistent/never"}, "handshakes/*": {"for_s": 60}}
    posts = [route for route, methods in ROUTES.items() if "POST" in methods]
    api = [(f"/api/v1/{r.replace('*', 'github')}", bodies.get(r, {"all": True})) for r in posts]
    return [*api, ("/-/reload", {}), ("/-/drain?wait=0s", {})]


def ask(daemon: Daemon, who: Stranger, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
    data = json.dumps(body).encode()
    lines = "".join(f"{k}: {v}\r\n" for k, v in {**who.headers, "Content-Length": str(len(data))}.items())
    line = f"{who.method or 'POST'} {who.start}{path} HTTP/{who.version}"
    with Raw(daemon.admin_port) as raw:
        answer = raw.send(f"{line}\r\n{lines}\r\n".encode() + data).answer()
    return answer.status, answer.headers


def state(daemon: Daemon) -> dict[str, Any]:
    """Everything that such a request might change."""
    rows = daemon.api("events")["events"]
    deliveries = {(r["id"], d["destination"]): (d["state"], d["replay"]) for r in rows for d in r["deliveries"]}
    return {
        "deliveries": deliveries,
        "letters": [r["event_id"] for r in daemon.api("dead-letters")["dead_letters"]],
        "ready": daemon.admin("GET", "/readyz")[0],
        "handshakes": daemon.api("handshakes/github"),
        "files": sorted(str(p) for p in daemon.folder.rglob("*") if "journal" not in p.parts),
    }


def changes(daemon: Daemon) -> list[str]:
    """Ask as every stranger for every endpoint; who changed something, or was not refused."""
    before, loaded = state(daemon), daemon.metric("config_last_reload_success_timestamp_seconds")
    found = []
    for name, who in strangers(daemon.admin_port).items():
        for path, body in endpoints():
            if path.startswith("/-/drain") and not who.page:
                continue  # a preStop hook asks like this, and may
            status, headers = ask(daemon, who, path, body)
            if status < 400:
                found.append(f"{name} got {status} from {path}")
            if any(h.startswith("access-control") for h in headers):
                found.append(f"{name} is told that {path} may be asked from elsewhere")
            if state(daemon) != before:
                found.append(f"{name} changed something by {path}")
                before = state(daemon)
    if daemon.metric("config_last_reload_success_timestamp_seconds") != loaded:
        found.append("the configuration was loaded anew")
    return found


@pytest.fixture
def make(tmp_path) -> Iterator[Any]:
    """A daemon with one delivery that is dead and one that waits."""
    with Sink(422) as sink:

        def make(bug: str = "") -> Daemon:
            command = (sys.executable, str(REPOSITORY / "tests" / "support" / "open_admin.py")) if bug else None
            more: dict[str, Any] = {"command": command, "env": {"ADMIN_BUG": bug}} if command else {}
            (tmp_path / "token").write_text(TOKEN)
            (tmp_path / "token").chmod(0o600)
            daemon = Daemon(
                tmp_path, CONFIG % (SECRET, sink.url, free_port()), admin='token = { file = "token" }', **more
            )
            daemon.start()
            made.append(daemon)
            assert daemon.post("/github", b"{}", github(b"{}", SECRET, fresh_id()))[0] == 200
            eventually(
                lambda: daemon.api("events?state=dead")["events"] and daemon.api("dead-letters")["dead_letters"], 20
            )
            eventually(lambda: daemon.lane("down")["held"], 20)
            return daemon

        made: list[Daemon] = []
        yield make
        for daemon in made:
            daemon.end()


def test_no_stranger_changes_anything(make):
    assert len(endpoints()) >= 8
    assert changes(make()) == []


@pytest.mark.parametrize("bug", ["no token", "any host"])
def test_a_gate_that_does_not_look_is_caught(make, bug):
    found = changes(make(bug))
    assert any("changed something" in line for line in found), found
    if bug == "any host":
        assert {line.rpartition(" by ")[2] for line in found if "changed" in line} == {"/-/drain?wait=0s"}


def test_the_hook_of_a_pod_begins_a_drain_by_its_address(make):
    daemon = make()
    for host in (f"10.1.2.3:{daemon.admin_port}", "[fd00::7]:9787", "localhost"):
        assert ask(daemon, Stranger(OURS | {"Host": host}, method="GET"), "/-/drain?wait=0s", {})[0] == 200
    assert daemon.admin("GET", "/readyz")[0] == 503
