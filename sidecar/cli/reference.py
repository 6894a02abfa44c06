"""Writes ``docs/cli.md`` and ``docs/metrics.md`` from the commands and the metrics themselves."""

from __future__ import annotations

import click

from sidecar.cli.app import COMMANDS, cli
from sidecar.metrics import PREFIX, Gauge, Histogram, Metrics

__all__ = ["cli_reference", "metrics_reference"]

_CLI_TOP = """\
# Command line

This page is generated from the commands.

Data goes to stdout, everything else to stderr. `--json` writes one object, or one a line for lists and streams.
Colours only on a terminal (`NO_COLOR`, `FORCE_COLOR` and `TERM=dumb` are honoured). Nothing is asked without a
terminal: what cannot be undone then needs `--yes`.

`events`, `dlq`, `status`, `tail`, `audit` and `journal` reach the daemon through `admin.socket` and read nothing else
of the configuration. Where no daemon runs, `events ls|show`, `dlq ls|show`, `audit` and `journal stats|backup` open
the journal themselves, read-only and under its lock; `journal verify|compact|empty` work only then.

| Exit code | Means |
|---|---|
| 0 | ok |
| 1 | failed |
| 2 | usage |
| 3 | not found |
| 4 | partly failed |
| 69 | daemon unreachable |
| 74 | journal unusable |
| 78 | bad configuration |
| 130 | interrupted |
"""

_METRICS_TOP = f"""\
# Metrics

This page is generated from the code. `/metrics` on the admin listener serves them in the Prometheus text format, and in
OpenMetrics where that is asked for. Every name is prefixed `{PREFIX}`; beside them are `process_*` and `python_gc_*`
as every Python process has them. Label values come from the configuration and from closed lists.

| Name | Type | Labels | Means |
|---|---|---|---|
"""


def cli_reference() -> str:
    """Write ``docs/cli.md``."""
    context = click.Context(cli, info_name="webhook-sidecar")
    parts = [_CLI_TOP]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts.append(_section(command, context, name))
        if isinstance(command, click.Group):
            inner = click.Context(command, info_name=name, parent=context)
            parts += [_section(sub, inner, sub_name) for sub_name, sub in sorted(command.commands.items())]
    return "\n".join(parts)


def _section(command: click.Command, parent: click.Context, name: str) -> str:
    # A fixed width, whatever terminal generates it.
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100, max_content_width=100)
    level = "##" if parent.parent is None else "###"
    return f"{level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"


def metrics_reference() -> str:
    """Write ``docs/metrics.md``."""
    rows = []
    for family in Metrics().all():
        kind = "histogram" if isinstance(family, Histogram) else "gauge" if isinstance(family, Gauge) else "counter"
        labels = ", ".join(f"`{label}`" for label in family.labels) or "-"
        rows.append(f"| `{family.name}` | {kind} | {labels} | {family.help} |")
    return _METRICS_TOP + "\n".join(rows) + "\n"
