"""``audit``: nothing that was acknowledged is missing."""

from __future__ import annotations

import click

from sidecar.cli.client import connect
from sidecar.cli.options import config_option, json_option
from sidecar.cli.output import emit, note, table
from sidecar.errors import DaemonUnreachable, SidecarError

__all__ = ["audit"]


@click.command("audit")
@click.option("--full", is_flag=True, help="On a running daemon too, check every event's checksum.")
@click.option("--offline", is_flag=True, help="Open the journal itself; no daemon may run.")
@json_option
@config_option
def audit(config_path: str | None, *, full: bool, offline: bool, as_json: bool) -> None:
    """Prove for every destination that enqueued = settled + pending, and find each dead delivery's file.

    A file that a person removed is reported as gone and is no error. Exit 1 when the books do not balance.
    """
    report = None
    if not offline:
        try:
            report = connect(config_path).get("/api/v1/audit", {"full": int(full)})
        except DaemonUnreachable as e:
            note(f"{e.message}; reading the journal itself")
    if report is None:
        from sidecar.admin import queries  # noqa: PLC0415 - only where no daemon runs
        from sidecar.cli.offline import with_books  # noqa: PLC0415

        report = with_books(config_path, lambda books: queries.audit(books, full=True))
    if as_json:
        emit(report)
    else:
        table(
            ("DESTINATION", "ENQUEUED", "SETTLED", "PENDING", "DYING", "DEAD", "FILES", "GONE", "BALANCED"),
            [
                (
                    d["destination"],
                    *(f"{d[k]:,}" for k in ("enqueued", "settled", "pending", "dying", "dead", "files", "gone")),
                    "yes" if d["balanced"] else "NO",
                )
                for d in report["destinations"]
            ],
        )
        for g in report["gone"]:
            note(f"gone: {g['destination']}/{g['event_id']}.json")
        if not report["exact"]:
            note("counted in slices while the daemon worked: a difference may be work under way; audit again")
        if report["quarantined"]:
            note(f"{report['quarantined']:,} damaged records; see: webhook-sidecar journal verify")
    off = [d["destination"] for d in report["destinations"] if not d["balanced"]]
    if off:
        raise SidecarError(f"the books do not balance: {', '.join(off)}", "run it again with --offline when stopped")
