"""The journal's folder and its first file are on disk, names included, before anything is acknowledged."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import lmdb
import pytest

from sidecar.clock import Clock
from sidecar.errors import JournalError, JournalFormatError
from sidecar.journal import Journal, environment, meta, records
from sidecar.journal.clock import ClockReading
from sidecar.journal.types import JournalOptions
from tests.support.journals import Books


def flushed(path, monkeypatch) -> set[str]:
    """Open and close a journal; the folders and files that were flushed meanwhile."""
    seen: set[str] = set()
    honest = os.fsync

    def fsync(fd: int) -> None:
        seen.add(os.readlink(f"/proc/self/fd/{fd}"))
        honest(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    Journal.open(JournalOptions(path=str(path), max_size_bytes=16 << 20), Clock()).close()
    return seen


def test_the_name_of_every_folder_that_is_made_is_flushed(tmp_path, monkeypatch):
    """A power cut may otherwise take the folder away, and the journal in it."""
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= flushed(tmp_path / "a" / "b", monkeypatch)


def test_the_name_of_a_folder_that_a_killed_process_made_is_flushed(tmp_path, monkeypatch):
    """It exists, but nobody knows whether its name is on disk."""
    (tmp_path / "b").mkdir()
    assert str(tmp_path) in flushed(tmp_path / "b", monkeypatch)


def test_a_journal_whose_last_opener_did_not_give_it_back_is_checked_first(tmp_path, monkeypatch):
    """A page that rotted may end a process before it has written that it began."""
    checked: list[str] = []
    monkeypatch.setattr(environment, "_verify", checked.append)
    options = JournalOptions(path=str(tmp_path / "j"), max_size_bytes=16 << 20)

    def open_and_close() -> None:
        environment.open_environment(options, wall=ClockReading(1, "", 1, 1)).close()

    open_and_close()
    open_and_close()
    assert checked == [], "closed in order"
    (tmp_path / "j" / "journal.lock").write_text("4711\n")
    open_and_close()
    assert checked == [options.path]
    open_and_close()
    assert checked == [options.path], "once it was opened and closed, all is in order again"


async def test_a_page_that_rotted_in_the_head_of_the_journal_is_one_clear_line(tmp_path):
    """LMDB notices only when the page is used, which is after the file was opened."""
    books = Books.open(str(tmp_path), max_size_bytes=16 << 20)
    for _ in range(10):  # each leaves pages that are free, and a list of them
        await books.stored()
    await books.journal.aclose()
    data = tmp_path / "data.mdb"
    whole = data.read_bytes()
    refused: list[str] = []
    for page in range(2, len(whole) // 4096):
        data.write_bytes(whole[: page * 4096] + bytes(4096) + whole[(page + 1) * 4096 :])
        try:
            Journal.open(JournalOptions(path=str(tmp_path), max_size_bytes=16 << 20), Clock()).close()
        except JournalError as e:
            refused.append(e.message)
    assert refused
    assert not any("\n" in line for line in refused)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def io_error(*_: object, **__: object) -> None:
    raise lmdb.Error("mdb_txn_begin: Input/output error")  # as LMDB calls a short write


@pytest.mark.parametrize(
    ("module", "name", "what"),
    [(os, "posix_fallocate", "No space left"), (os, "mkdir", "No space left"), (lmdb, "open", "Input/output error")],
)
def test_a_first_start_without_room_is_one_clear_line(tmp_path, monkeypatch, module, name, what):
    monkeypatch.setattr(module, name, io_error if module is lmdb else full)
    with pytest.raises(JournalError, match=what):
        Journal.open(JournalOptions(path=str(tmp_path), max_size_bytes=16 << 20), Clock())


@pytest.mark.parametrize("read_only", [False, True], ids=["to write", "to read"])
@pytest.mark.parametrize("module", [os, os.path, lmdb], ids=["the lock", "its size", "LMDB"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_a_disk_that_fails_under_a_journal_that_is_there_is_one_clear_line(
    tmp_path, monkeypatch, code, module, read_only
):
    """What the system said and what to do, exit code 74; and the lock is free again."""
    options = JournalOptions(path=str(tmp_path), max_size_bytes=16 << 20)
    Journal.open(options, Clock()).close()
    what = os.strerror(code)

    def fail(*_: object, **__: object) -> None:
        raise lmdb.Error(what) if module is lmdb else OSError(code, what)

    with monkeypatch.context() as broken:
        broken.setattr(module, "getsize" if module is os.path else "open", fail)
        with pytest.raises(JournalError, match=what) as refused:
            Journal.open(options, Clock(), read_only=read_only)
    assert refused.value.exit_code == 74
    assert "\n" not in refused.value.message
    assert "disk" in refused.value.hint or code == errno.EROFS
    Journal.open(options, Clock()).close()


def test_new_names_that_cannot_be_written_are_one_clear_line(tmp_path, monkeypatch):
    journal = Journal.open(JournalOptions(path=str(tmp_path), max_size_bytes=16 << 20), Clock())
    monkeypatch.setattr(
        journal._environment, "env", SimpleNamespace(begin=io_error, close=journal._environment.env.close)
    )
    with pytest.raises(JournalError, match=r"cannot be written.*Input/output error"):
        journal.register(["new"], ["new"])
    journal.close()


@pytest.mark.parametrize("where", ["adopt", "DedupIndex.load", "Books.load"])
@pytest.mark.parametrize("error", [lmdb.Error("mdb_get: Input/output error"), lmdb.CorruptedError("mdb_get")])
def test_a_disk_that_fails_while_the_rows_are_read_is_one_clear_line_too(tmp_path, monkeypatch, where, error):
    """And the lock is given back, so that the next try finds what there is."""
    options = JournalOptions(path=str(tmp_path), max_size_bytes=16 << 20)
    Journal.open(options, Clock()).close()

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(f"sidecar.journal.journal.{where}", fail)
        with pytest.raises(JournalError) as caught:
            Journal.open(options, Clock())
    assert "\n" not in caught.value.message
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint
    Journal.open(options, Clock()).close()


def test_the_lock_file_that_lmdb_maps_has_its_blocks(tmp_path):
    """Where it has none and the disk is full, writing to the map ends the process with SIGBUS."""
    Journal.open(JournalOptions(path=str(tmp_path), max_size_bytes=16 << 20), Clock()).close()
    info = (tmp_path / "lock.mdb").stat()
    assert info.st_blocks * 512 >= info.st_size > 0


# --- a newer journal


def wrong_with_a_newer_journal(path: Path, *, at: int, value: object) -> list[str]:
    """Make a journal that a newer version wrote, with one field of its identity changed, and open it as it is."""
    options = JournalOptions(path=str(path), max_size_bytes=16 << 20)
    Journal.open(options, Clock()).close()
    env = lmdb.open(str(path), max_dbs=16, map_size=16 << 20)
    with env.begin(write=True) as txn:
        table = env.open_db(b"meta", txn=txn)
        identity = meta.unpack(txn.get(b"identity", db=table), list)
        identity[at] = value
        txn.put(b"identity", meta.pack(identity), db=table)
    env.close()
    before = (path / "data.mdb").read_bytes()
    wrong = []
    try:
        journal = Journal.open(options, Clock())
        journal.register(["s"], ["app"])
        journal.close()
        wrong.append("opened")
    except JournalFormatError as e:
        if "newer version" not in e.message:
            wrong.append("refused for another reason")
    if (path / "data.mdb").read_bytes() != before:
        wrong.append("touched")
    return wrong


NEWER = [pytest.param(0, records.FORMAT + 1, id="format"), pytest.param(1, ["later"], id="feature")]


@pytest.mark.parametrize(("at", "value"), NEWER)
def test_a_newer_journal_is_refused_untouched(at, value, tmp_path):
    assert wrong_with_a_newer_journal(tmp_path / "j", at=at, value=value) == []


def test_an_opener_that_reads_any_format_is_caught(tmp_path, monkeypatch):
    """The control: without the comparison the journal opens, and what is written at the close is seen."""
    monkeypatch.setattr(environment, "FORMAT", 99)
    assert wrong_with_a_newer_journal(tmp_path / "j", at=0, value=2) == ["opened", "touched"]
