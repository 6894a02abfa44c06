"""Whatever a sender writes, whoever looks at it on a terminal sees text: every command and every line of the log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import click
import pytest

from sidecar.cli.app import cli
from tests.support.daemon import REPOSITORY, Daemon, eventually, free_port
from tests.support.hostile import BODIES, HEADERS, KEYS, harm
from tests.support.senders import Raw
from tests.support.sink import Sink
from tests.support.terminal import Terminal

COMMAND = (sys.executable, "-m", "sidecar")
UNCLEANED = (sys.executable, str(REPOSITORY / "tests" / "support" / "uncleaned.py"))
CONFIG = """
[sources.open]
path = "/open"
verify = { scheme = "none" }
allow_unverified = true
destinations = ["app", "picky"]
dedup = { key = "header:X-Id" }
[sources.keyed]
path = "/keyed"
verify = { scheme = "none" }
allow_unverified = true
destinations = ["app", "picky"]
dedup = { key = "json:/id" }
[destinations.app]
url = "%s/app"
[destinations.picky]
url = "%s/picky"
"""


def request(path: bytes, body: bytes = b"", *headers: bytes) -> bytes:
    lines = b"".join(h + b"\r\n" for h in headers)
    return b"POST %b HTTP/1.1\r\nHost: t\r\n%bContent-Length: %d\r\n\r\n%b" % (path, lines, len(body), body)


def requests() -> Iterator[bytes]:
    """Every one of them in every place where a sender can put it."""
    for n, body in enumerate(BODIES):
        yield request(b"/open", body, b"X-Id: body-%d" % n)
    for n, value in enumerate(HEADERS):
        yield request(b"/open", b"{}", b"X-Id: " + value, b"X-Note: " + value, b"Cookie: " + value, b"X-N: %d" % n)
    for key in KEYS:
        yield request(b"/keyed", json.dumps({"id": key}).encode())
        yield request(b"/open?q=" + quote(key).encode(), b"{}", b"X-Id: " + quote(key).encode())
    for raw in BODIES[:-1]:  # those that HTTP does not allow: refused, and only the log hears of them
        yield request(b"/open?q=" + raw)
        yield request(b"/" + raw)
        yield request(b"/open", b"", b"X-" + raw + b": y")
        yield request(b"/open", b"", b"X-Id: " + raw)
        yield raw + b"\r\n\r\n"


def send(port: int) -> int:
    """Send all of them; how many were accepted."""
    accepted = 0
    for data in requests():
        with Raw(port) as raw:
            try:
                accepted += raw.send(data).answer().status == 200
            except (EOFError, ConnectionResetError):
                continue  # so little of a request that it is not even answered
    return accepted


class Looker:
    """Runs commands on a terminal and notes what harmed it."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.harmed: dict[str, list[str]] = {}
        self.ran: list[tuple[str, ...]] = []
        self.shown = ""

    def __call__(self, *arguments: str, command: tuple[str, ...] = COMMAND) -> str:
        env = {**self.daemon.env, "WEBHOOK_SIDECAR_CONFIG": str(self.daemon.config), "TERM": "xterm"}
        with Terminal((*command, *arguments), self.daemon.folder, env) as terminal:
            terminal.end(40)
        assert "Traceback" not in terminal.shown, terminal.shown
        self.ran.append(arguments)
        if found := harm(terminal.shown):
            self.harmed[" ".join(arguments)[:60]] = found[:3]
        self.shown += terminal.shown
        return terminal.shown


@pytest.fixture(scope="module")
def daemon(tmp_path_factory) -> Iterator[Daemon]:
    with Sink(lambda r: 422 if r.target.startswith("/picky") else 200) as sink:
        daemon = Daemon(tmp_path_factory.mktemp("display"), CONFIG % (sink.url, sink.url))
        daemon.config.write_text(daemon.config.read_text().replace("[log]", '[log]\nlevel = "debug"'))
        with daemon:
            assert send(daemon.port) > len(BODIES) + len(HEADERS) + 2 * len(KEYS) - 8
            eventually(lambda: daemon.pending("app") == daemon.pending("picky") == 0, 30)
            yield daemon


def worst(daemon: Daemon) -> list[str]:
    """Ids of a few events: hostile in body, in header, in key, in query."""
    rows = daemon.api("events?limit=1000")["events"]
    by_source = {name: [r["id"] for r in rows if r["source"] == name] for name in ("open", "keyed")}
    return [by_source["keyed"][0], *by_source["open"][:: len(by_source["open"]) // 2]]


def files(folder: Path) -> dict[str, Path]:
    """What somebody may be given to look at: a recorded request, cases, a configuration, with hostile names too."""
    folder = folder / f"given-{KEYS[0]}"
    folder.mkdir(exist_ok=True)
    nasty = "".join(KEYS).replace("\r", "").replace("\n", "").encode()
    made = {
        "request": request(b"/open?q=" + nasty, nasty, b"Host: " + nasty, b"X-Id: " + nasty, b"X-" + nasty + b": z"),
        "no request": nasty,
        "cases": json.dumps({"id": nasty.decode(), "provider": nasty.decode()}).encode(),
        "config": b'[server]\nlisten = "' + nasty.replace(b"\\", b"").replace(b'"', b"") + b'"\n',
        "header": b"[\xe2\x80\xae]\n",
        "no config": nasty,
    }
    paths = {name: folder / f"{name} {KEYS[3]}" for name in made}
    for name, content in made.items():
        paths[name].write_bytes(content)
    return paths


def test_no_command_lets_a_senders_bytes_reach_the_terminal(daemon, tmp_path):
    look = Looker(daemon)
    given = files(tmp_path)
    for event in worst(daemon):
        look("events", "show", event)
    look("dlq", "show", worst(daemon)[0])
    look("events", "show", worst(daemon)[-1], "--body")
    for arguments in (
        ("status",),
        ("events", "ls", "-n", "1000"),
        ("events", "ls", "--contains", "title"),
        ("events", "ls", "-n", "1000", "--json"),
        ("events", "show", KEYS[3]),
        ("events", "replay", KEYS[4], "--dry-run"),
        ("dlq", "ls"),
        ("dlq", "replay", "--all", "--dry-run"),
        ("verify", "--source", "open", "--request", str(given["request"])),
        ("verify", "--source", KEYS[1], "--request", str(given["request"])),
        ("verify", "--source", "open", "--request", str(given["no request"])),
        ("verify", "--source", "open", "--request", str(given["request"]), "--at", KEYS[2]),
        ("verify", "--vectors", str(given["cases"])),
        ("check", "--config", str(given["config"])),
        ("check", "--config", str(given["header"])),
        ("check", "--config", str(given["no config"])),
        ("check", "--config", KEYS[9]),
        (KEYS[0],),
        ("status", f"--{KEYS[0]}"),
    ):
        look(*arguments)
    assert look.harmed == {}
    assert "\\u001b" in look.shown, "the hostile bytes were there to be shown"
    assert "\\u202e" in look.shown


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command there is."""
    if not isinstance(command, click.Group):
        yield path
        return
    with click.Context(command) as context:
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from leaves(found, (*path, name))


def test_every_command_there_is_shows_only_text(tmp_path):
    """Those that change something and those that want no daemon too, each with hostile words where it takes any."""
    key, other = KEYS[0], "".join(KEYS[9:14])
    with Sink(lambda r: 422 if r.target.startswith("/picky") else 200) as sink:
        daemon = Daemon(tmp_path, CONFIG % (sink.url, sink.url))
        look = Looker(daemon)
        given = files(tmp_path)
        with daemon:
            assert send(daemon.port) > len(BODIES)
            eventually(lambda: daemon.pending("app") == daemon.pending("picky") == 0, 30)
            event = worst(daemon)[0]
            for arguments in (
                ("check", "--config", str(given["config"])),
                ("send", "--source", "open", "--file", str(given["request"]), "-H", f"X-Id: {other}"),
                ("send", "--source", key, "-H", f"{key}: {key}"),
                ("status",),
                ("events", "ls", "-n", "1000", "--key", key),
                ("events", "show", event),
                ("events", "replay", event, "--yes"),
                ("events", "discard", "--key", other, "--yes"),
                ("events", "discard", event, "--to", key, "--yes"),
                ("dlq", "ls"),
                ("dlq", "show", event),
                ("dlq", "replay", event, "--yes"),
                ("dlq", "rm", "--source", "keyed", "--yes"),
                ("dlq", "rm", "--destination", key, "--yes"),
                ("audit", "--full"),
                ("journal", "backup", str(tmp_path / f"copy{key}")),
                ("journal", "stats"),
                ("config", "init", "--preset", key),
                ("config", "schema"),
                ("config", "show", "--origin"),
                ("config", "show", "--preset", key),
                ("doctor",),
                ("verify", "--source", "open", "--request", str(given["request"])),
                ("handshake", "expect", key),
                ("handshake", "forget", "open", key),
                ("handshake", "show", key),
                ("healthcheck",),
                ("version", key),
            ):
                look(*arguments)
            assert daemon.stop() == 0
        for arguments in (
            ("audit", "--offline"),
            ("journal", "verify"),
            ("journal", "compact"),
            ("journal", "empty", "--wait", "1s"),
            ("status",),
            ("doctor",),
            ("check", "--config", str(tmp_path / key)),
        ):
            look(*arguments)
    assert look.harmed == {}
    elsewhere = {("run",), ("tail",)}  # they go on until they are ended: below
    missing = [leaf for leaf in leaves(cli) if not any(ran[: len(leaf)] == leaf for ran in look.ran)]
    assert set(missing) == elsewhere


def test_a_command_that_cleans_nothing_is_caught(daemon):
    look = Looker(daemon)
    for event in worst(daemon)[1:]:
        look("events", "show", event, command=UNCLEANED)
    assert look.harmed


def test_the_log_in_json_is_one_object_a_line(daemon):
    lines = daemon.log.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert len(lines) > 20
    for line in lines:
        row = json.loads(line)
        assert isinstance(row, dict)
        assert row["msg"] != "forged"
        assert not harm(line.decode("utf-8"))


def test_the_log_for_people_the_echo_backend_and_tail_are_text_on_a_terminal(tmp_path):
    """``run --with-echo`` in one terminal, ``tail`` in another, and everything is sent."""
    echo = f"127.0.0.1:{free_port()}"
    daemon = Daemon(tmp_path, CONFIG % (f"http://{echo}", f"http://{echo}"))
    daemon.config.write_text(re.sub(r'format = "json"', 'format = "auto"\nlevel = "debug"', daemon.config.read_text()))
    env = {**os.environ, **daemon.env, "WEBHOOK_SIDECAR_CONFIG": str(daemon.config), "TERM": "xterm"}
    with Terminal((*COMMAND, "run", "--with-echo", echo), tmp_path, env) as running:
        running.read_until(" ready ")
        with Terminal((*COMMAND, "tail"), tmp_path, env) as tail:
            while "open" not in tail.shown:
                send_one(daemon.port, "first")
                with contextlib.suppress(AssertionError):
                    tail.read_until("open", 0.5)
            # Terminals that nobody reads stand still, and whoever writes to them.
            with ThreadPoolExecutor() as threads:
                sent = threads.submit(lambda: (send(daemon.port), send_one(daemon.port, "the-last"))[0])
                threads.submit(tail.read_until, "the-last", 40)
                running.read_until("X-Id: the-last", 40)
                assert sent.result() > len(BODIES)
            tail.process.terminate()
        running.process.terminate()
        running.end()
    assert harm(running.shown) == []
    assert harm(tail.shown) == []
    assert "the-last" in tail.shown
    assert "\\u001b" in running.shown, "the echo backend had them to show"


def send_one(port: int, key: str) -> None:
    with Raw(port) as raw:
        assert raw.send(request(b"/open", b"{}", b"X-Id: " + key.encode())).answer().status == 200
