"""Looking after a journal that no daemon uses: checking its structure, and giving free pages back to the disk.

Both hold the journal's lock. LMDB never makes its file smaller by itself: pages that were freed are used
again, and what was deleted stays readable in them until then.
"""

from __future__ import annotations

import contextlib
import os
import shutil

import lmdb
import msgspec

from sidecar.clock import Clock
from sidecar.errors import JournalError
from sidecar.journal.clock import ClockReading
from sidecar.journal.environment import Environment, open_environment
from sidecar.journal.place import fsync_path
from sidecar.journal.types import JournalOptions

__all__ = ["compact", "verify_structure"]

_DATA = "data.mdb"
_COPY = ".compact"


def verify_structure(options: JournalOptions, clock: Clock) -> list[str]:
    """Walk every page of the file and say what is wrong; reads 50 MB a second and changes nothing.

    Raises:
        JournalError: It cannot be opened at all.
    """
    environment = _open(options, clock)
    try:
        from lmdb import verify  # noqa: PLC0415 - only here and after an unclean stop

        try:
            return [str(p) for p in verify.verify(options.path, subdir=True)]  # type: ignore[no-untyped-call]
        except verify.VerifyError as e:
            return [str(e)]
    finally:
        environment.close()


def compact(options: JournalOptions, clock: Clock) -> tuple[int, int]:
    """Write the journal anew without its free pages and put it in the old one's place; both keep the same identity.

    Power may fail at any moment: the old file stays until the new one is whole and on disk.

    Returns:
        Bytes of the file before and after.

    Raises:
        JournalError: It cannot be opened, or the disk has no room for the copy, or fails; says which file is there then.
    """
    environment = _open(options, clock)
    try:
        old, folder = os.path.join(options.path, _DATA), os.path.join(options.path, _COPY)
        before = os.path.getsize(old)
        shutil.rmtree(folder, ignore_errors=True)
        hint = "it was not changed; the copy needs as much free space as the journal uses"
        try:
            os.mkdir(folder, 0o700)
            environment.env.copy(folder, compact=True)
            new = os.path.join(folder, _DATA)
            os.chmod(new, 0o600)
            fsync_path(new)
            after = os.path.getsize(new)
            environment.env.close()
            os.rename(new, old)
            hint = "the compacted one is in its place, but a power cut may bring back the old one; both are whole"
            # The reader table is about the old file; LMDB makes a new one.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(options.path, "lock.mdb"))
            fsync_path(options.path)
        except (OSError, lmdb.Error) as e:
            raise JournalError(f"the journal at {options.path} could not be compacted: {e}", hint) from e
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return before, after
    finally:
        environment.close()


def _open(options: JournalOptions, clock: Clock) -> Environment:
    # A journal larger than journal.max_size is just what somebody wants to compact.
    with contextlib.suppress(OSError):
        size = os.path.getsize(os.path.join(options.path, _DATA))
        options = msgspec.structs.replace(options, max_size_bytes=max(options.max_size_bytes, size))
    now = ClockReading(clock.wall_ms(), clock.boot_id(), clock.boot_ms(), clock.wall_ms())
    return open_environment(options, read_only=True, wall=now)
