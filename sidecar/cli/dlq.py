"""``dlq``: what was given up, why, and how to put it back."""

from __future__ import annotations

from typing import Any

import click

from sidecar.cli.bulk import request_of, run_bulk
from sidecar.cli.client import connect, segment
from sidecar.cli.options import bulk_options, config_option, filter_options, filters_of, json_option, utf8, yes_option
from sidecar.cli.output import emit, note, say, short_time, size, table
from sidecar.cli.show import show_attempts, show_request
from sidecar.errors import DaemonUnreachable, NotFoundError

__all__ = ["dlq"]

_FILTERS = ("key", "source", "destination", "reason", "contains", "since", "until")


@click.group()
def dlq() -> None:
    """Look at dead letters, replay or remove them."""


@dlq.command("ls")
@filter_options(*_FILTERS, died=True)
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(1), help="At most so many.")
@click.option("--cursor", metavar="CURSOR", default="", help="Go on where a list ended.")
@json_option
@config_option
def dlq_ls(config_path: str | None, *, as_json: bool, limit: int, cursor: str, **given: Any) -> None:
    """List dead letters, newest events first within each destination."""
    filters = filters_of(given)
    try:
        page = connect(config_path).get("/api/v1/dead-letters", {**filters, "limit": limit, "cursor": cursor})
    except DaemonUnreachable:
        page = _offline_page(config_path, filters, cursor, limit)
    rows = page["dead_letters"]
    if as_json:
        for row in rows:
            emit(row)
    elif rows:
        table(
            ("EVENT", "DESTINATION", "SOURCE", "REASON", "DIED (UTC)", "SIZE", "PROBLEM"),
            [
                (
                    r["event_id"],
                    r["destination"],
                    r["source"],
                    r["reason"],
                    short_time(r["died_at"]),
                    size(r["bytes"]),
                    r["problem"],
                )
                for r in rows
            ],
        )
    else:
        note("no dead letters" + (" match" if filters else ""))
    if page["next_cursor"]:
        note(f"more: --cursor {page['next_cursor']}")


def _offline_page(config_path: str | None, filters: dict[str, str], cursor: str, limit: int) -> dict[str, Any]:
    from sidecar.admin import queries  # noqa: PLC0415 - only where no daemon runs
    from sidecar.admin.filters import FilterError, filters_from  # noqa: PLC0415
    from sidecar.cli.offline import with_books  # noqa: PLC0415

    try:
        return with_books(
            config_path, lambda books: queries.dead_letters(books, filters_from(filters), cursor=cursor, limit=limit)
        )
    except FilterError as e:
        raise click.UsageError(str(e)) from None


@dlq.command("show")
@click.argument("event")
@click.option("--destination", metavar="DESTINATION", default="", help="Only the one of this destination.")
@json_option
@config_option
def dlq_show(config_path: str | None, *, event: str, destination: str, as_json: bool) -> None:
    """Show the dead letters of one event. EVENT is its id or the beginning of it."""
    try:
        path = f"/api/v1/dead-letters/{segment(event)}"
        found = connect(config_path).get(path, {"destination": destination})["dead_letters"]
    except DaemonUnreachable:
        found = _offline_letters(config_path, event, destination)
    for number, letter in enumerate(found):
        if as_json:
            emit(letter)
            continue
        if number:
            say("")
        say(f"{letter['event_id']}  to {letter['destination']}")
        if letter["problem"]:
            say(f"would not be replayed: {letter['problem']}")
        if "method" not in letter:
            continue
        say(f"{letter['reason']}, died {letter['died_at']}, received {letter['received_at']} from {letter['source']}")
        show_request(letter)
        say("")
        show_attempts(letter["log"])


def _offline_letters(config_path: str | None, name: str, destination: str) -> list[dict[str, Any]]:
    from sidecar.admin import queries  # noqa: PLC0415 - only where no daemon runs
    from sidecar.cli.offline import with_books  # noqa: PLC0415

    try:
        found = with_books(config_path, lambda books: queries.dead_letter(books, utf8(name), destination))
    except queries.Ambiguous as e:
        raise click.UsageError(str(e)) from None
    if not found:
        raise NotFoundError("no dead letter of this id")
    return found


@dlq.command("replay")
@click.argument("event", nargs=-1)
@filter_options(*_FILTERS, died=True)
@click.option("--to", metavar="DESTINATION", default="", help="Deliver to this destination instead.")
@click.option("--edited", is_flag=True, help="Also files that were changed: as new, unverified events.")
@bulk_options
@json_option
@config_option
def dlq_replay(config_path: str | None, *, event: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Put dead letters back: fresh tries, past dedup; each file goes once its delivery is in the journal again."""
    client = connect(config_path)
    request = request_of(client, event, given, look_up="dead-letters")
    run_bulk(client, "dead-letters/replay", request, verb="replayed", dry_run=dry_run, as_json=as_json)


@dlq.command("rm")
@click.argument("event", nargs=-1)
@filter_options(*_FILTERS, died=True)
@bulk_options
@yes_option
@json_option
@config_option
def dlq_rm(
    config_path: str | None, *, event: tuple[str, ...], as_json: bool, dry_run: bool, yes: bool, **given: Any
) -> None:
    """Remove dead letters for good."""
    client = connect(config_path)
    request = request_of(client, event, given, look_up="dead-letters")
    ask = "{n} dead letters will be removed for good."
    run_bulk(client, "dead-letters/rm", request, verb="removed", dry_run=dry_run, as_json=as_json, ask=ask, yes=yes)
