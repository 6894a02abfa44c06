"""``python -m sidecar`` and the command ``webhook-sidecar``: runs one command, turns errors into exit codes."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import click

from sidecar.cli.app import cli
from sidecar.cli.stdout import StdoutFailed, discard_stdout, fill_closed, name_stdout
from sidecar.errors import ConfigError, SidecarError

__all__ = ["main"]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: As on the command line; None = the process's own.

    Returns:
        The exit code.
    """
    if arguments is None:
        fill_closed()
        name_stdout()
    try:
        result = cli.main(args=arguments, prog_name="webhook-sidecar", standalone_mode=False)
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.Abort:
        return _INTERRUPTED
    except click.ClickException as e:  # usage: 2
        _tell_usage(e)
        return e.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (BrokenPipeError, SystemExit):  # click makes the second out of the first, and of nothing else
        discard_stdout()  # whoever read our output had enough
        return 0
    except StdoutFailed as e:
        discard_stdout()
        _tell(e)
        return e.exit_code
    except SidecarError as e:
        _tell(e)
        return e.exit_code
    return result if isinstance(result, int) else 0


def _tell_usage(error: click.ClickException) -> None:
    """Write what click says, which quotes what it was given."""
    from sidecar.cli.output import note  # noqa: PLC0415 - not needed by --help

    said = io.StringIO()
    error.show(said)
    note(said.getvalue().rstrip("\n"))


def _tell(error: SidecarError) -> None:
    """Write what went wrong: every problem of a configuration first, then what, where and what to do."""
    from sidecar.cli.output import note  # noqa: PLC0415 - not needed by --help

    for problem in error.problems if isinstance(error, ConfigError) else ():
        note(problem)
    note(f"error: {error}")


if __name__ == "__main__":
    sys.exit(main())
