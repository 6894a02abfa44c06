"""A delivery leaves the journal only when its file is durable; what cannot be written waits and blocks nobody."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from sidecar.model import DeadReason, Delivery, State
from sidecar.outbound import bury
from sidecar.outbound.bury import Undertaker
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters
from tests.support.lane_world import World
from tests.support.virtual import run


class Place:
    """An undertaker with a model journal and a real directory."""

    def __init__(self, path: Path, max_size: int = 1 << 20) -> None:
        self.world = World()
        self.path = path / "dead"
        self.letters = DeadLetters(DeadLetterOptions(path=str(self.path), max_size_bytes=max_size), b"k")
        self.letters.open()
        self.rounds: list[int] = []
        write_many = self.letters.write_many
        self.letters.write_many = lambda batch: self.rounds.append(len(batch)) or write_many(batch)  # type: ignore[method-assign]
        self.told = 0
        self.journal = self.world.journal
        self.undertaker = Undertaker(self.journal, self.world.metrics, self.world.clock, self.letters, self._tell)

    def _tell(self) -> None:
        self.told += 1

    def dying(self, count: int, destination: str = "app", body: bytes = b"{}") -> list[Delivery]:
        """Make deliveries dying in the journal; they are what ``bury`` would be called with."""
        first = self.journal.next_seq
        self.journal.preload(destination, count, body)
        found = []
        for seq in range(first, first + count):
            row = self.journal.rows[destination][seq]
            row.state, row.reason = State.DYING, DeadReason.REJECTED
            found.append(row.claim(destination))
        return found

    def files(self, destination: str = "app") -> int:
        return len(list((self.path / destination).glob("*.json")))

    def waiting(self, destination: str = "app") -> float:
        return self.world.metrics.dead_letters_waiting.values.get((destination,), 0)

    def run(self, main) -> None:
        async def all_of() -> None:
            self.undertaker.start(self.world.loop)
            try:
                await main()
            finally:
                await self.undertaker.stop()
                await self.undertaker.stop()

        run(all_of(), self.world.loop)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_is_handed_over_is_written_and_then_leaves_the_journal(place):
    async def main():
        for delivery in place.dying(3):
            place.undertaker.bury(delivery)
        assert place.undertaker.busy
        await asyncio.sleep(1)
        assert not place.undertaker.busy

    place.run(main)
    assert place.journal.states("app") == ["dead"] * 3
    assert place.files() == 3
    assert place.told > 0


def test_the_file_is_there_before_the_journal_hears_of_it(place):
    seen: list[int] = []
    settle = place.journal.settle
    place.journal.settle = lambda s: seen.append(place.files()) or settle(s)

    async def main():
        for delivery in place.dying(2):
            place.undertaker.bury(delivery)
        await asyncio.sleep(1)

    place.run(main)
    assert seen == [2, 2]


def test_at_most_64_go_in_one_round(place):
    async def main():
        for delivery in place.dying(200):
            place.undertaker.bury(delivery)
        await asyncio.sleep(5)

    place.run(main)
    assert place.rounds == [64, 64, 64, 8]
    assert place.journal.count("app", State.DEAD) == 200


def test_what_a_former_process_left_is_written_at_the_start(place):
    place.dying(150)
    place.dying(2, "mail")

    async def main():
        await asyncio.sleep(5)

    place.run(main)
    assert (place.files(), place.files("mail")) == (150, 2)
    assert set(place.journal.states("app")) == {"dead"}


def test_many_wait_in_the_journal_and_not_in_memory(tmp_path):
    place = Place(tmp_path, 1 << 30)
    most = [0]

    async def main():
        for delivery in place.dying(2000):
            place.undertaker.bury(delivery)
            most[0] = max(most[0], place.undertaker.waiting)
        await asyncio.sleep(60)

    place.run(main)
    assert most[0] <= bury.QUEUED_MOST
    assert place.journal.count("app", State.DEAD) == 2000


def test_large_ones_wait_in_the_journal_too(tmp_path):
    place = Place(tmp_path, 1 << 30)

    async def main():
        for delivery in place.dying(30, body=b"x" * (1 << 20)):
            place.undertaker.bury(delivery)
        assert place.undertaker.waiting <= 9
        await asyncio.sleep(10)

    place.run(main)
    assert place.journal.count("app", State.DEAD) == 30


def test_a_full_quota_leaves_them_dying_counted_and_tries_again(tmp_path):
    place = Place(tmp_path, max_size=3000)

    async def main():
        for delivery in place.dying(10, body=b"x" * 100):
            place.undertaker.bury(delivery)
        await asyncio.sleep(300)
        dead = place.journal.count("app", State.DEAD)
        assert 1 <= dead < 10
        assert place.waiting() == 10 - dead
        assert not place.undertaker.busy  # nobody need wait for it
        assert len(place.rounds) < 12, "no hot loop"
        place.undertaker.bury(*place.dying(1, body=b"x" * 100))
        assert place.waiting() == 11 - dead, "also while nothing is tried"
        shutil.rmtree(place.path / "app")
        await asyncio.sleep(300)

    place.run(main)
    assert place.journal.count("app", State.DEAD) >= 4
    assert place.journal.count("app", State.DEAD) + place.waiting() == 11


def test_one_destination_that_cannot_be_written_blocks_no_other(place, tmp_path):
    (place.path / "app").symlink_to(tmp_path)

    async def main():
        for delivery in [*place.dying(3), *place.dying(3, "mail")]:
            place.undertaker.bury(delivery)
        await asyncio.sleep(1)
        assert (place.journal.count("mail", State.DEAD), place.waiting()) == (3, 3)
        for delivery in place.dying(2):
            place.undertaker.bury(delivery)
        os.unlink(place.path / "app")
        await asyncio.sleep(100)

    place.run(main)
    assert place.journal.count("app", State.DEAD) == 5
    assert place.waiting() == 0


def test_many_that_fail_at_once_wait_no_longer_than_one(place, tmp_path):
    """Several rounds of one moment are one failure: the room that somebody makes is used after five seconds."""
    (place.path / "app").symlink_to(tmp_path)

    async def main():
        for delivery in place.dying(3 * bury.ROUND):
            place.undertaker.bury(delivery)
        await asyncio.sleep(1)
        assert len(place.rounds) == 3
        os.unlink(place.path / "app")
        await asyncio.sleep(bury.AGAIN_S)

    place.run(main)
    assert place.waiting() == 0
    assert place.files() == 3 * bury.ROUND


def test_one_that_comes_while_its_destination_is_read_is_not_forgotten(place):
    place.dying(1)
    dying = place.journal.dying
    late: list[Delivery] = []

    async def slow(name, *, limit, skip):
        found = await dying(name, limit=limit, skip=skip)
        if not found and not late:
            late.extend(place.dying(1))
            place.undertaker.bury(late[0])  # after the snapshot, before its result
        return found

    place.journal.dying = slow

    async def main():
        await asyncio.sleep(20)

    place.run(main)
    assert late
    assert place.journal.count("app", State.DEAD) == 2


def test_a_delivery_that_is_not_dying_any_more_keeps_its_file_and_is_told(place):
    (delivery,) = place.dying(1)
    place.journal.rows["app"][delivery.event.seq].state = State.DISCARDED

    async def main():
        place.undertaker.bury(delivery)
        await asyncio.sleep(1)

    place.run(main)
    assert len(place.journal.stale) == 1
    assert place.files() == 1


def test_the_same_one_twice_is_written_once(place):
    (delivery,) = place.dying(1)

    async def main():
        place.undertaker.bury(delivery)
        place.undertaker.bury(delivery)
        await asyncio.sleep(1)

    place.run(main)
    assert (place.rounds, place.journal.stale) == ([1], [])


def test_a_journal_that_fails_is_asked_again(place):
    place.dying(1)
    dying = place.journal.dying
    calls = [0]

    async def failing(*args, **kwargs):
        calls[0] += 1
        if calls[0] < 4:
            raise OSError
        return await dying(*args, **kwargs)

    place.journal.dying = failing

    async def main():
        await asyncio.sleep(60)

    place.run(main)
    assert place.journal.count("app", State.DEAD) == 1


def test_letters_that_could_not_even_be_tried_are_fetched_again(place):
    """No memory, or no thread: the round was lost, not what was in it."""
    write_many = place.letters.write_many
    calls = [0]

    def failing(batch):
        calls[0] += 1
        if calls[0] < 3:
            raise MemoryError
        return write_many(batch)

    place.letters.write_many = failing

    async def main():
        for delivery in place.dying(3):
            place.undertaker.bury(delivery)
        await asyncio.sleep(60)

    place.run(main)
    assert place.journal.count("app", State.DEAD) == place.files() == 3


def test_stopping_while_waiting_after_a_failure_does_not_wait(place):
    place.dying(1)

    async def failing(*args, **kwargs):
        raise OSError

    place.journal.dying = failing

    async def main():
        await asyncio.sleep(1)

    place.run(main)
    assert place.world.loop.now_s < 1003


def test_too_many_unsettled_ones_make_it_wait(place, monkeypatch):
    monkeypatch.setattr(bury, "UNSETTLED_MOST", 64)
    place.journal.delay_s = 3.0

    async def main():
        for delivery in place.dying(200):
            place.undertaker.bury(delivery)
        await asyncio.sleep(2)
        assert place.rounds == [64]
        await asyncio.sleep(100)

    place.run(main)
    assert place.journal.count("app", State.DEAD) == 200


def test_files_that_people_remove_are_noticed_in_time(place):
    async def main():
        for delivery in place.dying(2):
            place.undertaker.bury(delivery)
        await asyncio.sleep(1)
        shutil.rmtree(place.path / "app")
        await asyncio.sleep(bury.REFRESH_S + 1)

    place.run(main)
    assert place.letters.totals() == {}


def test_stopping_what_never_began_is_nothing(place):
    async def main():
        await place.undertaker.stop()

    run(main(), place.world.loop)
