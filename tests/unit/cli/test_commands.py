"""Every command against one running daemon, and those that look also without it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.__main__ import main
from tests.support.daemon import Daemon, eventually
from tests.support.sink import Received, Sink

CONFIG = """
[sources.github]
path = "/webhooks/github"
verify = "github"
destinations = ["app"]
secrets = [{{ value = "canary-secret" }}]
[sources.gate]
path = "/webhooks/gate"
verify = {{ scheme = "token", header = "X-Gate" }}
destinations = ["down"]
secrets = [{{ value = "canary-token" }}]
[destinations.app]
url = "{url}"
[destinations.down]
url = "http://127.0.0.1:1"
"""


def answer(request: Received) -> int:
    """Refuse what says so."""
    return 422 if b"refuse me" in request.body else 200


@pytest.fixture(scope="module")
def daemon(tmp_path_factory) -> Iterator[Daemon]:
    with Sink(answer) as sink, Daemon(tmp_path_factory.mktemp("cli"), CONFIG.format(url=sink.url)) as running:
        yield running


class Cli:
    """Runs commands in this process, as the entry point does."""

    def __init__(self, config: str, capfd: Any) -> None:
        self.config = config
        self._capfd = capfd

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        self._capfd.readouterr()
        found = main([*arguments, *(["--config", self.config] if arguments[0] not in {"version", "verify"} else [])])
        out, err = self._capfd.readouterr()
        assert found == code, (arguments, found, out, err)
        assert "canary" not in out + err
        assert "\x1b" not in out
        return out, err

    def rows(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*arguments, "--json", code=code)[0].splitlines()]


@pytest.fixture
def cli(daemon, capfd) -> Cli:
    return Cli(str(daemon.config), capfd)


@pytest.fixture
def offline(daemon, capfd, tmp_path) -> Cli:
    """The same configuration over a copy of the journal that no daemon uses."""
    status, body = daemon.admin("POST", "/api/v1/journal/backup", {"path": str(tmp_path / "journal")})
    assert status == 200, body
    shutil.copytree(daemon.folder / "dead-letters", tmp_path / "dead-letters", dirs_exist_ok=True)
    config = tmp_path / "config.toml"
    config.write_text(daemon.config.read_text().replace(daemon.socket, str(tmp_path / "none.sock")))
    return Cli(str(config), capfd)


def send(cli: Cli, text: str = "hello", source: str = "github") -> str:
    """Send one body; its event id."""
    path = Path(cli.config).parent / "body.txt"
    path.write_text(text)
    return str(cli.rows("send", "--source", source, "--file", str(path))[0]["event_id"])


def dead(daemon: Daemon, cli: Cli) -> str:
    """Let one event die; its id."""
    event_id = send(cli, "refuse me")
    eventually((daemon.folder / "dead-letters" / "app" / f"{event_id}.json").exists)
    eventually(lambda: state(cli, event_id) == "dead")
    return event_id


def state(cli: Cli, event_id: str) -> str:
    return str(cli.rows("events", "show", event_id)[0]["deliveries"][0]["state"])


# --- send


def test_send_signs_and_shows_what_was_sent_and_answered(cli):
    out, _ = cli("send", "--source", "github", "--header", "X-Extra: yes")
    assert "--> POST /webhooks/github" in out
    assert "X-Hub-Signature-256: sha256=" in out
    assert "X-Extra: yes" in out
    assert '<-- 200 {"status":"accepted","id":"wse_' in out


def test_send_twice_with_duplicate_is_one_event(cli):
    first, second = cli.rows("send", "--source", "github", "--duplicate")
    assert first["event_id"] == second["event_id"]
    assert (first["replayed"], second["replayed"]) == (False, True)


@pytest.mark.parametrize("source", ["github", "gate"])
def test_a_bad_signature_is_refused_as_expected(cli, source):
    assert cli.rows("send", "--source", source, "--bad-signature")[0]["status"] == 401


def test_send_of_a_token_source_masks_the_token(cli):
    sent = dict(cli.rows("send", "--source", "gate", "--count", "2")[0]["sent"])
    assert sent["X-Gate"] == "****"


def test_send_to_an_unknown_source_names_those_there_are(cli):
    _, err = cli("send", "--source", "nobody", code=3)
    assert "there are: gate, github" in err


# --- events


def test_events_are_listed_and_shown_by_id_prefix_and_key(cli):
    event_id = send(cli, "find this one")
    out, _ = cli("events", "ls", "--contains", "find this")
    assert out.splitlines()[0].split()[0] == "EVENT"
    assert event_id in out
    shown = cli.rows("events", "show", event_id)[0]
    assert shown["body"] == "find this one"
    assert cli.rows("events", "show", shown["key"])[0]["id"] == event_id
    out, _ = cli("events", "show", event_id)
    assert "POST /webhooks/github" in out
    assert cli("events", "show", event_id, "--body")[0] == "find this one"
    cli("events", "show", "nobody", code=3)


def test_a_no_says_how_far_it_looked_and_what_was_refused(cli):
    send(cli)
    cli("send", "--source", "github", "--bad-signature")
    out, _ = cli("events", "ls", "--key", "order-123")
    assert out.startswith("none in ")
    assert " events since 20" in out
    assert " wrong_secret" in out


def test_delivered_events_are_replayed(cli):
    event_id = send(cli)
    eventually(lambda: state(cli, event_id) == "delivered")
    assert "1 would be replayed" in cli("events", "replay", event_id, "--dry-run")[0]
    assert cli("events", "replay", event_id, "--rate", "50/s")[0].startswith("1 replayed, 0 failed")
    eventually(lambda: cli.rows("events", "show", event_id)[0]["deliveries"][0]["replay"] == 1)


def test_what_cannot_be_undone_needs_yes_where_nobody_can_be_asked(cli):
    event_id = send(cli, source="gate")
    _, err = cli("events", "discard", event_id, code=2)
    assert "1 pending deliveries will never be delivered. Add --yes" in err
    assert state(cli, event_id) == "pending"
    cli("events", "discard", event_id, "--yes")
    assert state(cli, event_id) == "discarded"


def test_pending_events_are_redirected(cli):
    event_id = send(cli, source="gate")
    assert cli("events", "discard", event_id, "--to", "app")[0].startswith("1 redirected")
    eventually(lambda: {d["state"] for d in cli.rows("events", "show", event_id)[0]["deliveries"]}
               == {"redirected", "delivered"})  # fmt: skip
    _, err = cli("events", "replay", event_id, "--to", "nowhere", code=2)
    assert "expected one of app, down" in err


@pytest.mark.parametrize(
    "arguments",
    [("events", "replay"), ("events", "replay", "--all", "--rate", "fast"), ("events", "ls", "--since", "lately"),
     ("evnets",), ("send",), ("events", "replay", "--all", "--state", "lost")],
)  # fmt: skip
def test_a_wrong_command_line_is_usage(cli, arguments):
    cli(*arguments, code=2)


def test_a_mistyped_command_gets_a_suggestion(cli):
    assert 'Did you mean "events"?' in cli("evnets", code=2)[1]


# --- dlq


def test_dead_letters_are_listed_shown_replayed_and_removed(daemon, cli):
    one = dead(daemon, cli)
    assert one in cli("dlq", "ls", "--reason", "rejected", "--since", "1h")[0]
    out, _ = cli("dlq", "show", one)
    assert "rejected, died 20" in out
    assert "  #1" in out
    assert cli("dlq", "replay", one)[0].startswith("1 replayed, 0 failed")
    eventually(lambda: state(cli, one) == "dead")  # it is refused again, in its second round
    letter = daemon.folder / "dead-letters" / "app" / f"{one}.json"
    eventually(letter.exists)
    cli("dlq", "rm", one, code=2)
    assert cli("dlq", "rm", one, "--yes")[0].startswith("1 removed")
    assert not letter.exists()
    cli("dlq", "show", one, code=3)
    cli("dlq", "rm", one, "--yes", code=3)


def test_an_edited_dead_letter_is_refused_and_then_taken_as_edited(daemon, cli):
    one, two = dead(daemon, cli), dead(daemon, cli)
    letter = daemon.folder / "dead-letters" / "app" / f"{one}.json"
    letter.write_text(letter.read_text().replace("refuse me", "take me"))
    out, err = cli("dlq", "replay", one, two, code=4)
    assert out.startswith("1 replayed, 1 failed (1 mac_mismatch)")
    assert "mac_mismatch" in err
    _, err = cli("dlq", "replay", one, "--edited")
    assert f"{one} came back unverified as wse_" in err
    eventually(lambda: state(cli, two) == "dead")
    cli("dlq", "rm", "--all", "--yes")


# --- the rest, while a daemon runs


def test_status_shows_what_is_held_and_why(cli):
    send(cli, source="gate")
    eventually(lambda: "held: Connection refused" in cli("status")[0])
    out, _ = cli("status")
    assert "accepting" in out.splitlines()[0]
    assert cli.rows("status")[0]["journal"]["accepting"] is True


def test_audit_balances(cli):
    send(cli)
    out, _ = cli("audit", "--full")
    assert "BALANCED" in out
    assert "NO" not in out
    assert cli.rows("audit")[0]["ok"] is True


def test_audit_offline_beside_a_running_daemon_is_refused(cli):
    _, err = cli("audit", "--offline", code=69)
    assert "has the journal open" in err
    for command in ("verify", "compact", "empty"):
        assert "stop it first" in cli("journal", command, code=74)[1]


def test_healthcheck_stats_backup_check_doctor_and_version(daemon, cli, tmp_path):
    assert cli("healthcheck")[0] == "ok\n"
    assert "used" in cli("journal", "stats")[0]
    assert cli.rows("journal", "backup", str(tmp_path / "copy"))[0]["bytes"] > 0
    out, _ = cli("check")
    assert "2 sources, 2 destinations" in out
    assert "dedup: 72h x 16 webhooks a second fit " in out, "github's, of 1 GiB"
    out, _ = cli("doctor")
    assert "[ok]   daemon: running" in out
    assert "[warn] destination down: not reachable" in out
    assert cli("version")[0].startswith("webhook-sidecar ")


def test_tail_shows_what_happens_until_interrupted(daemon):
    command = [sys.executable, "-m", "sidecar", "tail", "--source", "github", "--config", str(daemon.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=daemon.env) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)

        def seen() -> bytes | None:
            daemon.post("/webhooks/github", b"{}")
            return process.stdout.readline() if process.stdout is not None else None

        assert b"received  github unauthorized reason=missing_header" in eventually(seen)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


# --- without a daemon


@pytest.fixture
def died(daemon, cli) -> str:
    """One dead event, before the journal is copied."""
    return dead(daemon, cli)


def test_offline_the_journal_answers_for_the_daemon(died, offline):
    out, _ = offline("events", "ls")
    assert out.startswith("EVENT")
    event_id = out.splitlines()[1].split()[0]
    assert offline.rows("events", "show", event_id)[0]["id"] == event_id
    offline("events", "show", "nobody", code=3)
    offline("events", "ls", "--since", "lately", code=2)
    assert died in offline("dlq", "ls")[0]
    assert offline.rows("dlq", "show", died)[0]["problem"] is None
    offline("dlq", "show", "wse_7", code=3)
    assert offline.rows("audit")[0]["ok"] is True
    assert offline.rows("audit", "--offline")[0]["full"] is True
    assert "used" in offline("journal", "stats")[0]
    assert "structure sound" in offline("journal", "verify")[0]
    assert " -> " in offline("journal", "compact")[0]
    assert "structure sound" in offline("journal", "verify")[0]


def test_without_a_daemon_nothing_is_changed_and_69_says_so(offline):
    for arguments in (
        ("status",),
        ("tail",),
        ("healthcheck",),
        ("dlq", "replay", "--all"),
        ("events", "replay", "--all"),
    ):
        _, err = offline(*arguments, code=69)
        assert "no daemon is running" in err
        assert "webhook-sidecar run" in err


def test_empty_delivers_what_a_journal_still_holds(daemon, cli, offline):
    event_id = send(cli, "left behind", source="gate")
    del event_id
    config = Path(offline.config)
    with Sink() as sink:
        folder = config.parent
        shutil.rmtree(folder / "journal")
        status, _ = daemon.admin("POST", "/api/v1/journal/backup", {"path": str(folder / "journal")})
        assert status == 200
        out, _ = offline("journal", "empty", "--wait", "400ms", code=4)
        assert " left" in out
        config.write_text(config.read_text().replace("http://127.0.0.1:1", sink.url))
        row = offline.rows("journal", "empty", "--wait", "20s")[0]
        assert row["left"] == 0
        assert row["delivered"] >= 1
        assert any(r.body == b"left behind" for r in sink.requests)


# --- configuration and cases


def test_check_says_78_with_every_problem(capfd, tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text('[server]\nlistn = "x"\n[sources.a]\npath = "nope"\n')
    cli = Cli(str(bad), capfd)
    _, err = cli("check", code=78)
    assert "listn" in err
    (found,) = cli.rows("check", code=78)
    assert (found["ok"], found["dedup"]) == (False, None)
    assert "[fail] configuration" in cli("doctor", code=1)[0]
    cli("run", code=78)


@pytest.mark.parametrize(
    ("dedup", "said", "row"),
    [
        ("", None, None),
        ('missing = "body"', None, None),
        ('key = "body"', "dedup: 24h x 49 webhooks a second fit ", (86_400.0, 48.5)),
        ('key = "body"\nttl = "1m"', "dedup: 1m x 69,905 webhooks a second fit ", (60.0, 69_905.1)),
        ('key = "body"\nttl = "8d"', "dedup: 192h x 6.1 webhooks a second fit ", (691_200.0, 6.1)),
    ],
)
def test_check_prints_ttl_times_the_rate_that_fits(capfd, tmp_path, dedup, said, row):
    """Of the longest ttl of the sources that have a key; nothing where none has."""
    config = tmp_path / "config.toml"
    source = '[sources.{0}]\npath = "/{0}"\nverify = "none"\nallow_unverified = true\ndestinations = ["app"]\n'
    config.write_text(
        source.format("a") + f"[sources.a.dedup]\n{dedup}\n"
        + source.format("b") + '[sources.b.dedup]\nkey = "none"\nttl = "30d"\n'
        + (source.format("c") + '[sources.c.dedup]\nkey = "header:X"\nttl = "5s"\n' if said else "")
        + '[destinations.app]\nurl = "http://127.0.0.1:1"\n'
    )  # fmt: skip
    cli = Cli(str(config), capfd)
    out, _ = cli("check")
    (found,) = cli.rows("check")
    if said is None or row is None:
        assert "dedup" not in out
        assert found["dedup"] is None
    else:
        assert said in out
        assert "4,194,304 keys" in out
        assert (found["dedup"]["ttl_s"], round(found["dedup"]["per_second"], 1)) == row
        assert found["dedup"]["keys"] == 4_194_304


def test_config_init_show_and_schema(cli, tmp_path, monkeypatch, capfd):
    assert main(["config", "init", "--preset", "stripe"]) == 0
    written = tmp_path / "config.toml"
    written.write_text(capfd.readouterr().out)
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", "whsec_x")
    Cli(str(written), capfd)("check")
    assert main(["config", "init", "--preset", "nobody"]) == 2
    capfd.readouterr()
    assert main(["config", "init", "--full"]) == 0
    assert "every setting with its default" in capfd.readouterr().out
    assert main(["config", "schema"]) == 0
    assert json.loads(capfd.readouterr().out)["type"] == "object"
    assert "[sources.github]" in cli("config", "show")[0]
    assert cli.rows("config", "show")[0]["sources"]["github"]["path"] == "/webhooks/github"


def test_verify_runs_cases_and_names_those_that_differ(capfd, tmp_path):
    vectors = Path(__file__).parents[2] / "vectors" / "signatures.jsonl"
    cli = Cli("", capfd)
    assert " as expected" in cli("verify", "--vectors", str(vectors))[0]
    case = json.loads(vectors.read_text().splitlines()[0])
    case["expect"] = "reject" if case["expect"] == "accept" else "accept"
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text(json.dumps(case) + "\n\n")
    out, _ = cli("verify", "--vectors", str(wrong), code=1)
    assert out.splitlines()[-1] == "1 cases, 0 as expected"
    assert cli.rows("verify", "--vectors", str(wrong), code=1)[-1] == {"cases": 1, "as_expected": 0}
    wrong.write_text("{}\n")
    cli("verify", "--vectors", str(wrong), code=2)


def test_the_socket_is_found_without_reading_a_secret(daemon, cli, tmp_path, capfd, monkeypatch):
    """Client commands work where the secrets are not."""
    config = tmp_path / "config.toml"
    text = daemon.config.read_text().replace('value = "canary-secret"', 'env = "NOT_SET_HERE"')
    config.write_text(text)
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    assert "accepting" in Cli(str(config), capfd)("status")[0]
    assert os.path.exists(daemon.socket)
