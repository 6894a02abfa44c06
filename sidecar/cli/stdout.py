"""The process's stdout, whose failing writes say that it was stdout: a full disk behind ``>`` is no bug of a command."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from sidecar.errors import SidecarError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["StdoutFailed", "discard_stdout", "fill_closed", "name_stdout"]


class StdoutFailed(SidecarError):
    """What was to be written to stdout could not be."""


class _Stdout(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of it.

        Raises:
            BrokenPipeError: Nobody reads it any more.
            StdoutFailed: It fails for another reason.
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as e:
            raise StdoutFailed(f"stdout cannot be written: {e.strerror}", "what came out so far is not whole") from e


def fill_closed() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed: else a file of the journal could get the number 2 there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # it gets the lowest number that is free


def name_stdout() -> None:
    """Let ``sys.stdout`` raise ``StdoutFailed`` from now on; nothing happens where the process has none."""
    old = sys.stdout
    if old is None:
        return
    raw = _Stdout(old.fileno(), "w", closefd=False)
    # What the locale's encoding lacks is escaped, as on stderr: a webhook may be in any language.
    errors = "backslashreplace" if old.errors == "strict" else old.errors
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=old.encoding, errors=errors, line_buffering=old.isatty()
    )


def discard_stdout() -> None:
    """Throw away what is still in its buffer, and what follows: it must not complain at the exit."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
