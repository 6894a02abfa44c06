"""What a lane does while its destination is held or gone: probes, room for others, and what becomes too old."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from sidecar.model import Delivery, State
from sidecar.outbound.deliver import Result
from sidecar.outbound.lane import MAX_UNSETTLED
from sidecar.outbound.retry import RetryPolicy
from tests.support.lane_world import OK, REFUSED, TIMEOUT, World
from tests.support.virtual import run


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


@pytest.mark.parametrize(("unsettled", "looks"), [(MAX_UNSETTLED // 2 - 1, True), (MAX_UNSETTLED // 2, False)])
def test_old_ones_are_looked_for_while_what_a_look_finds_still_fits(unsettled, looks):
    """A look finds up to 64 fresh and 64 waiting ones, and no more than 256 may be unsettled."""
    w = World()
    lane, _ = w.lane(concurrency=200, retry=RetryPolicy(max_age_s=1000))
    settlements, asked = [], []
    real = w.journal.oldest_pending_ms
    w.journal.oldest_pending_ms = lambda name: (asked.append(lane.unsettled), real(name))[1]

    async def main():
        await asyncio.sleep(100)
        w.journal.settle = settlements.append  # the disk hangs: nothing is committed
        for _ in range(unsettled):
            w.journal.append("d")
        await asyncio.sleep(1)
        assert lane.unsettled == len(settlements) == unsettled
        lane.configure(None)
        await asyncio.sleep(10)
        return asked

    assert run(main(), w.loop) == ([unsettled] if looks else [])
