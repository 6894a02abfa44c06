"""All lanes together: configured live, fed by commits, drained and stopped; one never costs another anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.lifecycle import Change
from sidecar.model import State
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters
from sidecar.outbound.deliver import HttpOptions, Result
from sidecar.outbound.dispatch import DestinationOptions, Dispatcher
from sidecar.outbound.meters import OUTCOMES
from sidecar.outbound.retry import RetryPolicy
from tests.support.lane_world import OK, REFUSED, ModelBackend, Script, World
from tests.support.virtual import run


class House:
    """A dispatcher over a model journal; each URL names a script."""

    def __init__(self, path: Path, **scripts: Script | Result) -> None:
        self.world = World()
        self.loop, self.journal = self.world.loop, self.world.journal
        self.scripts = scripts
        self.backends: dict[str, list[ModelBackend]] = {}
        letters = DeadLetters(DeadLetterOptions(path=str(path / "dead")), b"k")
        letters.open()
        self.dispatcher = self._new(letters)
        self.letters = letters

    def _new(self, letters: DeadLetters) -> Dispatcher:
        w = self.world
        dispatcher = Dispatcher(
            w.journal,
            w.metrics,
            w.feed,
            w.clock,
            max_buffered_bytes=1 << 20,
            deadletters=letters,
            resign=lambda event, now: None,
            rand=lambda: 0.5,
            kinds={"http": self._make},
        )
        w.journal.on_batch = dispatcher.on_batch
        w.journal.on_due = dispatcher.on_due
        return dispatcher

    def restart(self) -> None:
        self.dispatcher = self._new(self.letters)

    def _make(self, name, http, clock):
        if http.url == "bad":
            raise ValueError(name)
        given = self.scripts.get(http.url, OK)
        script = given if callable(given) else (lambda d, n: (0.01, given))
        backend = ModelBackend(self.loop, self.world.clock, script)
        self.backends.setdefault(name, []).append(backend)
        return backend

    def configure(self, *names: str, **more) -> None:
        self.dispatcher.configure([self.options(n) for n in names], **more)

    def options(self, name: str, url: str = "", **more) -> DestinationOptions:
        retry = RetryPolicy(jitter=0.0)
        return DestinationOptions(name=name, http=HttpOptions(url=url or name), retry=retry, **more)

    def status(self, name: str):
        return next(s for s in self.dispatcher.status() if s.name == name)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, dead=REFUSED, broken=Result(500), no=Result(422), slow=lambda d, n: (5.0, OK))


def _run(house: House, main) -> None:
    async def all_of():
        await main()
        await house.dispatcher.stop()

    run(all_of(), house.loop)


def test_every_destination_has_its_own_state(house):
    house.configure("app", "dead", "broken", "no")

    async def main():
        house.dispatcher.start()
        for _ in range(3):
            house.journal.append("app", "dead", "broken", "no")
        await asyncio.sleep(30)

    _run(house, main)
    assert house.journal.states("app") == ["delivered"] * 3
    assert house.journal.states("dead") == ["pending"] * 3
    assert house.journal.states("broken") == ["dead"] * 3
    assert house.journal.states("no") == ["dead"] * 3
    assert len(house.letters.ls()) == 6


def test_a_dead_and_a_slow_destination_cost_a_healthy_one_nothing(house):
    house.configure("app", "dead", "slow")
    late: list[float] = []

    async def main():
        house.dispatcher.start()
        for _ in range(300):
            house.journal.append("app", "dead", "slow", body=b"x" * 10_000)
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)

    _run(house, main)
    assert house.journal.count("app", State.DELIVERED) == 300
    (backend,) = house.backends["app"]
    rows = house.journal.rows["app"]
    late = [t * 1000 - rows[seq].event.accepted_at_ms for t, seq, _ in backend.tries]
    assert max(late) < 20


def test_all_label_combinations_are_there_at_zero(house):
    house.configure("app", routes={"app": ["stripe"]})
    metrics = house.world.metrics
    assert {("app", o): 0 for o in OUTCOMES} == metrics.attempts.values
    assert metrics.held.values == {("app",): 0}
    assert ("stripe", "app") in metrics.delivery_latency.values
    assert ("stripe",) in metrics.resigned.values
    assert set(metrics.dead_lettered.values) == {("app", r) for r in ("rejected", "attempts_exhausted", "expired")}
    house.loop.close()


def test_configuring_is_all_or_nothing(house):
    house.configure("app")
    with pytest.raises(ValueError, match="other"):
        house.dispatcher.configure(
            [house.options("new"), house.options("app", hold_after=3), house.options("other", url="bad")]
        )
    assert list(house.dispatcher.lanes) == ["app"]
    assert house.dispatcher.lanes["app"].outlet.options == house.options("app")
    house.loop.close()


def test_what_did_not_change_keeps_its_connections(house):
    house.configure("app")
    house.dispatcher.configure([house.options("app", hold_after=3)])
    assert len(house.backends["app"]) == 1
    house.dispatcher.configure([house.options("app", url="slow")], max_buffered_bytes=4096)
    assert len(house.backends["app"]) == 2
    house.loop.close()


def test_a_changed_destination_ends_its_tries_on_the_old_one_and_closes_it(house):
    house.configure("slow")

    async def main():
        house.dispatcher.start()
        house.journal.append("slow")
        await asyncio.sleep(1)
        house.dispatcher.configure([house.options("slow", url="app")])
        house.journal.append("slow")
        await asyncio.sleep(1)
        old, new = house.backends["slow"]
        assert (old.closed, new.seqs()) == (False, [2])
        await asyncio.sleep(5)
        assert old.closed
        house.dispatcher.configure([house.options("slow", url="slow")])
        await asyncio.sleep(0.1)
        assert new.closed

    _run(house, main)
    assert house.journal.states("slow") == ["delivered"] * 2


def test_stopping_interrupts_old_backends_too(house):
    house.configure("slow")

    async def main():
        house.dispatcher.start()
        house.journal.append("slow")
        await asyncio.sleep(1)
        house.dispatcher.configure([house.options("slow", url="app")])

    _run(house, main)
    assert all(b.closed for b in house.backends["slow"])
    assert house.journal.states("slow") == ["pending"]


def test_a_removed_destination_keeps_its_deliveries_until_it_returns(house):
    house.configure("app", "broken")

    async def main():
        house.dispatcher.start()
        house.journal.append("app", "broken")
        await asyncio.sleep(0.5)
        house.configure("app")
        status = house.status("broken")
        assert (status.configured, status.held, status.pending) == (False, True, 1)
        house.journal.append("app", "broken")  # was on its way
        await asyncio.sleep(60)
        tries = len(house.backends["broken"][0].tries)
        assert tries == 1
        assert house.status("broken").pending == 2
        house.configure("app")
        house.dispatcher.configure([house.options("app"), house.options("broken", url="app")])
        await asyncio.sleep(1)
        assert house.journal.states("broken") == ["delivered"] * 2
        house.configure("app")
        assert list(house.dispatcher.lanes) == ["app"]
        assert ("broken",) not in house.world.metrics.held.values

    _run(house, main)


def test_deliveries_of_unknown_destinations_are_held_from_the_start(house):
    house.journal.preload("gone", 5)
    house.configure("app")
    assert house.status("gone").pending == 5
    assert house.world.metrics.held.values[("gone",)] == 1

    async def main():
        house.dispatcher.start()
        house.journal.append("app", "never-heard-of")
        await asyncio.sleep(1)
        assert house.status("never-heard-of").held
        row = house.journal.rows["never-heard-of"][6]
        row.state = State.DISCARDED
        house.journal.rows["third"] = {6: row}
        house.journal.operate("third", 6, Change.REPLAY)
        await asyncio.sleep(1)
        assert house.status("third").held

    _run(house, main)


def test_a_restart_resumes_where_it_was(house):
    house.configure("app", "slow")

    async def main():
        house.dispatcher.start()
        for _ in range(40):
            house.journal.append("app", "slow")
        await asyncio.sleep(7)
        await house.dispatcher.stop()
        done = house.journal.count("slow", State.DELIVERED)
        assert done == 16
        house.restart()
        house.configure("app", "slow")
        house.dispatcher.start()
        await asyncio.sleep(20)

    _run(house, main)
    assert house.journal.count("slow", State.DELIVERED) == 40
    first, second = house.backends["slow"]
    assert sorted(first.seqs()[:16] + second.seqs()) == list(range(1, 41))
    assert all(r.attempts == 1 for r in house.journal.rows["slow"].values())
    assert house.backends["app"][1].tries == []


# --- drain and stop


def test_a_drain_ends_as_soon_as_nothing_can_be_delivered(house):
    house.configure("slow", "app")

    async def main():
        house.dispatcher.start()
        for _ in range(20):
            house.journal.append("slow", "app")
        await asyncio.sleep(0.5)
        began = house.loop.now_s
        assert await house.dispatcher.drain(60) == 0
        assert 9 < house.loop.now_s - began < 10.5
        assert await house.dispatcher.drain(60) == 0
        assert house.loop.now_s - began < 10.6
        house.journal.append("app")  # a drain stops nothing
        await asyncio.sleep(1)
        assert house.journal.count("app", State.DELIVERED) == 21

    _run(house, main)


def test_a_drain_ends_when_its_time_is_over(house):
    house.configure("slow")

    async def main():
        house.dispatcher.start()
        for _ in range(100):
            house.journal.append("slow")
        await asyncio.sleep(0.5)
        began = house.loop.now_s
        assert await house.dispatcher.drain(7) > 50
        assert house.loop.now_s - began == pytest.approx(7, abs=0.1)

    _run(house, main)


def test_a_drain_waits_for_retries_within_its_time_and_for_dead_letters_but_not_for_the_held(house):
    house.configure("broken", "dead")

    async def main():
        house.dispatcher.start()
        house.journal.append("broken", "dead")
        await asyncio.sleep(0.1)
        began = house.loop.now_s
        assert await house.dispatcher.drain(60) == 1  # the held one
        assert house.loop.now_s - began == pytest.approx(7, abs=0.5)

    _run(house, main)
    assert house.journal.states("broken") == ["dead"]


def test_stopping_lets_running_tries_end_within_the_grace(house):
    house.configure("slow")

    async def main():
        house.dispatcher.start()
        for _ in range(20):
            house.journal.append("slow")
        await asyncio.sleep(1)
        began = house.loop.now_s
        await house.dispatcher.stop(10)
        assert house.loop.now_s - began < 5
        await asyncio.sleep(1)

    _run(house, main)
    assert house.journal.count("slow", State.DELIVERED) == 16
    assert len(house.backends["slow"][0].tries) == 16


def test_stopping_interrupts_what_runs_longer_and_uses_no_attempt(house):
    house.configure("slow")

    async def main():
        house.dispatcher.start()
        for _ in range(3):
            house.journal.append("slow")
        await asyncio.sleep(1)
        await house.dispatcher.stop(1)
        await house.dispatcher.stop()

    _run(house, main)
    assert house.journal.states("slow") == ["pending"] * 3
    assert all(r.attempts == 0 for r in house.journal.rows["slow"].values())
    assert house.journal.noted["slow"] == 1


def test_stopping_what_never_began_is_nothing(house):
    house.configure("app")
    _run(house, lambda: asyncio.sleep(0))


# --- status


def test_the_status_adds_up(house):
    house.configure("slow", "broken", "dead")

    async def main():
        house.dispatcher.start()
        for _ in range(40):
            house.journal.append("slow", "broken", "dead")
        await asyncio.sleep(0.5)
        for s in house.dispatcher.status():
            assert s.pending == s.ready + s.scheduled + s.in_flight + s.dying == 40
        assert house.status("slow").in_flight == 16
        assert house.status("broken").scheduled == 40
        dead = house.status("dead")
        assert dead.held
        assert dead.held_for_s == pytest.approx(0.48, abs=0.1)
        assert dead.next_probe_in_s == pytest.approx(0.45, abs=0.1)
        assert dead.last_error == "connection refused"
        assert dead.behind

    _run(house, main)
