"""``handshake``: secrets that a provider sends when it tries a URL (Asana, Notion)."""

from __future__ import annotations

import click

from sidecar.cli.client import connect, segment
from sidecar.cli.options import config_option, json_option
from sidecar.cli.output import emit, say, short_time
from sidecar.config.units import parse_duration

__all__ = ["handshake"]


@click.group()
def handshake() -> None:
    """Expect a secret that arrives by handshake, read it, forget it."""


def _path(source: str) -> str:
    return f"/api/v1/handshakes/{segment(source)}"


@handshake.command("expect")
@click.argument("source")
@click.option("--for", "window", metavar="DURATION", default="10m", show_default=True, help="How long, at most a day.")
@json_option
@config_option
def handshake_expect(config_path: str | None, *, source: str, window: str, as_json: bool) -> None:
    """Take the next secret that the provider sends to SOURCE. One, then no more."""
    seconds = parse_duration(window)
    if not seconds:
        raise click.UsageError(f'--for: got "{window}"; expected a number and s, m or h, e.g. 10m')
    told = connect(config_path).post(_path(source), {"for_s": seconds})
    if as_json:
        emit(told)
    else:
        say(f"{source}: the next secret is taken, for {window}; now create the webhook at the provider")


@handshake.command("show")
@click.argument("source")
@json_option
@config_option
def handshake_show(config_path: str | None, *, source: str, as_json: bool) -> None:
    """Show the secrets that have arrived for SOURCE, in clear."""
    told = connect(config_path).get(_path(source))
    if as_json:
        emit(told)
        return
    for row in told["secrets"]:
        say(f"{row['id']}  {row['secret']}  arrived {short_time(row['arrived_at'])} from {row['peer'] or '?'}")
    if told["expected_for_s"]:
        say(f"one is expected for another {told['expected_for_s']} s")
    elif not told["secrets"]:
        say(f"none has arrived, none is expected: webhook-sidecar handshake expect {source}")


@handshake.command("forget")
@click.argument("source")
@click.argument("key_id", metavar="ID")
@json_option
@config_option
def handshake_forget(config_path: str | None, *, source: str, key_id: str, as_json: bool) -> None:
    """Remove the secret ID of SOURCE: what is signed with it is refused from now on."""
    told = connect(config_path).post(_path(source), {"forget": key_id})
    emit(told) if as_json else say(f"{source}: {key_id} is forgotten")
