"""The command ``webhook-sidecar``: its commands by name, each loaded only when it is used."""

from __future__ import annotations

import difflib
import importlib

import click

__all__ = ["COMMANDS", "cli"]

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("sidecar.cli.run:run", "Receive, keep and deliver webhooks until told to stop."),
    "check": ("sidecar.cli.config:check", "Judge the configuration; exit 78 when it has problems."),
    "send": ("sidecar.cli.send:send", "Send a webhook as its provider would, signed."),
    "status": ("sidecar.cli.status:status", "Show how the daemon is doing."),
    "tail": ("sidecar.cli.status:tail", "Show what happens, as it happens."),
    "events": ("sidecar.cli.events:events", "Look events up, replay or discard them."),
    "dlq": ("sidecar.cli.dlq:dlq", "Look at dead letters, replay or remove them."),
    "audit": ("sidecar.cli.audit:audit", "Prove that nothing is missing: enqueued = settled + pending."),
    "journal": ("sidecar.cli.journal:journal", "Look after the journal."),
    "config": ("sidecar.cli.config:config", "Write a first configuration, show the one in force."),
    "doctor": ("sidecar.cli.doctor:doctor", "Check everything around the daemon, with a fix for each finding."),
    "verify": ("sidecar.cli.verify:verify", "Explain why a request is refused; run signature cases."),
    "handshake": ("sidecar.cli.handshake:handshake", "Expect, read and forget secrets that arrive by handshake."),
    "healthcheck": ("sidecar.cli.status:healthcheck", "Exit 0 when the daemon is alive."),
    "version": ("sidecar.cli.version:version", "Show the version."),
}
"""Name -> (module:attribute, one line of help). The order is that of ``--help``."""


class LazyGroup(click.Group):
    """Knows its commands by name and imports one when it is used, so that ``--help`` and ``run`` are quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was meant, or say which one may have been."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            ctx.fail(f'No such command "{args[0]}".{hint}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list from the table, importing nothing."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 partly failed, 69 daemon unreachable, "
    "74 journal unusable, 78 bad configuration, 130 interrupted.",
)
def cli() -> None:
    """Receive webhooks, put them on disk, acknowledge them, deliver them."""
