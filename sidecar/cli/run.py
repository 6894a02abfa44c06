"""``run``: the daemon, and beside it the echo backend where one is wanted."""

from __future__ import annotations

import contextlib
import os
import secrets

import click

from sidecar.cli.options import config_option
from sidecar.cli.output import is_terminal, note, say
from sidecar.errors import SidecarError

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

    # Only where a person reads along: the link has the token in it, and what is no terminal is kept by somebody.
    show_link = _show_link if is_terminal(err=True) else None
    if echo is None:
        return daemon.run(config_path, show_link=show_link)
    return daemon.run(config_path, companion=lambda: _echo_and_tell(config_path, echo), show_link=show_link)


def _show_link(url: str) -> None:
    note(f"the admin listener, with a token for as long as this process runs:\n\n{url}\n")


async def _echo_and_tell(config_path: str | None, address: str) -> None:
    from sidecar.cli.echo import Echo  # noqa: PLC0415
    from sidecar.cli.first_try import paste_line  # noqa: PLC0415
    from sidecar.clock import Clock  # noqa: PLC0415
    from sidecar.config.load import load_settings  # noqa: PLC0415

    settings = load_settings(config_path, env=os.environ)
    added = [pair for d in settings.config.destinations.values() for pair in d.headers.items()]
    secret = {name.lower().encode() for name, value in added if not isinstance(value, str)}
    await Echo(address, masked=secret.union(*(s.verifier.masked for s in settings.sources))).start()
    if settings.server.tls is None:
        line = paste_line(settings.server.listen, settings.sources, secrets.token_hex(12), Clock().wall_ms())
        if line is not None:
            with contextlib.suppress(OSError, SidecarError):  # nobody reads along
                say(f"try it, in another terminal:\n\n{line}\n")
