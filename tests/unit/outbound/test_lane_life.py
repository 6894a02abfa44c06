"""A lane is configured, started and stopped, and whoever is concerned hears of what it does."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from sidecar.log import Logger
from sidecar.model import Delivery, State
from sidecar.outbound.deliver import Result
from sidecar.outbound.lane import Lane
from sidecar.outbound.retry import RetryPolicy
from tests.support.lane_world import OK, REFUSED, World
from tests.support.virtual import run

PAUSING = Result(503, retry_after=b"2")


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


def test_a_new_lane_has_nothing_under_way():
    w = World()
    lane = Lane("d", w.around, w.retired.append)
    assert (lane.in_flight, lane.in_flight_due, lane.unsettled, lane.outlet) == (0, 0, 0, None)
    assert lane.policy == RetryPolicy()
    assert (lane.hold.held, lane.hand.capacity) == (False, 256)
    w.loop.close()


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
