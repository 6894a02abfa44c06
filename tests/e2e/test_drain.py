"""Stopping the real process: drain and lease, SIGTERM under load and with a backlog, a second signal, a kill in between."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections import Counter
from typing import Any

import pytest

from tests.support.daemon import Daemon, eventually, free_port
from tests.support.senders import Answer, Raw, framed, fresh_id, github
from tests.support.sink import Sink

SECRET = "drain-test"

CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ value = "drain-test" }}]
destinations = ["app"]

[destinations.app]
url = "{url}"
{destination}
[destinations.app.retry]
base = "{base}"
jitter = 0
[drain]
accept_for = "{accept_for}"
lease = "{lease}"
{more}
"""
STOP_S = 20.0  # from SIGTERM to exit, at most, beside drain.accept_for
SLACK_S = 8.0  # of a busy machine


def config(
    url: str, *, accept_for: str = "0s", lease: str = "90s", base: str = "1s", destination: str = "", more: str = ""
) -> str:
    return CONFIG.format(url=url, accept_for=accept_for, lease=lease, base=base, destination=destination, more=more)


def request(body: bytes = b"{}") -> bytes:
    return framed("/github", body, github(body, SECRET, fresh_id()))


def send(daemon: Daemon, body: bytes = b"{}") -> Answer:
    with Raw(daemon.port) as raw:
        return raw.send(request(body)).answer()


def id_of(answer: Answer) -> str:
    assert answer.status == 200, answer
    return answer.headers["webhook-sidecar-event-id"]


def drain(daemon: Daemon, query: str = "") -> dict[str, object]:
    status, body = daemon.admin("POST", f"/-/drain{query}", headers={"Webhook-Sidecar-Drain": "1"})
    assert status == 200, body
    answer: dict[str, object] = json.loads(body)
    return answer


def ready(daemon: Daemon) -> bool:
    return daemon.admin("GET", "/readyz")[0] == 200


@pytest.fixture
def sink():
    """A fresh one for each test."""
    with Sink() as sink:
        yield sink


# --- the drain


def test_without_its_header_nobody_can_start_a_drain(sink, tmp_path):
    with Daemon(tmp_path, config(sink.url)) as daemon:
        for method in ("GET", "POST"):
            status, body = daemon.admin(method, "/-/drain?wait=1s")
            assert (status, json.loads(body)["error"]["code"]) == (403, "forbidden")
        assert daemon.admin("PUT", "/-/drain", headers={"Webhook-Sidecar-Drain": "1"})[0] == 405
        for wait in ("soon", "-1s", "2h"):
            assert daemon.admin("GET", f"/-/drain?wait={wait}", headers={"Webhook-Sidecar-Drain": "1"})[0] == 400
        assert ready(daemon)
        assert send(daemon).status == 200
        # A preStop hook can send a GET only, so that it takes one, too.
        assert daemon.admin("GET", "/-/drain", headers={"Webhook-Sidecar-Drain": "1"})[0] == 200
        assert not ready(daemon)


def test_a_drain_ends_readiness_at_once_accepts_for_a_while_and_then_refuses(sink, tmp_path):
    """Endpoints take seconds to propagate: what still comes meanwhile is journaled, each answer ending its connection."""
    with Daemon(tmp_path, config(sink.url, accept_for="3s")) as daemon, Raw(daemon.port) as kept:
        assert kept.send(request()).answer().headers.get("connection") != "close"
        began_s = time.monotonic()
        assert drain(daemon)["draining"] is True
        assert not ready(daemon)
        answer = kept.send(request()).answer()
        if time.monotonic() - began_s < 3:
            assert answer.status == 200
            assert answer.headers["connection"] == "close", "so that its sender finds another replica"
        refused = eventually(lambda: (a := send(daemon)).status == 503 and a, what="accept_for is over")
        assert time.monotonic() - began_s >= 2.9
        assert refused.code == "shutting_down"
        assert int(refused.headers["retry-after"]) >= 1
        assert daemon.metric("received_total", source="github", outcome="shutting_down") >= 1
        eventually(lambda: daemon.pending() == 0, what="delivering goes on")
        assert daemon.admin("GET", "/livez")[0] == 200


def test_a_drain_that_no_sigterm_follows_ends_with_its_lease(sink, tmp_path):
    with Daemon(tmp_path, config(sink.url, lease="2s")) as daemon:
        began_s = time.monotonic()
        drain(daemon)
        assert send(daemon).status == 503
        eventually(lambda: ready(daemon), what="the lease ended")
        assert time.monotonic() - began_s >= 1.9
        with Raw(daemon.port) as raw:
            assert raw.send(request()).answer().headers.get("connection") != "close"
            assert raw.send(request()).answer().status == 200
        assert eventually(lambda: daemon.logged("the drain's lease ended without a SIGTERM: accepting again"))
        drain(daemon)  # and it can be done again
        assert not ready(daemon)
        eventually(lambda: ready(daemon))


def test_a_drain_waits_for_deliveries_as_long_as_asked_and_not_longer(tmp_path):
    with Sink(delay_s=1.0) as sink, Daemon(tmp_path, config(sink.url)) as daemon:
        id_of(send(daemon))
        began_s = time.monotonic()
        assert drain(daemon, "?wait=0.1s")["left"] == 1
        assert drain(daemon, "?wait=60s")["left"] == 0
        assert time.monotonic() - began_s < 30


def test_a_drain_does_not_wait_for_a_backend_that_is_down(tmp_path):
    with Daemon(tmp_path, config(f"http://127.0.0.1:{free_port()}")) as daemon:
        id_of(send(daemon))
        eventually(lambda: daemon.lane()["held"])
        began_s = time.monotonic()
        assert drain(daemon, "?wait=60s")["left"] == 1
        assert time.monotonic() - began_s < 30


# --- the end


def test_sigterm_under_load_answers_what_is_in_flight_and_loses_nothing(tmp_path):
    """Sixteen senders that never pause: each gets an answer or a closed connection, and what was acknowledged is kept."""
    with Sink(delay_s=0.02) as sink, Daemon(tmp_path, config(sink.url, accept_for="1s")) as daemon:
        accepted: list[str] = []
        statuses: Counter[int] = Counter()
        cut_off: list[str] = []

        def sender(n: int) -> None:
            while True:
                try:
                    raw = Raw(daemon.port)
                except OSError:
                    return  # nobody listens any more
                with raw:
                    while True:
                        try:
                            answer = raw.send(request(b'{"sender":%d}' % n)).answer()
                        except EOFError as e:
                            if "so far: b''" not in str(e):
                                cut_off.append(str(e))
                            break
                        except OSError:
                            break
                        statuses[answer.status] += 1
                        if answer.status == 200:
                            accepted.append(answer.headers["webhook-sidecar-event-id"])
                        else:
                            assert answer.code == "shutting_down"
                        if answer.headers.get("connection") == "close":
                            break

        threads = [threading.Thread(target=sender, args=(n,)) for n in range(16)]
        for t in threads:
            t.start()
        eventually(lambda: len(accepted) > 200, 30)
        before = len(accepted)
        began_s = time.monotonic()
        assert daemon.stop(signal.SIGTERM, STOP_S + 1 + SLACK_S) == 0
        took_s = time.monotonic() - began_s
        for t in threads:
            t.join()
        assert 1 <= took_s <= STOP_S + 1 + SLACK_S
        assert len(accepted) > before, "it still accepted during accept_for"
        assert not cut_off, "no answer was cut off in the middle"
        assert set(statuses) <= {200, 503}
        daemon.start()
        eventually(lambda: daemon.pending() == 0, 60, "the next process delivers the rest")
        assert set(sink.ids()) >= set(accepted)
        assert all(r.attempt == 1 for r in sink.requests), "the shutdown used no attempt"
        assert daemon.audit()["ok"]


def test_a_request_that_has_begun_is_answered_by_a_stopping_process(sink, tmp_path):
    with Daemon(tmp_path, config(sink.url, accept_for="2s")) as daemon, Raw(daemon.port) as raw:
        body = b'{"half":true}'
        whole = request(body)
        raw.send(whole[:-5])
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        eventually(lambda: daemon.logged("draining"))
        answer = raw.send(whole[-5:]).answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert daemon.wait(STOP_S + 2 + SLACK_S) == 0
        assert sink.ids() == [answer.headers["webhook-sidecar-event-id"]], "and delivered before the end"


def test_sigterm_with_a_backlog_ends_in_time_and_uses_no_attempt(tmp_path):
    """A thousand deliveries to a backend that takes 2 s for each: far more than fits into the time there is."""
    slow = Sink(delay_s=2.0)
    with slow, Daemon(tmp_path, config(slow.url, destination="concurrency = 8")) as daemon:
        with Raw(daemon.port) as raw:
            ids = [id_of(raw.send(request()).answer()) for _ in range(1000)]
        eventually(lambda: len(slow.requests) >= 8)
        began_s = time.monotonic()
        assert daemon.stop(signal.SIGTERM, STOP_S + SLACK_S) == 0
        assert time.monotonic() - began_s <= STOP_S + SLACK_S
        left = eventually(lambda: daemon.logged("stopped"))[0]["left_pending"]
        assert 0 < left < 1000
        slow.delay_s = 0.0
        daemon.start()
        eventually(lambda: daemon.pending() == 0, 60)
        assert set(slow.ids()) == set(ids)
        assert all(r.attempt == 1 for r in slow.requests)
        assert daemon.audit()["ok"]


def test_a_try_that_hangs_is_interrupted_by_the_stop_and_not_counted(tmp_path):
    release = threading.Event()

    def hang(_: object) -> int:
        release.wait(60)
        return 200

    with Sink(hang) as sink, Daemon(tmp_path, config(sink.url, destination='timeout = "60s"')) as daemon:
        event_id = id_of(send(daemon))
        eventually(lambda: len(sink.requests) == 1)
        assert daemon.stop(signal.SIGTERM, STOP_S + SLACK_S) == 0
        release.set()
        daemon.start()
        eventually(lambda: daemon.pending() == 0, 30)
        assert sink.ids() == [event_id] * 2
        assert [r.attempt for r in sink.requests] == [1, 1], "interrupted, so not used up"


def test_what_waits_for_its_retry_keeps_its_count_over_a_stop(tmp_path):
    with Sink(500) as sink, Daemon(tmp_path, config(sink.url, base="30m")) as daemon:
        event_id = id_of(send(daemon))

        def delivery() -> dict[str, Any]:
            found: dict[str, Any] = daemon.api(f"events/{event_id}")["deliveries"][0]
            return found

        eventually(lambda: delivery()["attempts"] == 1)
        began_s = time.monotonic()
        assert daemon.stop(signal.SIGTERM, STOP_S + SLACK_S) == 0
        assert time.monotonic() - began_s < SLACK_S, "a retry in half an hour is not waited for"
        daemon.start()
        assert (delivery()["attempts"], delivery()["state"], len(sink.requests)) == (1, "pending", 1)
        assert 25 * 60_000 < delivery()["due_in_ms"] <= 30 * 60_000


def test_a_second_signal_ends_it_at_once_and_loses_nothing(tmp_path):
    with Sink(delay_s=30.0) as sink, Daemon(tmp_path, config(sink.url, accept_for="60s")) as daemon:
        ids = [id_of(send(daemon)) for _ in range(5)]
        eventually(lambda: sink.requests)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        eventually(lambda: daemon.logged("stopping"))
        ids.append(id_of(send(daemon)))
        began_s = time.monotonic()
        assert daemon.stop(signal.SIGTERM, SLACK_S) == 0
        assert time.monotonic() - began_s < SLACK_S
        sink.delay_s = 0.0
        daemon.start()
        assert [e["id"] for e in daemon.api("events")["events"]] == ids[::-1]
        eventually(lambda: daemon.pending() == 0)
        assert daemon.audit()["ok"]


def test_sigint_is_for_a_person_who_waits(tmp_path):
    """Nobody propagates endpoints at a terminal, and a backlog is for the next start."""
    with Sink(delay_s=1.0) as sink, Daemon(tmp_path, config(sink.url, accept_for="60s")) as daemon:
        with Raw(daemon.port) as raw:
            for _ in range(200):
                id_of(raw.send(request()).answer())
        began_s = time.monotonic()
        assert daemon.stop(signal.SIGINT, 5 + SLACK_S) == 0
        assert time.monotonic() - began_s < 5 + SLACK_S


def test_a_kill_in_the_middle_of_a_drain_loses_nothing(tmp_path):
    with Sink(delay_s=0.2) as sink, Daemon(tmp_path, config(sink.url, accept_for="10s")) as daemon:
        ids = [id_of(send(daemon)) for _ in range(50)]
        drain(daemon)
        ids += [id_of(send(daemon)) for _ in range(50)]
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        eventually(lambda: daemon.logged("stopping"))
        ids += [id_of(send(daemon)) for _ in range(10)]
        daemon.kill()
        daemon.start()
        assert ready(daemon), "a drain is not remembered"
        eventually(lambda: daemon.pending() == 0, 60)
        assert set(sink.ids()) == set(ids)
        assert daemon.audit()["ok"]


def test_a_journal_that_dies_with_the_pod_stops_accepting_at_once_and_names_what_is_left(tmp_path):
    """What is journaled in the last seconds would be gone with the volume, so the sender shall come again elsewhere."""
    down = f"http://127.0.0.1:{free_port()}"
    more = '[journal]\npath = "journal"\nephemeral = true\n'
    with Daemon(tmp_path, config(down, accept_for="30s", more=more)) as daemon:
        for _ in range(3):
            id_of(send(daemon))
        drain(daemon)
        refused = send(daemon)
        assert (refused.status, refused.code) == (503, "shutting_down")
        began_s = time.monotonic()
        assert daemon.stop(signal.SIGTERM, STOP_S + SLACK_S) == 0
        assert time.monotonic() - began_s < STOP_S + SLACK_S, "accept_for does not hold it up"
        lost = eventually(lambda: daemon.logged("undelivered events are lost with this volume"))
        assert (lost[0]["level"], lost[0]["left"]) == ("error", 3)


def test_a_stopping_process_listens_no_more_after_accept_for(tmp_path):
    with Sink(delay_s=3.0) as sink, Daemon(tmp_path, config(sink.url)) as daemon:
        id_of(send(daemon))
        eventually(lambda: sink.requests)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", daemon.port), 5).close()
            except ConnectionRefusedError:
                return True
            return False

        eventually(refused)
        assert daemon.wait(STOP_S + SLACK_S) == 0
