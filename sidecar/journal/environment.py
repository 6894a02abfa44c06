"""Opening, creating, checking and closing the LMDB environment.

The rules here were all paid for by somebody: a new environment is made beside its place and renamed in; after an
unclean stop the file is checked before LMDB maps it, because a truncated file ends a process with SIGBUS.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from dataclasses import dataclass

import lmdb
import msgspec

from sidecar.errors import JournalError, JournalFormatError
from sidecar.journal import meta
from sidecar.journal.clock import ClockReading
from sidecar.journal.place import (
    allocate_lmdb_lock,
    check_file_system,
    clear,
    fsync_path,
    make_directory,
    take_lock,
    unusable,
)
from sidecar.journal.records import FORMAT, CorruptRecord
from sidecar.journal.types import JournalOptions
from sidecar.model import AckTemplate

__all__ = ["TABLES", "Environment", "Identity", "Names", "StateRow", "open_environment"]

TABLES = (b"meta", b"events", b"bodies", b"dedup", b"deliveries", b"due", b"history")
VERIFY_LIMIT_BYTES = 24 << 20  # the structural check reads 50 MB/s; beyond this only sizes are compared
_DATA = "data.mdb"
_MAGIC = 0xBEEFC0DE


class Identity(msgspec.Struct, array_like=True):
    """Who this journal is. Row ``identity`` of ``meta``; written once, and again when a copy is adopted.

    Attributes:
        format: ``FORMAT`` of the version that made it.
        features: Names of optional features in use; an unknown one means a newer version.
        journal_ids: (first seq, journal id): a restored copy gets a new id from its next seq on.
        mac_key: 32 random bytes that key the dead letters' MACs.
        copied: Set in a backup; the next daemon that opens it takes a new journal id.
    """

    format: int
    features: list[str]
    journal_ids: list[tuple[int, int]]
    mac_key: bytes
    copied: bool = False

    def journal_id(self, seq: int) -> int:
        """The journal id that ids with this seq carry (a restored copy takes a new one from its next seq on)."""
        return next(i for first, i in reversed(self.journal_ids) if seq >= first)


class Names(msgspec.Struct, array_like=True):
    """Numbers of sources, destinations and ack templates: the index in the list. Never reused, never reordered."""

    sources: list[str]
    destinations: list[str]
    acks: list[AckTemplate]


class StateRow(msgspec.Struct, array_like=True):
    """Row ``state`` of ``meta``: rewritten by each commit.

    Attributes:
        clock: The journal clock, so that it goes on after a restart.
        last_seq: Highest seq that was committed.
        clean: Whether the journal was closed in order.
        enqueued: (source, destination, count).
        settled: (destination, state number, count).
        scheduled: (destination, count): pending deliveries that wait for a due time.
        dying: (destination, count).
        fresh_from: (destination, seq): every fresh delivery is at or after it.
    """

    clock: ClockReading
    last_seq: int = 0
    clean: bool = True
    enqueued: list[tuple[int, int, int]] = []
    settled: list[tuple[int, int, int]] = []
    scheduled: list[tuple[int, int]] = []
    dying: list[tuple[int, int]] = []
    fresh_from: list[tuple[int, int]] = []


@dataclass(slots=True)
class Environment:
    """An open journal: LMDB's environment, its tables, and what ``meta`` says."""

    env: lmdb.Environment
    db: dict[bytes, lmdb._Database]
    identity: Identity
    names: Names
    state: StateRow
    lock_fd: int
    path: str
    capacity_bytes: int
    was_clean: bool

    def used_bytes(self, txn: lmdb.Transaction) -> int:
        """Bytes in pages of all tables; ``last_pgno`` never falls, so it says nothing about use."""
        pages = 0
        for db in self.db.values():
            s = txn.stat(db)
            pages += s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"]
        return pages * _page_size(self.env)

    def file_bytes(self) -> int:
        """Bytes of the file up to its last page: it never shrinks, and free pages in it are used again."""
        return int(self.env.info()["last_pgno"] + 1) * _page_size(self.env)

    def close(self) -> None:
        """Close LMDB and give the lock back. Safe to call twice."""
        if self.lock_fd >= 0:
            self.env.close()
            with contextlib.suppress(OSError):  # then the next start checks the file, though it need not
                os.ftruncate(self.lock_fd, 0)
            os.close(self.lock_fd)
            self.lock_fd = -1


def _page_size(env: lmdb.Environment) -> int:
    return int(env.stat()["psize"])


def open_environment(options: JournalOptions, *, read_only: bool = False, wall: ClockReading) -> Environment:
    """Open the journal, making it when there is none.

    Args:
        options: Where it is and how large it may get.
        read_only: Open what exists and change nothing.
        wall: The clocks now, for a new journal.

    Raises:
        JournalLocked: Another process has it.
        JournalFormatError: The file is not a journal of ours, is damaged, or is from a newer version.
        JournalError: The directory or its file system cannot be used.
    """
    path = options.path
    _check_lmdb()
    make_directory(path, must_exist=read_only)
    check_file_system(path, unsafe=options.unsafe_fs)
    lock_fd, left = take_lock(path)
    try:
        data = os.path.join(path, _DATA)
        if not os.path.exists(data):
            _create(path, options, wall, allowed=not read_only)
        _check_file(data, options.max_size_bytes)
        return _open(path, options, lock_fd, read_only=read_only, left=left)
    except OSError as e:
        os.close(lock_fd)
        raise unusable(path, e) from e
    except lmdb.Error as e:
        os.close(lock_fd)
        raise unwritable(path, e) from e
    except BaseException:
        os.close(lock_fd)
        raise


def _check_lmdb() -> None:
    if lmdb.version() < (0, 9, 33):
        raise JournalError(
            f"the lmdb package uses a system liblmdb {'.'.join(map(str, lmdb.version()))} with known defects",
            "install the lmdb wheel, version 3.0.0 or newer",
        )


def unwritable(path: str, error: lmdb.Error) -> JournalError:
    """What to tell when LMDB cannot write at the start; it calls a full disk an I/O error."""
    return JournalError(
        f"journal directory {path}: cannot be written: {error}", "is its disk full, or is the disk failing (dmesg)?"
    )


def _create(path: str, options: JournalOptions, wall: ClockReading, *, allowed: bool) -> None:
    if not allowed:
        raise JournalError(f"no journal at {path}", "is journal.path right, and did the daemon ever run?")
    # Power may fail at any moment: the file appears under its name only when it is whole and on disk.
    fresh = os.path.join(path, ".new")
    clear(fresh)
    os.mkdir(fresh, 0o700)
    allocate_lmdb_lock(fresh)
    env = lmdb.open(fresh, map_size=options.max_size_bytes, max_dbs=len(TABLES), mode=0o600)
    try:
        with env.begin(write=True) as txn:
            for name in TABLES:
                env.open_db(name, txn=txn)
            table = env.open_db(b"meta", txn=txn)
            identity = Identity(FORMAT, [], [(0, secrets.randbits(32))], secrets.token_bytes(32))
            txn.put(b"identity", meta.pack(identity), db=table)
            txn.put(b"names", meta.pack(Names([], [], [])), db=table)
            txn.put(b"state", meta.pack(StateRow(wall)), db=table)
        env.sync(True)
    finally:
        env.close()
    fsync_path(os.path.join(fresh, _DATA))
    os.rename(os.path.join(fresh, _DATA), os.path.join(path, _DATA))
    fsync_path(path)
    # A process that was killed may have made the folder and not flushed its name.
    fsync_path(os.path.dirname(os.path.abspath(path)))
    clear(fresh)


def _check_file(data: str, max_size_bytes: int) -> None:
    size = os.path.getsize(data)
    with open(data, "rb") as f:
        head = f.read(2 * 65_536)
    last_page, page_size = -1, 4096
    for offset in (0, 4096):
        meta = head[offset : offset + 168]
        if len(meta) < 168 or struct.unpack_from("<I", meta, 16)[0] != _MAGIC:
            continue
        # MDB_meta: magic, version, address, mapsize, two MDB_db of 48 bytes (the first begins with the page size),
        # last page, transaction id.
        page_size = struct.unpack_from("<I", meta, 40)[0] or 4096
        last_page = max(last_page, struct.unpack_from("<Q", meta, 136)[0])
    if last_page < 0:
        raise JournalFormatError(
            f"{data} is not an LMDB file", "move it away, or point journal.path at the right directory"
        )
    need = (last_page + 1) * page_size
    if size < need:
        raise JournalFormatError(
            f"{data} is truncated: {size} bytes, its pages need {need}",
            "restore a backup into journal.path; the file was not changed",
        )
    if need > max_size_bytes:
        raise JournalError(
            f"{data} holds {need} bytes, more than journal.max_size = {max_size_bytes}",
            "raise journal.max_size, or run: webhook-sidecar journal compact",
        )


def _verify(path: str) -> None:
    if os.path.getsize(os.path.join(path, _DATA)) > VERIFY_LIMIT_BYTES:
        return
    from lmdb import verify  # noqa: PLC0415 - only after an unclean stop

    try:
        problems = verify.verify(path, subdir=True)  # type: ignore[no-untyped-call]
    except verify.VerifyError as e:
        problems = [str(e)]
    if problems:
        raise JournalFormatError(
            f"the journal at {path} is damaged: {problems[0]} ({len(problems)} problems)",
            "restore a backup into journal.path; the file was not changed",
        )


def _peek_clean(path: str, options: JournalOptions) -> bool:
    """Whether the last process closed the journal in order; a first look with nothing but the meta table."""
    env = lmdb.open(path, map_size=options.max_size_bytes, max_dbs=len(TABLES), readonly=True, lock=False)
    try:
        table = env.open_db(b"meta", create=False)
        with env.begin() as txn:
            return meta.unpack(txn.get(b"state", db=table), StateRow).clean
    finally:
        env.close()


def _open(path: str, options: JournalOptions, lock_fd: int, *, read_only: bool, left: bool) -> Environment:
    try:
        # The lock first: a page that rotted may end the process as soon as LMDB looks at it, at each start anew.
        if left or not _peek_clean(path, options):
            _verify(path)
        if not read_only:
            allocate_lmdb_lock(path)
        env = lmdb.open(
            path,
            map_size=options.max_size_bytes,
            max_dbs=len(TABLES),
            max_readers=16,
            mode=0o600,
            readonly=read_only,
            readahead=False,
        )
    except (lmdb.Error, CorruptRecord) as e:
        raise JournalFormatError(
            f"the journal at {path} cannot be opened: {e}",
            "if its disk is sound and not full, restore a backup; the file was not changed",
        ) from e
    try:
        return _read_meta(env, path, options, lock_fd)
    except BaseException:
        env.close()
        raise


def _read_meta(env: lmdb.Environment, path: str, options: JournalOptions, lock_fd: int) -> Environment:
    try:
        db = {name: env.open_db(name, create=False) for name in TABLES}
        with env.begin() as txn:
            rows = {name: txn.get(name, db=db[b"meta"]) for name in (b"identity", b"names", b"state")}
        identity = meta.unpack(rows[b"identity"], Identity)
        names = meta.unpack(rows[b"names"], Names)
        state = meta.unpack(rows[b"state"], StateRow)
    except CorruptRecord as e:
        raise JournalFormatError(
            f"the journal at {path} is damaged, or no journal of webhook-sidecar: {e}",
            "restore a backup into journal.path; the file was not changed",
        ) from e
    except lmdb.Error as e:
        raise JournalFormatError(
            f"{path} is an LMDB file, but not a journal of webhook-sidecar", "point journal.path elsewhere"
        ) from e
    if identity.format > FORMAT or identity.features:
        raise JournalFormatError(
            f"the journal at {path} was written by a newer version (format {identity.format}, "
            f"features {', '.join(identity.features) or 'none'}); this one reads format {FORMAT}",
            "run the newer version again; nothing was changed",
        )
    return Environment(env, db, identity, names, state, lock_fd, path, options.max_size_bytes, state.clean)
