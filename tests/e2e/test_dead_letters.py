"""Dead letters on a real disk: what is in the file, who may read it, how it comes back, and what is not taken back."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, eventually
from tests.support.senders import fresh_id, github
from tests.support.sink import Received, Sink

SECRET = "dead-letter-test"

CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ value = "dead-letter-test" }}]
max_body = "512KiB"
destinations = ["app"]
[sources.token]
path = "/token"
verify = {{ scheme = "token", header = "X-Token" }}
secrets = [{{ value = "token-of-the-letter" }}]
max_body = "512KiB"
destinations = ["app"]
[destinations.app]
url = "{url}"
[destinations.app.retry]
base = "20ms"
jitter = 0
{more}
"""


def config(url: str, more: str = "") -> str:
    return CONFIG.format(url=url, more=more)


class Mood:
    """A backend that refuses what says "die" until it is well again."""

    def __init__(self) -> None:
        self.well = False

    def __call__(self, request: Received) -> int:
        if self.well or b"die" not in request.body:
            return 200
        return 500 if b"die slowly" in request.body else 400


@pytest.fixture
def mood() -> Mood:
    return Mood()


@pytest.fixture
def sink(mood: Mood) -> Iterator[Sink]:
    with Sink(mood) as sink:
        yield sink


@pytest.fixture
def daemon(tmp_path: Path, sink: Sink) -> Iterator[Daemon]:
    with Daemon(tmp_path, config(sink.url)) as daemon:
        yield daemon


def send(daemon: Daemon, body: bytes = b"die", **headers: str) -> str:
    status, answer, text = daemon.post("/github?from=test", body, github(body, SECRET, fresh_id()) | headers)
    assert status == 200, text
    return answer["webhook-sidecar-event-id"]


def file_of(daemon: Daemon, event_id: str, destination: str = "app") -> Path:
    return daemon.folder / "dead-letters" / destination / f"{event_id}.json"


def died(daemon: Daemon, event_id: str) -> Path:
    """Wait until the delivery has left the journal; its file."""
    eventually(lambda: state(daemon, event_id) == "dead", what="dead")
    return file_of(daemon, event_id)


def state(daemon: Daemon, event_id: str) -> str:
    return daemon.api(f"events/{event_id}")["deliveries"][0]["state"]


def replay(daemon: Daemon, **request: Any) -> dict[str, Any]:
    """Replay over the API; the summary."""
    status, rows = daemon.admin("POST", "/api/v1/dead-letters/replay", request)
    assert status == 200, rows
    return json.loads(rows.splitlines()[-1])


def test_the_file_says_everything_and_only_its_owner_may_read_it(daemon):
    body = "die slowly: ä \u202e \x1b[31m".encode()
    event_id = send(daemon, body, **{"X-Custom": "kept", "Authorization": "Bearer in-the-file"})
    path = died(daemon, event_id)
    letter = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == path.parent.parent.stat().st_mode & 0o777 == 0o700
    contract = {
        "format",
        "event_id",
        "source",
        "destination",
        "reason",
        "received_at",
        "died_at",
        "request",
        "mac",
        "attempts",
    }
    assert contract <= letter.keys()
    assert (letter["format"], letter["event_id"], letter["source"], letter["destination"], letter["reason"]) == (
        1, event_id, "github", "app", "attempts_exhausted",
    )  # fmt: skip
    request = letter["request"]
    assert (request["method"], request["path"], request["query"]) == ("POST", "/github", "from=test")
    assert request["body"].encode() == body
    assert request["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert ["X-Custom", "kept"] in request["headers"]
    assert ["Authorization", "Bearer in-the-file"] in request["headers"], "complete, so that it can be replayed"
    assert [a["number"] for a in letter["attempts"]] == [1, 2, 3, 4]
    for attempt in letter["attempts"]:
        assert (attempt["outcome"], attempt["status"], attempt["error"]) == ("5xx", 500, "HTTP 500")
        assert attempt["started_at"].endswith("Z")
        assert attempt["duration_ms"] >= 0
    raw = path.read_bytes()
    assert raw.isascii()
    assert b"\x1b" not in raw, "harmless on a terminal"
    assert not [p for p in path.parent.iterdir() if p.name.endswith(".tmp")]


def test_a_body_that_is_no_text_is_kept_in_base64(daemon):
    body = b"die\xff\x00\x80"
    letter = json.loads(died(daemon, send(daemon, body)).read_text())
    assert "body" not in letter["request"]
    assert base64.b64decode(letter["request"]["body_base64"]) == body


def test_a_replay_delivers_the_same_event_with_a_fresh_budget_and_takes_the_file_away(daemon, sink, mood):
    event_id = send(daemon, b"die slowly")
    path = died(daemon, event_id)
    before = daemon.metric("enqueued_total", destination="app")
    mood.well = True
    done = daemon.command("dlq", "replay", event_id)
    assert done.returncode == 0, done.stderr
    assert b"1 replayed" in done.stdout
    eventually(lambda: state(daemon, event_id) == "delivered")
    last = sink.requests[-1]
    assert (last.event_id, last.attempt, last.get("Webhook-Sidecar-Replay")) == (event_id, 1, "1")
    assert last.body == b"die slowly"
    assert not path.exists()
    assert daemon.metric("enqueued_total", destination="app") == before + 1
    assert daemon.audit()["ok"]


def test_a_replay_that_dies_again_leaves_one_file_with_the_whole_history(daemon):
    event_id = send(daemon, b"die slowly")
    died(daemon, event_id)
    assert replay(daemon, ids=[event_id])["outcomes"] == {"replayed": 1}
    path = file_of(daemon, event_id)

    def history() -> list[dict[str, Any]]:
        return json.loads(path.read_text())["attempts"] if path.exists() else []

    attempts = eventually(lambda: len(history()) == 8 and history())
    assert [a["number"] for a in attempts] == [1, 2, 3, 4, 1, 2, 3, 4], "a fresh budget"
    assert daemon.audit()["ok"]
    assert daemon.lane()["dead_letters"] == 1


def test_an_edited_letter_is_refused_unless_it_is_said_to_be_edited_and_is_never_signed(daemon, sink, mood):
    event_id = send(daemon)
    path = died(daemon, event_id)
    text = path.read_text()
    letter = json.loads(text)
    letter["request"]["body"] = "changed"
    path.write_text(json.dumps(letter))
    mood.well = True
    assert replay(daemon, ids=[event_id])["outcomes"] == {"mac_mismatch": 1}
    refused = daemon.command("dlq", "replay", event_id)
    assert refused.returncode == 1
    assert b"mac_mismatch" in refused.stderr
    assert path.exists()
    assert len(sink.requests) == 1
    done = daemon.command("dlq", "replay", "--edited", event_id)
    assert done.returncode == 0, done.stderr
    (got,) = eventually(lambda: [r for r in sink.requests if r.body == b"changed"])
    assert got.event_id != event_id, "another event"
    assert got.get("Webhook-Sidecar-Resigned") is None
    event = daemon.api(f"events/{got.event_id}")
    assert (event["verified"], event["replay_of"]) == (False, event_id)
    assert not path.exists()
    eventually(lambda: daemon.pending() == 0)
    assert daemon.audit()["ok"]


@pytest.mark.parametrize("how", ["one bit", "other name", "other folder", "link", "not JSON", "a pipe"])
def test_only_whole_files_of_ours_are_taken(how, daemon, sink, mood, tmp_path):
    """Name, folder, id and seal must agree, and it must be a regular file; anything else stays where it is."""
    event_id = send(daemon)
    path = died(daemon, event_id)
    asked, other = event_id, path.with_name(event_id[:-1] + ("0" if event_id[-1] != "0" else "1") + ".json")
    if how == "one bit":
        path.write_text(path.read_text().replace('"reason": "rejected"', '"reason": "expired"'))
    elif how == "other name":
        path.rename(other)
        asked, path = other.stem, other
    elif how == "other folder":
        (path.parent.parent / "mail").mkdir()
        path = path.rename(path.parent.parent / "mail" / path.name)
    elif how == "link":
        path.rename(tmp_path / "elsewhere.json")
        path.symlink_to(tmp_path / "elsewhere.json")
    elif how == "not JSON":
        path.write_text("{")
    else:
        path.unlink()
        os.mkfifo(path)
    mood.well = True
    summary = replay(daemon, ids=[asked])
    assert (summary["done"], summary["failed"]) == (0, 1), summary
    assert os.path.lexists(path), "nothing of a person's is thrown away"
    assert len(sink.requests) == 1
    assert daemon.admin("GET", "/livez")[0] == 200


def test_a_letter_of_another_journal_comes_back_unverified(daemon, sink, mood, tmp_path):
    event_id = send(daemon)
    path = died(daemon, event_id)
    folder = tmp_path / "other"
    folder.mkdir()
    with Daemon(folder, config(sink.url)) as other:
        (folder / "dead-letters" / "app").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "dead-letters" / "app")
        mood.well = True
        summary = replay(other, all=True)
        assert summary["outcomes"] == {"restored_unverified": 1}, summary
        got = eventually(lambda: sink.requests[1:])[0]
        assert got.event_id != event_id
        assert got.body == b"die"
        assert other.api(f"events/{got.event_id}")["verified"] is False
        eventually(lambda: other.pending() == 0)
        assert other.audit()["ok"]


def test_a_file_that_a_person_removed_is_gone_and_no_error(daemon):
    first, second = send(daemon), send(daemon)
    died(daemon, first).unlink()
    died(daemon, second)
    report = daemon.audit()
    assert report["ok"]
    assert report["gone"] == [{"event_id": first, "destination": "app"}]
    shown = daemon.command("audit")
    assert shown.returncode == 0, shown.stderr
    assert f"gone: app/{first}.json".encode() in shown.stderr
    assert replay(daemon, ids=[first])["outcomes"] == {"gone": 1}
    assert daemon.command("dlq", "replay", first).returncode == 3
    assert [r["event_id"] for r in daemon.api("dead-letters")["dead_letters"]] == [second]


def test_removing_a_letter_is_for_good_and_counts_once(daemon):
    event_id = send(daemon)
    path = died(daemon, event_id)
    done = daemon.command("dlq", "rm", "--yes", event_id)
    assert done.returncode == 0, done.stderr
    assert not path.exists()
    assert state(daemon, event_id) == "discarded"
    scrape = daemon.scrape()
    assert scrape.value("settled_total", destination="app", outcome="dead") == 1
    assert scrape.total("settled_total", destination="app") == 1, "dead to discarded is not a second exit"
    assert daemon.audit()["ok"]


def test_a_full_folder_blocks_nobody_and_loses_nothing(tmp_path, sink, mood):
    """A quota of 1 MiB and letters of 300 KB: those without room stay dying, counted and alerted, until there is some."""
    small = config(sink.url, '[dead_letters]\npath = "dead-letters"\nmax_size = "1MiB"')
    with Daemon(tmp_path, small) as daemon:
        ids = [send(daemon, b"die %d " % n + b"x" * 300_000) for n in range(6)]
        # Six give up one by one, and so do three find room: three may be dying before all have died.
        eventually(lambda: daemon.pending() == daemon.lane()["dying"] == 3, what="three wait for room")
        eventually(lambda: daemon.lane()["dead_letters"] == 3)
        assert sum(p.stat().st_size for p in (tmp_path / "dead-letters").rglob("*.json")) <= 1 << 20
        assert daemon.logged("dead letters cannot be written")
        scrape = daemon.scrape()
        assert scrape.value("pending_events", destination="app", state="dying") == 3
        assert scrape.value("dead_letters_waiting", destination="app") == 3
        assert daemon.admin("GET", "/readyz")[0] == 200
        healthy = send(daemon, b"fine")
        eventually(lambda: state(daemon, healthy) == "delivered", what="others are delivered")
        tried = len(sink.requests)
        assert daemon.audit()["ok"]
        daemon.kill()  # they wait across a crash, too
        daemon.start()
        assert daemon.lane()["dying"] == 3
        removed = daemon.command("dlq", "rm", "--yes", "--all")
        assert removed.returncode == 0, removed.stderr
        eventually(lambda: daemon.lane()["dying"] == 0, timeout_s=20, what="there is room now")
        assert daemon.lane()["dead_letters"] == 3
        assert len(sink.requests) == tried, "never attempted again meanwhile"
        assert daemon.audit()["ok"]
        assert len({p.stem for p in (tmp_path / "dead-letters").rglob("*.json")} & set(ids)) == 3


def test_whoever_reads_only_the_log_learns_what_was_given_up_and_why(tmp_path, sink, mood):
    with Daemon(tmp_path, config(sink.url)) as daemon:
        event_id = send(daemon, b"die")
        (row,) = eventually(lambda: daemon.logged("a delivery was given up"))
        told = {"destination": "app", "event_id": event_id, "reason": "rejected", "error": "HTTP 400"}
        assert told.items() <= row.items()


def test_a_folder_that_goes_away_is_named_and_used_again_once_it_is_back(tmp_path, sink, mood):
    with Daemon(tmp_path, config(sink.url)) as daemon:
        folder = tmp_path / "dead-letters"
        folder.rmdir()
        event_id = send(daemon, b"die")
        (row,) = eventually(lambda: daemon.logged("dead letters cannot be written"))
        assert (row["folder"], row["why"]) == (str(folder), "no such file or directory")
        assert "1 wait for their dead-letter file" in daemon.command("status").stdout.decode()
        assert "is gone: nothing that dies can be written" in daemon.command("doctor").stdout.decode()
        folder.mkdir(mode=0o700)
        eventually(lambda: state(daemon, event_id) == "dead", what="written once there is a folder")
        assert "wait for" not in daemon.command("status").stdout.decode()


def test_a_folder_that_is_not_ours_stops_the_start(tmp_path, sink):
    daemon = Daemon(tmp_path, config(sink.url))
    (tmp_path / "real").mkdir()
    (tmp_path / "dead-letters").symlink_to(tmp_path / "real")
    daemon.launch()
    assert daemon.wait(20) != 0
    assert "dead-letters" in daemon.tail()
    assert "Traceback" not in daemon.tail()


def test_a_display_masks_what_the_file_keeps(daemon):
    status, answer, _ = daemon.post("/token?access_token=in-the-query", b"die", {"X-Token": "token-of-the-letter"})
    assert status == 200
    event_id = answer["webhook-sidecar-event-id"]
    path = died(daemon, event_id)
    assert "token-of-the-letter" in path.read_text()
    shown = daemon.command("dlq", "show", event_id).stdout + daemon.command("events", "show", event_id).stdout
    shown += json.dumps(daemon.api(f"dead-letters/{event_id}")).encode() + daemon.command("dlq", "ls", "--json").stdout
    assert b"token-of-the-letter" not in shown
    assert b"in-the-query" not in shown


def test_replays_take_filters_and_only_count_when_asked(daemon, mood):
    ids = [send(daemon, b"die %d" % n) for n in range(4)]
    for event_id in ids:
        died(daemon, event_id)
    dry = daemon.command("dlq", "replay", "--contains", "die 2", "--dry-run")
    assert (dry.returncode, dry.stdout.split()[0]) == (0, b"1"), dry
    assert daemon.lane()["dead_letters"] == 4
    mood.well = True
    assert daemon.command("dlq", "replay", "--contains", "die 2").returncode == 0
    eventually(lambda: state(daemon, ids[2]) == "delivered")
    assert daemon.command("dlq", "replay").returncode == 2, "nothing chosen is a mistake, not everything"
    assert daemon.command("dlq", "replay", "--all", "--reason", "expired").returncode == 0
    assert daemon.lane()["dead_letters"] == 3
    assert daemon.command("dlq", "replay", "--reason", "rejected").returncode == 0
    eventually(lambda: daemon.lane()["dead_letters"] == 0)
    eventually(lambda: daemon.pending() == 0)
    assert daemon.audit()["ok"]
