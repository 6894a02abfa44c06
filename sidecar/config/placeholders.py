"""[P] Fills in what the environment says: ``${VAR}`` inside strings, and whole keys by ``WEBHOOK_SIDECAR__...``.

Both happen after parsing, so a value can never inject TOML and positions stay true. References to secrets are
left alone: they name where a secret is, and nothing is to be put together there.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from sidecar.config.positions import Path
from sidecar.config.problems import Problems
from sidecar.config.schema import Config
from sidecar.config.shape import keys_of, members, unwrap

__all__ = ["OVERRIDE_PREFIX", "Filled", "fill", "override"]

OVERRIDE_PREFIX = "WEBHOOK_SIDECAR__"

_DOLLAR = re.compile(r"\$(?:\$|\{(?P<inner>[^{}]*)\}|(?P<open>\{))")
_INNER = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<kind>[-?])(?P<rest>.*))?", re.DOTALL)
_REFERENCE = frozenset({"env", "file", "credential", "value"})


class Filled(msgspec.Struct):
    """A document with its variables filled in.

    Attributes:
        data: The document.
        written: For each string that had variables, the text as written (what is shown instead of the value).
        unknown: Strings whose variables nobody looked up; they stay as written.
    """

    data: dict[str, Any]
    written: dict[Path, str]
    unknown: set[Path]


def fill(data: dict[str, Any], env: Mapping[str, str] | None, problems: Problems) -> Filled:
    """Fill in ``${VAR}``, ``${VAR:-default}``, ``${VAR:?message}`` and ``$$`` in every string but secrets.

    Args:
        data: As ``tomllib`` gives it.
        env: The environment; None to look at none: then only defaults are filled in.
        problems: Gets variables that are not set.
    """
    filled = Filled({}, {}, set())
    filled.data = _walk(data, (), env, problems, filled)
    return filled


def _walk(value: Any, path: Path, env: Mapping[str, str] | None, problems: Problems, filled: Filled) -> Any:
    if isinstance(value, dict):
        if _is_reference(path) and _REFERENCE & value.keys():
            return value
        return {k: _walk(v, (*path, k), env, problems, filled) for k, v in value.items()}
    if isinstance(value, list):
        return [_walk(v, (*path, n), env, problems, filled) for n, v in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value
    found = _text(value, path, env, problems)
    if found is None:
        filled.unknown.add(path)
        return value
    if found != value:
        filled.written[path] = value
    return found


def _is_reference(path: Path) -> bool:
    return "secrets" in path or "headers" in path or path[-1:] == ("token",)


def _text(value: str, path: Path, env: Mapping[str, str] | None, problems: Problems) -> str | None:
    """Fill in one string; None when it has a variable that nobody may look up."""
    known = True

    def one(match: re.Match[str]) -> str:
        nonlocal known
        if match["open"] is not None:
            problems.add("C011", path, 'got "${" without its "}"; expected ${NAME}, or $$ for a dollar sign')
            return ""
        if match["inner"] is None:
            return "$"
        inner = _INNER.fullmatch(match["inner"])
        if inner is None:
            expected = "${NAME}, ${NAME:-default} or ${NAME:?message}; $$ is a dollar sign"
            problems.add("C011", path, f"a placeholder is not well-formed; expected {expected}")
            return ""
        name, kind, rest = inner["name"], inner["kind"], inner["rest"]
        if env is None:
            known = known and kind == "-"
            return rest or ""
        given = env.get(name)
        if kind == "-":
            return given or rest
        if given is None or (kind == "?" and not given):
            told = f": {rest}" if rest else ""
            hint = "" if kind else "; set it, or give a default with ${" + name + ":-default}"
            problems.add("C010", path, f"the environment variable {name} is not set{told}{hint}")
            return ""
        return given

    text = _DOLLAR.sub(one, value)
    return text if known else None


def override(data: dict[str, Any], env: Mapping[str, str]) -> dict[Path, str]:
    """Put ``WEBHOOK_SIDECAR__SERVER__LISTEN=...`` in the place of ``server.listen``, and so on.

    Names of sources and destinations match in lower case, with "_" for "-". A text is taken as it is, anything
    else (numbers, true and false, arrays, tables) as TOML. A key that does not exist is set all the same: it is
    reported like one in the file.

    Args:
        data: The document; changed.
        env: The environment.

    Returns:
        For each path that was set, the name of its variable.
    """
    origins: dict[Path, str] = {}
    for name in sorted(env):
        if not name.startswith(OVERRIDE_PREFIX):
            continue
        words = name[len(OVERRIDE_PREFIX) :].lower().split("__")
        table = data
        path: Path = ()
        hint: Any = Config
        for n, word in enumerate(words):
            key, hint = _step(table, hint, word)
            path = (*path, key)
            if n < len(words) - 1:
                below = table.setdefault(key, {})
                if not isinstance(below, dict):
                    below = table[key] = {}
                table = below
        table[key] = _given(env[name], hint)
        origins[path] = f"environment {name}"
    return origins


def _step(table: Mapping[str, Any], hint: Any, word: str) -> tuple[str, Any]:
    """Find the key that a word of a variable's name means, and its type (None where nothing is known)."""
    for member in members(unwrap(hint)[0]):
        inner = unwrap(member)[0]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            key = keys_of(inner).get(word)
            return word, key.hint if key is not None else None
        if get_origin(inner) is dict:
            there = next((k for k in table if k.lower().replace("-", "_") == word.replace("-", "_")), word)
            return there, get_args(inner)[1]
    return word, None


def _given(text: str, hint: Any) -> Any:
    """Read a variable's value: as it is where a text may stand, else as TOML (as a text when it is none)."""
    kinds = [unwrap(m)[0] for m in members(unwrap(hint)[0])]
    takes_text = any(kind is str or get_origin(kind) is Literal for kind in kinds)
    takes_table = any(kind not in (str, None) and get_origin(kind) is not Literal for kind in kinds)
    if takes_text and not (takes_table and text.lstrip().startswith("{")):
        return text
    try:
        read = tomllib.loads(f"v = {text}")
    except (ValueError, RecursionError):
        return text
    return read["v"] if len(read) == 1 else text
