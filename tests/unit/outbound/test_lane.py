"""A lane tries what is owed to one destination: each once at a time, in bounds, by the contract's table."""

from __future__ import annotations

import asyncio
import itertools
import random

import msgspec
import pytest

from sidecar.lifecycle import Change
from sidecar.log import Logger
from sidecar.model import Delivery, State
from sidecar.outbound.deliver import Result
from sidecar.outbound.lane import MAX_UNSETTLED, Lane, queue_bound
from sidecar.outbound.retry import RetryPolicy
from tests.support.lane_world import OK, REFUSED, TIMEOUT, World
from tests.support.virtual import run

STEADY = RetryPolicy(jitter=0.0)


def _gaps(times: list[float]) -> list[float]:
    return [round(t - times[0], 1) for t in times]


def test_a_fresh_event_is_tried_at_once_from_memory_and_settled():
    w = World()
    lane, backend = w.lane()

    async def main():
        await asyncio.sleep(1)
        reads = w.journal.reads
        w.journal.append("d")
        await asyncio.sleep(1)
        return w.journal.reads - reads

    assert run(main(), w.loop) == 0
    assert w.journal.states("d") == ["delivered"]
    assert backend.tries[0][0] < 1001.01
    assert len(lane.hand) == lane.in_flight == lane.unsettled == w.budget.used_bytes == 0
    assert w.metrics.attempts.values[("d", "2xx")] == 1
    assert w.metrics.delivery_latency.values[("s", "d")].sum > 0


def test_the_tries_come_at_0_1_3_and_7_seconds_and_then_it_dies():
    w = World()
    _, backend = w.lane(Result(500))

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(20)

    run(main(), w.loop)
    assert _gaps([t for t, _, _ in backend.tries]) == [0, 1, 3, 7]
    assert [n for _, _, n in backend.tries] == [1, 2, 3, 4]
    assert w.journal.states("d") == ["dying"]
    (dead,) = w.buried
    assert (dead.reason, dead.attempts, [a.number for a in dead.log]) == ("attempts_exhausted", 4, [1, 2, 3, 4])
    assert dead.state is State.DYING
    assert w.metrics.dead_lettered.values[("d", "attempts_exhausted")] == 1


def test_another_4xx_kills_at_once():
    w = World()
    _, backend = w.lane(Result(422))

    async def main():
        w.journal.append("d")
        await asyncio.sleep(5)

    run(main(), w.loop)
    assert len(backend.tries) == 1
    assert w.buried[0].reason == "rejected"


def test_retry_after_extends_the_wait_and_pauses_the_whole_destination():
    w = World()
    first: list[int] = []

    def script(d: Delivery, n: int):
        if not first or (first[0] == d.event.seq and n == 1):
            first.append(d.event.seq)
            return 0.01, Result(503, retry_after=b"10")
        return 0.01, OK

    _, backend = w.lane(script)

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(2)
        for _ in range(5):
            w.journal.append("d")
        await asyncio.sleep(30)

    run(main(), w.loop)
    start = backend.tries[0][0]
    assert min(t for t, _, _ in backend.tries[1:]) >= start + 10
    assert max(t for t, _, _ in backend.tries[1:]) < start + 10.5
    assert w.journal.count("d", State.DELIVERED) == 6


def test_retry_after_is_capped_by_max_delay():
    w = World()
    _, backend = w.lane(
        lambda d, n: (0.01, Result(429, retry_after=b"999999") if n == 1 else OK),
        retry=RetryPolicy(jitter=0.0, max_delay_s=60),
    )

    async def main():
        w.journal.append("d")
        await asyncio.sleep(100)

    run(main(), w.loop)
    assert 59.9 < backend.tries[1][0] - backend.tries[0][0] < 61


@pytest.mark.parametrize(("retry_after", "kept"), [(b"2", 19), (b"5", 19), (b"6", 0), (b"600", 0)])
def test_a_pause_of_more_than_5_seconds_keeps_no_bodies_in_memory(retry_after, kept):
    w = World()
    lane, _ = w.lane(Result(503, retry_after=retry_after), concurrency=1)

    async def main():
        await asyncio.sleep(1)
        for _ in range(20):
            w.journal.append("d", body=b"x" * 1000)
        await asyncio.sleep(1)
        return len(lane.hand), w.budget.used_bytes

    assert run(main(), w.loop) == (kept, kept * 1000)


def test_a_wait_ends_within_a_minute_of_a_machine_that_has_slept():
    """The journal's clock goes on meanwhile, timers do not; and nothing spins until then."""
    w = World()
    slept_ms = [0]
    real = w.journal.clock_ms
    w.journal.clock_ms = lambda: real() + slept_ms[0]
    _, backend = w.lane(Result(500), retry=RetryPolicy(jitter=0.0, base_s=1000, max_delay_s=1000))

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(1)
        slept_ms[0] = 5_000_000
        turns = w.loop.turns
        await asyncio.sleep(50)
        assert w.loop.turns - turns < 10
        await asyncio.sleep(20)

    run(main(), w.loop)
    first, second = [t for t, _, _ in backend.tries]
    assert second - first == pytest.approx(60.0, abs=0.5)


def test_a_hold_that_begins_looks_for_old_ones_after_a_minute_and_forgets_its_probes_when_it_ends():
    w = World()
    up = [False]
    looks, ends = [], []
    real = w.journal.oldest_pending_ms
    w.journal.oldest_pending_ms = lambda name: (looks.append(w.loop.now_s), real(name))[1]
    lane, backend = w.lane(lambda d, n: (0.01, OK if up[0] else REFUSED))
    lane.hand.end_probing = lambda: ends.append(w.loop.now_s)

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(70)
        assert ends == []
        up[0] = True
        await asyncio.sleep(40)

    run(main(), w.loop)
    assert looks[0] - backend.tries[0][0] == pytest.approx(60.0, abs=0.5)
    assert len(ends) == 1


def test_however_many_reasons_there_are_a_lane_looks_round_once():
    w = World()
    lane, _ = w.lane()
    looks = []
    real = lane.look
    lane.look = lambda: (looks.append(w.loop.now_s), real())

    async def main():
        await asyncio.sleep(1)
        looks.clear()
        for _ in range(3):
            lane.on_due()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(looks)

    assert run(main(), w.loop) == 1


def test_an_unreachable_backend_holds_uses_no_attempt_and_recovers():
    w = World()
    up = [False]
    lane, backend = w.lane(lambda d, n: (0.01, OK if up[0] else REFUSED))

    async def main():
        await asyncio.sleep(1)
        for _ in range(40):
            w.journal.append("d")
        await asyncio.sleep(300)
        assert lane.hold.held
        assert w.metrics.held.values[("d",)] == 1
        assert len(lane.hand) <= 8
        tries = len(backend.tries)
        assert tries < 30, "probes, not a hot loop"
        up[0] = True
        at = w.loop.now_s
        await asyncio.sleep(35)
        return backend.tries[tries][0] - at

    assert run(main(), w.loop) <= 30.5
    assert w.journal.count("d", State.DELIVERED) == 40
    assert all(n == 1 for _, _, n in backend.tries)
    assert w.metrics.held.values[("d",)] == 0
    assert w.metrics.attempts.values[("d", "connect")] > 5
    # Each delivered once: those that were only probed are not counted twice.
    assert len([1 for t in backend.tries]) - w.metrics.attempts.values[("d", "connect")] == 40


def test_probes_wait_1_2_4_up_to_30_seconds_and_take_turns():
    w = World()
    _, backend = w.lane(REFUSED, concurrency=1)

    async def main():
        await asyncio.sleep(1)
        for _ in range(10):
            w.journal.append("d")
        await asyncio.sleep(400)

    run(main(), w.loop)
    times = [t for t, _, _ in backend.tries]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert [round(g, 1) for g in gaps[:6]] == [pytest.approx(x * 0.95, abs=0.2) for x in (1, 2, 4, 8, 16, 30)]
    assert max(gaps) < 30.1
    probed = backend.seqs()[1:]
    assert len(set(probed[:9])) >= 9, "not the same one again and again"


def test_one_event_that_hangs_does_not_keep_a_recovered_destination_held():
    w = World()
    phase = ["down"]

    def script(d: Delivery, n: int):
        if phase[0] == "down":
            return 0.01, REFUSED
        return (10, TIMEOUT) if d.event.seq <= 5 else (0.01, OK)

    lane, _ = w.lane(script)

    async def main():
        await asyncio.sleep(1)
        for _ in range(8):
            w.journal.append("d")
        await asyncio.sleep(5)
        phase[0] = "up"
        await asyncio.sleep(400)
        return lane.hold.held

    assert run(main(), w.loop) is False
    assert w.journal.count("d", State.DELIVERED) == 3
    assert w.journal.count("d", State.DYING) == 5


def test_failures_in_a_row_of_different_events_hold_and_then_cost_no_attempts():
    w = World()
    lane, _ = w.lane(Result(503), hold_after=5, concurrency=1)

    async def main():
        await asyncio.sleep(1)
        for _ in range(30):
            w.journal.append("d")
        await asyncio.sleep(120)
        return lane.hold.held

    assert run(main(), w.loop)
    rows = w.journal.rows["d"].values()
    assert sum(r.attempts for r in rows) == 5
    assert all(r.state is State.PENDING for r in rows)


def test_an_answer_about_the_event_counts_while_held_and_the_next_probe_follows_at_once():
    w = World()
    up = [False]
    lane, backend = w.lane(lambda d, n: (0.01, Result(422) if up[0] else REFUSED), concurrency=1)

    async def main():
        await asyncio.sleep(1)
        for _ in range(12):
            w.journal.append("d")
        await asyncio.sleep(3)
        up[0] = True
        await asyncio.sleep(6)
        return lane.hold.held

    assert run(main(), w.loop) is True  # only a 2xx ends it
    assert len(w.buried) == 12
    times = [t for t, _, _ in backend.tries][-12:]
    assert times[-1] - times[0] < 1


def test_after_a_hold_concurrency_starts_at_one_and_doubles():
    w = World()
    up = [False]
    at_once: list[int] = []

    def script(d: Delivery, n: int):
        if up[0]:
            at_once.append(len(backend.running) + 1)
        return (1.0, OK) if up[0] else (0.01, REFUSED)

    _, backend = w.lane(script, concurrency=8)

    async def main():
        await asyncio.sleep(1)
        for _ in range(60):
            w.journal.append("d")
        await asyncio.sleep(2)
        up[0] = True
        await asyncio.sleep(60)

    run(main(), w.loop)
    assert at_once[:2] == [1, 1]  # the probe, then the first of the gentle start
    assert at_once.index(2) < at_once.index(4) < at_once.index(8)
    assert max(at_once) == 8
    assert w.journal.count("d", State.DELIVERED) == 60


def test_a_backlog_costs_disk_only():
    w = World(max_buffered=100_000)
    w.journal.preload("d", 2000, b"x" * 1000)
    lane, _ = w.lane(lambda d, n: (0.005, OK))
    most = [0, 0]

    async def main():
        while w.journal.count("d", State.DELIVERED) < 2000:
            most[0] = max(most[0], len(lane.hand))
            most[1] = max(most[1], w.budget.used_bytes)
            await asyncio.sleep(0.01)

    run(main(), w.loop)
    assert most[0] <= queue_bound(4) + MAX_UNSETTLED + 4
    assert most[1] <= 101_000


def test_a_body_larger_than_the_whole_budget_is_delivered_alone():
    w = World(max_buffered=1000)
    _, backend = w.lane()

    async def main():
        await asyncio.sleep(1)
        for _ in range(5):
            w.journal.append("d", body=b"x" * 50_000)
        await asyncio.sleep(10)

    run(main(), w.loop)
    assert w.journal.count("d", State.DELIVERED) == 5
    assert backend.most_at_once <= 2  # a read may bring one more


def test_no_more_are_unsettled_than_a_crash_may_repeat():
    w = World(delay_s=5.0)
    lane, _ = w.lane(lambda d, n: (0.0, OK))
    lane.hand.capacity = 2000  # so that reading does not bound it already
    w.journal.preload("d", 1500)
    most = [0]

    async def main():
        while w.journal.count("d", State.DELIVERED) < 1500:
            most[0] = max(most[0], lane.unsettled + lane.in_flight)
            await asyncio.sleep(0.01)

    run(main(), w.loop)
    assert most[0] == MAX_UNSETTLED + 3 == 256 + 3, "with one place of four left, the next one began"


def test_concurrency_is_kept():
    w = World()
    _, backend = w.lane(lambda d, n: (0.1, OK), concurrency=3)
    w.journal.preload("d", 50)

    async def main():
        await asyncio.sleep(10)

    run(main(), w.loop)
    assert backend.most_at_once == 3
    assert w.journal.count("d", State.DELIVERED) == 50


def test_due_and_fresh_take_turns():
    w = World()
    failing = [True]
    _, backend = w.lane(
        lambda d, n: (0.01, Result(500) if failing[0] else OK),
        concurrency=1,
        retry=RetryPolicy(jitter=0.0, max_attempts=50, factor=1.0),
    )

    async def main():
        await asyncio.sleep(1)
        for _ in range(20):
            w.journal.append("d")
        await asyncio.sleep(0.9)
        failing[0] = False
        for _ in range(41):
            w.journal.append("d")
        await asyncio.sleep(20)

    run(main(), w.loop)
    ok = backend.seqs()[20:]
    assert set(ok) == set(range(1, 62))
    mixed = ok[10:30]
    assert 5 < sum(s <= 20 for s in mixed) < 15


def test_what_is_too_old_is_given_up_without_a_try():
    w = World()
    _, backend = w.lane(OK, retry=RetryPolicy(max_age_s=100), start=False)
    lane = w.lanes["d"]

    async def main():
        w.journal.preload("d", 3)
        await asyncio.sleep(101)
        lane.start(w.loop)
        w.journal.append("d")
        await asyncio.sleep(1)

    run(main(), w.loop)
    assert [d.reason for d in w.buried] == ["expired"] * 3
    assert backend.seqs() == [4]


def test_a_retry_beyond_the_maximum_age_is_not_waited_for():
    w = World()
    w.lane(Result(500), retry=RetryPolicy(jitter=0.0, max_age_s=2.5))

    async def main():
        w.journal.append("d")
        await asyncio.sleep(10)

    run(main(), w.loop)
    assert [(d.reason, d.attempts) for d in w.buried] == [("expired", 2)]


def test_held_deliveries_expire_too():
    w = World()
    _, backend = w.lane(REFUSED, retry=RetryPolicy(max_age_s=1000))
    w.journal.preload("d", 300)

    async def main():
        await asyncio.sleep(500)
        w.journal.append("d")
        await asyncio.sleep(700)

    run(main(), w.loop)
    assert len(w.buried) == 300
    assert len(backend.tries) < 60


def test_a_held_lane_whose_reads_are_slow_does_not_look_round_meanwhile():
    w = World(delay_s=2.0)
    lane, _ = w.lane(REFUSED, retry=RetryPolicy(max_age_s=100_000))
    w.journal.preload("d", 3)

    async def main():
        await asyncio.sleep(3000)

    run(main(), w.loop)
    assert lane.hold.held
    assert w.journal.reads > 20
    assert w.loop.turns < 20 * w.journal.reads, "a millisecond's timer while each read takes seconds"


def test_what_a_read_brings_when_the_hold_has_begun_meanwhile_is_not_kept():
    w = World(delay_s=0.5)
    w.journal.preload("d", 300, b"x" * 100)
    lane, _ = w.lane(lambda d, n: (0.1, REFUSED), concurrency=25)
    lane.hand.capacity = 40  # the first 25 leave room, so that more is read while they fail
    most = [0]

    async def main():
        await asyncio.sleep(1)
        while w.loop.now_s < 1020:
            await asyncio.sleep(0.05)
            if lane.hold.held and lane.hand.reading is None:
                most[0] = max(most[0], len(lane.hand))

    run(main(), w.loop)
    assert lane.hold.held
    assert most[0] <= 5


def test_what_waits_behind_many_young_ones_still_expires():
    w = World()
    lane, _ = w.lane(REFUSED, retry=RetryPolicy(max_age_s=1000), start=False)
    w.journal.preload("d", 300)
    now_ms = w.journal.clock_ms()
    for seq, row in w.journal.rows["d"].items():
        row.round, row.due_at_ms = 1, now_ms + seq
        row.started_at_ms = now_ms if seq > 250 else now_ms + 10_000_000

    async def main():
        await asyncio.sleep(1)
        lane.start(w.loop)
        lane.configure(None)
        await asyncio.sleep(1200)

    run(main(), w.loop)
    assert sorted(d.event.seq for d in w.buried) == list(range(251, 301))


def test_an_unconfigured_destination_is_left_alone_and_its_deliveries_expire_or_return():
    w = World()
    lane, backend = w.lane(Result(500), retry=RetryPolicy(jitter=0.0, max_age_s=1000, max_attempts=9, base_s=50))

    async def main():
        await asyncio.sleep(1)
        for _ in range(5):
            w.journal.append("d")
        await asyncio.sleep(10)
        lane.configure(None)
        tries = len(backend.tries)
        w.journal.append("d")
        await asyncio.sleep(300)
        assert len(backend.tries) == tries == 5
        assert w.metrics.held.values[("d",)] == 1
        assert len(lane.hand) == 0
        w.lane(OK)
        await asyncio.sleep(5)
        assert w.journal.count("d", State.DELIVERED) == 6
        lane.configure(None)
        for _ in range(150):
            w.journal.append("d")
        await asyncio.sleep(1100 + 72 * 3600)

    run(main(), w.loop)
    assert [d.reason for d in w.buried] == ["expired"] * 150


def test_a_changed_backend_takes_over_and_the_old_one_ends_its_tries():
    w = World()
    lane, old = w.lane(lambda d, n: (5.0, OK))

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(1)
        before = lane.outlet
        _, new = w.lane(OK)
        assert not w.retired
        w.journal.append("d")
        await asyncio.sleep(1)
        assert w.journal.states("d") == ["pending", "delivered"]
        await asyncio.sleep(5)
        assert w.retired == [before]
        return new

    new = run(main(), w.loop)
    assert (old.seqs(), new.seqs()) == ([1], [2])
    assert w.journal.states("d") == ["delivered", "delivered"]


def test_a_changed_idle_backend_is_retired_at_once():
    w = World()
    lane, _ = w.lane()
    before = lane.outlet
    w.lane()
    assert w.retired == [before]
    w.loop.close()


def test_stopping_interrupts_without_using_an_attempt_and_a_restart_goes_on_there():
    w = World()
    lane, backend = w.lane(lambda d, n: (5.0 if d.event.seq > 3 else 0.01, OK))

    async def main():
        await asyncio.sleep(1)
        for _ in range(10):
            w.journal.append("d")
        await asyncio.sleep(1)
        lane.stop()
        await backend.close()
        lane.stop()
        await asyncio.sleep(1)
        assert lane.in_flight == 0
        assert w.metrics.attempts.values[("d", "interrupted")] == 4
        rows = w.journal.rows["d"]
        assert [r.attempts for r in rows.values()] == [1] * 3 + [0] * 7
        assert w.journal.noted["d"] == 4
        del w.lanes["d"]
        _, again = w.lane(OK)
        await asyncio.sleep(5)
        return again

    again = run(main(), w.loop)
    assert sorted(again.seqs()) == list(range(4, 11))
    assert w.journal.count("d", State.DELIVERED) == 10


def test_a_stopped_lane_begins_nothing():
    w = World()
    lane, backend = w.lane()

    async def main():
        lane.stop()
        w.journal.append("d")
        lane.on_due()
        await asyncio.sleep(5)

    run(main(), w.loop)
    assert backend.tries == []


def test_what_an_operator_replays_is_tried_in_its_new_round():
    w = World()
    answers = [Result(422), OK]
    _, backend = w.lane(lambda d, n: (0.01, answers[n - 1]))

    async def main():
        event = w.journal.append("d")
        await asyncio.sleep(1)
        row = w.journal.rows["d"][event.seq]
        row.state = State.DEAD
        w.journal.operate("d", event.seq, Change.REPLAY)
        await asyncio.sleep(1)
        return row

    row = run(main(), w.loop)
    assert (row.state, row.round) == (State.DELIVERED, 1)
    assert [n for _, _, n in backend.tries] == [1, 1]


def test_what_an_operator_discards_meanwhile_is_settled_as_stale_and_forgotten():
    w = World()
    lane, _ = w.lane(lambda d, n: (1.0, OK))

    async def main():
        event = w.journal.append("d")
        await asyncio.sleep(0.5)
        w.journal.operate("d", event.seq, Change.DISCARD)
        await asyncio.sleep(5)

    run(main(), w.loop)
    assert w.journal.states("d") == ["discarded"]
    assert len(w.journal.stale) == 1
    assert len(lane.hand) == 0


def test_a_fresh_signature_is_asked_for_only_where_it_may_be():
    w = World()
    w.fresh_headers = [(b"X-Signature", b"new")]
    _, backend = w.lane()
    w.lane(name="plain", signature="original")

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d", "plain", verified=True)
        w.journal.append("d", verified=False)
        await asyncio.sleep(1)
        w.fresh_headers = None
        w.journal.append("d", verified=True)
        w.journal.append("d", verified=True)
        await asyncio.sleep(1)

    run(main(), w.loop)
    assert backend.headers == [[(b"X-Signature", b"new")], (), (), ()]
    assert len(w.resigned) == 3
    assert w.metrics.resigned.values[("s",)] == 1


def test_a_try_that_cannot_begin_is_a_failed_attempt_and_costs_the_others_nothing():
    w = World()

    def script(d: Delivery, n: int):
        if d.event.seq == 1:
            raise ZeroDivisionError
        return 0.01, OK

    lane, _ = w.lane(script)

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        w.journal.append("d")
        await asyncio.sleep(20)

    run(main(), w.loop)
    assert w.journal.states("d") == ["dying", "delivered"]
    assert lane.in_flight == 0


def test_a_journal_that_cannot_be_read_is_asked_again():
    w = World()
    w.journal.preload("d", 3)
    w.journal.read_error = OSError("no")
    lane, _ = w.lane()

    async def main():
        await asyncio.sleep(10)
        assert 5 < w.journal.reads < 15
        w.journal.read_error = None
        await asyncio.sleep(3)
        lane.configure(None)
        w.journal.read_error = OSError("no")
        w.journal.preload("d", 1)
        await asyncio.sleep(200)

    run(main(), w.loop)
    assert w.journal.states("d") == ["delivered"] * 3 + ["pending"]


def test_watchers_see_attempts_holds_and_recoveries():
    w = World()
    up = [False]
    w.lane(lambda d, n: (0.01, OK if up[0] else REFUSED))
    watcher = w.feed.watch()

    async def main():
        w.journal.append("d")
        await asyncio.sleep(0.5)
        up[0] = True
        await asyncio.sleep(5)
        return await watcher.next()

    told, dropped = run(main(), w.loop)
    rows = [t.row for t in told]
    assert dropped == 0
    assert [r["type"] for r in rows] == ["attempt", "held", "attempt", "recovered"]
    tried = {"event_id": w.journal.rows["d"][1].event.id, "source": "s", "destination": "d", "attempt": 1}
    assert rows[0] == {
        "type": "attempt", "at_ms": rows[0]["at_ms"], **tried,
        "outcome": "connect", "status": None, "error": "connection refused", "duration_ms": 10,
    }  # fmt: skip
    assert rows[2] == {
        "type": "attempt", "at_ms": rows[2]["at_ms"], **tried,
        "outcome": "2xx", "status": 200, "error": "", "duration_ms": 10,
    }  # fmt: skip
    at_ms = rows[1]["at_ms"]
    assert rows[1] == {"type": "held", "at_ms": at_ms, "destination": "d", "error": "connection refused"}
    assert rows[3] == {"type": "recovered", "at_ms": rows[2]["at_ms"], "destination": "d", "error": ""}


def test_what_a_lane_says_in_the_log(monkeypatch):
    """A hold, its end with how long it was, and a try that could not begin."""
    said = []
    monkeypatch.setattr(Logger, "limited", lambda log, *line, **more: said.append((log.name, *line, more)))
    w = World()
    up = [False]

    def script(d: Delivery, n: int):
        if d.event.seq == 2:
            raise ZeroDivisionError
        return 0.01, OK if up[0] else REFUSED

    w.lane(script)

    async def main():
        w.journal.append("d")
        await asyncio.sleep(0.5)
        up[0] = True
        await asyncio.sleep(5)
        return w.journal.append("d").id, await asyncio.sleep(0.5)

    event_id, _ = run(main(), w.loop)
    why = "connection refused"
    assert said[0] == ("outbound", "held d", "warning", "destination held", {"destination": "d", "why": why})
    more = {"destination": "d", "held_s": pytest.approx(1.0, abs=0.1), "why": why}
    assert said[1] == ("outbound", "held d", "info", "destination is back", more)
    assert said[1][-1]["held_s"] == round(said[1][-1]["held_s"], 1)
    *line, more = said[2]
    assert line == ["outbound", "attempt", "error", "a try could not begin"]
    assert (more["destination"], more["event_id"]) == ("d", event_id)
    assert "ZeroDivisionError" in more["error"]


@pytest.mark.parametrize(("concurrency", "bound"), [(1, 256), (64, 256), (65, 260), (1000, 4000)])
def test_a_lane_keeps_four_rounds_ready_and_256_at_least(concurrency, bound):
    assert queue_bound(concurrency) == bound
    w = World()
    assert w.lane(concurrency=concurrency)[0].hand.capacity == bound
    w.loop.close()


def test_a_new_lane_has_nothing_under_way():
    w = World()
    lane = Lane("d", w.around, w.retired.append)
    assert (lane.in_flight, lane.in_flight_due, lane.unsettled, lane.outlet) == (0, 0, 0, None)
    assert lane.policy == RetryPolicy()
    assert (lane.hold.held, lane.hand.capacity) == (False, 256)
    w.loop.close()


def test_what_waited_for_a_time_is_counted_apart_while_it_is_tried():
    """The journal counts it as scheduled; a first try is not."""
    w = World()
    lane, _ = w.lane(lambda d, n: (0.5, Result(500) if n == 1 else OK))
    seen = []

    async def main():
        w.journal.append("d")
        for at_s in (0.2, 0.8, 0.7, 0.8):  # the first try, the wait, the second try, the end
            await asyncio.sleep(at_s)
            seen.append((lane.in_flight, lane.in_flight_due))

    run(main(), w.loop)
    assert seen == [(1, 0), (0, 0), (1, 1), (0, 0)]


def test_tries_durations_and_latencies_are_counted():
    w = World()
    w.lane(lambda d, n: (0.25, Result(422) if d.event.seq == 2 else OK if n > 1 else Result(500)))

    async def main():
        w.journal.append("d")
        await asyncio.sleep(5)
        w.journal.append("d")
        await asyncio.sleep(5)

    run(main(), w.loop)
    assert w.metrics.attempt_duration.values[("d",)].sum == pytest.approx(0.75)
    assert w.metrics.attempts_per_event.values[("d",)].sum == 2 + 1
    assert w.metrics.delivery_latency.values[("s", "d")].sum == pytest.approx(1.5, abs=0.1)


def test_what_expires_untried_counts_no_try():
    w = World()
    lane, _ = w.lane(retry=RetryPolicy(max_age_s=100), start=False)
    w.journal.preload("d", 1)

    async def main():
        await asyncio.sleep(101)
        lane.start(w.loop)
        await asyncio.sleep(1)

    run(main(), w.loop)
    assert len(w.buried) == 1
    assert w.metrics.attempts_per_event.values[("d",)].sum == 0


def test_the_sources_that_send_here_have_rows_before_anything_came():
    w = World()
    lane, _ = w.lane()
    lane.configure(lane.outlet, ["shop"])
    assert w.metrics.delivery_latency.values[("shop", "d")].sum == 0
    assert w.metrics.resigned.values[("shop",)] == 0
    assert w.retired == []
    w.loop.close()


def test_the_running_tries_of_one_backend_can_be_interrupted():
    w = World()
    told = []
    w.around = msgspec.structs.replace(w.around, progress=lambda: told.append(w.lanes["d"].in_flight))
    lane, backend = w.lane(lambda d, n: (5.0, OK))

    async def main():
        await asyncio.sleep(1)
        for _ in range(3):
            w.journal.append("d")
        await asyncio.sleep(1)
        lane.stop()
        told.clear()
        lane.cancel(lane.outlet)
        return lane.in_flight, len(backend.running), len(lane.hand)

    assert run(main(), w.loop) == (0, 0, 0)
    assert told == [2, 1, 0]
    assert w.metrics.attempts.values[("d", "interrupted")] == 3
    assert w.journal.states("d") == ["pending"] * 3


def test_whoever_waits_for_a_stopped_lane_hears_of_each_try_and_each_commit():
    w = World(delay_s=0.2)
    told = []
    w.around = msgspec.structs.replace(w.around, progress=lambda: told.append(w.loop.now_s))
    lane, _ = w.lane(lambda d, n: (1.0, Result(503) if d.event.seq == 1 else OK), hold_after=1, concurrency=1)

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(0.9)
        assert lane.in_flight == 1
        lane.stop()
        told.clear()
        await asyncio.sleep(5)

    run(main(), w.loop)
    assert len(told) == 2, "the end of the try, and of its commit"


def test_whoever_waits_for_a_working_lane_hears_when_it_has_looked_round():
    w = World()
    told = []
    w.around = msgspec.structs.replace(w.around, progress=lambda: told.append(w.lanes["d"].unsettled))
    w.lane()

    async def main():
        await asyncio.sleep(1)
        told.clear()
        w.journal.append("d")
        await asyncio.sleep(1)

    run(main(), w.loop)
    assert told[-1] == 0


def test_where_a_restart_begins_is_noted_every_64_settled_and_when_nothing_is_left():
    w = World()
    notes = []
    real = w.journal.note_fresh_from
    w.journal.note_fresh_from = lambda name, seq: (notes.append(seq), real(name, seq))
    w.journal.preload("d", 200)
    w.lane(concurrency=1)

    async def main():
        await asyncio.sleep(30)

    run(main(), w.loop)
    assert notes == [65, 129, 193, 201]


def test_ready_says_whether_waiting_is_worth_while():
    w = World()
    up = [True]
    lane, _ = w.lane(lambda d, n: (1.0, OK if up[0] else REFUSED), start=False)

    async def main():
        far = w.journal.clock_ms() + 1000
        assert not lane.ready(far)  # not started
        lane.start(w.loop)
        assert lane.ready(far)  # nobody has looked yet
        await asyncio.sleep(1)
        assert not lane.ready(far)
        w.journal.append("d")
        await asyncio.sleep(0.5)
        assert lane.ready(far)  # in flight
        await asyncio.sleep(2)
        assert not lane.ready(far)
        up[0] = False
        w.journal.append("d")
        await asyncio.sleep(1.5)
        assert lane.hold.held
        assert not lane.ready(far)  # nothing is expected of a held one
        lane.configure(None)
        assert not lane.ready(far)

    run(main(), w.loop)


def test_a_lane_that_waits_for_a_due_time_is_ready_only_before_it():
    w = World()
    lane, _ = w.lane(Result(500))

    async def main():
        w.journal.append("d")
        await asyncio.sleep(0.5)
        now, due = w.journal.clock_ms(), lane.hand.next_due_at_ms
        return lane.ready(now), lane.ready(due - 1), lane.ready(due), lane.ready(now + 1000)

    assert run(main(), w.loop) == (False, False, True, True)


def test_a_short_wait_is_kept_to_the_millisecond():
    w = World()
    _, backend = w.lane(Result(500), retry=RetryPolicy(jitter=0.0, base_s=0.1, factor=1.0))

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(5)

    run(main(), w.loop)
    times = [t for t, _, _ in backend.tries]
    assert [b - a for a, b in itertools.pairwise(times)] == [pytest.approx(0.12, abs=0.02)] * 3


def test_a_destination_that_is_configured_late_is_served_at_once():
    w = World()
    lane, _ = w.lane()
    outlet = lane.outlet

    async def main():
        await asyncio.sleep(1)
        lane.configure(None)
        w.journal.append("d")
        await asyncio.sleep(1)
        assert w.journal.states("d") == ["pending"]
        _, backend = w.lane(start=False)
        at_s = w.loop.now_s
        await asyncio.sleep(1)
        return backend.tries[0][0] - at_s

    assert run(main(), w.loop) < 0.1
    assert w.retired == [outlet]


def test_a_stopped_lane_can_be_started_again():
    w = World()
    lane, backend = w.lane(lambda d, n: (0.01, Result(500) if n == 1 else OK))
    noted = w.journal.noted

    async def main():
        await asyncio.sleep(1)
        lane.stop()
        assert noted == {"d": 1}, "where a restart begins is noted, also when nothing came"
        lane.start(w.loop)
        w.journal.append("d")
        await asyncio.sleep(0.5)
        lane.stop()
        await asyncio.sleep(0.1)
        lane.start(w.loop)
        await asyncio.sleep(2)

    run(main(), w.loop)
    assert w.journal.states("d") == ["delivered"]
    assert 1 <= backend.tries[1][0] - backend.tries[0][0] < 1.1


def test_with_many_unsettled_a_held_lane_looks_for_old_ones_later_and_does_not_spin():
    w = World(delay_s=100.0)
    lane, _ = w.lane(lambda d, n: (0.0, OK), concurrency=200)

    async def main():
        await asyncio.sleep(1000)
        for _ in range(200):
            w.journal.append("d")
        for _ in range(2000):
            await asyncio.sleep(0.1)
            if lane.unsettled >= 150:
                break
        lane.configure(None)
        turns = w.loop.turns
        await asyncio.sleep(50)
        assert lane.unsettled >= 150
        return w.loop.turns - turns

    assert 400 < run(main(), w.loop) < 600, "ten times a second"


def test_a_dead_backend_for_seven_days_costs_bounded_attempts():
    w = World()
    _, backend = w.lane(REFUSED, retry=RetryPolicy(max_age_s=30 * 86400))
    w.journal.preload("d", 100)

    async def main():
        await asyncio.sleep(7 * 86400)

    run(main(), w.loop)
    assert len(backend.tries) < 7 * 86400 / 28
    assert w.journal.count("d", State.PENDING) == 100


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_lost_and_nothing_is_tried_again_without_need(seed):
    """Random arrivals, backlogs, failures, operators and delays: every delivery ends, each try has its reason."""
    rand = random.Random(seed)
    w = World(seed=seed, max_buffered=rand.choice((5_000, 50_000, 1 << 20)), delay_s=rand.choice((0.001, 0.02, 0.3)))
    results = [OK, OK, OK, Result(500), Result(503), TIMEOUT, REFUSED, Result(422)]
    given: list[tuple[int, int, Result]] = []

    def script(d: Delivery, n: int):
        result = rand.choice(results) if n < 2000 else OK
        given.append((d.event.seq, d.attempts + 1, result))
        return rand.random() * rand.choice((0.01, 0.3)), result

    lane, _ = w.lane(
        script,
        retry=RetryPolicy(base_s=rand.choice((0.001, 0.1)), jitter=0.1, max_age_s=1e9),
        concurrency=rand.choice((1, 4, 16)),
        hold_after=rand.choice((0, 3, 20)),
    )
    w.journal.preload("d", rand.choice((0, 300)), b"x" * 100)

    async def main():
        for _ in range(rand.choice((50, 300))):
            w.journal.append("d", "other", body=b"y" * rand.randrange(2000))
            if rand.random() < 0.3:
                await asyncio.sleep(rand.random() * 0.2)
        for _ in range(1000):
            await asyncio.sleep(100)
            if not w.journal.count("d", State.PENDING):
                break

    run(main(), w.loop)
    rows = w.journal.rows["d"]
    assert {r.state for r in rows.values()} <= {State.DELIVERED, State.DYING}
    assert w.journal.stale == []
    # The same number of the same delivery is tried again only where the first one used no attempt.
    last: dict[tuple[int, int], Result] = {}
    for seq, number, result in given:
        before = last.get((seq, number))
        assert before is None or before in (REFUSED, TIMEOUT, Result(503)), f"{seq} was tried again after {before}"
        last[seq, number] = result
    assert len(lane.hand) == 0
    assert w.budget.used_bytes == 0
