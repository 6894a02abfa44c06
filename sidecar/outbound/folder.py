"""Files of the DLQ directory, always reached through an open directory: no link is followed on the way.

Every function takes a directory handle, so that nobody can swap a folder for something else between two steps.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import re
import stat
from collections.abc import Iterator

import msgspec

from sidecar.model import parse_event_id

__all__ = [
    "DESTINATION",
    "DIRECTORY",
    "FolderTotals",
    "Problem",
    "contents",
    "count",
    "event_ids",
    "folders",
    "make_durably",
    "mtime_ms",
    "open_own",
    "opened",
    "problem_of",
    "replace_file",
    "size_of",
]

DESTINATION = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = re.compile(r"\..*\.tmp")


class Problem(enum.StrEnum):
    """Why a file is not taken as the dead letter it claims to be."""

    GONE = "gone"  # a person removed or moved it
    NOT_REGULAR = "not_regular"  # a link, a directory, a pipe
    NAME_MISMATCH = "name_mismatch"  # name or folder differ from what is inside
    MAC_MISMATCH = "mac_mismatch"  # edited, or from another journal
    MALFORMED = "malformed"
    UNREADABLE = "unreadable"  # the system refused: permissions, an I/O error


class FolderTotals(msgspec.Struct):
    """What one destination's folder holds.

    Attributes:
        count: Files.
        bytes: Their sizes together.
        oldest_ms: When the oldest died (the file's own time, wall clock); None when there is none.
    """

    count: int = 0
    bytes: int = 0
    oldest_ms: int | None = None


def replace_file(folder: int, temporary: str, name: str, data: bytes, time_ms: int | None) -> None:
    """Write a temporary file, make it durable, give it its name. The directory is the caller's to fsync.

    Args:
        folder: Where.
        temporary: Name until it is complete; what a crash left there is removed.
        name: Its name; an older file of that name is replaced.
        data: All of it.
        time_ms: The file's modification time, wall clock; None = now.

    Raises:
        OSError: as the system says; nothing of the temporary file is left, the older file is still there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, 0o600, dir_fd=folder)
    except FileExistsError:  # from a crash; whatever it is, it is not followed
        os.unlink(temporary, dir_fd=folder)
        fd = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        try:
            os.fchmod(fd, 0o600)  # whatever the umask says
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if time_ms is not None:
                os.utime(fd, ns=(time_ms * 1_000_000, time_ms * 1_000_000))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def open_own(base: int, destination: str) -> int:
    """Open a destination's folder for writing, made with mode 0700 where it is missing.

    Raises:
        OSError: it cannot be made, is a link or no directory, or belongs to another user.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(destination, 0o700, dir_fd=base)
        try:
            os.fsync(base)
        except OSError:  # made anew next time: what lies in a folder whose name is not on disk is lost with it
            os.rmdir(destination, dir_fd=base)
            raise
    folder = os.open(destination, DIRECTORY, dir_fd=base)
    if os.fstat(folder).st_uid != os.geteuid():
        os.close(folder)
        raise PermissionError(errno.EPERM, "not ours")
    return folder


def make_durably(path: str) -> None:
    """Make a directory (mode 0700) and its parents where they are missing, so that they survive a loss of power.

    Raises:
        OSError: as the system says.
    """
    missing = []
    parent = os.path.abspath(path)
    while not os.path.lexists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for new in reversed(missing):
        os.mkdir(new, 0o700)
        fd = os.open(os.path.dirname(new), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextlib.contextmanager
def opened(path: str, within: int | None = None) -> Iterator[int]:
    """Have a directory open for a while; a link in the place of its last part is an error."""
    fd = os.open(path, DIRECTORY, dir_fd=within)
    try:
        yield fd
    finally:
        os.close(fd)


def contents(folder: int, name: str, limit: int) -> bytes | Problem:
    """Read a regular file; nothing else is opened for good (a pipe would wait for ever)."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as e:
        return problem_of(e)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return Problem.NOT_REGULAR
        with os.fdopen(fd, "rb", closefd=False) as f:
            return f.read(min(limit, status.st_size))  # as much memory is asked for as is named
    except OSError as e:
        return problem_of(e)
    finally:
        os.close(fd)


def count(folder: int, *, sweep: bool) -> FolderTotals:
    """Count the dead letters in a folder by their names and sizes; with ``sweep``, remove unfinished files."""
    totals = FolderTotals()
    with os.scandir(folder) as entries:
        for entry in entries:
            if sweep and _TEMPORARY.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    os.unlink(entry.name, dir_fd=folder)
            elif _event_id(entry.name):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        totals.count += 1
                        totals.bytes += status.st_size
                        oldest = totals.oldest_ms
                        totals.oldest_ms = mtime_ms(status) if oldest is None else min(oldest, mtime_ms(status))
    return totals


def folders(base: int) -> list[str]:
    """List the folders whose name a destination could have."""
    with os.scandir(base) as entries:
        return [e.name for e in entries if DESTINATION.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]


def event_ids(folder: int) -> Iterator[str]:
    """Walk through the ids of the dead letters in a folder, in no order."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if event_id := _event_id(entry.name):
                yield event_id


def _event_id(name: str) -> str:
    event_id = name.removesuffix(".json")
    return event_id if event_id != name and parse_event_id(event_id) is not None else ""


def size_of(folder: int, name: str) -> int:
    """Size of a file in bytes; 0 when it is not there."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except OSError:
        return 0


def mtime_ms(status: os.stat_result) -> int:
    """Modification time, wall clock."""
    return status.st_mtime_ns // 1_000_000


def problem_of(e: OSError) -> Problem:
    """Say what an error of the system means for the file that was asked for."""
    if e.errno == errno.ENOENT:
        return Problem.GONE
    if e.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENOTDIR):
        return Problem.NOT_REGULAR
    return Problem.UNREADABLE
