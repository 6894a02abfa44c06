"""The instrument works, and can fail: a stall is seen, a wrong answer is counted, a missed budget is called missed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from xml.etree import ElementTree as ET

import msgspec
import pytest

from tests.bench import stages
from tests.bench.__main__ import SCENARIOS
from tests.bench.budgets import BUDGETS, Budget
from tests.bench.latency import percentile, summary
from tests.bench.load import Generator, Load, Result
from tests.bench.machine import LOAD_CORE, ROOT, SERVER_CORE, started
from tests.bench.scale import QUICK
from tests.bench.subject import Bench, backend_count, backend_ways
from tests.bench.svg import bars, lines
from tests.bench.table import as_text, rows, shown
from tests.bench.target import TargetRefused, check_target
from tests.bench.webhook import Webhooks, body_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it pins to cores and reads /proc: Linux only")

RATE = 200
WINDOW_S = 2.5
STALL_S = 1.0


def load(url: str, **fields: object) -> Result:
    """Run the generator; not pinned, because tests run side by side with others."""
    spec = msgspec.json.encode(Load(url=url, **fields)).decode()  # type: ignore[arg-type]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load", spec], cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    return msgspec.json.decode(done.stdout, type=Result)


async def load_and_stall(pid: int, url: str, **fields: object) -> Result:
    """Run the generator here, and stop the server for a second as soon as the measured window has begun."""
    generator = Generator(Load(url=url, seconds=WINDOW_S, warm_s=0.2, **fields))  # type: ignore[arg-type]
    running = asyncio.ensure_future(generator.run())
    await asyncio.wait_for(generator.measuring.wait(), 30)
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(STALL_S)
    os.kill(pid, signal.SIGCONT)
    return await running


# --- coordinated omission


async def test_a_stall_of_a_second_shows_in_the_open_loops_p99_and_not_in_the_closed_ones():
    """The closed loop with one connection is the negative control: it sends nothing while the server is stalled."""
    with started("bare", core=SERVER_CORE) as (url, pid):
        open_loop = await load_and_stall(pid, f"{url}/", mode="open", rate=RATE, connections=16)
        closed_loop = await load_and_stall(pid, f"{url}/", mode="closed", connections=1)
    assert open_loop.latency_ms["p99"] > STALL_S * 1000 * 0.8, "those who would have come in that second are charged"
    assert open_loop.unanswered == open_loop.lost == 0
    assert closed_loop.latency_ms["max"] > STALL_S * 1000 * 0.8
    assert closed_loop.latency_ms["p99"] < STALL_S * 1000 * 0.2, "the control: a closed loop hides it"


def test_the_open_loop_sends_what_its_timetable_says_whatever_the_answers():
    with started("bare", core=SERVER_CORE) as (url, pid):
        fixed = load(f"{url}/", mode="open", arrivals="fixed", rate=RATE, connections=4, seconds=1.0, warm_s=0.0)
        again = load(f"{url}/", mode="open", rate=RATE, connections=4, seconds=1.0, warm_s=0.0, watch={"it": pid})
        same = load(f"{url}/", mode="open", rate=RATE, connections=4, seconds=1.0, warm_s=0.0)
    assert abs(fixed.answered - RATE) <= 1
    assert again.answered == same.answered, "the same seed is the same timetable"
    assert sum(again.cpu_s["it"]) < 2.0


# --- what is counted


def test_answers_are_counted_by_status_and_a_way_is_told_by_the_backend():
    """A backend that fails is seen as failing; the time from sender to backend comes from the request itself."""
    with started("backend", "--status", "500", core=LOAD_CORE) as (url, _pid):
        failed = load(f"{url}/in", connections=4, seconds=0.5, warm_s=0.0)
        assert failed.good() == 0
        assert failed.statuses == {"500": failed.answered}
        assert backend_count(url) >= failed.answered > 0
    with started("backend", "--delay-ms", "200", core=LOAD_CORE) as (url, _pid):
        slow = load(f"{url}/in", connections=4, seconds=1.0, warm_s=0.0)
        assert slow.latency_ms["p50"] >= 190
        assert backend_ways(url)["/in"]["p50"] < 150, "the way there, not the wait for the answer"


def test_a_server_that_closes_without_an_answer_is_counted_as_lost():
    class Rude(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(100)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Rude) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = load(f"http://127.0.0.1:{server.server_address[1]}/", connections=2, seconds=0.5, warm_s=0.0)
        server.shutdown()
    assert result.lost > 0
    assert result.answered == 0


def test_the_daemon_takes_what_is_sent_and_delivers_it(tmp_path):
    """The whole of it once: good ones are accepted, duplicates recognised, bad ones refused, CPU told."""
    bench = Bench(QUICK, tmp_path)
    with bench.backend() as backend, bench.running({"app": f"{backend}/in"}) as daemon:
        found = bench.delivered(daemon, backend, 1, connections=4, seconds=0.5)
        assert found["cpu_us"] > 0
        assert bench.load_daemon(daemon, duplicates=0.5, seconds=0.3, warm_s=0.0).good() > 0
        assert daemon.metric("received_total", source="code", outcome="duplicate") > 0
        url = f"http://127.0.0.1:{daemon.port}/webhooks/github"
        assert bench.load(url, signing="bad", connections=2, seconds=0.2, warm_s=0.0).good() == 0
        assert bench.load(url, signing="none", connections=2, seconds=0.2, warm_s=0.0).good() == 0


# --- requests


def test_requests_differ_in_their_delivery_id_and_repeat_it_as_often_as_asked():
    supply = Webhooks("h", "/p", 1024, duplicates=0.5)
    ids = [b"".join(supply.next(1)).split(b"X-GitHub-Delivery: ")[1].split(b"\r\n")[0] for _ in range(10)]
    assert len(set(ids)) == 5
    assert len(b"".join(supply.next(7)).partition(b"\r\n\r\n")[2]) == 1024
    assert len(body_of(1 << 20)) == 1 << 20


# --- the table


def test_the_table_calls_a_missed_budget_missed():
    low = Budget("a", "s", "µs", "", lambda f: f["x"], lambda _: 10.0)
    high = Budget("b", "s", "/s", "", lambda f: f["x"], lambda _: 10.0, at_least=True)
    absent = Budget("c", "other", "s", "", lambda f: f["x"], lambda _: 10.0)
    for measured, low_met in ((9.0, True), (11.0, False)):
        table = rows({"s": {"x": measured}}, (low, high, absent))
        assert [r.met for r in table] == [low_met, not low_met]
        assert table[0].ratio == pytest.approx(measured / 10)
        assert ("no" in as_text(table[:1])) is not low_met
    assert shown(1234.5) == "1,234"
    assert shown(0.1234) == "0.123"


def test_every_budget_names_a_scenario_that_there_is():
    assert {b.scenario for b in BUDGETS} <= SCENARIOS.keys()


def test_percentiles_of_a_known_sample():
    sample = [n / 1000 for n in range(1000)]
    assert percentile(sample, 0.99) == 0.99
    assert summary(sample)["max"] == 999
    assert summary([])["p99"] == 0


def test_plots_are_well_formed_and_have_a_point_for_each_value():
    drawn = ET.fromstring(lines("a < b", "x", "y", {"one": [(1, 2), (2, 4000)], "two": [(0, 0)]}))
    assert len(drawn.findall("{*}circle")) == 3
    drawn = ET.fromstring(bars("t", "y", {"64": 0.5, "128": 0}))
    assert len(drawn.findall("{*}rect")) == 3  # and the ground


# --- other people's machines


def test_only_our_own_machine_is_loaded_unless_somebody_says_otherwise():
    for url in ("http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost/"):
        check_target(url, owned=False)
    for url in ("http://192.0.2.1/", "http://example.com/", "http://127.0.0.1.example.com/"):
        with pytest.raises(TargetRefused):
            check_target(url, owned=False)
        check_target(url, owned=True)
    with pytest.raises(TargetRefused):
        check_target("https://127.0.0.1/", owned=True)


def test_the_same_load_goes_to_any_other_gateway(tmp_path):
    with started("bare", core=SERVER_CORE) as (url, pid):
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench", "--quick", "--seconds", "0.2", "--target", url, "--target-pid", str(pid), "--out", tmp_path],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    assert "µs CPU" in done.stdout
    assert json.loads((tmp_path / "target.json").read_text())["closed"]["64"]["statuses"].keys() == {"202"}


def test_the_stages_of_an_ack_are_all_measured(tmp_path):
    """And every request went all the way: else it raises."""
    best = stages.measure(str(tmp_path), rounds=2)
    assert list(best) == ["connection", "head", "body", "transaction, its kernel's share included", "answer"]
    assert all(us > 0 for us in best.values())
