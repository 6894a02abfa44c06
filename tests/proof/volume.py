"""A small ext4 file system of its own, whose power can be cut; for root.

It lives in mounts that nobody else sees: they end with the last process that was started here, whatever became of it, and
the loop device and the image with them.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
from pathlib import Path
from typing import Self

__all__ = ["TOOLS", "Volume", "own_mounts"]

TOOLS = ("mkfs.ext4", "mount", "umount", "truncate")
CLONE_NEWNS = 0x20000
EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/fs/ext4/ext4.h: _IOR('X', 125, __u32)
NO_LOG_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: what was not flushed is gone, as after a power cut


def own_mounts() -> None:
    """Give this process mounts of its own; call it before any thread is started.

    Raises:
        OSError: Not allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _run("mount", "--make-rprivate", "/")


class Volume:
    """An ext4 file system on a loop device on an image in memory.

    Args:
        folder: An empty folder that does not exist yet.
        mib: Size of the file system.
        options: Of the mount.
    """

    def __init__(self, folder: Path, mib: int, options: str = "") -> None:
        self._memory = folder / "memory"
        self.path = folder / "mounted"
        self._image = self._memory / "image"
        self._mib = mib
        self._options = f"loop,{options}" if options else "loop"
        self._memory.mkdir(parents=True)
        self.path.mkdir()

    def __enter__(self) -> Self:
        _run("mount", "-t", "tmpfs", "-o", f"size={self._mib + 8}m", "none", str(self._memory))
        _run("truncate", "-s", f"{self._mib}M", str(self._image))
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0", str(self._image))
        self.mount()
        return self

    def __exit__(self, *exc: object) -> None:
        for path in (self.path, self._memory):
            _run("umount", "--lazy", "--quiet", str(path), check=False)

    def mount(self, options: str = "") -> None:
        """Mount it, or change how it is mounted: ``remount,ro``."""
        chosen = options or self._options
        if chosen.startswith("remount"):
            _run("mount", "-o", chosen, str(self.path))
        else:
            _run("mount", "-o", chosen, str(self._image), str(self.path))

    def unmount(self) -> None:
        """Unmount it: whoever used it must be gone."""
        _run("umount", str(self.path))

    def cut(self) -> None:
        """Cut its power: what was not flushed is lost, and every write from now on fails."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def fail(self) -> None:
        """Let the kernel believe that it found an error; with ``errors=remount-ro`` nobody writes any more."""
        rows = [row.split(" ") for row in Path("/proc/self/mountinfo").read_text().splitlines()]
        device = next(row[row.index("-") + 2] for row in rows if row[4] == str(self.path))
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("a test")


def _run(*command: str, check: bool = True) -> None:
    env = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, env=env)
    if check and done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")
