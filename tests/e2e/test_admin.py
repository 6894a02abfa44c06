"""The admin plane of the real process: who may ask what over TCP and over the Unix socket, probes, metrics, API."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, Scrape, UnixConnection, eventually, free_port
from tests.support.senders import Answer, Raw, framed, fresh_id, github
from tests.support.sink import Sink
from tests.support.terminal import Terminal

SECRET = "admin-test"
TOKEN = "the-token-of-the-admin-tests"

CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ value = "admin-test" }}]
destinations = ["app", "picky"]

[destinations.app]
url = "{url}/app"
[destinations.picky]
url = "{url}/picky"
"""

API = (
    "status", "events", "events/wse_00000000000000000000000000", "dead-letters", "audit", "journal/stats", "config",
    "sources", "refused", "tail",
)  # fmt: skip
MUTATIONS = ("events/replay", "events/discard", "dead-letters/replay", "dead-letters/rm", "journal/backup")


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink(lambda r: 422 if r.target == "/picky" else 200) as sink:
        yield sink


@pytest.fixture(scope="module")
def daemon(sink, tmp_path_factory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("admin")
    with Daemon(folder, CONFIG.format(url=sink.url), admin=f'token = {{ value = "{TOKEN}" }}') as daemon:
        yield daemon


def tcp(
    daemon: Daemon,
    path: str,
    *,
    method: str = "GET",
    token: str | None = TOKEN,
    host: str | None = "127.0.0.1",
    body: bytes = b"",
    **headers: str,
) -> Answer:
    """Ask over the TCP listener; header names with ``_`` for ``-``."""
    lines = {"Host": host} if host is not None else {}
    if token is not None:
        lines["Authorization"] = f"Bearer {token}"
    lines |= {k.replace("_", "-"): v for k, v in headers.items()}
    if body or method == "POST":
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    with Raw(daemon.admin_port) as raw:
        return raw.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body).answer()


def send(daemon: Daemon, body: bytes = b"{}", delivery: str = "") -> str:
    """A webhook of GitHub; the event id."""
    with Raw(daemon.port) as raw:
        answer = raw.send(framed("/github", body, github(body, SECRET, delivery or fresh_id()))).answer()
    assert answer.status == 200, answer
    return answer.headers["webhook-sidecar-event-id"]


# --- who may ask


@pytest.mark.parametrize("path", API)
def test_over_tcp_the_api_needs_the_token_and_the_socket_does_not(daemon, path):
    tokens = (None, "wrong") if path == "status" else (None,)  # more guesses would be slowed down
    path = f"/api/v1/{path}"
    for token in tokens:
        refused = tcp(daemon, path, token=token)
        assert (refused.status, refused.code) == (401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
    if not path.endswith("tail"):  # which answers, but never ends
        with_token = tcp(daemon, path)
        assert with_token.status in {200, 404}
        assert daemon.admin("GET", path)[0] == with_token.status


@pytest.mark.parametrize("path", [f"/api/v1/{m}" for m in MUTATIONS] + ["/-/reload"])
def test_a_mutation_is_a_post_with_the_token_and_our_header(daemon, path):
    assert tcp(daemon, path, method="POST", token=None, Webhook_Sidecar_Request="1").status == 401
    got = tcp(daemon, path, Webhook_Sidecar_Request="1")
    assert (got.status, got.code, got.headers["allow"]) == (405, "method_not_allowed", "POST")
    no_header = tcp(daemon, path, method="POST")
    assert (no_header.status, no_header.code) == (403, "forbidden"), "a form of a foreign page cannot set a header"
    assert daemon.admin("GET", path)[0] == 405, "nor does a GET change anything over the socket"


def test_reload_over_tcp_with_token_and_header_reloads(daemon):
    answer = tcp(daemon, "/-/reload", method="POST", Webhook_Sidecar_Request="1")
    assert (answer.status, json.loads(answer.body)["ok"]) == (200, True)


@pytest.mark.parametrize("path", ["/api/v1/status", "/-/reload"])
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9787", "127.0.0.2", "a@localhost", ""]
)
def test_a_host_that_is_not_ours_is_misdirected_even_with_the_token(daemon, path, host):
    answer = tcp(daemon, path, host=host, method="POST" if path == "/-/reload" else "GET")
    assert answer.status in {421, 400} if host == "" else answer.status == 421
    assert host == "" or host not in answer.body.decode(), "nothing that was sent comes back"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:9787"])
def test_our_own_names_are_served_whatever_the_port(daemon, host):
    assert tcp(daemon, "/api/v1/status", host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1", "Sec_Fetch_Site": "cross-site"},
    ],
)
def test_another_site_is_refused_even_with_the_token(daemon, headers):
    for method, path in (("GET", "/api/v1/events"), ("POST", "/-/reload")):
        answer = tcp(daemon, path, method=method, Webhook_Sidecar_Request="1", **headers)
        assert (answer.status, answer.code) == (403, "cross_site")
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/metrics"])
def test_probes_and_metrics_are_asked_by_pod_ip_without_a_token(daemon, path):
    answer = tcp(daemon, path, token=None, host="10.1.2.3:9787")
    assert answer.status == 200
    assert tcp(daemon, path, token=None, method="POST").status == 405


@pytest.mark.parametrize(
    "name", ["wse_", "wse_0000", "wse_zzzzzzzzzzzzzzzzzzzzzzzzzz", "..%2f..%2fetc%2fpasswd", "%00", "x" * 200]
)
def test_an_id_that_is_none_is_not_found(daemon, name):
    for path in (f"/api/v1/events/{name}", f"/api/v1/events/{name}/body", f"/api/v1/dead-letters/{name}"):
        answer = tcp(daemon, path)
        assert (answer.status, answer.code) == (404, "not_found"), path


@pytest.mark.parametrize(
    "path", ["/console", "/api/v1/nothing", "/api/v2/status", "/api/v1/status/", "/LIVEZ", "/-/quit"]
)
def test_what_is_not_there_is_not_found(daemon, path):
    answer = tcp(daemon, path)
    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_one_mebibyte_is_refused_and_the_connection_closed(daemon, declared):
    head = f"POST /api/v1/events/replay HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Webhook-Sidecar-Request: 1\r\n"
    with Raw(daemon.admin_port) as raw:
        if declared:
            raw.send(head.encode() + b"Content-Length: 1048576\r\n\r\n")  # known from the head: no byte is waited for
        else:
            raw.send(
                head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 16
            )
        answer = raw.answer()
        assert (answer.status, answer.code) == (413, "body_too_large")
        raw.ends()


def test_the_socket_is_for_its_owner_only(daemon):
    status = os.stat(daemon.socket)
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_a_backup_path_is_for_whoever_may_open_the_socket(daemon, tmp_path):
    body = json.dumps({"path": str(tmp_path / "copy")}).encode()
    answer = tcp(daemon, "/api/v1/journal/backup", method="POST", body=body, Webhook_Sidecar_Request="1")
    assert (answer.status, answer.code) == (403, "forbidden")
    assert daemon.admin("POST", "/api/v1/journal/backup", {"path": str(tmp_path / "copy")})[0] == 200


def test_guessing_is_slowed_down_but_not_for_the_socket(sink, tmp_path):
    with Daemon(tmp_path, CONFIG.format(url=sink.url), admin=f'token = {{ value = "{TOKEN}" }}') as daemon:
        statuses = [tcp(daemon, "/api/v1/status", token=f"guess-{n}").status for n in range(15)]
        assert statuses[:10] == [401] * 10
        assert statuses[-1] == 429
        right = tcp(daemon, "/api/v1/status")
        assert right.status == 429, "the right one has to wait, too, or guessing would go on beside it"
        assert int(right.headers["retry-after"]) >= 1
        assert daemon.admin("GET", "/api/v1/status")[0] == 200
        assert tcp(daemon, "/readyz", token=None).status == 200


def test_a_second_socket_in_the_place_of_tcp_is_for_its_group_and_asks_for_the_token(sink, tmp_path):
    """For a monitoring agent in a container of its own, say: probes and metrics are free, the rest is not."""
    path = f"{tmp_path}/metrics.sock"
    env = {"WEBHOOK_SIDECAR__ADMIN__LISTEN": f"unix:{path}"}
    with Daemon(tmp_path, CONFIG.format(url=sink.url), admin=f'token = {{ value = "{TOKEN}" }}', env=env):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660

        def ask(target: str, token: str = "") -> int:
            with Raw(path) as raw:
                authorization = f"Authorization: Bearer {token}\r\n" if token else ""
                return raw.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n".encode()).answer().status

        assert (ask("/readyz"), ask("/metrics")) == (200, 200)
        assert (ask("/api/v1/status"), ask("/api/v1/status", "wrong"), ask("/api/v1/status", TOKEN)) == (401, 401, 200)


def test_a_bulk_request_that_makes_no_sense_is_an_error_and_not_a_stream(daemon):
    for path, body in {
        "dead-letters/replay": {"all": True, "state": "pending"},
        "dead-letters/rm": {},
        "events/replay": {"ids": ["wse_short"]},
        "events/discard": {"all": True, "unknown": 1},
    }.items():
        status, answer = daemon.admin("POST", f"/api/v1/{path}", body)
        assert (status, json.loads(answer)["error"]["code"]) == (400, "bad_request"), (path, answer)
    answer = tcp(daemon, "/api/v1/events/replay", method="POST", body=b"{", Webhook_Sidecar_Request="1")
    assert (answer.status, answer.code) == (400, "bad_request")
    many = "&".join(f"p{n}=1" for n in range(40))
    assert tcp(daemon, f"/api/v1/events?{many}").status == 400


# --- the token that nobody configured


def test_a_fresh_token_is_shown_once_on_a_terminal_and_opens_the_api(sink, tmp_path):
    daemon = Daemon(tmp_path, CONFIG.format(url=sink.url))
    command = [sys.executable, "-m", "sidecar", "run", "--config", str(daemon.config)]
    tokens = []
    for _ in range(2):
        with Terminal(command, tmp_path, daemon.env) as terminal:
            link = re.search(
                rf"http://127\.0\.0\.1:{daemon.admin_port}/#token=(\S{{43}})\s",
                terminal.read_until("\r\n\r\n", after="#token="),
            )
            assert link is not None, terminal.shown
            tokens.append(link[1])
            assert tcp(daemon, "/api/v1/status", token=link[1]).status == 200
            assert tcp(daemon, "/-/reload", method="POST", token=link[1], Webhook_Sidecar_Request="1").status == 200
            terminal.read_until('"reloaded"')
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.end() == 0
            assert terminal.shown.count(link[1]) == 1, "shown once, and in no line of the log"
    assert tokens[0] != tokens[1]


def test_where_nobody_reads_along_the_fresh_token_is_not_written(sink, tmp_path):
    """What is no terminal is kept by somebody: the journal of systemd, a file, a log collector."""
    with Daemon(tmp_path, CONFIG.format(url=sink.url)) as daemon:
        assert tcp(daemon, "/api/v1/status", token=None).status == 401
        assert daemon.stop(signal.SIGINT) == 0
        assert "token=" not in daemon.log.read_text()


def test_a_configured_token_is_never_shown(sink, tmp_path):
    daemon = Daemon(tmp_path, CONFIG.format(url=sink.url), admin=f'token = {{ value = "{TOKEN}" }}')
    command = [sys.executable, "-m", "sidecar", "run", "--config", str(daemon.config)]
    with Terminal(command, tmp_path, daemon.env) as terminal:
        terminal.read_until('"ready"')
        assert tcp(daemon, "/api/v1/status").status == 200
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
        assert TOKEN not in terminal.shown
        assert "#token=" not in terminal.shown


def test_a_token_of_any_bytes_opens(sink, tmp_path):
    secret = tmp_path / "token"
    secret.write_bytes(b"caf\xe9-\xff-token\n")
    secret.chmod(0o600)
    with Daemon(tmp_path, CONFIG.format(url=sink.url), admin=f'token = {{ file = "{secret}" }}') as daemon:
        head = b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
        for token, status in ((b"caf\xe9-\xff-token", 200), (b"caf\xe9-\xfe-token", 401), (b"caf?-?-token", 401)):
            with Raw(daemon.admin_port) as raw:
                assert raw.send(head + token + b"\r\n\r\n").answer().status == status


def test_a_token_that_a_reload_takes_away_is_followed_by_a_fresh_one(sink, tmp_path):
    daemon = Daemon(tmp_path, CONFIG.format(url=sink.url), admin=f'token = {{ value = "{TOKEN}" }}')
    command = [sys.executable, "-m", "sidecar", "run", "--config", str(daemon.config)]
    with Terminal(command, tmp_path, daemon.env) as terminal:
        terminal.read_until('"ready"')
        daemon.write(CONFIG.format(url=sink.url))
        terminal.process.send_signal(signal.SIGHUP)
        link = re.search(r"#token=(\S{43})\s", terminal.read_until("\r\n\r\n", after="#token="))
        assert link is not None, terminal.shown
        assert tcp(daemon, "/api/v1/status").status == 401
        assert tcp(daemon, "/api/v1/status", token=link[1]).status == 200
        daemon.write(CONFIG.format(url=sink.url), admin='token = { value = "another" }')
        terminal.process.send_signal(signal.SIGHUP)
        eventually(lambda: tcp(daemon, "/api/v1/status", token="another").status == 200)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
        assert "another" not in terminal.shown


# --- probes


def test_each_probe_in_each_state(tmp_path):
    """That a backend is down is what the journal is for: no probe minds it. A drain ends readiness only."""
    with Daemon(tmp_path, CONFIG.format(url=f"http://127.0.0.1:{free_port()}")) as daemon:
        send(daemon)
        eventually(lambda: daemon.lane("app")["held"], what="held")

        def probes() -> dict[str, int]:
            return {p: tcp(daemon, f"/{p}", token=None).status for p in ("livez", "readyz", "startupz")}

        assert probes() == {"livez": 200, "readyz": 200, "startupz": 200}
        plain, verbose = tcp(daemon, "/readyz", token=None), tcp(daemon, "/readyz?verbose", token=None)
        assert plain.body == b"ok"
        assert verbose.body.decode().splitlines() == [
            "[+]startup ok",
            "[+]journal ok",
            "[+]drain ok",
            "readyz check passed",
        ]
        assert "[+]event-loop ok" in tcp(daemon, "/livez?verbose", token=None).body.decode()
        assert "[+]journal-writer ok" in tcp(daemon, "/livez?verbose", token=None).body.decode()
        assert "[+]startup ok" in tcp(daemon, "/startupz?verbose", token=None).body.decode()
        assert tcp(daemon, "/-/drain", token=None, Webhook_Sidecar_Drain="1").status == 200
        assert probes() == {"livez": 200, "readyz": 503, "startupz": 200}
        assert "[-]drain failed: draining" in tcp(daemon, "/readyz", token=None).body.decode()
        head = tcp(daemon, "/livez", token=None, method="HEAD")
        assert head.status == 200


# --- metrics


def test_metrics_come_in_the_form_that_is_asked_for(daemon):
    send(daemon)
    daemon.scrape()  # waits until the text that is kept for a second is a new one
    plain = tcp(daemon, "/metrics", token=None)
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# EOF" not in plain.body.decode()
    open_metrics = tcp(daemon, "/metrics", token=None, Accept="application/openmetrics-text; version=1.0.0")
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_metrics.body.decode().endswith("# EOF\n")
    for text in (plain.body.decode(), open_metrics.body.decode()):
        scrape = Scrape("\n".join(line for line in text.splitlines() if " # " not in line))
        assert scrape.value("received_total", source="github", outcome="accepted") >= 1
        assert scrape.value("build_info") == 1
        assert "process_resident_memory_bytes" in text
    for answer in (plain, open_metrics):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def series(scrape: Scrape) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {(name, tuple(sorted(labels.items()))) for name, rows in scrape.series.items() for labels, _ in rows}


def test_no_sender_can_make_a_series(daemon):
    """Paths, methods, ids, header values and signatures of strangers become no label, however many they send."""

    def hostile(tag: str) -> None:
        body = json.dumps({"n": tag}).encode()
        good = github(body, SECRET, tag)
        requests = [
            framed(f"/{tag}", body, good),
            framed("/github", body, good, method="DELETE"),
            framed("/github", body, good, method=f"X{tag.upper()}"),
            framed("/github", body, github(body, tag, tag)),
            framed("/github", body, {}),
            framed("/github", body, {"X-Hub-Signature-256": tag}),
            framed("/github", body, {"X-Hub-Signature-256": f"sha256={tag}"}),
            framed("/github", body, good | {"X-GitHub-Event": tag, "User-Agent": tag, f"X-{tag}": tag}),
            framed("/github", b"x" * (26 << 20), good)[: 64 << 10],
            f"GET /{tag} HTTP/9.9\r\n\r\n".encode(),
            f"{tag}\r\n\r\n".encode(),
            b"\x16\x03\x01" + tag.encode() + b"\r\n\r\n",
        ]
        for request in requests:
            with Raw(daemon.port) as raw, contextlib.suppress(EOFError):
                raw.send(request).answer()
        for path in (f"/{tag}", f"/api/v1/{tag}", f"/api/v1/events/{tag}"):
            tcp(daemon, path)

    hostile("first")  # each kind of refusal makes its one series
    send(daemon)
    eventually(lambda: daemon.pending("app") == daemon.pending("picky") == 0)
    daemon.scrape()
    before = series(daemon.scrape())
    for _ in range(20):
        hostile(fresh_id())
    eventually(lambda: daemon.pending("app") == daemon.pending("picky") == 0)
    after = series(daemon.scrape())
    assert after == before
    sources = {dict(labels)["source"] for _, labels in after if "source" in dict(labels)}
    assert sources <= {"github", "unknown"}
    assert {dict(labels)["destination"] for _, labels in after if "destination" in dict(labels)} <= {"app", "picky"}


# --- the API


def everything(daemon: Daemon, path: str, rows: str, limit: int) -> tuple[list[dict[str, Any]], int]:
    """All pages of a list; how many pages it took."""
    found: list[dict[str, Any]] = []
    cursor, pages = "", 0
    while cursor is not None:
        answer = tcp(daemon, f"/api/v1/{path}limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        assert answer.status == 200, answer
        page = json.loads(answer.body)
        found += page[rows]
        cursor, pages = page["next_cursor"], pages + 1
        assert len(page[rows]) <= limit
    return found, pages


def test_lists_are_paged_by_cursor_to_the_end_without_gap_or_repeat(sink, tmp_path):
    two = CONFIG.format(url=sink.url) + f'[destinations.also]\nurl = "{sink.url}/picky"\n'
    two = two.replace('["app", "picky"]', '["app", "picky", "also"]')
    with Daemon(tmp_path, two, admin=f'token = {{ value = "{TOKEN}" }}') as daemon:
        made = [send(daemon, b"%d" % n) for n in range(7)]
        eventually(lambda: sum(daemon.pending(d) for d in ("app", "picky", "also")) == 0, what="settled")
        found, pages = everything(daemon, "events?", "events", 3)
        assert [e["id"] for e in found] == made[::-1]
        assert pages == 3
        letters, pages = everything(daemon, "dead-letters?", "dead_letters", 4)
        expected = [(d, i) for d in ("also", "picky") for i in made[::-1]]
        assert [(r["destination"], r["event_id"]) for r in letters] == expected
        assert pages == 4
        newest, _ = everything(daemon, "dead-letters?destination=picky&", "dead_letters", 7)
        assert [r["event_id"] for r in newest] == made[::-1]
        # What dies or is removed between two pages neither repeats nor hides a row of the pages to come.
        first = json.loads(tcp(daemon, "/api/v1/dead-letters?limit=3").body)
        (tmp_path / "dead-letters" / "also" / f"{made[4]}.json").unlink()
        later = send(daemon, b"later")
        eventually((tmp_path / "dead-letters" / "also" / f"{later}.json").exists)
        second = json.loads(tcp(daemon, f"/api/v1/dead-letters?limit=4&cursor={first['next_cursor']}").body)
        assert [(r["destination"], r["event_id"]) for r in second["dead_letters"]] == expected[3:7]
        for bad in ("events?cursor=x", "dead-letters?cursor=x", "dead-letters?cursor=also/wse_1", "events?limit=-1"):
            answer = tcp(daemon, f"/api/v1/{bad}")
            assert (answer.status, answer.code) == (400, "bad_request"), bad


def test_a_payload_is_inert_wherever_it_is_shown(daemon):
    payload = b"<script>alert(1)</script> javascript:x \xe2\x80\xae \x1b[2J \xff\xfe"
    event_id = send(daemon, payload)
    shown = tcp(daemon, f"/api/v1/events/{event_id}")
    assert shown.headers["content-type"] == "application/json"
    assert json.loads(shown.body)["body_base64"], "no UTF-8, so not pretended to be text"
    body = tcp(daemon, f"/api/v1/events/{event_id}/body")
    assert body.body == payload
    assert body.headers["content-type"] == "application/octet-stream"
    assert body.headers["content-disposition"] == f'attachment; filename="{event_id}.bin"'
    for answer in (shown, body):
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_long_line_is_cut_and_said_so(daemon):
    shown = json.loads(tcp(daemon, f"/api/v1/events/{send(daemon, b'y' * (10 << 20))}").body)
    assert (shown["body_bytes"], shown["body_cut"]) == (10 << 20, True)
    assert len(shown["body"]) <= 64 << 10


def test_an_event_is_looked_up_watched_and_replayed_over_the_api(daemon, sink):
    connection = UnixConnection(daemon.socket)
    connection.request("GET", "/api/v1/tail")
    stream = connection.getresponse()
    key = fresh_id()
    event_id = send(daemon, b'{"order":123}', key)
    told: list[dict[str, Any]] = []
    while not [row for row in told if row.get("event_id") == event_id and row["type"] == "received"]:
        row = json.loads(stream.readline().strip() or b"{}")
        told.append(row)
    connection.close()
    eventually(lambda: daemon.pending("app") == daemon.pending("picky") == 0)
    by_key = json.loads(tcp(daemon, f"/api/v1/events?key={key}").body)["events"]
    assert [e["id"] for e in by_key] == [event_id]
    assert json.loads(tcp(daemon, f"/api/v1/events/{key}").body)["id"] == event_id
    states = {d["destination"]: d["state"] for d in by_key[0]["deliveries"]}
    assert states == {"app": "delivered", "picky": "dead"}
    body = json.dumps({"ids": [event_id], "destination": "app"}).encode()
    rows = tcp_rows(daemon, "/api/v1/events/replay", body)
    assert rows[-1]["outcomes"] == {"replayed": 1}
    eventually(lambda: sum(r.event_id == event_id and r.target == "/app" for r in sink.requests) == 2)
    again = next(r for r in reversed(sink.requests) if r.event_id == event_id and r.target == "/app")
    assert again.get("Webhook-Sidecar-Replay") == "1"
    audit = json.loads(tcp(daemon, "/api/v1/audit?full=1").body)
    assert audit["ok"]


def tcp_rows(daemon: Daemon, path: str, body: bytes) -> list[dict[str, Any]]:
    """A bulk command over TCP; its rows."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.admin_port, timeout=30)
    headers = {"Authorization": f"Bearer {TOKEN}", "Webhook-Sidecar-Request": "1"}
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    assert answer.status == 200
    rows = [json.loads(line) for line in answer.read().splitlines() if line]
    connection.close()
    return rows


def test_the_socket_is_gone_after_an_orderly_stop(sink, tmp_path):
    with Daemon(tmp_path, CONFIG.format(url=sink.url)) as daemon:
        assert Path(daemon.socket).exists()
        assert daemon.stop(signal.SIGINT) == 0
        assert not Path(daemon.socket).exists()
        daemon.start()
        daemon.kill()  # leaves it behind, and the next one takes its place
        daemon.start()
        assert daemon.admin("GET", "/readyz")[0] == 200
