"""The daemon in which one write of a dead letter's bytes fails, or takes only half of them.

Strace picks files by their names, and that of a letter is known too late. So the call is spoiled here; a short write is a real one.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from sidecar.__main__ import main
from sidecar.outbound import folder


class Spoiled:
    """``os``, except for one call of ``write``."""

    def __init__(self, fault: str, k: int, told: Path) -> None:
        self._fault, self._left, self._told = fault, k, told

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def write(self, fd: int, data: memoryview) -> int:
        self._left -= 1
        if self._left:
            return os.write(fd, data)
        self._told.write_text("(INJECTED)")
        if self._fault == "short":
            return os.write(fd, data[: len(data) // 2])
        number = getattr(errno, self._fault)
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    fault, k, told = sys.argv[1:4]
    del sys.argv[1:4]
    folder.os = Spoiled(fault, int(k), Path(told))  # type: ignore[attr-defined]
    sys.exit(main())
