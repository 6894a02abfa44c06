"""Options that several commands share, and what they become."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = [
    "bulk_options",
    "config_option",
    "filter_options",
    "filters_of",
    "json_option",
    "rate_of",
    "utf8",
    "yes_option",
]

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "-c",
    "--config",
    "config_path",
    metavar="FILE",
    envvar="WEBHOOK_SIDECAR_CONFIG",
    help="Configuration file. [default: ./config.toml, then /etc/webhook-sidecar/config.toml]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON: one object, or one a line for lists.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")

_FILTERS = ("key", "source", "destination", "state", "reason", "contains", "since", "until")


def filter_options(*names: str, died: bool = False) -> Callable[[F], F]:
    """Add the named filters.

    Args:
        names: Of key, source, destination, state, reason, contains, since and until.
        died: Since and until speak of a dead letter's death.
    """
    event = "died" if died else "received"
    help_of = {
        "key": "The provider's own id, exactly, or our event id.",
        "source": "Only of this source.",
        "destination": "Only to this destination.",
        "state": "Only deliveries that are pending, dying, delivered, dead, discarded or redirected.",
        "reason": "Only dead for this reason: rejected, attempts_exhausted or expired.",
        "contains": "Only where the body contains this text.",
        "since": f"Only {event} since: 2026-11-20T08:00:00Z, 2026-11-20, or an age like 2h or 3d.",
        "until": f"Only {event} before; as --since.",
    }

    def add(f: F) -> F:
        for name in reversed(names):
            f = click.option(f"--{name}", metavar=name.upper(), default="", help=help_of[name])(f)
        return f

    return add


def bulk_options(f: F) -> F:
    """Add what every command for many has."""
    for option in reversed(
        (
            click.option("--all", "everything", is_flag=True, help="All of them; needed when nothing narrows down."),
            click.option("--rate", metavar="N[/s]", default="", help="At most so many a second."),
            click.option("--max", "most", metavar="N", type=click.IntRange(1), help="At most so many."),
            click.option("--dry-run", is_flag=True, help="Only say how many."),
        )
    ):
        f = option(f)
    return f


def filters_of(given: dict[str, Any]) -> dict[str, str]:
    """Take the filters out of a command's arguments, the empty ones left away."""
    return {name: utf8(given[name]) for name in _FILTERS if given.get(name)}


def utf8(text: str) -> str:
    """What somebody gave on a command line, as the daemon would read it: bytes that are no UTF-8 are marked as such."""
    return os.fsencode(text).decode("utf-8", "replace")


def rate_of(text: str) -> float:
    """Read ``50`` or ``50/s``; 0 for an empty text.

    Raises:
        UsageError: It is neither.
    """
    if not text:
        return 0.0
    try:
        rate = float(text.removesuffix("/s"))
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 100_000:
        raise click.UsageError(f'--rate: got "{text}"; expected e.g. 50 or 50/s')
    return rate
