"""A process on a terminal of its own: what a person would see, and what only a person would be asked."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self


class Terminal:
    """Runs a command with stdin and stderr on a pseudo-terminal; stdout goes there too unless a file is given.

    Args:
        command: What to run.
        folder: Where.
        env: Its whole environment.
        stdout: A file for its stdout.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, env: Mapping[str, str], stdout: Path | None = None
    ) -> None:
        ours, theirs = os.openpty()
        out = stdout.open("wb") if stdout is not None else None
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(env),
            stdin=theirs,
            stdout=out or theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        if out is not None:
            out.close()
        self._fd = ours
        self.shown = ""

    def read_until(self, wanted: str, timeout_s: float = 30.0, *, after: str = "") -> str:
        """Read until this is on the screen (after that); everything shown so far."""
        deadline = time.monotonic() + timeout_s
        while wanted not in self.shown.partition(after)[2] if after else wanted not in self.shown:
            assert self._read(deadline), f"ended before {wanted!r} was shown:\n{self.shown}"
        return self.shown

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._fd, text.encode())

    def end(self, timeout_s: float = 30.0) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._fd], [], [], left)[0]:
            raise AssertionError(f"nothing more came in time; so far:\n{self.shown}")
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # how Linux says that the other side has closed
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)
