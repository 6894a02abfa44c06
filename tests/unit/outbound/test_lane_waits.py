"""What a lane waits for, and what it leaves behind: every wait ends at its time, and none is kept for nothing."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.lifecycle import Change
from sidecar.model import Delivery, State
from sidecar.outbound.deliver import Result
from sidecar.outbound.lane import MAX_UNSETTLED
from sidecar.outbound.retry import RetryPolicy
from tests.support.lane_world import OK, World
from tests.support.virtual import run

PAUSING = Result(503, retry_after=b"2")


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


@pytest.mark.parametrize("gone", ["stopped", "not configured"])
def test_a_lane_that_takes_nothing_keeps_no_bodies_also_when_it_has_paused_before(gone):
    w = World()
    lane, _ = w.lane(lambda d, n: (0.01, PAUSING if n == 1 else OK))

    async def main():
        await asyncio.sleep(1)
        w.journal.append("d")
        await asyncio.sleep(5)
        if gone == "stopped":
            lane.stop()
        else:
            lane.configure(None)
        w.journal.append("d", body=b"x" * 1000)
        await asyncio.sleep(1)
        return w.journal.states("d"), len(lane.hand), w.budget.used_bytes

    assert run(main(), w.loop) == (["delivered", "pending"], 0, 0)


def test_a_destination_that_is_no_longer_configured_keeps_only_what_is_being_tried():
    w = World()
    lane, _ = w.lane(lambda d, n: (5.0, OK), concurrency=1)

    async def main():
        await asyncio.sleep(1)
        for _ in range(10):
            w.journal.append("d", body=b"x" * 1000)
        await asyncio.sleep(1)
        lane.configure(None)
        return lane.in_flight, len(lane.hand), w.budget.used_bytes

    assert run(main(), w.loop) == (1, 1, 1000)


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


def test_a_stopped_lane_takes_in_nothing_of_the_read_under_way():
    w = World(delay_s=1.0)
    w.journal.preload("d", 3)
    lane, _ = w.lane()

    async def main():
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if lane.hand.reading is not None and not lane.hand.reading.due:
                break  # what is due has been asked for first
        assert lane.hand.reading is not None
        lane.stop()
        await asyncio.sleep(10)
        return len(lane.hand), lane.hand.reading, w.budget.used_bytes

    assert run(main(), w.loop) == (0, None, 0)


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
