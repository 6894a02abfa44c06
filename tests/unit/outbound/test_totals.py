"""The totals in memory agree with the files, or say that they may not."""

from __future__ import annotations

import os

import pytest

from sidecar.outbound.folder import FolderTotals
from sidecar.outbound.totals import Totals

IDS = [f"wse_{n:026}" for n in range(1, 4)]


def put(base, folder: str, name: str, size: int, at_ms: int) -> os.stat_result:
    """A file as a dead letter has one; what it is like."""
    (base / folder).mkdir(exist_ok=True)
    path = base / folder / name
    path.write_bytes(b"x" * size)
    os.utime(path, ns=(at_ms * 10**6, at_ms * 10**6))
    return path.stat()


def test_a_file_that_is_replaced_counts_once_and_the_oldest_stays_the_oldest(tmp_path):
    totals = Totals(str(tmp_path))
    totals.written("app", 0, 100, 5_000)
    totals.written("app", 0, 50, 4_000)
    totals.written("app", 50, 70, 6_000)
    totals.written("mail", 0, 1, 9_000)
    assert totals.copy() == {"app": FolderTotals(2, 170, 4_000), "mail": FolderTotals(1, 1, 9_000)}
    assert totals.bytes == 171


def test_a_copy_does_not_change_with_the_files(tmp_path):
    totals = Totals(str(tmp_path))
    totals.written("app", 0, 100, 5_000)
    before = totals.copy()
    totals.written("app", 0, 100, 5_000)
    assert before == {"app": FolderTotals(1, 100, 5_000)}


@pytest.mark.parametrize(("removed", "unsure"), [(0, True), (1, False)])
def test_who_is_oldest_is_unsure_once_the_oldest_has_gone(tmp_path, removed, unsure):
    """Until somebody counts; another file's going changes nothing about it."""
    files = [put(tmp_path, "app", f"{IDS[n]}.json", 10, 1_000 * (n + 1)) for n in range(3)]
    totals = Totals(str(tmp_path))
    totals.recount(sweep=False)
    (tmp_path / "app" / f"{IDS[removed]}.json").unlink()
    totals.removed("app", files[removed])
    assert totals.oldest_unsure is unsure
    assert totals.copy()["app"] == FolderTotals(2, 20, 1_000)
    totals.recount(sweep=False)
    assert not totals.oldest_unsure
    assert totals.copy()["app"] == FolderTotals(2, 20, 2_000 if removed == 0 else 1_000)


def test_a_folder_without_files_has_no_oldest(tmp_path):
    """And what is no file, or of a folder that nobody knows, changes nothing."""
    status = put(tmp_path, "app", f"{IDS[0]}.json", 10, 1_000)
    totals = Totals(str(tmp_path))
    totals.recount(sweep=False)
    totals.removed("app", (tmp_path / "app").stat())
    totals.removed("nobody", status)
    assert totals.copy() == {"app": FolderTotals(1, 10, 1_000)}
    totals.removed("app", status)
    assert totals.copy() == {"app": FolderTotals()}
    assert not totals.oldest_unsure


def test_what_a_crash_left_is_swept_only_where_nobody_writes(tmp_path):
    put(tmp_path, "app", f".{IDS[0]}.json.tmp", 10, 1_000)
    totals = Totals(str(tmp_path))
    totals.recount(sweep=False)
    assert (tmp_path / "app" / f".{IDS[0]}.json.tmp").exists()
    totals.recount(sweep=True)
    assert not (tmp_path / "app" / f".{IDS[0]}.json.tmp").exists()
    assert totals.copy() == {"app": FolderTotals()}


def test_a_directory_that_is_gone_holds_nothing(tmp_path):
    totals = Totals(str(tmp_path / "gone"))
    totals.recount(sweep=False)
    assert totals.copy() == {}
