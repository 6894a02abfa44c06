"""[P] Errors that stop a command or the daemon, with their exit codes and hints.

    SidecarError (1)
    ├── UsageError (2)            the command line is off
    ├── NotFoundError (3)         the thing named does not exist
    ├── PartlyFailedError (4)     some of many did not work
    ├── DaemonUnreachable (69)    no daemon answers on the admin socket
    ├── JournalError (74)         the journal cannot be used
    │   ├── JournalLocked         another process has it
    │   ├── JournalFormatError    not ours, damaged, or from a newer version
    │   └── JournalFull           no room, also not for settling
    └── ConfigError (78)          the configuration has problems (all of them, see ``problems``)

Expected refusals are values with a named reason, never one of these.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DaemonUnreachable",
    "JournalError",
    "JournalFormatError",
    "JournalFull",
    "JournalLocked",
    "NotFoundError",
    "PartlyFailedError",
    "SidecarError",
    "UsageError",
]


class SidecarError(Exception):
    """What went wrong, where, what was got; ``hint`` says what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class UsageError(SidecarError):
    """The command line is off."""

    exit_code = 2


class NotFoundError(SidecarError):
    """The thing named does not exist."""

    exit_code = 3


class PartlyFailedError(SidecarError):
    """Some of many did not work; the message counts both."""

    exit_code = 4


class DaemonUnreachable(SidecarError):
    """No daemon answers on the admin socket."""

    exit_code = 69


class JournalError(SidecarError):
    """The journal cannot be used."""

    exit_code = 74


class JournalLocked(JournalError):
    """Another process has the journal open."""


class JournalFormatError(JournalError):
    """Not a journal of ours, damaged, or written by a newer version."""


class JournalFull(JournalError):
    """No room, also not for settling."""


class ConfigError(SidecarError):
    """The configuration has problems; ``problems`` lists every one, already formatted for people."""

    exit_code = 78

    def __init__(self, message: str, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.problems = problems
