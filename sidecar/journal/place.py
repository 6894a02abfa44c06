"""Where a journal lies: its directory, the file system under it, the lock file of its one opener, names that last.

Knows nothing of LMDB but what it must not be trusted with: network file systems, and a lock file without blocks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

from sidecar.errors import JournalError, JournalLocked
from sidecar.log import get_logger

__all__ = [
    "allocate_lmdb_lock",
    "check_file_system",
    "clear",
    "file_system_type",
    "fsync_path",
    "make_directory",
    "take_lock",
    "unusable",
]

log = get_logger("journal")

_NETWORK_FS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "overlay", "ceph", "glusterfs", "afs", "lustre"}
_LOCK = "journal.lock"
_LMDB_LOCK = "lock.mdb"
_LMDB_LOCK_BYTES = 16_384  # 64 for each of at most 126 readers, and a head


def unusable(path: str, error: OSError, hint: str = "create it, or point journal.path elsewhere") -> JournalError:
    """What to tell when the operating system refuses something there; ``hint`` where the error says too little."""
    hint = {
        errno.EIO: "its disk is failing (dmesg says more)",
        errno.EROFS: "mount it writable, or point journal.path elsewhere",
        errno.ENOSPC: "free some space on its disk, or point journal.path elsewhere",
        errno.EDQUOT: "free some space on its disk, or point journal.path elsewhere",
    }.get(error.errno or 0, hint)
    return JournalError(f"journal directory {path}: {error.strerror}", hint)


def make_directory(path: str, *, must_exist: bool) -> None:
    """Make the directory unless there is one, so that its name survives a power cut.

    Raises:
        JournalError: It cannot be made, is no directory, or (without ``must_exist``) cannot be written.
    """
    try:
        if not must_exist:
            _make_durably(os.path.abspath(path))
        info = os.stat(path)
    except OSError as e:
        raise unusable(path, e) from e
    if not stat.S_ISDIR(info.st_mode):
        raise JournalError(f"journal directory {path}: not a directory", "point journal.path at a directory")
    if not must_exist and os.statvfs(path).f_flag & os.ST_RDONLY:
        raise unusable(path, OSError(errno.EROFS, os.strerror(errno.EROFS)))
    if not must_exist and not os.access(path, os.W_OK | os.X_OK):
        raise JournalError(f"journal directory {path}: not writable", f"give uid {os.geteuid()} write access")


def _make_durably(path: str) -> None:
    # A folder's own name must survive a power cut too, or the journal in it is gone with everything acknowledged.
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_durably(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    fsync_path(parent)


def file_system_type(path: str) -> str:
    """Name of the file system that ``path`` is on, from ``/proc/self/mountinfo``; "" where that does not exist."""
    real = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as f:
            for line in f:
                left, _, right = line.partition(" - ")
                mount = left.split(" ")[4].replace("\\040", " ")
                under = mount in ("/", real) or real.startswith(mount + "/")
                if under and len(mount) >= len(best):
                    best, kind = mount, right.split(" ")[0]
    except OSError:
        return ""
    return kind


def check_file_system(path: str, *, unsafe: bool) -> None:
    """Refuse network file systems unless ``unsafe``, and warn of memory.

    Raises:
        JournalError: LMDB would not be safe there.
    """
    kind = file_system_type(path)
    if kind == "tmpfs":
        log.warning("the journal is on a tmpfs: it does not survive a reboot", path=path)
    elif (kind in _NETWORK_FS or kind.startswith("fuse")) and not unsafe:
        raise JournalError(
            f"journal directory {path} is on {kind}, which LMDB cannot use safely",
            "put journal.path on a local file system (a volume, not the container's own layer)",
        )


def take_lock(path: str) -> tuple[int, bool]:
    """Take the lock file.

    Our own, before LMDB's: its reader table breaks where several processes share process ids (containers).

    Returns:
        The descriptor, and whether whoever had it last ended without giving it back (``Environment.close``).

    Raises:
        JournalLocked: Another process has it.
        JournalError: It cannot be made.
    """
    try:
        fd = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise unusable(path, e, "check its owner and permissions") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        holder = os.read(fd, 64).decode("ascii", "replace").strip() or "?"
        os.close(fd)
        raise JournalLocked(
            f"the journal at {path} is in use by process {holder}", "one daemon a journal: stop the other one first"
        ) from e
    left = os.fstat(fd).st_size > 0
    with contextlib.suppress(OSError):  # whose it is matters to people alone; a full disk must not stop a start
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
    return fd, left


def allocate_lmdb_lock(folder: str) -> None:
    """Give LMDB's lock file its blocks: LMDB maps it and writes, and where the disk has none that is a SIGBUS.

    Raises:
        OSError: The disk is full.
    """
    fd = os.open(os.path.join(folder, _LMDB_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, _LMDB_LOCK_BYTES)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
    finally:
        os.close(fd)


def clear(folder: str) -> None:
    """Remove a folder with its files, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def fsync_path(path: str) -> None:
    """Bring a file, or a directory's entries, to disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
