"""However the daemon ends, what it leaves behind names no secret and no payload: log, standard error, core, files."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.test_secrets_canary import PAYLOAD, SECRET, found, payload, secret
from tests.support.daemon import REPOSITORY, Daemon, eventually
from tests.support.senders import Raw, framed
from tests.support.sink import Sink

CONFIG = """
[sources.token]
path = "/token"
verify = {{ scheme = "token", header = "X-Shop" }}
secrets = [{{ value = "{value}" }}]
destinations = ["app"]
[destinations.app]
url = "{url}/app?key={query}"
headers = {{ Authorization = {{ env = "CANARY" }} }}
"""
COMMAND = (sys.executable, str(REPOSITORY / "tests" / "support" / "crashing.py"))


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def make(sink, tmp_path) -> Iterator[Callable[[str], Daemon]]:
    """Daemons with one of the bugs; none outlives its test."""
    made: list[Daemon] = []

    def make(bug: str) -> Daemon:
        text = CONFIG.format(value=secret("token"), url=sink.url, query=secret("query"))
        token = tmp_path / "token"
        token.write_text(secret("admin"))
        token.chmod(0o600)
        made.append(
            Daemon(
                tmp_path, text, command=COMMAND, admin='token = { file = "token" }',
                env={"CANARY": secret("env"), "CRASH_BUG": bug},
            )
        )  # fmt: skip
        return made[-1]

    yield make
    for daemon in made:
        daemon.kill()


def left_behind(folder: Path) -> dict[str, bytes]:
    """Every file but those that keep what was configured and what was sent."""
    kept = {"config.toml", "token", "data.mdb"}
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in kept}


def send(daemon: Daemon) -> None:
    with Raw(daemon.port) as raw:
        raw.send(framed("/token", payload("x"), {"X-Shop": secret("token")}))
        raw.ends()


def end(bug: str, daemon: Daemon) -> int:
    """Let it come to the bug; the exit code."""
    daemon.launch()
    if bug in ("stop", "writer"):
        daemon.wait_ready()
        send(daemon) if bug == "writer" else os.kill(daemon.pid, signal.SIGTERM)
    return daemon.wait(30)


@pytest.mark.parametrize(("bug", "code"), [("start", 1), ("stop", 1), ("writer", 74)])
def test_a_daemon_that_ends_on_a_bug_names_its_place_and_nothing_else(bug, code, make, tmp_path):
    daemon = make(bug)
    assert end(bug, daemon) == code
    log = daemon.log.read_text()
    assert "ValueError" in log, log
    assert "crashing.py:" in log
    assert "Traceback" not in log
    assert found(left_behind(tmp_path), SECRET, PAYLOAD) == {}


def test_a_daemon_that_leaks_at_its_end_is_caught(make, tmp_path):
    daemon = make("leak")
    assert end("leak", daemon) == 1
    assert found(left_behind(tmp_path), SECRET)


def test_a_crash_leaves_no_core(make, sink, tmp_path):
    """Though the limit that it was started with allows one."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        daemon = make("")
        daemon.start()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    limits = Path(f"/proc/{daemon.pid}/limits").read_text().splitlines()
    assert next(line for line in limits if line.startswith("Max core file size")).split()[4] == "0"
    with Raw(daemon.port) as raw:
        assert raw.send(framed("/token", payload("x"), {"X-Shop": secret("token")})).answer().status == 200
    eventually(lambda: sink.requests, 15)
    os.kill(daemon.pid, signal.SIGABRT)
    assert daemon.wait() == -signal.SIGABRT
    behind = left_behind(tmp_path)
    assert not [name for name in behind if Path(name).name.startswith("core")]
    assert found(behind, SECRET, PAYLOAD) == {}
