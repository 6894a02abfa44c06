"""The journal's folder and its first file are on disk, names included, before anything is acknowledged."""

from __future__ import annotations

import os

from sidecar.clock import Clock
from sidecar.journal import Journal
from sidecar.journal.types import JournalOptions


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
