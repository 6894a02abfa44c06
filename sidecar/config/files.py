"""Reads the small files that a configuration names, and remembers what it saw of them.

Links are followed, since Kubernetes mounts are made of them; pipes and devices are refused, since they would hold
us for ever.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

import msgspec

__all__ = ["MAX_BYTES", "Files", "WatchedFile", "digest_of", "read_regular"]

MAX_BYTES = 4 << 20
"""No configuration, secret or certificate is larger."""


class WatchedFile(msgspec.Struct, frozen=True):
    """A file that settings were made from.

    Attributes:
        path: Absolute, links not resolved (Kubernetes swaps a link to change a file).
        digest: Over its content and permissions when it was read; empty when it could not be read.
    """

    path: str
    digest: bytes


def read_regular(path: str) -> tuple[bytes, int]:
    """Read a regular file.

    Returns:
        Its content and its mode.

    Raises:
        OSError: It is not there, not readable, not a regular file, or larger than ``MAX_BYTES``.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a NUL, or characters that no file name has
        raise OSError(errno.EINVAL, "not a file name") from None
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):  # asked first: open() refuses a directory and then does not close it
            raise OSError(errno.EINVAL, "not a regular file")
        with open(handle, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, "larger than 4 MiB")
    return content, mode


def _digest(content: bytes, mode: int) -> bytes:
    return hashlib.blake2b(b"%d\0" % stat.S_IMODE(mode) + content, digest_size=16).digest()


def digest_of(path: str) -> bytes:
    """Digest of a file as in ``WatchedFile``."""
    try:
        return _digest(*read_regular(path))
    except OSError:
        return b""


class Files:
    """Reads files and remembers them.

    Args:
        folder: Relative paths start here.

    Attributes:
        watched: Everything that was read or should have been, by absolute path.
        readable_by_all: Secrets that everybody on the machine may read.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.watched: dict[str, WatchedFile] = {}
        self.readable_by_all: list[str] = []

    def absolute(self, path: str) -> str:
        """Give the absolute form of a path in the configuration; links stay."""
        return os.path.normpath(os.path.join(self.folder, path))

    def read(self, path: str) -> tuple[bytes, int]:
        """Read a file.

        Returns:
            Its content and its mode.

        Raises:
            OSError: It is not there, not readable, not a regular file, or too large.
        """
        where = self.absolute(path)
        self.watched[where] = WatchedFile(where, b"")
        content, mode = read_regular(where)
        self.watched[where] = WatchedFile(where, _digest(content, mode))
        return content, mode
