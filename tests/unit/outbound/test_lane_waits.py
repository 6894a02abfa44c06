"""What a lane waits for: every wait ends at its time, and none is kept for nothing."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from sidecar.model import Delivery, State
from sidecar.outbound.deliver import Result
from sidecar.outbound.retry import RetryPolicy
from tests.support.lane_world import OK, World
from tests.support.virtual import run

PAUSING = Result(503, retry_after=b"2")


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


def test_what_becomes_due_while_the_destination_pauses_is_tried_when_the_pause_is_over():
    """Nothing else happens by then that would make the lane look round."""
    w = World()
    _, backend = w.lane(lambda d, n: (0.01, OK if n > 2 else Result(503, retry_after=b"10") if n == 2 else Result(500)))

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(0.5)
        w.journal.append("d")
        await asyncio.sleep(30)

    run(main(), w.loop)
    at_s = [t - backend.tries[1][0] for t, _, _ in backend.tries[2:]]
    assert at_s == [pytest.approx(10, abs=0.1)] * 2
    assert w.journal.states("d") == ["delivered"] * 2


def test_at_the_very_end_of_a_pause_it_is_over():
    """Whether it is asked for what could be done, or a batch is offered."""
    w = World()
    lane, backend = w.lane(lambda d, n: (0.01, PAUSING if n == 1 else OK))

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(1)
        held_back = []
        w.journal.on_batch = lambda events, seq: held_back.append((events, seq))
        event = w.journal.append("d")
        await asyncio.sleep(0.5)
        due_ms, reads = lane.hand.next_due_at_ms, w.journal.reads
        w.loop.now_s = lane.hold.paused_until_s - 0.001
        before = lane.ready(due_ms)
        w.loop.now_s = lane.hold.paused_until_s
        after = lane.ready(due_ms)
        lane.on_batch(*held_back[0])
        return before, after, backend.seqs() == [1, event.seq], w.journal.reads - reads

    assert run(main(), w.loop) == (False, True, True, 0), "tried from memory, nothing was read"


def test_a_lane_that_waits_for_nothing_sets_no_timer():
    w = World()
    lane, _ = w.lane()
    timers = []
    real = w.loop.call_later

    def call_later(delay_s, callback, *args):
        if getattr(callback, "__self__", None) is lane:
            timers.append(delay_s)
        return real(delay_s, callback, *args)

    w.loop.call_later = call_later

    async def main():
        await asyncio.sleep(1)
        assert w.journal.reads == 2  # of those that are due, and of the fresh ones
        for _ in range(10):
            w.journal.append("d")
        await asyncio.sleep(1)
        lane.on_due()
        await asyncio.sleep(1)

    run(main(), w.loop)
    assert w.journal.count("d", State.DELIVERED) == 10
    assert timers == []


def test_no_timer_of_a_lane_rings_before_there_is_something_to_do_or_after_it_has_stopped():
    """Of two waits the longer one comes first: the shorter takes its place."""
    w = World()
    lane, backend = w.lane(lambda d, n: (0.01, Result(500, retry_after=b"50" if n == 1 else b"40")))

    async def main():
        await asyncio.sleep(1)
        turns = w.loop.turns
        await asyncio.sleep(1)
        idle = w.loop.turns - turns
        for _ in range(2):
            w.journal.append("d")
            await asyncio.sleep(1)
        turns = w.loop.turns
        await asyncio.sleep(38.99)  # until a moment before the shorter wait is over
        waiting = w.loop.turns - turns
        lane.stop()
        turns = w.loop.turns
        await asyncio.sleep(100)
        return waiting - idle, w.loop.turns - turns - idle

    assert run(main(), w.loop) == (0, 0)
    assert len(backend.tries) == 2
