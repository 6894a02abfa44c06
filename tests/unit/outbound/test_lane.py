"""A lane tries what is owed to one destination: each once at a time, in bounds, by the contract's table."""

from __future__ import annotations

import asyncio
import random

import pytest

from sidecar.lifecycle import Change
from sidecar.model import Delivery, State
from sidecar.outbound.deliver import Result
from sidecar.outbound.lane import MAX_UNSETTLED, queue_bound
from sidecar.outbound.retry import RetryPolicy
from tests.support.lane_world import OK, REFUSED, TIMEOUT, World
from tests.support.virtual import run


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


def test_what_an_operator_takes_away_in_the_queue_is_not_tried():
    """All that is queued is forgotten, and what is still owed is read again at once, not when the running try ends."""
    w = World()
    lane, backend = w.lane(lambda d, n: (10.0, OK), concurrency=1)

    async def main():
        await asyncio.sleep(1)
        _, taken, left = [w.journal.append("d") for _ in range(3)]
        await asyncio.sleep(1)
        assert lane.hand.seqs() >= {taken.seq, left.seq}
        w.journal.operate("d", taken.seq, Change.DISCARD)
        await asyncio.sleep(1)
        lane.on_withdrawn()
        await asyncio.sleep(1)
        assert (taken.seq in lane.hand.seqs(), left.seq in lane.hand.seqs()) == (False, True)
        await asyncio.sleep(30)

    run(main(), w.loop)
    assert w.journal.states("d") == ["delivered", "discarded", "delivered"]
    assert len(backend.tries) == 2


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


@pytest.mark.parametrize(("concurrency", "bound"), [(1, 256), (64, 256), (65, 260), (1000, 4000)])
def test_a_lane_keeps_four_rounds_ready_and_256_at_least(concurrency, bound):
    assert queue_bound(concurrency) == bound
    w = World()
    assert w.lane(concurrency=concurrency)[0].hand.capacity == bound
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


def test_what_is_discarded_and_replayed_during_its_try_is_tried_in_its_new_round():
    """The replay finds it in hand; when the old round's settlement comes to nothing, it is looked for again."""
    w = World()
    _, backend = w.lane(lambda d, n: (1.0, OK))

    async def main():
        event = w.journal.append("d")
        await asyncio.sleep(0.3)
        w.journal.operate("d", event.seq, Change.DISCARD)
        await asyncio.sleep(0.1)
        w.journal.operate("d", event.seq, Change.REPLAY)
        await asyncio.sleep(5)
        return w.journal.rows["d"][event.seq]

    row = run(main(), w.loop)
    assert (row.state, row.round) == (State.DELIVERED, 1)
    assert len(w.journal.stale) == 1
    assert len(backend.tries) == 2


def test_where_a_restart_begins_is_noted_only_when_it_has_moved():
    w = World()
    notes = []
    real = w.journal.note_fresh_from
    w.journal.note_fresh_from = lambda name, seq: (notes.append(seq), real(name, seq))
    lane, backend = w.lane(Result(500))

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(20)
        lane.stop()
        lane.stop()

    run(main(), w.loop)
    assert len(backend.tries) == 4
    assert notes == [2]


def test_a_try_that_could_not_begin_counts_as_one_that_may_have_arrived():
    """It uses an attempt, and the log of the delivery shows it."""
    w = World()

    def script(d: Delivery, n: int):
        if n == 1:
            raise ZeroDivisionError
        return 0.01, OK

    w.lane(script)

    async def main():
        event = w.journal.append("d")
        await asyncio.sleep(5)
        return w.journal.rows["d"][event.seq].log

    first, second = run(main(), w.loop)
    assert (first.outcome, first.error, first.status) == ("reset", "internal error", None)
    assert second.outcome == "2xx"


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
