"""Reloading the real process: by signal, request and changed file; all or nothing; under load; secrets, TLS, destinations."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.watch import POLL_S
from tests.support.backends import make_certificates
from tests.support.daemon import Daemon, eventually, free_port
from tests.support.senders import Answer, Raw, framed, fresh_id, github
from tests.support.sink import Sink

CONFIG = """
[sources.github]
path = "{path}"
verify = "github"
secrets = [{secret}]
destinations = [{destinations}]
"""
POLLED_S = 25.0  # files are looked at every 5 s


def config(
    urls: dict[str, str],
    *,
    path: str = "/github",
    secret: str = '{ id = "one", value = "one" }',
    destinations: str = "",
    more: str = "",
) -> str:
    names = destinations or ", ".join(f'"{n}"' for n in urls)
    text = CONFIG.format(path=path, secret=secret, destinations=names)
    return text + "".join(f'[destinations.{n}]\nurl = "{u}"\n' for n, u in urls.items()) + more


def send(daemon: Daemon, secret: str = "one", path: str = "/github", body: bytes = b"{}") -> Answer:
    with Raw(daemon.port) as raw:
        return raw.send(framed(path, body, github(body, secret, fresh_id()))).answer()


def reload(daemon: Daemon) -> tuple[int, dict[str, Any]]:
    status, body = daemon.admin("POST", "/-/reload")
    return status, json.loads(body)


def served(daemon: Daemon, ca: str, host: str) -> bool:
    """Whether a new connection gets a certificate for this host, and its key."""
    context = ssl.create_default_context(cafile=ca)
    try:
        with (
            socket.create_connection(("127.0.0.1", daemon.port), 10) as sock,
            context.wrap_socket(sock, server_hostname=host),
        ):
            return True
    except ssl.SSLError:
        return False


def replace(path: Path, content: bytes) -> None:
    """As an editor or a secret manager does it: written aside, renamed over."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    fresh.chmod(0o600)
    fresh.rename(path)


@pytest.fixture
def sink():
    """A fresh one for each test."""
    with Sink() as sink:
        yield sink


def test_a_signal_a_request_and_a_changed_file_each_put_the_new_configuration_in_force(sink, tmp_path):
    with Daemon(tmp_path, config({"app": sink.url})) as daemon:
        daemon.write(config({"app": sink.url}, path="/by-signal"))
        os.kill(daemon.pid, signal.SIGHUP)
        eventually(lambda: daemon.logged("reloaded"), what="reloaded by SIGHUP")
        assert (send(daemon).status, send(daemon, path="/by-signal").status) == (404, 200)

        daemon.write(config({"app": sink.url}, path="/by-request"))
        status, answer = reload(daemon)
        assert (status, answer["ok"], answer["problems"], answer["restart_needed"]) == (200, True, [], [])
        assert (send(daemon, path="/by-signal").status, send(daemon, path="/by-request").status) == (404, 200)

        daemon.write(config({"app": sink.url}, path="/by-file"))
        eventually(lambda: send(daemon, path="/by-file").status == 200, POLLED_S, "reloaded because the file changed")
        assert eventually(lambda: daemon.logged("watched files changed"))[0]["files"] == "config.toml"
        scrape = daemon.scrape()
        assert scrape.value("config_last_reload_successful") == 1
        assert scrape.value("config_last_reload_success_timestamp_seconds") == pytest.approx(time.time(), abs=30)
        eventually(lambda: daemon.pending() == 0)


def test_nothing_changes_when_anything_is_wrong(sink, tmp_path):
    """Two mistakes beside good changes: the old configuration stays whole, and both are told everywhere."""
    with Daemon(tmp_path, config({"app": sink.url})) as daemon:
        good = daemon.config.read_text()
        loaded_s = daemon.metric("config_last_reload_success_timestamp_seconds")
        bad = config({"app": sink.url, "billing": "http://127.0.0.1:1"}, path="/new").replace("verify =", "verfy =")
        daemon.write(bad + '[destinations.app.retry]\nbase = "soon"\n')
        status, answer = reload(daemon)
        assert (status, answer["ok"]) == (422, False)
        told = "\n".join(answer["problems"])
        assert 'did you mean "verify"?' in told
        assert 'got "soon"' in told
        assert "config.toml:" in told
        count = len(answer["problems"])
        rows = eventually(
            lambda: (found := daemon.logged("configuration problem"))[count - 1 :] and found, what="logged"
        )
        for problem, row in zip(answer["problems"], rows, strict=True):
            assert problem.startswith(row["problem"].rstrip("…")[:200])
        refused = daemon.logged("reload refused: the old configuration stays in force")[0]
        assert (refused["problems"], "hint" in refused["error"]) == (count, False)
        assert refused["hint"] == "docs/config.md explains every key and every code"
        assert (send(daemon).status, send(daemon, path="/new").status) == (200, 404)
        assert [d["name"] for d in daemon.api("config")["destinations"]] == ["app"]
        scrape = daemon.scrape()
        assert scrape.value("config_last_reload_successful") == 0
        assert scrape.value("config_last_reload_success_timestamp_seconds") == loaded_s
        result = daemon.command("check")
        assert result.returncode == 78
        # Broken TOML, no file at all, and then as it was: each is noticed, the last one by itself.
        daemon.config.write_text("[server")
        assert reload(daemon)[0] == 422
        daemon.config.unlink()
        assert reload(daemon)[0] == 422
        assert send(daemon).status == 200
        daemon.config.write_text(good)
        eventually(lambda: daemon.metric("config_last_reload_successful") == 1, POLLED_S, "healed by itself")
        assert send(daemon).status == 200


def test_new_public_names_decide_about_absolute_targets(sink, tmp_path):
    """On connections that are open as well."""
    with Daemon(tmp_path, config({"app": sink.url}), server='public_url = "https://old.example"') as daemon:
        body = b"{}"
        signed = "".join(f"{name}: {value}\r\n" for name, value in github(body, "one", fresh_id()).items())

        def sent(raw: Raw, host: str) -> int:
            head = f"POST http://{host}/github HTTP/1.1\r\nHost: {host}\r\n{signed}Content-Length: 2\r\n\r\n"
            return raw.send(head.encode() + body).answer().status

        with Raw(daemon.port) as open_one:
            assert sent(open_one, "old.example") == 200
            daemon.write(config({"app": sink.url}), server='public_url = "https://new.example"')
            assert reload(daemon)[1]["restart_needed"] == []
            assert sent(open_one, "new.example") == 200
            assert sent(open_one, "old.example") == 421


def test_what_changes_beside_a_broken_configuration_is_tried_once(sink, tmp_path):
    """A secret is rotated while the configuration is broken: both are taken when it is whole again."""
    secret = tmp_path / "secret"
    replace(secret, b"first\n")
    with Daemon(tmp_path, config({"app": sink.url}, secret=f'{{ file = "{secret}" }}')) as daemon:
        good = daemon.config.read_text()
        daemon.config.write_text("[server")
        assert reload(daemon)[0] == 422
        refused = "reload refused: the old configuration stays in force"
        replace(secret, b"second\n")
        eventually(lambda: len(daemon.logged(refused)) == 2, POLLED_S, "the change was a reason to try")
        time.sleep(2.2 * POLL_S)
        assert len(daemon.logged(refused)) == 2
        assert send(daemon, "first").status == 200
        daemon.config.write_text(good)
        eventually(lambda: send(daemon, "second").status == 200, POLLED_S)


def test_a_change_that_needs_a_restart_is_named_and_the_rest_taken(sink, tmp_path):
    with Daemon(tmp_path, config({"app": sink.url})) as daemon:
        text = config({"app": sink.url}, path="/new", more='[journal]\npath = "journal"\nmax_size = "2GiB"\n')
        daemon.write(text)
        status, answer = reload(daemon)
        assert (status, answer["ok"], answer["restart_needed"]) == (200, True, ["journal.max_size"])
        assert eventually(lambda: daemon.logged("this change needs a restart"))[0]["key"] == "journal.max_size"
        assert send(daemon, path="/new").status == 200


def test_a_changed_secret_is_taken_over_by_itself_and_touching_it_is_no_change(sink, tmp_path):
    secret = tmp_path / "secret"
    replace(secret, b"first\n")
    with Daemon(tmp_path, config({"app": sink.url}, secret=f'{{ file = "{secret}" }}')) as daemon:
        assert send(daemon, "first").status == 200
        os.utime(secret)
        replace(secret, b"second\n")
        eventually(lambda: send(daemon, "second").status == 200, POLLED_S, "the new secret is in force")
        assert send(daemon, "first").status == 401
        eventually(lambda: len(daemon.logged("reloaded")) == 1, what="one reload, for one change")
        # An empty one is refused; the old one stays in force, and the next good one is taken.
        replace(secret, b"")
        eventually(lambda: daemon.metric("config_last_reload_successful") == 0, POLLED_S)
        assert send(daemon, "second").status == 200
        replace(secret, b"third")
        eventually(lambda: send(daemon, "third").status == 200, POLLED_S)
        assert "second" not in daemon.log.read_text()


def test_the_swap_of_a_kubernetes_volume_is_noticed(sink, tmp_path):
    """Kubelet makes a new folder and swaps one link; the file's own path never changes."""
    volume = tmp_path / "volume"
    volume.mkdir()

    def publish(stamp: str, secret: str) -> None:
        folder = volume / f"..{stamp}"
        folder.mkdir()
        (folder / "hook").write_text(secret)
        (folder / "hook").chmod(0o440)
        (volume / "..data_tmp").symlink_to(folder.name)
        (volume / "..data_tmp").rename(volume / "..data")

    publish("2026_11_01", "mounted-one")
    (volume / "hook").symlink_to("..data/hook")
    with Daemon(tmp_path, config({"app": sink.url}, secret=f'{{ file = "{volume}/hook" }}')) as daemon:
        assert send(daemon, "mounted-one").status == 200
        publish("2026_11_02", "mounted-two")
        shutil.rmtree(volume / "..2026_11_01")
        eventually(lambda: send(daemon, "mounted-two").status == 200, POLLED_S, "the swap was noticed")
        assert send(daemon, "mounted-one").status == 401


def test_new_tls_files_are_used_by_the_next_connection_and_bad_ones_are_not(sink, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    certificates = make_certificates(made)
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    shutil.copy(made / "good.pem", cert)
    shutil.copy(made / "good.key", key)
    tls = f'tls = {{ cert = "{cert}", key = "{key}" }}'

    daemon = Daemon(tmp_path, config({"app": sink.url}), server=tls)
    with daemon:
        assert (served(daemon, certificates.ca, "localhost"), served(daemon, certificates.ca, "example.com")) == (
            True,
            False,
        )
        old = Raw(daemon.port, tls=ssl.create_default_context(cafile=certificates.ca))
        shutil.copy(made / "elsewhere.pem", cert)  # the key does not belong to it yet: half a renewal
        status, answer = reload(daemon)
        assert (status, answer["ok"]) == (422, False)
        assert served(daemon, certificates.ca, "localhost")
        shutil.copy(made / "elsewhere.key", key)
        eventually(lambda: served(daemon, certificates.ca, "example.com"), POLLED_S, "the new certificate is served")
        assert not served(daemon, certificates.ca, "localhost")
        body = b"{}"
        answered = old.send(framed("/github", body, github(body, "one", fresh_id()))).answer()
        assert answered.status == 200, "a connection that was there goes on"
        old.close()


def test_reloads_under_load_lose_and_refuse_nothing(sink, tmp_path):
    """Twenty reloads that change limits, secrets and destinations while eight senders keep connections open."""
    urls = {"app": sink.url, "also": sink.url}
    forms = [
        config(urls, secret='{ id = "one", value = "one" }'),
        config(
            urls,
            secret='{ id = "two", value = "two" }, { id = "one", value = "one" }',
            more="[delivery]\nmax_buffered = '8MiB'\n",
        ),
        config({"app": sink.url}),
    ]
    with Daemon(tmp_path, forms[0]) as daemon:
        stop = threading.Event()
        accepted: list[str] = []
        statuses: Counter[int] = Counter()
        errors: list[BaseException] = []

        def sender(n: int) -> None:
            try:
                with Raw(daemon.port) as raw:
                    while not stop.is_set():
                        body = b'{"sender":%d}' % n
                        answer = raw.send(framed("/github", body, github(body, "one", fresh_id()))).answer()
                        statuses[answer.status] += 1
                        accepted.append(answer.headers["webhook-sidecar-event-id"])
            except BaseException as e:  # noqa: BLE001 - looked at in the test's own thread
                errors.append(e)

        threads = [threading.Thread(target=sender, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        for n in range(20):
            daemon.write(forms[n % 3])
            status, answer = reload(daemon)
            assert (status, answer["ok"]) == (200, True), answer
        daemon.write(forms[0])  # all destinations are back, so that everything can be delivered
        assert reload(daemon)[0] == 200
        stop.set()
        for t in threads:
            t.join()
        assert not errors
        assert set(statuses) == {200}
        assert len(accepted) >= 20
        eventually(lambda: daemon.pending("app") == daemon.pending("also") == 0, 60, "everything delivered")
        got = Counter(sink.ids())
        assert set(got) == set(accepted)
        assert daemon.audit()["ok"]
        assert daemon.scrape().total("enqueued_total") == sum(got.values()), "each delivery once: no reload repeats one"


def test_a_removed_destination_keeps_what_it_is_owed(sink, tmp_path):
    """Held and warned about, at the reload and at the next start, until it returns, is discarded, or is redirected."""
    down = f"http://127.0.0.1:{free_port()}"
    both = config({"app": sink.url, "gone": down})
    without = config({"app": sink.url})
    warning = "destination is not configured, its deliveries are held; bring it back, or discard or redirect them"
    with Daemon(tmp_path, both) as daemon:
        ids = [send(daemon).headers["webhook-sidecar-event-id"] for _ in range(3)]
        daemon.write(without)
        assert reload(daemon)[1]["ok"]
        lane = daemon.lane("gone")
        assert (lane["configured"], lane["held"], lane["pending"]) == (False, True, 3)
        warned = eventually(lambda: daemon.logged(warning), what="warned")
        assert [(r["destination"], r["pending"]) for r in warned] == [("gone", 3)]
        assert daemon.scrape().total("pending_events", destination="gone") == 3, "still to be seen by an alert"
        send(daemon)
        assert daemon.pending("gone") == 3, "fan-out is fixed at acceptance: nothing new for it"
        daemon.stop(signal.SIGINT)
        daemon.start()
        eventually(lambda: len(daemon.logged(warning)) == 2, what="warned at the start, too")
        assert daemon.audit()["ok"]
        # One is discarded, one redirected, and the last one goes when the destination returns.
        discarded = daemon.command("events", "discard", ids[0], "--destination", "gone", "--yes")
        assert discarded.returncode == 0, discarded.stderr
        redirected = daemon.command("events", "discard", ids[1], "--destination", "gone", "--to", "app")
        assert redirected.returncode == 0, redirected.stderr
        eventually(lambda: sink.ids().count(ids[1]) == 2, what="redirected")
        with Sink() as back:
            daemon.write(config({"app": sink.url, "gone": back.url}))
            assert reload(daemon)[1]["ok"]
            eventually(lambda: back.ids() == [ids[2]], what="the last one")
            eventually(lambda: daemon.pending("gone") == 0)
        settled = {
            o: daemon.scrape().value("settled_total", destination="gone", outcome=o)
            for o in ("delivered", "discarded", "redirected")
        }
        assert settled == {"delivered": 1, "discarded": 1, "redirected": 1}
        assert daemon.audit()["ok"]


def test_a_secret_comes_and_goes_at_its_time_without_a_reload(sink, tmp_path):
    """Rotation planned ahead: the old one ends and the next one begins while the process runs."""
    with Daemon(tmp_path, config({"app": sink.url})) as daemon:
        turn_s = int(time.time()) + 6
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(turn_s))
        secret = (
            f'{{ id = "old", value = "old", not_after = {stamp} }}, '
            f'{{ id = "next", value = "next", not_before = {stamp} }}'
        )
        daemon.write(config({"app": sink.url}, secret=secret))
        assert reload(daemon)[1]["ok"]
        before = (send(daemon, "old").status, send(daemon, "next").status)
        assert time.time() < turn_s - 0.5, "this machine was too slow to see the time before the turn"
        assert before == (200, 401)
        eventually(lambda: send(daemon, "next").status == 200, 30, "the next secret is active")
        assert send(daemon, "old").status == 401
        scrape = daemon.scrape()
        assert scrape.value("signature_key_matched_total", source="github", key_id="old") == 1
        assert scrape.value("signature_key_matched_total", source="github", key_id="next") == 1
        assert len(daemon.logged("reloaded")) == 1
