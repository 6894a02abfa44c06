"""``check`` and ``config``: judge, write and show the configuration."""

from __future__ import annotations

import json
import os
import tomllib
from typing import TYPE_CHECKING, Any

import click

from sidecar.cli.options import config_option, json_option
from sidecar.cli.output import emit, note, say
from sidecar.errors import ConfigError

if TYPE_CHECKING:
    from sidecar.config.settings import Settings

__all__ = ["check", "config"]


@click.command("check")
@click.option("--offline", is_flag=True, help="Look at no environment and no file but the configuration.")
@json_option
@config_option
def check(config_path: str | None, *, offline: bool, as_json: bool) -> None:
    """Judge the configuration: every problem at once, each with its place and a way out. Exit 78 when there are any.

    Prints how many webhooks a second the journal can remember for the longest dedup.ttl: beyond that TTL times rate
    the oldest keys go early.
    """
    from sidecar.config.load import load_settings  # noqa: PLC0415 - the lanes' options are not needed by --help

    try:
        settings = load_settings(config_path, env=os.environ, offline=offline)
    except ConfigError as e:
        if as_json:
            emit({"ok": False, "problems": list(e.problems) or [e.message], "warnings": [], "dedup": None})
            raise ConfigError(e.message, e.hint) from None
        raise
    dedup = _dedup_room(settings)
    if as_json:
        emit({"ok": True, "problems": [], "warnings": list(settings.warnings), "dedup": dedup})
        return
    for warning in settings.warnings:
        note(f"warning: {warning}")
    say(f"{settings.path}: ok, {len(settings.sources)} sources, {len(settings.destinations)} destinations")
    if dedup is not None:
        from sidecar.config.units import format_duration  # noqa: PLC0415

        rate = dedup["per_second"]
        say(
            f"dedup: {format_duration(dedup['ttl_s'])} x {rate:{'.2g' if rate < 10 else ',.0f'}} webhooks a second fit "
            f"(longest ttl, rate of all sources with a key): {dedup['keys']:,} keys in a quarter of journal.max_size"
        )


def _dedup_room(settings: Settings) -> dict[str, Any] | None:
    """Say which rate the dedup keys have room for; None where no source has any.

    The longest TTL counts for all: keys lie together by age, and go together when the last of them has expired.
    """
    ttl_s = max((s.dedup.ttl_s for s in settings.sources if s.dedup.key != "none"), default=None)
    if ttl_s is None:
        return None
    from sidecar.journal.limits import dedup_keys  # noqa: PLC0415

    keys = dedup_keys(settings.journal.max_size_bytes)
    return {"ttl_s": ttl_s, "keys": keys, "per_second": keys / ttl_s}


@click.group()
def config() -> None:
    """Write a first configuration, show the one in force."""


@config.command("init")
@click.option(
    "--provider", "--preset", "preset", metavar="PRESET", default="github", show_default=True,
    help="Provider of the first source: a name in docs/providers.md.",
)  # fmt: skip
@click.option("--full", is_flag=True, help="Every key with its default.")
@json_option
def config_init(*, preset: str, full: bool, as_json: bool) -> None:
    """Write a first configuration to stdout: webhook-sidecar config init > config.toml."""
    if full:
        from sidecar.config.documents import example  # noqa: PLC0415

        text = example().rstrip("\n")
    else:
        text = _first(preset)
    emit(json.loads(json.dumps(tomllib.loads(text), default=str))) if as_json else say(text)


def _first(preset: str) -> str:
    from sidecar.inbound.verify import PRESETS  # noqa: PLC0415

    if preset not in PRESETS:
        raise click.UsageError(f'--provider: got "{preset}"; expected one of {", ".join(sorted(PRESETS))}')
    from sidecar.config.providers import minimal_source  # noqa: PLC0415

    return f"""#:schema ./config.schema.json

{minimal_source(PRESETS[preset]).rstrip()}

# Your service. A first try without one: webhook-sidecar run --with-echo 127.0.0.1:3000
[destinations.app]
url = "http://127.0.0.1:3000{{path}}\""""


@config.command("show")
@click.option("--preset", metavar="PRESET", help="A preset instead, as the table that would make it.")
@click.option("--origin", is_flag=True, help="Say which keys the environment has set.")
@click.option("--offline", is_flag=True, help="Look at no environment and no file but the configuration.")
@json_option
@config_option
def config_show(config_path: str | None, *, preset: str | None, origin: bool, offline: bool, as_json: bool) -> None:
    """Show the configuration in force: defaults filled in, variables expanded, secrets masked."""
    if preset is not None:
        _show_preset(preset, as_json=as_json)
        return
    from sidecar.config.describe import render  # noqa: PLC0415
    from sidecar.config.load import load_settings  # noqa: PLC0415

    settings = load_settings(config_path, env=os.environ, offline=offline)
    text = render(settings.config, settings.origins if origin else None)
    if as_json:
        emit(json.loads(json.dumps(tomllib.loads(text), default=str)))
    else:
        say(text.rstrip("\n"))


def _show_preset(name: str, *, as_json: bool) -> None:
    from sidecar.config.providers import preset_toml  # noqa: PLC0415
    from sidecar.inbound.verify import PRESETS  # noqa: PLC0415

    if name not in PRESETS:
        raise click.UsageError(f'--preset: got "{name}"; expected one of {", ".join(sorted(PRESETS))}')
    text = preset_toml(PRESETS[name])
    if as_json:
        emit(tomllib.loads(text))
    else:
        say(text.rstrip("\n"))


@config.command("schema")
@json_option
def config_schema(*, as_json: bool) -> None:
    """Write the JSON Schema of the configuration, for editors."""
    from sidecar.config.describe import json_schema  # noqa: PLC0415

    emit(json_schema()) if as_json else say(json.dumps(json_schema(), indent=2, ensure_ascii=False))
