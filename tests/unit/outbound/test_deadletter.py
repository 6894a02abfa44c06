"""The DLQ directory holds whole files only, of our own making, within its quota, and follows no link."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from sidecar.errors import SidecarError
from sidecar.model import Delivery, Event, State, format_event_id
from sidecar.outbound import folder
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters, Problem

KEY = b"k" * 32
NOW = 1_764_000_000_000


def _delivery(n: int = 1, destination: str = "app", body: bytes = b"{}", reason: str = "rejected") -> Delivery:
    event = Event("s", (destination,), NOW + n, b"POST", b"/p", b"", [(b"A", b"b")], body, seq=n)
    event.id = format_event_id(NOW + n, 7, n)
    return Delivery(event, destination, State.DYING, reason=reason)


@pytest.fixture
def letters(tmp_path: Path) -> DeadLetters:
    letters = DeadLetters(DeadLetterOptions(path=str(tmp_path / "dead" / "letters"), max_size_bytes=1 << 20), KEY)
    letters.open()
    return letters


def _write(letters: DeadLetters, *deliveries: Delivery, died: int = NOW):
    return letters.write_many([(d, died) for d in deliveries])


def _file(letters: DeadLetters, delivery: Delivery) -> Path:
    return Path(letters.options.path) / delivery.destination / f"{delivery.event.id}.json"


# --- writing


def test_a_letter_is_where_the_contract_says_and_private(letters):
    d = _delivery()
    assert [w.done for w in _write(letters, d)] == [True]
    path = _file(letters, d)
    assert json.loads(path.read_text())["event_id"] == d.event.id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for directory in (path.parent, path.parent.parent, path.parent.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert path.stat().st_mtime_ns == NOW * 1_000_000
    assert os.listdir(path.parent) == [path.name]


def test_files_are_private_whatever_the_umask(letters):
    old = os.umask(0o777)
    try:
        d = _delivery()
        assert _write(letters, d)[0].done
    finally:
        os.umask(old)
    assert stat.S_IMODE(_file(letters, d).stat().st_mode) == 0o600


def test_many_destinations_at_once_and_the_same_one_again(letters):
    many = [_delivery(n, ("app", "billing")[n % 2]) for n in range(64)]
    assert all(w.done for w in _write(letters, *many))
    assert {n: (t.count) for n, t in letters.totals().items()} == {"app": 32, "billing": 32}
    before = letters.totals()["app"].bytes
    assert _write(letters, many[0])[0].done  # after a crash the same name is written again
    assert (letters.totals()["app"].count, letters.totals()["app"].bytes) == (32, before)


def test_each_file_is_fsynced_before_its_rename_and_its_directory_behind_it(letters, monkeypatch):
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: calls.append("dir" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file") or fsync(fd)
    )
    monkeypatch.setattr(os, "rename", lambda *a, **k: calls.append("rename") or rename(*a, **k))
    _write(letters, _delivery(1), _delivery(2))
    assert calls == ["dir", "file", "rename", "file", "rename", "dir"]


def test_a_directory_made_at_start_survives_a_loss_of_power(tmp_path, monkeypatch):
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    DeadLetters(DeadLetterOptions(path=str(tmp_path / "a" / "b")), KEY).open()
    assert {str(tmp_path), str(tmp_path / "a")} <= set(synced)


def test_a_folder_whose_name_could_not_be_flushed_is_flushed_before_a_letter_in_it_counts(letters, monkeypatch):
    """A letter whose folder a loss of power takes away is lost, and the journal has let it go."""
    base, fsync = letters.options.path, os.fsync
    synced: list[str] = []

    def fail_once(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        if synced == [base]:
            raise OSError(errno.EIO, "no")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail_once)
    assert not _write(letters, _delivery())[0].done
    assert _write(letters, _delivery())[0].done
    assert synced.count(base) == 2


def test_what_a_killed_process_made_is_flushed_at_the_next_start(letters, monkeypatch):
    """It may have died between making a folder and flushing its name."""
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    DeadLetters(letters.options, KEY).open()
    assert letters.options.path in synced


def test_a_left_over_temporary_file_is_no_obstacle_and_is_not_followed(letters, tmp_path):
    d = _delivery()
    _write(letters, _delivery(2))
    victim = tmp_path / "victim"
    victim.write_text("precious")
    temporary = _file(letters, d).parent / f".{d.event.id}.json.tmp"
    temporary.symlink_to(victim)
    assert _write(letters, d)[0].done
    assert victim.read_text() == "precious"
    assert not _file(letters, d).is_symlink()


def test_a_link_in_the_place_of_the_letter_is_replaced_not_followed(letters, tmp_path):
    d = _delivery()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    _write(letters, _delivery(2))
    _file(letters, d).symlink_to(victim)
    assert _write(letters, d)[0].done
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["fsync", "rename", "write"])
def test_an_error_leaves_nothing_half_written_and_the_older_file_alone(letters, monkeypatch, name):
    d = _delivery()
    _write(letters, d)
    old = _file(letters, d).read_bytes()

    def fail(fd, *args, **kwargs):
        if name == "fsync" and stat.S_ISDIR(os.fstat(fd).st_mode):
            return
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, name, fail)
    d.reason = "expired"
    (written,) = _write(letters, d)
    monkeypatch.undo()
    assert (written.done, written.full, written.error) == (False, False, "input/output error")
    assert _file(letters, d).read_bytes() == old
    assert len(os.listdir(_file(letters, d).parent)) == 1


def test_without_the_directorys_fsync_nothing_counts_as_written(letters, monkeypatch):
    _write(letters, _delivery(9))
    fsync = os.fsync

    def fail(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "no")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)
    assert [w.error for w in _write(letters, _delivery(1), _delivery(2))] == ["input/output error"] * 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_full(letters, monkeypatch, code):
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(code, "no")))
    (written,) = _write(letters, _delivery())
    assert (written.done, written.full) == (False, True)


def test_one_bad_folder_does_not_stop_the_others(letters, tmp_path):
    (Path(letters.options.path) / "app").symlink_to(tmp_path)
    result = _write(letters, _delivery(1), _delivery(2, "billing"))
    assert [w.done for w in result] == [False, True]
    assert list(tmp_path.glob("*.json")) == []


def test_a_folder_of_somebody_else_is_not_used(letters, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert _write(letters, _delivery())[0].error == "operation not permitted"


def test_a_directory_that_went_away_is_a_value_and_not_an_exception(letters):
    os.rename(letters.options.path, letters.options.path + "-gone")
    assert [w.error for w in _write(letters, _delivery(1), _delivery(2))] == ["no such file or directory"] * 2
    assert letters.ls() == []
    letters.refresh()
    assert letters.totals() == {}


# --- quota


def test_a_full_quota_drops_nothing_and_takes_again_when_there_is_room(tmp_path):
    letters = DeadLetters(DeadLetterOptions(path=str(tmp_path / "d"), max_size_bytes=2500), KEY)
    letters.open()
    many = [_delivery(n, body=b"x" * 100) for n in range(1, 10)]
    written = _write(letters, *many)
    kept = [d for d, w in zip(many, written, strict=True) if w.done]
    assert 1 <= len(kept) < 9
    assert {w.full for w in written if not w.done} == {True}
    assert letters.totals()["app"].bytes <= 2500
    letters.remove(kept[0].event.id, "app")
    os.unlink(_file(letters, kept[1]))  # by hand: noticed before anything is refused
    assert [w.done for w in _write(letters, many[-1], many[-2])] == [True, True]


def test_an_older_letter_of_the_same_delivery_makes_room_for_the_newer(tmp_path):
    letters = DeadLetters(DeadLetterOptions(path=str(tmp_path / "d"), max_size_bytes=1000), KEY)
    letters.open()
    d = _delivery(body=b"x" * 200)
    assert _write(letters, d)[0].done
    assert _write(letters, d)[0].done


# --- start


def test_open_counts_what_is_there_and_sweeps_what_a_crash_left(letters):
    _write(letters, _delivery(1), died=NOW + 5000)
    _write(letters, _delivery(2), died=NOW)
    home = _file(letters, _delivery(1)).parent
    (home / ".wse_x.json.tmp").write_text("half")
    (home / "README").write_text("a person's")
    (home / "wse_0000000000000000000000000Z.json").mkdir()
    (home.parent / "Not-a-destination").mkdir()
    (home.parent / "afile").write_text("")
    again = DeadLetters(letters.options, KEY)
    again.open()
    totals = again.totals()
    assert set(totals) == {"app"}
    assert (totals["app"].count, totals["app"].oldest_ms) == (2, NOW)
    assert totals["app"].bytes == letters.totals()["app"].bytes
    assert not (home / ".wse_x.json.tmp").exists()
    assert (home / "README").exists()


def test_an_older_directory_is_made_private(tmp_path):
    (tmp_path / "d").mkdir(mode=0o755)
    DeadLetters(DeadLetterOptions(path=str(tmp_path / "d")), KEY).open()
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700


def _refused(path: Path) -> str:
    with pytest.raises(SidecarError) as e:
        DeadLetters(DeadLetterOptions(path=str(path)), KEY).open()
    assert e.value.hint
    return str(e.value)


def test_a_symbolic_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert "symbolic link" in _refused(tmp_path / "link")


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "not a directory" in _refused(tmp_path / "file")
    assert "not a directory" in _refused(tmp_path / "file" / "below")


def test_somebody_elses_directory_is_refused(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "another user" in _refused(tmp_path / "d")


@pytest.mark.parametrize(("code", "words"), [(errno.EROFS, "cannot be written"), (errno.ENOSPC, "ENOSPC")])
def test_a_directory_that_cannot_be_written_is_refused(tmp_path, monkeypatch, code, words):
    (tmp_path / "d").mkdir()
    real = os.open

    def fail(path, flags, *args, **kwargs):
        if flags & os.O_CREAT:
            raise OSError(code, "no")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", fail)
    assert words in _refused(tmp_path / "d")


# --- reading


def test_a_letter_is_read_back_and_agrees(letters):
    d = _delivery(body=b"\xff")
    _write(letters, d)
    reading = letters.read(d.event.id, "app")
    assert reading.problem is None
    assert reading.letter is not None
    assert reading.letter.delivery.event.body == b"\xff"
    assert letters.read_file(str(_file(letters, d))).problem is None


def test_what_is_gone_is_gone(letters):
    d = _delivery()
    assert letters.read(d.event.id, "app").problem is Problem.GONE
    _write(letters, d)
    assert letters.read(_delivery(2).event.id, "app").problem is Problem.GONE
    assert letters.read("../app/x", "app").problem is Problem.GONE
    assert letters.read(d.event.id, "..").problem is Problem.GONE
    assert letters.read_file("/nowhere/at/all.json").problem is Problem.GONE


def test_a_letter_under_another_name_or_folder_does_not_agree(letters):
    d = _delivery()
    _write(letters, d)
    other = _file(letters, d).with_name(f"{_delivery(2).event.id}.json")
    other.write_bytes(_file(letters, d).read_bytes())
    reading = letters.read(_delivery(2).event.id, "app")
    assert reading.problem is Problem.NAME_MISMATCH
    assert reading.letter is not None  # shown, where somebody insists
    billing = other.parent.parent / "billing"
    billing.mkdir()
    (billing / f"{d.event.id}.json").write_bytes(_file(letters, d).read_bytes())
    assert letters.read(d.event.id, "billing").problem is Problem.NAME_MISMATCH


def test_an_edited_letter_and_one_of_another_journal_do_not_agree(letters):
    d = _delivery()
    _write(letters, d)
    path = _file(letters, d)
    path.write_bytes(path.read_bytes().replace(b'"{}"', b'"{ }"'))
    reading = letters.read(d.event.id, "app")
    assert reading.problem is Problem.MAC_MISMATCH
    assert reading.letter is not None
    assert not reading.letter.sealed
    _write(letters, d)
    assert DeadLetters(letters.options, b"other").read(d.event.id, "app").problem is Problem.MAC_MISMATCH


def test_nonsense_is_malformed(letters):
    d = _delivery()
    _write(letters, d)
    _file(letters, d).write_text("{")
    assert letters.read(d.event.id, "app").problem is Problem.MALFORMED


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_only_regular_files_are_read(letters, kind):
    d = _delivery()
    _write(letters, _delivery(2), d)
    path = _file(letters, d)
    path.unlink()
    if kind == "link":
        path.symlink_to(_file(letters, _delivery(2)))
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert letters.read(d.event.id, "app").problem is Problem.NOT_REGULAR
    row = next(r for r in letters.ls() if r.event_id == d.event.id)
    assert (row.head, row.problem) == (None, Problem.NOT_REGULAR)


def test_a_folder_that_is_a_link_is_not_read(letters, tmp_path):
    d = _delivery()
    _write(letters, d)
    home = Path(letters.options.path)
    os.rename(home / "app", tmp_path / "elsewhere")
    (home / "app").symlink_to(tmp_path / "elsewhere")
    assert letters.read(d.event.id, "app").problem is Problem.NOT_REGULAR
    assert letters.ls() == []


def test_what_the_system_refuses_is_unreadable(letters, monkeypatch):
    d = _delivery()
    _write(letters, d)
    real = os.open

    def fail(path, flags, *args, **kwargs):
        if str(path).endswith(".json"):
            raise PermissionError(errno.EACCES, "no")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", fail)
    assert letters.read(d.event.id, "app").problem is Problem.UNREADABLE


def test_a_file_that_cannot_be_read_to_its_end_is_unreadable(letters, monkeypatch):
    d = _delivery()
    _write(letters, d)

    class Broken:
        def __init__(self, fd):
            self.fd = fd

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, limit):
            raise OSError(errno.EIO, "no")

    monkeypatch.setattr(folder.os, "fdopen", lambda fd, mode, closefd: Broken(fd))
    assert letters.read(d.event.id, "app").problem is Problem.UNREADABLE


# --- listing


def test_a_listing_filters_and_limits_and_shows_the_newest_first(letters):
    for n in range(1, 6):
        _write(letters, _delivery(n, reason="expired" if n % 2 else "rejected"), died=NOW + n * 1000)
    _write(letters, _delivery(9, "billing"), died=NOW)
    (_file(letters, _delivery(1)).parent / "README.json").write_text("a person's")
    seqs = lambda rows: [(r.destination, int(r.head.received_at_ms - NOW)) for r in rows]  # noqa: E731
    assert seqs(letters.ls()) == [("app", 5), ("app", 4), ("app", 3), ("app", 2), ("app", 1), ("billing", 9)]
    assert seqs(letters.ls(limit=2)) == [("app", 5), ("app", 4)]
    assert seqs(letters.ls(destination="billing")) == [("billing", 9)]
    assert seqs(letters.ls(destination="nobody")) == []
    assert seqs(letters.ls(reason="expired")) == [("app", 5), ("app", 3), ("app", 1)]
    assert seqs(letters.ls(since_ms=NOW + 2000, until_ms=NOW + 4000)) == [("app", 3), ("app", 2)]
    assert letters.ls()[0].bytes == _file(letters, _delivery(5)).stat().st_size


def test_a_listing_reads_only_the_beginning_of_a_file(letters, monkeypatch):
    _write(letters, _delivery(body=b"x" * 500_000))
    read: list[int] = []
    real = folder.contents

    def watched(fd, name, limit):
        read.append(limit)
        return real(fd, name, limit)

    monkeypatch.setattr("sidecar.outbound.deadletter.contents", watched)
    assert letters.ls()[0].head is not None
    assert max(read) <= 8192


def test_a_listing_shows_what_a_person_laid_out_anew_and_what_is_broken(letters):
    a, b = _delivery(1), _delivery(2)
    _write(letters, a, b)
    _file(letters, a).write_text(json.dumps(json.loads(_file(letters, a).read_text())))
    _file(letters, b).write_text("broken")
    rows = {r.event_id: r for r in letters.ls()}
    assert rows[a.event.id].head is not None
    assert rows[b.event.id].problem is Problem.MALFORMED
    assert [r.event_id for r in letters.ls(reason="rejected")] == [a.event.id]


def test_a_file_that_goes_while_it_is_listed_is_left_out(letters, monkeypatch):
    _write(letters, _delivery())
    monkeypatch.setattr("sidecar.outbound.deadletter.contents", lambda *_: Problem.GONE)
    assert letters.ls() == []


# --- removing


def test_a_removed_letter_is_gone_for_good_and_out_of_the_totals(letters):
    a, b = _delivery(1), _delivery(2)
    _write(letters, a, died=NOW)
    _write(letters, b, died=NOW + 1000)
    assert letters.remove(a.event.id, "app") is None
    assert not _file(letters, a).exists()
    assert letters.totals()["app"].count == 1
    assert letters.oldest_unsure
    letters.refresh()
    assert letters.totals()["app"].oldest_ms == NOW + 1000
    assert letters.remove(b.event.id, "app") is None
    assert letters.totals()["app"] == folder.FolderTotals()
    assert not letters.oldest_unsure
    assert letters.remove(b.event.id, "app") is Problem.GONE
    assert letters.remove("nonsense", "app") is Problem.GONE


def test_a_newer_letter_of_the_same_name_is_not_removed_for_the_older(letters):
    d = _delivery()
    _write(letters, d)
    reading = letters.read(d.event.id, "app")
    assert reading.letter is not None
    d.reason = "expired"
    _write(letters, d, died=NOW + 99)
    assert letters.remove(d.event.id, "app", mac=reading.letter.mac) is Problem.NAME_MISMATCH
    newer = letters.read(d.event.id, "app").letter
    assert newer is not None
    assert letters.remove(d.event.id, "app", mac=newer.mac) is None
    assert letters.remove(d.event.id, "app", mac=newer.mac) is Problem.GONE


def test_removing_what_is_no_file_of_ours_changes_no_totals(letters):
    d = _delivery()
    _write(letters, _delivery(2))
    _file(letters, d).symlink_to("/etc/passwd")
    assert letters.remove(d.event.id, "app") is None
    assert letters.totals()["app"].count == 1
    fresh = DeadLetters(letters.options, KEY)
    assert fresh.remove(_delivery(2).event.id, "app") is None  # not counted yet
    assert fresh.totals() == {}


def test_a_newer_one_that_goes_leaves_the_oldest_sure(letters):
    _write(letters, _delivery(1), died=NOW)
    _write(letters, _delivery(2), died=NOW + 10)
    letters.remove(_delivery(2).event.id, "app")
    assert not letters.oldest_unsure
