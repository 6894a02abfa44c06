"""``verify``: signature cases against the presets."""

from __future__ import annotations

import click

from sidecar.cli.options import json_option
from sidecar.cli.output import emit, say
from sidecar.errors import SidecarError, UsageError

__all__ = ["verify"]


@click.command("verify")
@click.option(
    "--vectors", "path", metavar="FILE.jsonl", required=True, type=click.Path(exists=True, dir_okay=False),
    help="One case a line.",
)  # fmt: skip
@json_option
def verify(*, path: str, as_json: bool) -> None:
    """Run signature cases and show those that do not turn out as expected. Exit 1 when there are any."""
    from sidecar.inbound.verify.vectors import parse_case, run_case  # noqa: PLC0415 - not needed by --help

    total, good = 0, 0
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            if not line.strip():
                continue
            try:
                case = parse_case(line)
            except ValueError as e:
                raise UsageError(f"{path}:{number}: {e}") from None
            total += 1
            outcome = run_case(case)
            if outcome is True:
                good += 1
            elif as_json:
                emit({"line": number, "id": case.id, "provider": case.provider, "outcome": outcome})
            else:
                say(f"{path}:{number}: {case.id}: {outcome}")
    if as_json:
        emit({"cases": total, "as_expected": good})
    else:
        say(f"{total:,} cases, {good:,} as expected")
    if good != total:
        raise SidecarError(f"{total - good:,} cases did not turn out as expected")
