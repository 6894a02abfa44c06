"""``version``."""

from __future__ import annotations

import platform

import click

from sidecar import __version__
from sidecar.cli.options import json_option
from sidecar.cli.output import emit, say

__all__ = ["version"]


@click.command("version")
@json_option
def version(*, as_json: bool) -> None:
    """Show the version."""
    if as_json:
        emit({"version": __version__, "python": platform.python_version()})
    else:
        say(f"webhook-sidecar {__version__} (Python {platform.python_version()})")
