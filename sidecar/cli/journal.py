"""``journal``: look after what is on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from sidecar.cli.client import connect
from sidecar.cli.options import config_option, json_option
from sidecar.cli.output import age, emit, note, say, size
from sidecar.errors import DaemonUnreachable, JournalFormatError, JournalLocked, PartlyFailedError

__all__ = ["journal"]

T = TypeVar("T")


@click.group()
def journal() -> None:
    """Look after the journal."""


@journal.command("stats")
@json_option
@config_option
def journal_stats(config_path: str | None, *, as_json: bool) -> None:
    """Show how full the journal is and how it is doing."""
    try:
        stats = connect(config_path).get("/api/v1/journal/stats")
    except DaemonUnreachable:
        stats = _offline_stats(config_path)
    if as_json:
        emit(stats)
        return
    say(f"path          {stats['path']}")
    say(f"journal id    {stats['journal_id']}")
    say(f"used          {size(stats['used_bytes'])} of {size(stats['capacity_bytes'])} ({stats['fill']:.1%})")
    say(f"disk free     {size(stats['disk_free_bytes'])}")
    say(f"last seq      {stats['last_seq']:,}")
    say(f"dedup keys    {stats['dedup_keys']:,}")
    say(f"quarantined   {stats['quarantined']:,}")
    if "commits" in stats:
        say(f"commits       {stats['commits']:,}, the last {age(stats['last_commit_ago_s'])} ago")
        say(f"largest batch {stats['largest_batch']:,} events")
        say(f"accepting     {'yes' if stats['accepting'] else 'no: ' + str(stats['refusal'])}")


def _offline_stats(config_path: str | None) -> dict[str, Any]:
    from sidecar.admin.views import journal_row  # noqa: PLC0415 - only where no daemon runs
    from sidecar.cli.offline import OfflineBooks, with_books  # noqa: PLC0415

    async def look(books: OfflineBooks) -> dict[str, Any]:
        row = journal_row(books.journal.stats())
        running = ("commits", "last_commit_ago_s", "largest_batch", "accepting", "refusal", "writer_stuck_s")
        return {k: v for k, v in row.items() if k not in running}

    return with_books(config_path, look)


@journal.command("verify")
@json_option
@config_option
def journal_verify(config_path: str | None, *, as_json: bool) -> None:
    """Check every page's structure and every record's checksum; no daemon may run. Exit 74 when it is damaged."""
    from sidecar.admin import queries  # noqa: PLC0415
    from sidecar.cli.offline import places, with_books  # noqa: PLC0415
    from sidecar.clock import Clock  # noqa: PLC0415
    from sidecar.journal.upkeep import verify_structure  # noqa: PLC0415

    problems = _unlocked(lambda: verify_structure(places(config_path).journal, Clock()))
    report: dict[str, Any] = {"events": 0, "quarantined": 0, "destinations": []}
    if not problems:  # following broken pages could end the process
        report = with_books(config_path, lambda books: queries.audit(books, full=True))
    bad = report["quarantined"]
    off = [d["destination"] for d in report["destinations"] if not d["balanced"]]
    ok = not (problems or bad or off)
    if as_json:
        emit({"ok": ok, "structure": problems, "events": report["events"], "damaged": bad, "unbalanced": off})
    else:
        for problem in problems:
            note(problem)
        structure = f"{len(problems)} problems" if problems else "sound"
        say(f"structure {structure}, {report['events']:,} events read, {bad:,} damaged records")
        if off:
            note(f"not all that is owed can be found: {', '.join(off)}; see: webhook-sidecar audit --offline")
    if not ok:
        raise JournalFormatError(
            "the journal is damaged", "damaged records are never delivered; a backup may have them whole"
        )


@journal.command("backup")
@click.argument("directory", type=click.Path())
@json_option
@config_option
def journal_backup(config_path: str | None, *, directory: str, as_json: bool) -> None:
    """Copy the journal to a new DIRECTORY, also while the daemon runs. The copy takes a new journal id when opened."""
    path = os.path.abspath(directory)
    try:
        done = connect(config_path).post("/api/v1/journal/backup", {"path": path})
    except DaemonUnreachable:
        done = _offline_backup(config_path, path)
    if as_json:
        emit(done)
    else:
        say(f"{done['path']}: {size(done['bytes'])}")


def _offline_backup(config_path: str | None, path: str) -> dict[str, Any]:
    from sidecar.cli.offline import OfflineBooks, with_books  # noqa: PLC0415 - only where no daemon runs

    async def copy(books: OfflineBooks) -> dict[str, Any]:
        try:
            return {"path": path, "bytes": await books.journal.backup(path)}
        except FileExistsError:
            raise click.UsageError(f"{path} exists; a backup makes its own directory.") from None

    return with_books(config_path, copy)


@journal.command("compact")
@json_option
@config_option
def journal_compact(config_path: str | None, *, as_json: bool) -> None:
    """Give the journal's free pages back to the disk; no daemon may run."""
    from sidecar.cli.offline import places  # noqa: PLC0415
    from sidecar.clock import Clock  # noqa: PLC0415
    from sidecar.journal.upkeep import compact  # noqa: PLC0415

    before, after = _unlocked(lambda: compact(places(config_path).journal, Clock()))
    if as_json:
        emit({"before_bytes": before, "after_bytes": after})
    else:
        say(f"{size(before)} -> {size(after)}")


@journal.command("empty")
@click.option("--wait", default="10m", show_default=True, metavar="DURATION", help="How long to try.")
@json_option
@config_option
def journal_empty(config_path: str | None, *, wait: str, as_json: bool) -> None:
    """Deliver what a journal still holds, without receiving anything; no daemon may run.

    For a volume that was left behind by a replica that is gone. Exit 4 when something is still owed after the wait.
    """
    from sidecar.admin.filters import FilterError, parse_duration_s  # noqa: PLC0415
    from sidecar.cli.empty import empty  # noqa: PLC0415 - the lanes and what they need

    try:
        wait_s = parse_duration_s(wait)
    except FilterError as e:
        raise click.UsageError(f"--wait: {e}") from None
    result = _unlocked(lambda: empty(config_path, wait_s, note))
    if as_json:
        emit(result)
    else:
        say(f"{result['delivered']:,} delivered, {result['dead']:,} dead, {result['left']:,} left")
    if result["left"]:
        raise PartlyFailedError(
            f"{result['left']:,} deliveries are still owed", "run it again, or: webhook-sidecar audit"
        )


def _unlocked(use: Callable[[], T]) -> T:
    """Say what to do where a daemon has the journal."""
    try:
        return use()
    except JournalLocked as e:
        raise JournalLocked(e.message, "this works only while no daemon runs: stop it first") from None
