"""``run``: the daemon, and beside it the echo backend where one is wanted."""

from __future__ import annotations

import click

from sidecar.cli.options import config_option

__all__ = ["run"]

_ECHO = "127.0.0.1:8788"


@click.command("run")
@click.option(
    "--with-echo", "echo", metavar="[ADDR]", is_flag=False, flag_value=_ECHO, default=None,
    help=f"Also start a small backend that prints what it gets. [without ADDR: {_ECHO}]",
)  # fmt: skip
@config_option
def run(config_path: str | None, *, echo: str | None) -> int:
    """Receive, keep and deliver webhooks until told to stop (SIGTERM; a second one stops at once). SIGHUP reloads."""
    from sidecar import daemon  # noqa: PLC0415 - nothing of it is needed by --help

    if echo is None:
        return daemon.run(config_path)
    from sidecar.cli.echo import Echo  # noqa: PLC0415

    return daemon.run(config_path, companion=Echo(echo).start)
