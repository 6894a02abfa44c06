"""``doctor``: everything around the daemon that can be wrong, each finding with its fix."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from sidecar.cli.options import config_option, json_option
from sidecar.cli.output import colour, emit, say
from sidecar.errors import ConfigError, SidecarError

__all__ = ["doctor"]


@click.command("doctor")
@json_option
@config_option
def doctor(config_path: str | None, *, as_json: bool) -> None:
    """Check configuration, secrets, disk, ports, destinations, limits and clock; exit 1 when something fails."""
    from sidecar.cli.findings import Finding, examine  # noqa: PLC0415 - not needed by --help
    from sidecar.config.load import load_settings  # noqa: PLC0415

    def findings() -> Iterator[Finding]:
        try:
            settings = load_settings(config_path, env=os.environ)
        except ConfigError as e:
            for problem in e.problems or (e.message,):
                yield Finding("configuration", "fail", problem.splitlines()[0], "webhook-sidecar check")
            return
        yield Finding("configuration", "ok", f"{settings.path}, secrets readable")
        for warning in settings.warnings:
            yield Finding("configuration", "warn", warning)
        yield from examine(settings)

    failed = 0
    for finding in findings():
        failed += finding.verdict == "fail"
        if as_json:
            emit({"check": finding.check, "verdict": finding.verdict, "found": finding.found, "fix": finding.fix})
            continue
        say(f"[{colour(finding.verdict)}]{' ' * (5 - len(finding.verdict))}{finding.check}: {finding.found}")
        if finding.fix and finding.verdict != "ok":
            say(f"        fix: {finding.fix}")
    if failed:
        raise SidecarError(f"{failed} check{'s' if failed > 1 else ''} failed")
