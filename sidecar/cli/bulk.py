"""Commands for many: count, ask, stream, sum up. Shared by ``events`` and ``dlq``."""

from __future__ import annotations

from typing import Any

import click

from sidecar.cli.client import Client, segment
from sidecar.cli.options import filters_of, rate_of
from sidecar.cli.output import Progress, confirm, emit, is_terminal, note, say
from sidecar.errors import NotFoundError, PartlyFailedError, SidecarError

__all__ = ["request_of", "run_bulk"]

_NOT_THERE = {"not_found", "gone"}


def request_of(client: Client, names: tuple[str, ...], given: dict[str, Any], *, look_up: str) -> dict[str, Any]:
    """Make the request of a command for many.

    Args:
        client: Knows which event a name stands for.
        names: Our ids, beginnings of them, or provider's ids.
        given: The command's arguments.
        look_up: Where names are looked up: ``events`` or ``dead-letters``.

    Raises:
        UsageError: Nothing is named, or a beginning stands for several.
        NotFoundError: A name stands for nothing.
    """
    filters = filters_of(given)
    if not names and not filters and not given["everything"]:
        raise click.UsageError("Nothing is chosen: name events, give a filter, or say --all.")
    request: dict[str, Any] = dict(filters)
    request |= {"all": given["everything"], "rate": rate_of(given["rate"]), "max": given["most"] or 0}
    request |= {k: given[k] for k in ("to", "edited") if given.get(k)}
    if names:
        request["ids"] = [_whole_id(client, name, look_up) for name in names]
    return request


def _whole_id(client: Client, name: str, look_up: str) -> str:
    if name.startswith("wse_") and len(name) == 30:
        return name
    found = client.get(f"/api/v1/{look_up}/{segment(name)}")
    return str(found["id"] if look_up == "events" else found["dead_letters"][0]["event_id"])


def run_bulk(
    client: Client,
    path: str,
    request: dict[str, Any],
    *,
    verb: str,
    dry_run: bool,
    as_json: bool,
    ask: str = "",
    yes: bool = True,
) -> None:
    """Run a command for many.

    Args:
        client: Where.
        path: Below ``/api/v1/``.
        request: As ``request_of`` makes it.
        verb: What is done, as a past participle.
        dry_run: Only count.
        as_json: Write the rows as JSON lines.
        ask: Question with ``{n}``, for what cannot be undone; "" = not asked.
        yes: Do not ask.

    Raises:
        PartlyFailedError: Some did not work.
        NotFoundError: None of those named was there.
        SidecarError: None worked.
    """
    total: int | None = None
    if dry_run or ask or is_terminal(err=True):
        counted = _last(client, path, request | {"dry_run": True})
        total = int(counted["matched"])
        if dry_run:
            emit(counted) if as_json else say(f"{total:,} would be {verb}{_words(counted['outcomes'], verb)}")
            return
        if ask and total:
            confirm(ask.format(n=f"{total:,}"), yes=yes)
    progress = Progress(total)
    summary: dict[str, Any] = {}
    try:
        for row in client.rows("POST", f"/api/v1/{path}", request):
            if row["type"] == "progress":
                progress.show(row)
                continue
            summary = row
            if as_json:
                emit(row)
            elif row["type"] == "refused":
                progress.close()
                note(f"{row['event_id']} {row['destination']}: {row['reason']}".replace("  ", " "))
            elif row["type"] == "restored":
                progress.close()
                how = "as" if row["verified"] else "unverified as"
                note(f"{row['replay_of']} came back {how} {row['event_id']}")
    finally:
        progress.close()
    _conclude(summary, verb, as_json=as_json)


def _last(client: Client, path: str, request: dict[str, Any]) -> dict[str, Any]:
    last: dict[str, Any] = {}
    for row in client.rows("POST", f"/api/v1/{path}", request):
        last = row
    return last


def _words(outcomes: dict[str, int], verb: str) -> str:
    told = [f"{n:,} {word}" for word, n in outcomes.items() if word != verb]
    return f" ({', '.join(told)})" if told else ""


def _conclude(summary: dict[str, Any], verb: str, *, as_json: bool) -> None:
    done, failed, outcomes = summary["done"], summary["failed"], summary["outcomes"]
    if not as_json:
        skipped = f", {summary['skipped']:,} left alone" if summary["skipped"] else ""
        say(f"{done:,} {verb}{skipped}, {failed:,} failed{_words(outcomes, verb)} in {summary['elapsed_s']:.1f}s")
    if failed and done:
        raise PartlyFailedError(f"{failed:,} of {done + failed:,} were not {verb}")
    if failed and set(outcomes) <= _NOT_THERE:
        raise NotFoundError("none of those is there")
    if failed:
        raise SidecarError(f"none of {failed:,} was {verb}")
