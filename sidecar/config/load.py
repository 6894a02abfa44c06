"""From a file to ``Settings``, or to one ``ConfigError`` that names every problem.

The only place that touches files and the environment for the configuration. Nothing is kept between two loads, so
a reload is a load.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from sidecar.config.build import build
from sidecar.config.check import check
from sidecar.config.files import Files, WatchedFile
from sidecar.config.placeholders import fill, override
from sidecar.config.positions import Path, Positions, dotted, scan
from sidecar.config.problems import Problem, Problems, Report
from sidecar.config.schema import Admin
from sidecar.config.settings import Settings
from sidecar.errors import ConfigError

__all__ = [
    "CONFIG_VARIABLE",
    "PLACES",
    "InvalidConfig",
    "admin_socket",
    "find_config",
    "load_settings",
    "masked_headers",
]

CONFIG_VARIABLE = "WEBHOOK_SIDECAR_CONFIG"
PLACES = ("config.toml", "/etc/webhook-sidecar/config.toml")
"""Where a configuration is looked for when nobody names one."""

_MAX_DEPTH = 32
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class InvalidConfig(ConfigError):
    """A file was found and cannot be used.

    Attributes:
        watched: The files that were looked at, so that a change of any of them can be a reason to try again.
    """

    def __init__(self, message: str, problems: tuple[str, ...], watched: tuple[WatchedFile, ...]) -> None:
        super().__init__(message, "docs/config.md explains every key and every code", problems)
        self.watched = watched


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
            secrets and token are left empty: the result is for checking, not for running.

    Raises:
        ConfigError: With every problem, formatted for people, in ``problems``. It is an ``InvalidConfig`` when
            there is a file at all.
    """
    name = find_config(path, env)
    document = _Document(name)
    problems = Problems()
    filled = fill(document.data, None if offline else env, problems)
    origins = {} if offline else override(filled.data, env)
    problems.unknown = frozenset(filled.unknown - origins.keys())
    problems.written = {where: written for where, written in filled.written.items() if where not in origins}
    settings = build(
        check(filled.data, problems),
        os.path.abspath(name),
        None if offline else env,
        document.files,
        problems,
        {dotted(where): variable for where, variable in origins.items()},
    )
    if settings is None:
        raise document.error(problems.found, scan(document.text), origins)
    return settings


def admin_socket(path: str | None, env: Mapping[str, str]) -> str:
    """Say where the daemon's admin socket is; client commands read nothing else of a configuration.

    Args:
        path: As for ``load_settings``.
        env: The environment.

    Raises:
        ConfigError: There is no file, or it is not TOML.
    """
    document = _Document(find_config(path, env))
    filled = fill(document.data, env, Problems())
    override(filled.data, env)
    admin = filled.data.get("admin")
    given = admin.get("socket") if isinstance(admin, dict) else None
    return document.files.absolute(given if isinstance(given, str) and given else Admin().socket)


def masked_headers(path: str | None, env: Mapping[str, str]) -> dict[str, frozenset[bytes]]:
    """Say which headers carry the secret of each source, also where something else in the configuration is wrong.

    Args:
        path: As for ``load_settings``.
        env: The environment, for the place of the file alone.

    Returns:
        By name of the source, lower-case; without those whose own ``verify`` makes no sense.

    Raises:
        ConfigError: There is no file, or it is not TOML.
    """
    problems = Problems()
    filled = fill(_Document(find_config(path, env)).data, None, problems)
    problems.unknown = frozenset(filled.unknown)
    found = check(filled.data, problems).verifications
    return {name: verification.verifier.masked for name, verification in found.items()}


class _Document:
    """One file, read and parsed.

    Raises:
        InvalidConfig: It cannot be read, is not UTF-8, or is not TOML.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.files = Files(os.path.dirname(os.path.abspath(name)))
        self.text = ""
        empty = Positions("", {})
        try:
            content = self.files.read(os.path.abspath(name))[0]
            self.text = content.decode()
            self.data = tomllib.loads(self.text)
        except OSError as error:
            why = (error.strerror or "unknown error").lower()
            raise self.error([Problem("C001", (), f"cannot be read: {why}")], empty) from None
        except UnicodeDecodeError as error:
            before = content[: error.start].decode()
            line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
            raise self.error([Problem("C002", (), f"not UTF-8 (line {line}, column {column})")], empty) from None
        except RecursionError:
            raise self.error([Problem("C002", (), "nested too deeply")], empty) from None
        except tomllib.TOMLDecodeError as error:
            message, offset = _syntax(str(error), self.text)
            positions = Positions(self.text, {})
            raise self.error([Problem("C002", (), message, offset=offset)], positions) from None
        except ValueError:  # what int() says to a number of 5,000 digits
            raise self.error([Problem("C002", (), "a number is too long")], empty) from None
        if _deeper_than(self.data, _MAX_DEPTH):
            raise self.error([Problem("C002", (), "nested too deeply")], empty)

    def error(
        self, problems: list[Problem], positions: Positions, origins: Mapping[Path, str] | None = None
    ) -> InvalidConfig:
        """Make the error that shows these problems."""
        count = f"{len(problems)} problems" if len(problems) != 1 else "1 problem"
        return InvalidConfig(
            f"{self.name}: the configuration has {count}",
            Report(self.name, positions, origins).lines(problems),
            tuple(self.files.watched.values()),
        )


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


def _deeper_than(data: dict[str, Any], limit: int) -> bool:
    """Whether tables and arrays stand in one another more often than that; everything later is recursive."""
    level: list[Any] = [data]
    for _ in range(limit):
        inner = [child for value in level for child in (value.values() if isinstance(value, dict) else value)]
        level = [child for child in inner if isinstance(child, dict | list)]
        if not level:
            return False
    return True
