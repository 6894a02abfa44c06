"""A copy of a journal is a journal of its own from the moment a daemon opens it."""

from __future__ import annotations

import os
import stat

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
