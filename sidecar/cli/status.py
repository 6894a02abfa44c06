"""``status``, ``tail`` and ``healthcheck``: how the daemon is doing, and what it does."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from sidecar.cli.client import connect
from sidecar.cli.options import config_option, json_option
from sidecar.cli.output import age, colour, emit, note, say, size, table
from sidecar.errors import SidecarError

__all__ = ["healthcheck", "status", "tail"]


@click.command("status")
@json_option
@config_option
def status(config_path: str | None, *, as_json: bool) -> None:
    """Show how the daemon is doing."""
    now = connect(config_path).get("/api/v1/status")
    if as_json:
        emit(now)
        return
    journal = now["journal"]
    doing = "draining" if now["draining"] else "accepting" if now["accepting"] else "not accepting"
    why = f" ({journal['refusal']})" if journal["refusal"] else ""
    say(f"webhook-sidecar {now['version']}, pid {now['pid']}, up {age(now['uptime_s'])}, {doing}{why}")
    say(
        f"journal {journal['path']}: {size(journal['used_bytes'])} of {size(journal['capacity_bytes'])} "
        f"({journal['fill']:.0%}), {size(journal['disk_free_bytes'])} free on disk, {journal['dedup_keys']:,} dedup keys"
    )
    if journal["quarantined"]:
        say(f"{journal['quarantined']:,} damaged records; see: webhook-sidecar journal verify")
    if now["refused_last_hour"]:
        parts = sorted(now["refused_last_hour"].items(), key=lambda r: -r[1])
        say("refused in the last hour: " + ", ".join(f"{n:,} {reason}" for reason, n in parts))
    say("")
    table(
        ("DESTINATION", "PENDING", "IN FLIGHT", "SCHEDULED", "OLDEST", "DELIVERED", "DEAD LETTERS", "STATE"),
        [_row(d) for d in now["destinations"]],
    )


def _row(d: dict[str, Any]) -> tuple[object, ...]:
    state = colour("held") if d.get("held") else colour("ok")
    if not d["configured"]:
        state = f"{state}, not configured"
    elif d.get("held") and d.get("last_error"):
        state = f"{state}: {d['last_error']}"
    if d["dying"]:
        state = f"{state}, {d['dying']:,} wait for their dead-letter file"
    return (
        d["name"],
        f"{d['pending']:,}",
        f"{d.get('in_flight', 0):,}",
        f"{d['scheduled']:,}",
        age(d["oldest_pending_s"]),
        f"{d['delivered']:,}",
        f"{d['dead_letters']:,}",
        state,
    )


@click.command("tail")
@click.option("--source", metavar="SOURCE", default="", help="Only of this source.")
@click.option("--destination", metavar="DESTINATION", default="", help="Only to this destination.")
@json_option
@config_option
def tail(config_path: str | None, *, source: str, destination: str, as_json: bool) -> None:
    """Show what happens, as it happens, until interrupted."""
    client = connect(config_path)
    for row in client.rows("GET", "/api/v1/tail", params={"source": source, "destination": destination}):
        if as_json:
            emit(row)
        elif row.get("type") == "dropped":
            note(f"... {row['dropped']:,} rows missed: this reader is too slow")
        else:
            say(_line(row))
    note("the daemon has stopped")


def _line(row: dict[str, Any]) -> str:
    at_ms = row.get("at_ms")
    clock = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%H:%M:%S.%f")[:-3] if at_ms else "-"
    known = ("type", "at_ms", "source", "destination", "outcome", "event_id")
    words = [str(row[k]) for k in known if k not in {"at_ms", "type"} and row.get(k) not in (None, "")]
    more = [f"{k}={v}" for k, v in row.items() if k not in known and v not in (None, "")]
    return " ".join([clock, f"{row.get('type', ''):9}", *words, *more])


@click.command("healthcheck")
@json_option
@config_option
def healthcheck(config_path: str | None, *, as_json: bool) -> None:
    """Exit 0 when the daemon is alive: asks /livez over the admin socket."""
    code, text = connect(config_path).status_of("/livez")
    if as_json:
        emit({"alive": code == 200, "found": text.strip()})
    if code != 200:
        raise SidecarError(f"not alive: {text.strip()}")
    if not as_json:
        say("ok")
