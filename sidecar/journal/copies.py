"""Copies of a journal: making one, and making it a journal of its own when a daemon opens it.

A copy says that it is one. Who opens it to write takes a new journal id, so that no two journals give out the same ids.
"""

from __future__ import annotations

import os
import secrets
import shutil

import lmdb
import msgspec

from sidecar.errors import JournalError
from sidecar.journal import meta
from sidecar.journal.environment import Environment
from sidecar.journal.place import fsync_path

__all__ = ["adopt", "copy_to"]


def adopt(environment: Environment) -> None:
    """Mark the journal as in use; a restored copy takes a new journal id from here on."""
    identity = environment.identity
    with environment.env.begin(write=True) as txn:
        if identity.copied:
            identity.journal_ids.append((environment.state.last_seq + 1, secrets.randbits(32)))
            identity.copied = False
            txn.put(b"identity", meta.pack(identity), db=environment.db[b"meta"])
        row = msgspec.structs.replace(environment.state, clean=False)
        txn.put(b"state", meta.pack(row), db=environment.db[b"meta"])


def copy_to(environment: Environment, path: str) -> int:
    """Copy an open journal into a folder that must not exist, durably; how many bytes the copy has.

    Raises:
        OSError: The folder cannot be made, or not be brought to disk.
        JournalError: The copy cannot be written. Nothing is left of it: half a journal must not pass for a backup.
    """
    os.mkdir(path, 0o700)
    try:
        return _copy_into(environment, path)
    except lmdb.Error as e:
        shutil.rmtree(path, ignore_errors=True)
        raise JournalError(f"the journal could not be copied to {path}: {e}", "is there room on its disk?") from e
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _copy_into(environment: Environment, path: str) -> int:
    environment.env.copy(path, compact=True)
    data = os.path.join(path, "data.mdb")
    copy = lmdb.open(path, map_size=environment.capacity_bytes, max_dbs=8, mode=0o600)
    try:
        table = copy.open_db(b"meta")
        with copy.begin(write=True) as txn:
            identity = msgspec.structs.replace(environment.identity, copied=True)
            txn.put(b"identity", meta.pack(identity), db=table)
    finally:
        copy.close()
    os.chmod(data, 0o600)
    fsync_path(data)
    fsync_path(path)
    return os.path.getsize(data)
