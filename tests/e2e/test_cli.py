"""The command line as its users meet it: processes of their own, beside a running daemon and without one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from sidecar.journal import meta
from tests.support.backends import make_certificates
from tests.support.daemon import Daemon, eventually, free_port
from tests.support.senders import Raw, framed, fresh_id, github
from tests.support.sink import Sink
from tests.support.terminal import Terminal

CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ value = "cli-secret" }}]
destinations = ["app"]
[sources.stripe]
path = "/stripe"
verify = "stripe"
secrets = [{{ value = "whsec_cli" }}]
destinations = ["app"]
[sources.slack]
path = "/slack"
verify = "slack"
secrets = [{{ value = "slack-secret" }}]
destinations = ["app"]
[sources.shopify]
path = "/shopify"
verify = "shopify"
secrets = [{{ value = "shopify-secret" }}]
destinations = ["app"]
[sources.standard]
path = "/standard"
verify = "standard-webhooks"
secrets = [{{ value = "whsec_YSBzdGFuZGFyZCBzZWNyZXQgb2YgMzIgYnl0ZXMhISE=" }}]
destinations = ["app"]
[sources.orders]
path = "/orders"
secrets = [{{ value = "orders-secret" }}]
destinations = ["app"]
[sources.orders.verify]
scheme = "hmac"
header = "X-Signature"
signed = "{{timestamp}}.{{body}}"
timestamp = {{ header = "X-Timestamp" }}
[sources.orders.dedup]
key = "header:X-Order"
[sources.token]
path = "/token"
verify = {{ scheme = "token", header = "X-Token" }}
secrets = [{{ value = "gate-token" }}]
destinations = ["down"]
[sources.basic]
path = "/basic"
verify = {{ scheme = "basic" }}
secrets = [{{ value = "user:pass" }}]
destinations = ["app"]
[sources.linear]
path = "/linear"
verify = "linear"
secrets = [{{ value = "cli-secret" }}]
destinations = ["app"]
[sources.mailgun]
path = "/mailgun"
verify = "mailgun"
secrets = [{{ value = "cli-secret" }}]
destinations = ["app"]
[sources.open]
path = "/open"
verify = "none"
allow_unverified = true
destinations = ["app"]
[destinations.app]
url = "{url}"
[destinations.down]
url = "http://127.0.0.1:{closed}"
"""

SIGNED = ("github", "shopify", "slack", "standard", "stripe", "orders", "token", "basic")
WITH_KEY = ("github", "shopify", "slack", "standard", "stripe")
WITH_TIME = ("slack", "standard", "stripe", "orders")


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink(lambda r: 422 if b"refuse me" in r.body else 200) as sink:
        yield sink


@pytest.fixture(scope="module")
def daemon(sink, tmp_path_factory) -> Iterator[Daemon]:
    config = CONFIG.format(url=sink.url, closed=free_port())
    with Daemon(tmp_path_factory.mktemp("cli"), config) as daemon:
        yield daemon


def call(daemon: Daemon, *arguments: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
    """Run a command; stdout and stderr. No command ever shows a traceback."""
    result = daemon.command(*arguments, stdin=stdin)
    out, err = result.stdout.decode(), result.stderr.decode()
    assert result.returncode == code, (arguments, result.returncode, out, err)
    assert "Traceback" not in err
    if code in {1, 3, 4, 69, 74, 78}:
        assert "error: " in err, "why it failed is on stderr"
    return out, err


def rows(daemon: Daemon, *arguments: str, code: int = 0, stdin: bytes = b"") -> list[dict[str, Any]]:
    """Run a command with --json; every line of its stdout is JSON."""
    return [json.loads(line) for line in call(daemon, *arguments, "--json", code=code, stdin=stdin)[0].splitlines()]


def send(daemon: Daemon, body: bytes = b"{}", key: str = "") -> str:
    with Raw(daemon.port) as raw:
        answer = raw.send(framed("/github", body, github(body, "cli-secret", key or fresh_id()))).answer()
    assert answer.status == 200, answer
    return answer.headers["webhook-sidecar-event-id"]


def dead(daemon: Daemon, body: bytes = b"refuse me") -> str:
    event_id = send(daemon, body)
    eventually((daemon.folder / "dead-letters" / "app" / f"{event_id}.json").exists, what="its dead letter")
    eventually(lambda: daemon.api(f"events/{event_id}")["deliveries"][0]["state"] == "dead")
    return event_id


# --- send


@pytest.mark.parametrize("source", [*SIGNED, "open"])
def test_send_signs_for_every_source(source, daemon, sink):
    (row,) = rows(daemon, "send", "--source", source, "--file", "-", stdin=f"body of {source}".encode())
    assert (row["status"], row["expected"], row["replayed"]) == (200, True, False)
    if source != "token":  # which goes to the backend that is down
        eventually(lambda: [r for r in sink.requests if r.event_id == row["event_id"]], what="delivered")


@pytest.mark.parametrize("source", SIGNED)
def test_a_bad_signature_gets_its_401_and_that_is_what_is_expected(source, daemon):
    (row,) = rows(daemon, "send", "--source", source, "--bad-signature")
    assert (row["status"], row["expected"]) == (401, True)


@pytest.mark.parametrize("source", WITH_TIME)
def test_a_stale_one_gets_its_401(source, daemon):
    (row,) = rows(daemon, "send", "--source", source, "--stale")
    assert (row["status"], row["expected"]) == (401, True)


@pytest.mark.parametrize("source", ["linear", "mailgun"])
def test_a_stale_one_gets_its_401_where_the_time_is_inside_the_body(source, daemon):
    (row,) = rows(daemon, "send", "--source", source, "--stale")
    assert (row["status"], row["expected"]) == (401, True)
    assert rows(daemon, "send", "--source", source)[0]["status"] == 200


def test_stale_where_no_time_is_signed_is_accepted(daemon):
    assert "<-- 200" in call(daemon, "send", "--source", "github", "--stale")[0]
    assert "not verified" in call(daemon, "send", "--source", "open", "--stale", code=2)[1]


@pytest.mark.parametrize("source", WITH_KEY)
def test_a_duplicate_is_answered_as_the_first_was(source, daemon):
    first, second = rows(daemon, "send", "--source", source, "--duplicate")
    assert (first["replayed"], second["replayed"]) == (False, True)
    assert first["event_id"] == second["event_id"]


def test_count_sends_so_many_each_an_event_of_its_own(daemon):
    made = rows(daemon, "send", "--source", "github", "--count", "5")
    assert len({r["event_id"] for r in made}) == 5
    pairs = rows(daemon, "send", "--source", "github", "--count", "2", "--duplicate")
    assert [p["replayed"] for p in pairs] == [False, True, False, True]


def test_send_to_a_source_that_is_not_there(daemon):
    assert "github" in call(daemon, "send", "--source", "nobody", code=3)[1], "names those that are"
    call(daemon, "send", code=2)
    call(daemon, "send", "--source", "github", "--file", "/does/not/exist", code=2)


@pytest.mark.parametrize("way", ["a Unix socket", "TLS", "every address"])
def test_send_finds_the_listener_wherever_it_is(way, sink, tmp_path):
    made = tmp_path / "tls"
    made.mkdir()
    server, listen = "", f"unix:{tmp_path}/hooks.sock"
    if way == "TLS":
        make_certificates(made)
        server, listen = f'tls = {{ cert = "{made}/good.pem", key = "{made}/good.key" }}', f"127.0.0.1:{free_port()}"
    elif way == "every address":
        listen = f"[::]:{free_port()}"
    env = {"WEBHOOK_SIDECAR__SERVER__LISTEN": listen}
    config = CONFIG.format(url=sink.url, closed=free_port())
    with Daemon(tmp_path, config, server=server, env=env) as daemon:
        (row,) = rows(daemon, "send", "--source", "github", "--header", "X-Extra: yes")
        assert row["status"] == 200
        eventually(lambda: [r for r in sink.requests if r.event_id == row["event_id"]])
        assert [r.get("X-Extra") for r in sink.requests if r.event_id == row["event_id"]] == ["yes"]
    call(daemon, "send", "--source", "github", "--header", "no colon", code=2)


def test_send_needs_a_secret_that_is_active_now(sink, tmp_path):
    past = CONFIG.format(url=sink.url, closed=free_port())
    past = past.replace('value = "cli-secret"', 'value = "cli-secret", not_after = 2020-01-01T00:00:00Z')
    with Daemon(tmp_path, past) as daemon:
        assert "no active secret" in call(daemon, "send", "--source", "github", code=78)[1]


# --- did we get it?


def test_events_are_found_by_key_and_by_what_they_contain(daemon):
    key = f"order-{fresh_id()}"
    event_id = send(daemon, b'{"number":"X-4711-%s"}' % key.encode(), key)
    assert [e["id"] for e in rows(daemon, "events", "ls", "--key", key)] == [event_id]
    assert [e["id"] for e in rows(daemon, "events", "ls", "--contains", f"4711-{key}")] == [event_id]
    assert [e["id"] for e in rows(daemon, "events", "ls", "--contains", key, "--source", "stripe")] == []
    assert [e["id"] for e in rows(daemon, "events", "ls", "--key", key, "--since", "1h", "--until", "2099-01-01")] == [
        event_id
    ]
    out, err = call(daemon, "events", "ls", "--key", key)
    assert event_id in out
    assert err == ""
    for name in (event_id, event_id[:29], key):
        assert rows(daemon, "events", "show", name)[0]["id"] == event_id
    assert call(daemon, "events", "show", event_id, "--body")[0] == f'{{"number":"X-4711-{key}"}}'
    call(daemon, "events", "show", "no-such-order", code=3)
    call(daemon, "events", "show", event_id[:8], code=2)  # several begin like this


def test_a_no_says_how_far_it_looked_and_what_was_refused(daemon):
    call(daemon, "send", "--source", "github", "--bad-signature")
    call(daemon, "send", "--source", "github", "--bad-signature")
    for arguments in (
        ("--key", "order-123"),
        ("--contains", "order-123"),
        ("--key", "order-123", "--source", "github"),
    ):
        out, _ = call(daemon, "events", "ls", *arguments)
        words = out.split()
        assert words[:2] == ["none", "in"], out
        assert words[3:5] == ["events", "since"], out
        assert "refused then: " in out
        assert "wrong_s" in out
    out, err = call(daemon, "events", "ls", "--key", "order-123", "--json")
    assert out == "", "no row, so that a script counts none"
    assert "none in " in err


ODD = "caf\udce9"  # what a terminal in Latin-1 sends


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("events", "ls", "--contains", ODD), 0),
        (("events", "ls", "--key", ODD, "--source", ODD), 0),
        (("events", "show", ODD), 3),
        (("events", "show", "--body", ODD), 3),
        (("events", "replay", ODD), 3),
        (("events", "replay", "--contains", ODD), 0),
        (("events", "ls", "--since", ODD), 2),
        (("dlq", "ls", "--key", ODD), 0),
        (("dlq", "show", ODD), 3),
        (("dlq", "rm", "--yes", "--key", ODD), 0),
        (("handshake", "show", ODD), 3),
        (("send", "--source", ODD), 3),
    ],
    ids=lambda a: " ".join(a).encode("ascii", "replace").decode() if isinstance(a, tuple) else str(a),
)
def test_what_is_no_utf_8_on_a_command_line_finds_nothing(arguments, code, daemon):
    call(daemon, *arguments, code=code)


def test_a_long_list_goes_on_with_its_cursor(daemon):
    made = [send(daemon) for _ in range(5)]
    out, err = call(daemon, "events", "ls", "-n", "3", "--json")
    cursor = err.split("--cursor ")[1].split()[0]
    more = rows(daemon, "events", "ls", "-n", "2", "--cursor", cursor)
    assert [json.loads(line)["id"] for line in out.splitlines()] + [e["id"] for e in more] == made[::-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("events", "ls", "--state", "lost"),
        ("events", "ls", "--since", "yesterday"),
        ("events", "ls", "-n", "0"),
        ("events", "replay"),
        ("events", "replay", "--all", "--rate", "fast"),
        ("events", "discard", "--all"),
        ("dlq", "rm", "--all", "--max", "0"),
        ("dlq", "replay", "--all", "--to", "nobody"),
        ("dlq", "ls", "--reason", "bad luck"),
        ("dlq", "ls", "--cursor", "x"),
        ("events", "ls", "--cursor", "x"),
        ("events", "ls", "--cursor", "-1"),
        ("send", "--source", "github", "-H", "no colon"),
        ("send", "--source", "github", "-H", "X-\u00c9: a"),
        ("send", "--source", "github", "-H", "X-A: a\nX-B: b"),
        ("journal", "empty", "--wait", "soon"),
        ("config", "init", "--preset", "nobody"),
        ("nothing",),
        ("status", "--nothing"),
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_is_usage(arguments, daemon):
    out, err = call(daemon, *arguments, code=2)
    assert out == ""
    assert err


# --- looking


def test_status_healthcheck_version_and_stats(daemon):
    out, err = call(daemon, "status")
    assert err == ""
    assert f"pid {daemon.pid}" in out
    assert "DESTINATION" in out
    assert rows(daemon, "status")[0]["pid"] == daemon.pid
    assert call(daemon, "healthcheck") == ("ok\n", "")
    assert rows(daemon, "healthcheck") == [{"alive": True, "found": "ok"}]
    assert "webhook-sidecar " in call(daemon, "version")[0]
    assert rows(daemon, "version")[0]["version"]
    assert rows(daemon, "journal", "stats")[0]["accepting"] is True
    assert "journal id" in call(daemon, "journal", "stats")[0]


def test_audit_of_the_running_daemon(daemon):
    out, _ = call(daemon, "audit", "--full")
    assert out.splitlines()[0].split()[:2] == ["DESTINATION", "ENQUEUED"]
    (report,) = rows(daemon, "audit", "--full")
    assert report["ok"]
    assert all(d["enqueued"] == d["settled"] + d["pending"] for d in report["destinations"])


def test_tail_shows_what_happens_and_ends_130_when_interrupted(daemon):
    command = [sys.executable, "-m", "sidecar", "tail", "--json", "--source", "github", "--config", str(daemon.config)]
    process = subprocess.Popen(command, env=daemon.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        os.set_blocking(process.stdout.fileno(), False)
        sent: list[str] = []

        def heard() -> list[dict[str, Any]]:
            sent.append(send(daemon))
            assert process.stdout is not None
            lines = [line for line in iter(process.stdout.readline, b"") if line]
            return [row for row in map(json.loads, lines) if row.get("event_id") in sent]

        row = eventually(heard, 30)[0]
        assert row["source"] == "github"
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 130
        assert process.stderr.read().strip() == b""
    finally:
        process.kill()
        process.communicate()


def test_tail_ends_69_when_the_daemon_goes(sink, tmp_path):
    with Daemon(tmp_path, CONFIG.format(url=sink.url, closed=free_port())) as daemon:
        command = [sys.executable, "-m", "sidecar", "tail", "--config", str(daemon.config)]
        with subprocess.Popen(command, env=daemon.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            eventually(lambda: (send(daemon), process.stdout.readline())[1], 30)
            daemon.kill()
            _, err = process.communicate(timeout=30)
            assert process.returncode == 69
            assert b"error: the daemon went away" in err


def test_tail_says_that_the_daemon_stopped_and_does_not_hold_it_up(sink, tmp_path):
    with Daemon(tmp_path, CONFIG.format(url=sink.url, closed=free_port())) as daemon:
        command = [sys.executable, "-m", "sidecar", "tail", "--config", str(daemon.config)]
        with subprocess.Popen(command, env=daemon.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            eventually(lambda: (send(daemon), process.stdout.readline())[1], 30)
            time.sleep(0.5)  # now it has seen everything, and waits for more
            began_s = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - began_s < 1.5, "a stream gets two seconds to end by itself, and needs none"
            _, err = process.communicate(timeout=30)
            assert process.returncode == 0
            assert b"the daemon has stopped" in err


# --- changing


def test_dead_letters_from_the_list_to_the_end(daemon, sink):
    one, two, three = (dead(daemon, b'{"say":"refuse me","n":%d}' % n) for n in range(3))
    listed = {r["event_id"]: r for r in rows(daemon, "dlq", "ls", "--destination", "app")}
    assert listed.keys() >= {one, two, three}
    assert listed[one]["reason"] == "rejected"
    assert "REASON" in call(daemon, "dlq", "ls")[0]
    (shown,) = rows(daemon, "dlq", "show", one)
    assert [a["status"] for a in shown["log"]] == [422]
    assert "refuse me" in call(daemon, "dlq", "show", one[:29])[0]
    (counted,) = rows(daemon, "dlq", "replay", one, two, "--dry-run")
    assert counted["matched"] == 2
    sink.answer, before = 200, sink.answer
    try:
        assert rows(daemon, "dlq", "replay", one)[-1]["outcomes"] == {"replayed": 1}
        assert "1 replayed" in call(daemon, "dlq", "replay", two, "--rate", "50/s")[0]
        eventually(lambda: {one, two} <= {r.event_id for r in sink.requests if r.get("Webhook-Sidecar-Replay") == "1"})
    finally:
        sink.answer = before
    assert rows(daemon, "dlq", "rm", three, "--yes")[-1]["outcomes"] == {"removed": 1}
    assert not {one, two, three} & {r["event_id"] for r in rows(daemon, "dlq", "ls")}
    call(daemon, "dlq", "show", three, code=3)
    call(daemon, "dlq", "replay", three, code=3)
    # One that is there and one that is not: partly failed.
    there = dead(daemon)
    out, err = call(daemon, "dlq", "replay", there, "wse_00000000000000000000000000", code=4)
    assert "1 replayed, 1 failed" in out.replace("  ", " ")
    assert "wse_00000000000000000000000000" in err


def test_a_letter_that_was_changed_says_what_is_wrong_with_it(daemon):
    body = b"refuse me \xff\xfe and this is no text"
    event_id = dead(daemon, body)
    assert "bytes that are not text" in call(daemon, "dlq", "show", event_id)[0]
    long = dead(daemon, b"refuse me" + b"\n" + b"y" * 5000)
    assert "more bytes" in call(daemon, "dlq", "show", long)[0]
    letter = daemon.folder / "dead-letters" / "app" / f"{event_id}.json"
    letter.write_text(json.dumps(json.loads(letter.read_text()) | {"died_at": "2026-01-01T00:00:00.000Z"}))
    assert "would not be replayed: mac_mismatch" in call(daemon, "dlq", "show", event_id)[0]
    assert "mac_mismatch" in call(daemon, "dlq", "replay", event_id, code=1)[1]
    letter.write_text("{")
    assert "would not be replayed: malformed" in call(daemon, "dlq", "show", event_id)[0]
    assert [r["problem"] for r in rows(daemon, "dlq", "ls") if r["event_id"] == event_id] == ["malformed"]
    assert "no dead letters match" in call(daemon, "dlq", "ls", "--reason", "expired")[1]
    first = call(daemon, "dlq", "ls", "-n", "1", "--json")
    cursor = first[1].split("--cursor ")[1].split()[0]
    assert [r["event_id"] for r in rows(daemon, "dlq", "ls", "-n", "1", "--cursor", cursor)] == [event_id]
    assert [r["event_id"] for r in rows(daemon, "dlq", "show", long, "--destination", "app")] == [long]
    call(daemon, "dlq", "show", long, "--destination", "down", code=3)
    call(daemon, "dlq", "show", "wse_", code=2)  # several begin like this
    for narrow, count in (("source=github", 1), ("contains=refuse", 1), ("key=nothing", 0), ("source=slack", 0)):
        found = rows(
            daemon, "dlq", "replay", "--dry-run", *f"--{narrow}".split("="), "--reason", "rejected", "--max", "1"
        )
        assert found[0]["matched"] == count, narrow


def test_events_are_replayed_discarded_and_redirected(daemon, sink):
    event_id = send(daemon, b"once more")
    eventually(lambda: sink.ids().count(event_id) == 1)
    eventually(lambda: daemon.api(f"events/{event_id}")["deliveries"][0]["state"] == "delivered")
    assert rows(daemon, "events", "replay", event_id)[-1]["done"] == 1
    eventually(lambda: sink.ids().count(event_id) == 2)
    held = [r["event_id"] for r in rows(daemon, "send", "--source", "token", "--count", "2")]
    eventually(lambda: daemon.lane("down")["held"])
    _, err = call(daemon, "events", "discard", held[0], code=2)
    assert "--yes" in err, "nobody can be asked here"
    assert rows(daemon, "events", "discard", held[0], "--yes")[-1]["outcomes"] == {"discarded": 1}
    assert "1 redirected" in call(daemon, "events", "discard", held[1], "--to", "app")[0]
    eventually(lambda: sink.ids().count(held[1]) == 1)
    assert "none of those" in call(daemon, "events", "replay", "wse_00000000000000000000000000", code=3)[1]


def test_a_bulk_replay_draws_its_bar_on_a_terminal_and_keeps_stdout_clean(sink, tmp_path):
    with Daemon(tmp_path, CONFIG.format(url=sink.url, closed=free_port())) as daemon:
        with Raw(daemon.port) as raw:
            for n in range(300):
                body = b'{"say":"refuse me","n":%d}' % n
                assert raw.send(framed("/github", body, github(body, "cli-secret", fresh_id()))).answer().status == 200
        eventually(lambda: len(list((tmp_path / "dead-letters" / "app").glob("*.json"))) == 300, 60)
        eventually(lambda: daemon.pending() == 0, 60)
        sink.answer, before = 200, sink.answer
        try:
            command = [sys.executable, "-m", "sidecar", "dlq", "replay", "--all", "--rate", "400/s"]
            env = {**daemon.env, "WEBHOOK_SIDECAR_CONFIG": str(daemon.config), "TERM": "xterm"}
            with Terminal(command, tmp_path, env, tmp_path / "stdout") as terminal:
                assert terminal.end(60) == 0
            bars = [part for part in terminal.shown.split("\r") if "[#" in part]
            assert len(bars) >= 2, terminal.shown
            assert "/300" in bars[0]
            assert "left" in bars[0]
            assert "300/300" in bars[-1]
            assert (tmp_path / "stdout").read_text().startswith("300 replayed")
            eventually(lambda: daemon.pending() == 0, 60)
            assert list((tmp_path / "dead-letters" / "app").glob("*.json")) == []
            assert daemon.audit()["ok"]
            # A person is asked, and no is an answer.
            event_id = rows(daemon, "send", "--source", "token")[0]["event_id"]
            command = [sys.executable, "-m", "sidecar", "events", "discard", event_id]
            for typed, code, state in (("n\n", 1, "pending"), ("y\n", 0, "discarded")):
                with Terminal(command, tmp_path, env, tmp_path / "stdout") as terminal:
                    terminal.read_until("[y/N]")
                    terminal.type(typed)
                    assert terminal.end() == code
                assert daemon.api(f"events/{event_id}")["deliveries"][0]["state"] == state
        finally:
            sink.answer = before


def test_an_interrupted_replay_keeps_what_is_done(daemon):
    for n in range(6):
        dead(daemon, b'{"say":"refuse me","slowly":%d}' % n)
    call(daemon, "dlq", "rm", "--all", "--until", "2000-01-01", "--yes")
    command = [sys.executable, "-m", "sidecar", "events", "replay", "--all", "--rate", "1", "--json"]
    env = {**daemon.env, "WEBHOOK_SIDECAR_CONFIG": str(daemon.config)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        eventually(lambda: daemon.scrape().total("enqueued_total") and process.poll() is None)
        before = daemon.audit()
        eventually(
            lambda: (
                sum(d["enqueued"] for d in daemon.audit()["destinations"])
                > sum(d["enqueued"] for d in before["destinations"])
            )
        )
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
        assert process.returncode == 130
        assert b"Traceback" not in err
    eventually(lambda: daemon.pending() == 0, 30)
    assert daemon.audit()["ok"]


def test_a_replay_whose_daemon_goes_says_so(sink, tmp_path):
    with Daemon(tmp_path, CONFIG.format(url=sink.url, closed=free_port())) as daemon:
        for n in range(5):
            dead(daemon, b'{"say":"refuse me","n":%d}' % n)
        enqueued = daemon.scrape().total("enqueued_total")
        env = {**daemon.env, "WEBHOOK_SIDECAR_CONFIG": str(daemon.config)}
        command = [sys.executable, "-m", "sidecar", "dlq", "replay", "--all", "--rate", "1"]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            eventually(lambda: daemon.scrape().total("enqueued_total") > enqueued, 30, "the first one is back")
            daemon.kill()
            _, err = process.communicate(timeout=30)
        assert process.returncode == 69
        assert b"error: the daemon went away" in err
        assert b"Traceback" not in err


# --- without a daemon


@pytest.fixture
def stopped(sink, tmp_path) -> Iterator[tuple[Daemon, str, str]]:
    """A daemon that ran and stopped in order: one delivered, one dead, one still owed."""
    with Daemon(tmp_path, CONFIG.format(url=sink.url, closed=free_port())) as daemon:
        delivered, gone = send(daemon, b"offline", "the-key"), dead(daemon)
        with Raw(daemon.port) as raw:
            assert raw.send(framed("/token", b"owed", {"X-Token": "gate-token"})).answer().status == 200
        eventually(lambda: daemon.api(f"events/{delivered}")["deliveries"][0]["state"] == "delivered")
        assert daemon.stop(signal.SIGINT) == 0
        yield daemon, delivered, gone


def test_those_that_look_read_the_journal_itself(stopped):
    daemon, delivered, gone = stopped
    assert [e["id"] for e in rows(daemon, "events", "ls", "--key", "the-key")] == [delivered]
    assert "none in 3 events since " in call(daemon, "events", "ls", "--contains", "order-123")[0]
    assert rows(daemon, "events", "show", delivered[:29])[0]["body"] == "offline"
    call(daemon, "events", "show", "nothing", code=3)
    assert rows(daemon, "events", "ls", "--key", ODD) == []
    call(daemon, "events", "show", ODD, code=3)
    call(daemon, "dlq", "show", ODD, code=3)
    for cursor in ("x", "-1", "9" * 16):
        assert "--cursor" in call(daemon, "events", "ls", "--cursor", cursor, code=2)[1]
    assert [r["event_id"] for r in rows(daemon, "dlq", "ls")] == [gone]
    assert rows(daemon, "dlq", "show", gone)[0]["reason"] == "rejected"
    call(daemon, "dlq", "show", "wse_00000000000000000000000000", code=3)
    for arguments in (("audit",), ("audit", "--offline")):
        (report,) = rows(daemon, *arguments)
        assert (report["ok"], report["full"], report["exact"]) == (True, True, True)
        assert {d["destination"]: d["pending"] for d in report["destinations"]} == {"app": 0, "down": 1}
    (daemon.folder / "dead-letters" / "app" / f"{gone}.json").unlink()
    (report,) = rows(daemon, "audit", "--offline")
    assert (report["ok"], report["gone_count"]) == (True, 1), "a file that a person removed is no error"
    assert f"gone: app/{gone}.json" in call(daemon, "audit")[1]


def test_those_that_change_need_the_daemon_and_say_so(stopped):
    daemon, delivered, _ = stopped
    for arguments in (
        ("status",), ("tail",), ("healthcheck",), ("healthcheck", "--json"), ("events", "replay", delivered),
        ("events", "discard", "--all", "--yes"), ("dlq", "replay", "--all"), ("dlq", "rm", "--all", "--yes"),
        ("send", "--source", "github"), ("events", "show", delivered, "--body"),
    ):  # fmt: skip
        out, err = call(daemon, *arguments, code=69)
        assert out == ""
        assert err.count("error: ") == 1
        assert "hint: " in err


def test_the_journal_is_looked_after_without_a_daemon(stopped):
    daemon, _, _ = stopped
    assert "structure sound, 3 events read, 0 damaged" in call(daemon, "journal", "verify")[0]
    assert rows(daemon, "journal", "verify") == [
        {"ok": True, "structure": [], "events": 3, "damaged": 0, "unbalanced": []}
    ]
    assert rows(daemon, "journal", "stats")[0]["last_seq"] >= 3
    copy = daemon.folder / "copy"
    assert rows(daemon, "journal", "backup", str(copy))[0]["bytes"] > 0
    assert (copy / "data.mdb").exists()
    call(daemon, "journal", "backup", str(copy), code=2)
    (sizes,) = rows(daemon, "journal", "compact")
    assert sizes["after_bytes"] <= sizes["before_bytes"]
    assert "structure sound, 3 events read" in call(daemon, "journal", "verify")[0]
    out, err = call(daemon, "journal", "empty", "--wait", "300ms", code=4)
    assert "0 delivered, 0 dead, 1 left" in out
    assert "1 deliveries are still owed" in err
    with Sink() as back:
        text = daemon.config.read_text().partition("[destinations.down]")[0]
        daemon.config.write_text(text + f'[destinations.down]\nurl = "{back.url}"\n')
        assert rows(daemon, "journal", "empty", "--wait", "30s") == [{"delivered": 1, "dead": 0, "left": 0}]
        assert [r.body for r in back.requests] == [b"owed"]
    assert rows(daemon, "audit", "--offline")[0]["ok"]


def test_a_damaged_journal_is_74_with_what_is_damaged(stopped):
    daemon, _, _ = stopped
    data = daemon.folder / "journal" / "data.mdb"
    content = bytearray(data.read_bytes())
    at = content.find(b"offline")
    while at >= 0:
        content[at] ^= 0x20
        at = content.find(b"offline")
    data.write_bytes(bytes(content))
    (report,) = rows(daemon, "journal", "verify", code=74)
    assert (report["ok"], report["damaged"]) == (False, 1)
    data.write_bytes(b"not a journal at all" * 1000)
    for arguments in (("journal", "verify"), ("journal", "stats"), ("audit", "--offline"), ("events", "ls"), ("run",)):
        _, err = call(daemon, *arguments, code=74)
        assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert data.read_bytes() == b"not a journal at all" * 1000, "and it is left as it is"


def test_a_journal_from_a_newer_version_is_74_for_every_command(stopped):
    daemon, _, _ = stopped
    env = lmdb.open(str(daemon.folder / "journal"), max_dbs=16, map_size=1 << 30)
    with env.begin(write=True) as txn:
        table = env.open_db(b"meta", txn=txn)
        row = meta.unpack(txn.get(b"identity", db=table), list)
        txn.put(b"identity", meta.pack([row[0] + 1, *row[1:]]), db=table)
    env.close()
    for arguments in (
        ("run",), ("journal", "stats"), ("journal", "verify"), ("journal", "compact"), ("journal", "empty"),
        ("audit", "--offline"), ("events", "ls"), ("dlq", "ls"),
    ):  # fmt: skip
        _, err = call(daemon, *arguments, code=74)
        assert "newer" in err or "format" in err, err
        assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1


def test_beside_a_running_daemon_the_journal_is_not_opened(daemon, sink, tmp_path):
    for arguments in (("journal", "verify"), ("journal", "compact"), ("journal", "empty")):
        _, err = call(daemon, *arguments, code=74)
        assert "stop it first" in err
    call(daemon, "audit", "--offline", code=69)
    second = Daemon(
        tmp_path, CONFIG.format(url=sink.url, closed=free_port()) + f'[journal]\npath = "{daemon.folder}/journal"\n'
    )
    out, err = call(second, "run", code=74)
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert f"process {daemon.pid}" in errors[0]
    assert daemon.admin("GET", "/readyz")[0] == 200


def test_a_port_that_is_taken_is_one_line(daemon, sink, tmp_path):
    other = Daemon(tmp_path, CONFIG.format(url=sink.url, closed=free_port()))
    other.config.write_text(other.config.read_text().replace(f":{other.port}", f":{daemon.port}"))
    _, err = call(other, "run", code=1)
    assert f"cannot listen on 127.0.0.1:{daemon.port}" in err
    assert '"stopped"' not in err, "it had not begun, and its exit code is not 0"
    assert "Traceback" not in err


# --- configuration


def test_a_bad_configuration_is_78_for_every_command_that_reads_it(tmp_path, sink):
    daemon = Daemon(tmp_path, CONFIG.format(url=sink.url, closed=free_port()))
    daemon.config.write_text(
        daemon.config.read_text().replace("verify =", "verfy =", 1).replace('path = "/slack"', 'path = "slack"')
    )
    for arguments in (
        ("run",),
        ("check",),
        ("check", "--offline"),
        ("config", "show"),
        ("send", "--source", "github"),
        ("journal", "empty"),
    ):
        _, err = call(daemon, *arguments, code=78)
        assert 'did you mean "verify"?' in err
        assert "sources.slack.path" in err, "all problems at once"
        assert "config.toml:" in err
    (report,) = rows(daemon, "check", code=78)
    assert report["ok"] is False
    assert len(report["problems"]) >= 2
    findings = rows(daemon, "doctor", code=1)
    assert {f["verdict"] for f in findings} == {"fail"}
    missing = {**daemon.env, "WEBHOOK_SIDECAR_CONFIG": str(tmp_path / "none.toml")}
    for arguments in (("run",), ("check",), ("status",), ("events", "ls"), ("journal", "stats")):
        result = subprocess.run(
            [sys.executable, "-m", "sidecar", *arguments],
            env=missing,
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 78, arguments
        assert b"none.toml" in result.stderr


def test_config_is_written_shown_and_described(daemon, tmp_path):
    out, err = call(daemon, "check")
    assert "11 sources, 2 destinations" in out
    assert "warning: " in err, "literal secrets warn"
    assert rows(daemon, "check")[0]["ok"] is True
    assert "cli-secret" not in call(daemon, "config", "show", "--origin")[0]
    assert rows(daemon, "config", "show")[0]["sources"]["github"]["path"] == "/github"
    assert json.loads(call(daemon, "config", "schema")[0])["type"] == "object"
    assert json.loads(call(daemon, "config", "schema", "--json")[0])["type"] == "object"
    for preset in ("github", "shopify", "slack", "standard-webhooks", "stripe"):
        written = tmp_path / f"{preset}.toml"
        written.write_text(call(daemon, "config", "init", "--preset", preset)[0])
        result = daemon.command("check", "--offline", "--config", str(written))
        assert result.returncode == 0, result.stderr
        assert rows(daemon, "config", "init", "--preset", preset)[0]["sources"][preset]["verify"] == preset
    full = tmp_path / "full.toml"
    full.write_text(call(daemon, "config", "init", "--full")[0])
    assert daemon.command("check", "--offline", "--config", str(full)).returncode == 0


def test_verify_and_doctor(daemon, tmp_path):
    vectors = Path(__file__).resolve().parents[1] / "vectors" / "signatures.jsonl"
    out, _ = call(daemon, "verify", "--vectors", str(vectors))
    total = len(vectors.read_text().splitlines())
    assert out.splitlines()[-1] == f"{total:,} cases, {total:,} as expected"
    assert rows(daemon, "verify", "--vectors", str(vectors))[-1] == {"cases": total, "as_expected": total}
    case = json.loads(vectors.read_text().splitlines()[0])
    case["expect"] = "reject" if case["expect"] == "accept" else "accept"
    (tmp_path / "wrong.jsonl").write_text(json.dumps(case))
    out, _ = call(daemon, "verify", "--vectors", str(tmp_path / "wrong.jsonl"), code=1)
    assert case["id"] in out
    findings = rows(daemon, "doctor")
    assert {f["verdict"] for f in findings} == {"ok", "warn"}
    assert [f for f in findings if f["check"] == "destination down" and f["verdict"] == "warn"]


def test_output_that_nobody_reads_any_more_ends_quietly(daemon):
    """``events ls | head -1``: no complaint, no traceback."""
    for _ in range(30):
        send(daemon)
    shell = f"{sys.executable} -m sidecar events ls --json -n 1000 --config {daemon.config} | head -c 10"
    result = subprocess.run(["sh", "-c", shell], env=daemon.env, capture_output=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, b"")


def shell(daemon: Daemon, redirected: str, *arguments: str) -> int:
    """Run a command with its streams as told; its exit code. No traceback on what is left of them."""
    command = ["bash", "-c", f'"$@" {redirected}', "bash", sys.executable, "-m", "sidecar", *arguments]
    env = {**daemon.env, "WEBHOOK_SIDECAR_CONFIG": str(daemon.config)}
    done = subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
    assert b"Traceback" not in done.stdout + done.stderr
    return done.returncode


def test_closed_and_deaf_streams_change_no_exit_code(daemon):
    event_id = send(daemon)
    for looking in (("status",), ("events", "ls"), ("events", "show", "--body", event_id), ("tail", "--help")):
        assert shell(daemon, ">&-", *looking) == 0
    for redirected in ("2>&-", "2>/dev/full", "2> >(exec <&-; sleep 2)"):
        assert shell(daemon, redirected, "events", "replay", "wse_00000000000000000000000000") == 3
        assert shell(daemon, redirected, "status", "--nothing") == 2


@pytest.mark.parametrize(("redirected", "closed"), [(">&-", (1,)), ("2>&-", (2,)), ("<&- >&- 2>&-", (0, 1, 2))])
def test_the_daemon_runs_with_closed_streams(redirected, closed, sink, tmp_path):
    """And no file of the journal gets a number that others write to."""
    command = ("bash", "-c", f'exec "$@" {redirected}', "bash", sys.executable, "-m", "sidecar")
    with Daemon(tmp_path, CONFIG.format(url=sink.url, closed=free_port()), command=command) as running:
        send(running)
        for number in closed:
            assert os.readlink(f"/proc/{running.pid}/fd/{number}") == "/dev/null"
        assert running.stop() == 0


def test_a_copy_is_emptied_on_another_machine(stopped, tmp_path):
    """A volume that a replica left behind: another folder, another configuration, the same promises."""
    daemon, _, _ = stopped
    other = tmp_path / "elsewhere"
    other.mkdir()
    shutil.copytree(daemon.folder / "journal", other / "journal")
    with Sink() as back:
        rescue = Daemon(other, CONFIG.format(url=back.url, closed=back.port))
        assert rows(rescue, "journal", "empty", "--wait", "30s") == [{"delivered": 1, "dead": 0, "left": 0}]
        assert [r.body for r in back.requests] == [b"owed"]
