"""A copy of a journal is a journal of its own from the moment a daemon opens it."""

from __future__ import annotations

import asyncio
import os
import stat
import threading

import lmdb
import pytest

from sidecar.errors import JournalError
from sidecar.journal import copies
from sidecar.journal.environment import Environment
from tests.support.journals import Books, make_event


def data_file(path: str) -> tuple[int, int]:
    """Its size and its mode."""
    status = os.stat(os.path.join(path, "data.mdb"))
    return status.st_size, stat.S_IMODE(status.st_mode)


async def test_a_copy_gives_out_other_ids_and_still_knows_the_old_ones(tmp_path):
    """So two daemons that grew out of one never give two events one id."""
    books = Books.open(str(tmp_path / "journal"))
    old = await books.stored(b"old")
    copy = str(tmp_path / "copy")
    size = await books.journal.backup(copy)
    assert data_file(copy) == (size, 0o600)
    other = Books.open(copy)
    assert other.journal.journal_id != books.journal.journal_id
    here, there = make_event(b"new"), make_event(b"new")
    await books.append(here)
    await other.append(there)
    assert here.id != there.id
    for event in (old, there):
        view = await other.journal.event(event.id)
        assert view.event.body == event.body
    await books.journal.aclose()
    await other.journal.aclose()


async def test_a_copy_takes_a_new_id_once_and_only_to_write(tmp_path):
    """Looking into it leaves it a copy; opening it twice changes nothing more."""
    books = Books.open(str(tmp_path / "journal"))
    copy = str(tmp_path / "copy")
    await books.journal.backup(copy)
    looked = Books.open(copy, read_only=True)
    assert looked.journal.journal_id == books.journal.journal_id
    await looked.journal.aclose()
    ids = []
    for _ in range(2):
        other = Books.open(copy)
        ids.append(other.journal.journal_id)
        await other.journal.aclose()
    assert ids[0] == ids[1] != books.journal.journal_id
    await books.journal.aclose()


class Slow:
    """A copy that waits for a word in the middle."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.running, self.most = 0, 0
        self._into = copies._copy_into
        monkeypatch.setattr(copies, "_copy_into", self._slow)

    def _slow(self, environment: Environment, path: str) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        self.begun.set()
        assert self.go.wait(30)
        size = self._into(environment, path)
        self.running -= 1
        return size

    async def wait(self) -> None:
        """Until the first has begun."""
        assert await asyncio.to_thread(self.begun.wait, 30)


async def test_lanes_and_people_do_not_wait_for_a_copy(tmp_path, monkeypatch):
    books, slow = Books.open(str(tmp_path / "journal")), Slow(monkeypatch)
    event = await books.stored(b"here")
    copying = asyncio.ensure_future(books.journal.backup(str(tmp_path / "copy")))
    await slow.wait()
    async with asyncio.timeout(20):
        later = await books.stored(b"later")
        window = await books.journal.window("app", 0, max_events=10, max_bytes=1 << 20, skip=())
        assert [d.event.id for d in window.deliveries] == [event.id, later.id]
        assert await books.journal.event(event.id)
    assert not copying.done()
    slow.go.set()
    assert await copying
    await books.journal.aclose()


async def test_copies_are_made_one_after_the_other(tmp_path, monkeypatch):
    """Each holds a state of its own: several would keep more pages from being used again. Nor does one end when its caller goes."""
    books, slow = Books.open(str(tmp_path / "journal")), Slow(monkeypatch)
    first, second = (asyncio.ensure_future(books.journal.backup(str(tmp_path / name))) for name in ("one", "two"))
    await slow.wait()
    first.cancel()
    slow.go.set()
    assert await second
    assert slow.most == 1
    for name in ("one", "two"):
        assert data_file(str(tmp_path / name))
    await books.journal.aclose()


async def test_the_journal_closes_when_the_copy_is_whole(tmp_path, monkeypatch):
    """Closed under it, the environment would take the process with it; one that has not begun is not made."""
    books, slow = Books.open(str(tmp_path / "journal")), Slow(monkeypatch)
    await books.stored(b"here")
    first, second = (asyncio.ensure_future(books.journal.backup(str(tmp_path / name))) for name in ("one", "two"))
    await slow.wait()
    closing = asyncio.ensure_future(books.journal.aclose())
    with pytest.raises(asyncio.CancelledError):
        await second
    assert not closing.done()
    slow.go.set()
    await closing
    size = await first
    assert data_file(str(tmp_path / "one")) == (size, 0o600)
    assert not (tmp_path / "two").exists()


async def test_nothing_is_copied_over(tmp_path):
    books = Books.open(str(tmp_path / "journal"))
    (tmp_path / "copy").mkdir()
    with pytest.raises(FileExistsError):
        await books.journal.backup(str(tmp_path / "copy"))
    await books.journal.aclose()


@pytest.mark.parametrize("error", [lmdb.DiskError("mdb_env_copy3: No space left on device"), OSError(5, "I/O error")])
async def test_nothing_is_left_of_a_copy_that_failed(tmp_path, monkeypatch, error):
    """Half a journal must not pass for a backup, and the next try must not find its name taken."""
    books = Books.open(str(tmp_path / "journal"))
    copy = str(tmp_path / "copy")
    into = copies._copy_into

    def half(environment: Environment, path: str) -> int:
        into(environment, path)
        raise error

    monkeypatch.setattr(copies, "_copy_into", half)
    with pytest.raises(JournalError if isinstance(error, lmdb.Error) else OSError):
        await books.journal.backup(copy)
    assert os.listdir(tmp_path) == ["journal"]
    monkeypatch.undo()
    assert await books.journal.backup(copy)
    await books.journal.aclose()


async def test_what_died_after_the_backup_comes_back_beside_what_arrives_after_it(tmp_path):
    """Its number is free in the copy and will be given out again: two events of one number would be one too few."""
    books = Books.open(str(tmp_path / "journal"))
    await books.stored()
    await books.journal.aclose()
    looked = Books.open(str(tmp_path / "journal"), read_only=True)
    await looked.journal.backup(str(tmp_path / "copy"))
    await looked.journal.aclose()
    books = Books.open(str(tmp_path / "journal"))
    dead = await books.stored(b"died later")
    await books.journal.aclose()
    other = Books.open(str(tmp_path / "copy"))
    back = make_event(b"died later", id=dead.id)
    back_id = await other.journal.restore(back, "app", (), verified=True)
    arrivals = [await other.stored(b"arrival %d" % n) for n in range(2)]
    view = await other.journal.event(back_id)
    assert (view.event.body, view.event.verified, view.event.replay_of) == (b"died later", True, dead.id)
    for event in arrivals:
        assert (await other.journal.event(event.id)).event.body == event.body
    (row,) = [r for r in (await other.journal.audit(full=True)).rows if r.destination == "app"]
    assert (row.enqueued, row.pending) == (4, 4)
    await other.journal.aclose()
