"""Arrivals are refused while there is room for settling only, and taken again by themselves."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator

import lmdb
import pytest

from sidecar.journal import room as module
from sidecar.journal.environment import Environment
from sidecar.journal.limits import MIN_RESERVE_BYTES, early_fill, reserve_bytes
from sidecar.journal.room import Room
from sidecar.model import Refusal
from tests.support.clocks import FakeClock
from tests.support.journals import Books

CAPACITY = 64 << 20


@pytest.fixture
async def environment(tmp_path) -> AsyncIterator[Environment]:
    books = Books.open(str(tmp_path / "journal"), max_size_bytes=CAPACITY)
    yield books.journal._environment
    await books.journal.aclose()


@pytest.fixture
def used(environment, monkeypatch):
    """Says how much the journal uses."""
    box = [0]
    monkeypatch.setattr(Environment, "used_bytes", lambda *_: box[0])
    return box


@pytest.fixture
def free(monkeypatch):
    """Says how much the disk has left."""
    box = [1 << 40]

    class Status:
        f_frsize = 1

        @property
        def f_bavail(self) -> int:
            return box[0]

    monkeypatch.setattr(os, "statvfs", lambda _: Status())
    return box


def test_the_reserve_is_never_taken_by_arrivals(environment, used, free):
    """To the byte; and there is room again once it is free again."""
    room = Room(environment, FakeClock())
    assert room.refusal is None
    used[0] = CAPACITY - reserve_bytes(CAPACITY)
    room.measure()
    assert room.refusal is None
    used[0] += 1
    room.measure()
    assert room.refusal is Refusal.STORAGE_FULL
    assert room.fill == pytest.approx(used[0] / CAPACITY)
    used[0] = 0
    room.measure()
    assert room.refusal is None


def test_a_full_disk_refuses_too_unless_the_file_has_room_inside(environment, used, free, monkeypatch):
    """However small a share of the map is used; and the file never shrinks."""
    used[0] = file_bytes = environment.file_bytes()
    monkeypatch.setattr(Environment, "file_bytes", lambda _: file_bytes)  # the writer may still be at its first commit
    free[0] = MIN_RESERVE_BYTES - 1
    room = Room(environment, FakeClock())
    assert room.refusal is Refusal.STORAGE_FULL
    assert room.filling
    free[0] += 1
    room.measure()
    assert room.refusal is None
    assert room.limit_bytes == environment.file_bytes() + MIN_RESERVE_BYTES


@pytest.fixture
def logged(monkeypatch):
    """Messages and hints of what is logged."""
    lines = []
    monkeypatch.setattr(module.log, "info", lambda msg, **_: lines.append((msg, "")))
    monkeypatch.setattr(module.log, "limited", lambda _key, _level, msg, **f: lines.append((msg, f["hint"])))
    return lines


@pytest.mark.parametrize("disk", [False, True])
def test_the_log_says_whether_the_map_or_the_disk_is_full_and_what_to_do(environment, used, free, logged, disk):
    """A larger journal.max_size is no help on a full disk, nor free space to a full map."""
    room = Room(environment, FakeClock())
    used[0] = 20 << 20 if disk else CAPACITY
    free[0] = 1 << 20 if disk else 1 << 40
    room.measure()
    used[0], free[0] = 0, 1 << 40
    room.measure()
    room.overflowed(disk=disk)
    assert room.refusal is Refusal.STORAGE_FULL
    what = "the journal's disk is full" if disk else "the journal is full"
    assert [msg for msg, _ in logged] == [
        f"{what}: answering 503",
        "the journal has room again",
        f"{what}: a transaction did not fit",
    ]
    for _, hint in logged[::2]:
        assert ("max_size" in hint, "free some of it" in hint) == (not disk, disk)


def test_it_is_measured_once_a_second_or_after_so_many_bytes_or_always_near_the_end(environment, used, free):
    """Between that a commit costs a comparison."""
    clock = FakeClock()
    room = Room(environment, clock)
    used[0] = 1 << 20
    room.grew(1, clock.monotonic_s())
    assert room.used_bytes == 0
    room.grew(CAPACITY // 50, clock.monotonic_s())
    assert room.used_bytes == 1 << 20
    used[0] = 2 << 20
    room.grew(1, clock.monotonic_s() + module.MEASURE_EVERY_S)
    assert room.used_bytes == 2 << 20
    used[0] = int(early_fill(CAPACITY, reserve_bytes(CAPACITY)) * CAPACITY) + 1
    room.measure()
    used[0] += 1
    room.grew(1, clock.monotonic_s())
    assert room.used_bytes == used[0]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_an_error_that_says_so_means_a_full_disk(environment, used, free, code):
    """By its number, or in LMDB's words."""
    room = Room(environment, FakeClock())
    assert room.is_missing(OSError(code, "x"))
    assert room.is_missing(lmdb.Error(f"mdb_txn_commit: {os.strerror(code)}"))


def test_an_error_of_the_device_is_no_full_disk_unless_the_disk_is_full(environment, used, free):
    """LMDB calls a short write an I/O error; after a panic nothing more can be written, full or not."""
    room = Room(environment, FakeClock())
    broken = OSError(errno.EIO, os.strerror(errno.EIO))
    assert not room.is_missing(broken)
    free[0] = MIN_RESERVE_BYTES // 2 - 1
    assert room.is_missing(broken)
    assert not room.is_missing(lmdb.PanicError("mdb_txn_begin: MDB_PANIC"))
