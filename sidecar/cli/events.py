"""``events``: did we get it, what became of it, once more, not at all."""

from __future__ import annotations

from typing import Any

import click

from sidecar.cli.bulk import request_of, run_bulk
from sidecar.cli.client import connect, segment
from sidecar.cli.options import bulk_options, config_option, filter_options, filters_of, json_option, utf8, yes_option
from sidecar.cli.output import colour, emit, is_terminal, note, say, short_time, size, table
from sidecar.cli.show import show_attempts, show_request
from sidecar.errors import DaemonUnreachable, NotFoundError

__all__ = ["events"]

_ALL = ("key", "source", "destination", "state", "reason", "contains", "since", "until")


@click.group()
def events() -> None:
    """Look events up, replay or discard them."""


@events.command("ls")
@filter_options(*_ALL)
@click.option("-n", "--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
@click.option("--cursor", metavar="CURSOR", default="", help="Go on where a list ended.")
@json_option
@config_option
def events_ls(config_path: str | None, *, as_json: bool, limit: int, cursor: str, **given: Any) -> None:
    """List events, newest first.

    "Did we get order 123?": events ls --key 123. A no says how far it looked and what was refused meanwhile.
    """
    filters = filters_of(given)
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 15):
        raise click.UsageError(f'--cursor: got "{cursor}"; expected the number that a list ended with')
    try:
        page = connect(config_path).get("/api/v1/events", {**filters, "limit": limit, "cursor": cursor})
    except DaemonUnreachable:
        page = _offline_page(config_path, filters, int(cursor or 0), limit)
    if as_json:
        for event in page["events"]:
            emit(event)
    elif page["events"]:
        rows = [
            (
                e["id"],
                short_time(e["received_at"]),
                e["source"],
                e["key"],
                size(e["body_bytes"]),
                " ".join(f"{d['destination']}:{colour(d['state'])}" for d in e["deliveries"]),
            )
            for e in page["events"]
        ]
        table(("EVENT", "RECEIVED (UTC)", "SOURCE", "KEY", "SIZE", "DELIVERIES"), rows)
    if not page["events"]:
        (note if as_json else say)(_no(page))
    if page["next_cursor"]:
        note(f"more: --cursor {page['next_cursor']}")


def _no(page: dict[str, Any]) -> str:
    """Say how far a search went that found nothing."""
    since = f" since {page['oldest_at']}" if page["oldest_at"] else ""
    text = f"none in {page['scanned']:,} events{since}"
    refused = page.get("refused") or {}
    if refused:
        parts = sorted(refused.items(), key=lambda r: -r[1])
        text += f"; {sum(refused.values()):,} refused then: {', '.join(f'{n:,} {reason}' for reason, n in parts[:4])}"
    return text


def _offline_page(config_path: str | None, filters: dict[str, str], cursor: int, limit: int) -> dict[str, Any]:
    from sidecar.admin import queries  # noqa: PLC0415 - only where no daemon runs
    from sidecar.admin.filters import FilterError, filters_from  # noqa: PLC0415
    from sidecar.cli.offline import with_books  # noqa: PLC0415

    try:
        return with_books(
            config_path, lambda books: queries.events(books, filters_from(filters), cursor=cursor, limit=limit)
        )
    except FilterError as e:
        raise click.UsageError(str(e)) from None


@events.command("show")
@click.argument("event")
@click.option("--body", "only_body", is_flag=True, help="Write only the body, byte for byte; escaped on a terminal.")
@json_option
@config_option
def events_show(config_path: str | None, *, event: str, only_body: bool, as_json: bool) -> None:
    """Show one event: request, deliveries, every try. EVENT is our id, its beginning, or the provider's id."""
    if only_body:
        body = connect(config_path).read(f"/api/v1/events/{segment(event)}/body")
        if is_terminal():
            say(body.decode("utf-8", "backslashreplace"))
        else:
            click.echo(body, nl=False)
        return
    try:
        found = connect(config_path).get(f"/api/v1/events/{segment(event)}")
    except DaemonUnreachable:
        found = _offline_event(config_path, event)
    if as_json:
        emit(found)
        return
    say(f"{found['id']}  {found['source']}  {found['received_at']}")
    for name in ("key", "replay_of"):
        if found[name]:
            say(f"{name}: {found[name]}")
    say(f"verified: {'yes' if found['verified'] else 'no'}")
    show_request(found)
    for delivery in found["deliveries"]:
        say("")
        due = f", due in {delivery['due_in_ms'] / 1000:.1f}s" if delivery["due_in_ms"] is not None else ""
        reason = f" ({delivery['reason']})" if delivery["reason"] else ""
        replay = f", replay {delivery['replay']}" if delivery["replay"] else ""
        say(f"{delivery['destination']}: {colour(delivery['state'])}{reason}{replay}{due}")
        show_attempts(delivery["log"])


def _offline_event(config_path: str | None, name: str) -> dict[str, Any]:
    from sidecar.admin import queries  # noqa: PLC0415 - only where no daemon runs
    from sidecar.cli.offline import with_books  # noqa: PLC0415

    try:
        found = with_books(config_path, lambda books: queries.event(books, utf8(name)))
    except queries.Ambiguous as e:
        raise click.UsageError(str(e)) from None
    if found is None:
        raise NotFoundError("no event of this id or key is in the journal")
    return found


@events.command("replay")
@click.argument("event", nargs=-1)
@filter_options(*_ALL)
@click.option("--to", metavar="DESTINATION", default="", help="Deliver to this destination instead.")
@bulk_options
@json_option
@config_option
def events_replay(
    config_path: str | None, *, event: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any
) -> None:
    """Deliver finished events again: same id, fresh tries, past dedup."""
    client = connect(config_path)
    request = request_of(client, event, given, look_up="events")
    run_bulk(client, "events/replay", request, verb="replayed", dry_run=dry_run, as_json=as_json)


@events.command("discard")
@click.argument("event", nargs=-1)
@filter_options(*_ALL)
@click.option("--to", metavar="DESTINATION", default="", help="Send them to this destination instead.")
@bulk_options
@yes_option
@json_option
@config_option
def events_discard(
    config_path: str | None, *, event: tuple[str, ...], as_json: bool, dry_run: bool, yes: bool, **given: Any
) -> None:
    """Drop pending deliveries, or with --to send them elsewhere."""
    client = connect(config_path)
    request = request_of(client, event, given, look_up="events")
    ask = "" if given["to"] else "{n} pending deliveries will never be delivered."
    verb = "redirected" if given["to"] else "discarded"
    run_bulk(client, "events/discard", request, verb=verb, dry_run=dry_run, as_json=as_json, ask=ask, yes=yes)
