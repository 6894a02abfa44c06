"""From a file to ``Settings``, or to one ``ConfigError`` that names every problem.

The only place that touches files and the environment for the configuration. Nothing is kept between two loads, so
a reload is a load.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from sidecar.config.build import build
from sidecar.config.check import check
from sidecar.config.placeholders import fill, override
from sidecar.config.positions import Positions, dotted, scan
from sidecar.config.problems import Problem, Problems, Report
from sidecar.config.schema import Admin
from sidecar.config.secrets import Files
from sidecar.config.settings import Settings, WatchedFile
from sidecar.errors import ConfigError

__all__ = ["CONFIG_VARIABLE", "PLACES", "admin_socket", "find_config", "load_settings"]

CONFIG_VARIABLE = "WEBHOOK_SIDECAR_CONFIG"
PLACES = ("config.toml", "/etc/webhook-sidecar/config.toml")
"""Where a configuration is looked for when nobody names one."""

_MAX_BYTES = 4 << 20
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def find_config(explicit: str | None, env: Mapping[str, str]) -> str:
    """Say which file is the configuration.

    Args:
        explicit: As given on the command line; taken as it is.
        env: The environment.

    Raises:
        ConfigError: There is none.
    """
    named = explicit or env.get(CONFIG_VARIABLE)
    if named:
        return named
    for place in PLACES:
        if os.path.exists(place):
            return place
    raise ConfigError(
        f"no configuration: neither --config nor ${CONFIG_VARIABLE} is given, and there is no {' and no '.join(PLACES)}",
        hint="webhook-sidecar config init > config.toml",
    )


def load_settings(path: str | None, *, env: Mapping[str, str], offline: bool = False) -> Settings:
    """Read a configuration whole.

    Args:
        path: The file; None to look in the usual places (``find_config``).
        env: The environment: variables, overrides, secrets.
        offline: Look at no environment and no file but the configuration. Variables are then not judged, and
            secrets, token and TLS are left empty: the result is for checking, not for running.

    Raises:
        ConfigError: With every problem, formatted for people, in ``problems``.
    """
    name = find_config(path, env)
    content = _read(name)
    text, data = _parse(name, content)
    problems = Problems()
    filled = fill(data, None if offline else env, problems)
    origins = {} if offline else override(filled.data, env)
    problems.unknown = frozenset(filled.unknown - origins.keys())
    problems.written = {where: written for where, written in filled.written.items() if where not in origins}
    checked = check(filled.data, problems)
    files = Files(os.path.dirname(os.path.abspath(name)))
    config_file = WatchedFile(os.path.abspath(name), hashlib.blake2b(content, digest_size=16).digest())
    files.watched[config_file.path] = config_file
    settings = build(
        checked, config_file.path, None if offline else env, files, problems, {dotted(k): v for k, v in origins.items()}
    )
    if problems.found or settings is None:
        raise _error(name, Report(name, _positions(text), origins).lines(problems.found))
    return settings


def admin_socket(path: str | None, env: Mapping[str, str]) -> str:
    """Say where the daemon's admin socket is; client commands read nothing else of a configuration.

    Args:
        path: As for ``load_settings``.
        env: The environment.

    Raises:
        ConfigError: There is no file, or it is not TOML.
    """
    name = find_config(path, env)
    problems = Problems()
    filled = fill(_parse(name, _read(name))[1], env, problems)
    override(filled.data, env)
    admin = filled.data.get("admin")
    given = admin.get("socket") if isinstance(admin, dict) else None
    socket = given if isinstance(given, str) and given else Admin().socket
    return Files(os.path.dirname(os.path.abspath(name))).absolute(socket)


def _read(name: str) -> bytes:
    problem = ""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) <= _MAX_BYTES:
            return content
        problem = "it is larger than 4 MiB"
    except (OSError, ValueError) as error:
        problem = (getattr(error, "strerror", None) or "it cannot be opened").lower()
    raise _error(name, Report(name, scan("")).lines([Problem("C001", (), f"cannot be read: {problem}")]))


def _parse(name: str, content: bytes) -> tuple[str, dict[str, Any]]:
    """Decode and parse.

    Raises:
        ConfigError: Not UTF-8, or not TOML.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
        problem = Problem("C002", (), f"not UTF-8 text (line {line}, column {column})")
        raise _error(name, Report(name, scan("")).lines([problem])) from None
    try:
        return text, tomllib.loads(text)
    except RecursionError:
        message, offset = "nested too deeply", -1
    except ValueError as error:  # TOMLDecodeError, and what int() says to a number of 5,000 digits
        message, offset = _syntax(str(error), text) if isinstance(error, tomllib.TOMLDecodeError) else ("not TOML", -1)
    positions = Positions(text, {})
    raise _error(name, Report(name, positions).lines([Problem("C002", (), message, offset=offset)])) from None


def _syntax(message: str, text: str) -> tuple[str, int]:
    """Split what tomllib says into its words and the offset in the text."""
    match = _AT.search(message)
    if match is None:
        return message, -1
    words = message[: match.start()]
    if match[1] is None:
        return words + " (the file ends here)", max(len(text.rstrip()) - 1, 0)
    # tomllib counts after turning "\r\n" into "\n"; columns up to the line's end are the same.
    return words, Positions(text, {}).line_span(int(match[1])).start + int(match[2]) - 1


def _positions(text: str) -> Positions:
    try:
        return scan(text)
    except (AssertionError, IndexError, RecursionError):  # pragma: no cover - a slip here must not cost the message
        return Positions(text, {})


def _error(name: str, problems: tuple[str, ...]) -> ConfigError:
    count = f"{len(problems)} problems" if len(problems) != 1 else "1 problem"
    return ConfigError(
        f"{name}: the configuration has {count}", hint="docs/config.md explains every key and code", problems=problems
    )
