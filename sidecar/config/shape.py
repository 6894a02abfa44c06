"""[P] Turns tables into structs and reports everything that does not fit, not only the first thing.

msgspec alone stops at the first problem, so each key is judged by itself here, by the annotations of the
struct: type, words allowed, range, pattern. A value that is wrong is reported and replaced by a harmless one,
so that the checks that follow can look at the rest; whoever builds from the result first asks for problems.
"""

from __future__ import annotations

import datetime as dt
import math
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET

from sidecar.config.positions import Path
from sidecar.config.problems import Problems, suggestion
from sidecar.config.rules import Between, Duration, Rule
from sidecar.config.schema import SecretRef
from sidecar.config.units import parse_duration

__all__ = ["TOLERANCE", "Key", "keys_of", "members", "shape", "unwrap"]

TOLERANCE = Duration("0s", "168h")
"""A number in a scheme's options is a time in seconds, written as a duration."""

S = TypeVar("S", bound=msgspec.Struct)


class Key(msgspec.Struct, frozen=True):
    """One key of a table, read from its struct.

    Attributes:
        name: As the file has it.
        hint: Type with its annotations.
        default: Value when the key is left out; UNSET when it must be there.
        description: One sentence; empty where the struct has none in an annotation.
    """

    name: str
    hint: Any
    default: Any
    description: str


@cache
def keys_of(cls: type[msgspec.Struct]) -> dict[str, Key]:
    """List the keys of a table in the order of its struct."""
    hints = get_type_hints(cls, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(cls):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if default is msgspec.NODEFAULT:
            default = UNSET
        metas = unwrap(hints[field.name])[1]
        description = next((m.description for m in metas if isinstance(m, msgspec.Meta) and m.description), "")
        found[field.encode_name] = Key(field.encode_name, hints[field.name], default, description)
    return found


def unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Take the annotations off a type: ``Annotated[str, rule]`` is (str, (rule,))."""
    if get_origin(hint) is Annotated:
        inner, *metas = get_args(hint)
        return inner, tuple(metas)
    return hint, ()


def members(hint: Any) -> tuple[Any, ...]:
    """The types of a union without None; a type alone is its only member."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(m for m in get_args(hint) if m is not types.NoneType)
    return (hint,)


def shape(
    cls: type[S], table: Mapping[str, Any], path: Path, problems: Problems, *, numbers_are_durations: bool = False
) -> S:
    """Turn one table into its struct.

    Args:
        cls: The struct.
        table: As ``tomllib`` gives it.
        path: Where it stands.
        problems: Gets everything that is wrong.
        numbers_are_durations: For options of a scheme: a float is written as a duration.

    Returns:
        The struct; with harmless values in it where there were problems.
    """
    keys = keys_of(cls)
    tag = cls.__struct_config__.tag_field
    values: dict[str, Any] = {}
    for name in table:
        if name not in keys and name != tag:
            problems.add("C101", (*path, name), f"unknown key{suggestion(name, keys)}", at_key=True)
    for key in keys.values():
        if key.name in table:
            values[key.name] = _value(key.hint, table[key.name], (*path, key.name), problems, numbers_are_durations)
        elif key.default is UNSET:
            problems.add("C102", (*path, key.name), f"missing; expected {_expected(key.hint)}", at_key=True)
            values[key.name] = _harmless(key.hint)
    by_field = {f.encode_name: f.name for f in msgspec.structs.fields(cls)}
    wrong = {k for k, v in values.items() if v is UNSET}
    for name in wrong:
        default = keys[name].default
        values[name] = _harmless(keys[name].hint) if default is UNSET else default
    return cls(**{by_field[k]: v for k, v in values.items()})


def _value(hint: Any, value: Any, path: Path, problems: Problems, durations: bool) -> Any:
    """Give the value as its type wants it; UNSET after a problem."""
    hint, metas = unwrap(hint)
    choices = members(hint)
    if isinstance(value, dict):
        for choice in choices:
            inner = unwrap(choice)[0]
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                return shape(inner, value, path, problems, numbers_are_durations=durations)
            if get_origin(inner) is dict:
                return _mapping(inner, value, path, problems, durations)
    for choice in choices:
        inner, more = unwrap(choice)
        outcome = _plain(inner, (*metas, *more), value, path, problems, durations)
        if outcome is not _OTHER_TYPE:
            return outcome
    problems.expect("C103", path, value, _expected(Annotated[hint, *metas] if metas else hint))
    return UNSET


_OTHER_TYPE = object()


def _mapping(hint: Any, table: dict[str, Any], path: Path, problems: Problems, durations: bool) -> dict[str, Any]:
    name_hint, value_hint = get_args(hint)
    rule = _rule(unwrap(name_hint)[1])
    found = {}
    for name, value in table.items():
        expected = rule.complaint(name) if rule is not None else None
        if rule is not None and expected is not None:
            problems.add(rule.code, (*path, name), f"expected {expected}", at_key=True)
        given = _value(value_hint, value, (*path, name), problems, durations) if value_hint is not Any else value
        if given is not UNSET:
            found[name] = given
    return found


def _plain(hint: Any, metas: tuple[Any, ...], value: Any, path: Path, problems: Problems, durations: bool) -> Any:
    origin = get_origin(hint)
    if origin in (list, tuple):
        if not isinstance(value, list):
            return _OTHER_TYPE
        items = [_value(get_args(hint)[0], v, (*path, n), problems, durations) for n, v in enumerate(value)]
        kept = [item for item in items if item is not UNSET]
        return kept if origin is list else tuple(kept)
    if origin is Literal:
        return _word(get_args(hint), value, path, problems)
    if hint is str and isinstance(value, str):
        return _text(_rule(metas), value, path, problems)
    if hint is float and durations:
        return _seconds(value, path, problems)
    if hint in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return _number(hint, metas, value, path, problems)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is dt.datetime and isinstance(value, dt.datetime):
        return value
    return _OTHER_TYPE


def _word(words: tuple[str, ...], value: Any, path: Path, problems: Problems) -> Any:
    if value in words and isinstance(value, str):
        return value
    close = suggestion(value, words) if isinstance(value, str) else ""
    problems.expect("C104", path, value, _one_of(words), close)
    return UNSET


def _text(rule: Rule | None, value: str, path: Path, problems: Problems) -> Any:
    expected = rule.complaint(value) if rule is not None else None
    if rule is None or expected is None:
        return value
    problems.expect(rule.code, path, value, expected)
    return UNSET


def _seconds(value: Any, path: Path, problems: Problems) -> Any:
    if not isinstance(value, str) or TOLERANCE.complaint(value) is not None:
        problems.expect(TOLERANCE.code, path, value, TOLERANCE.expected)
        return UNSET
    return parse_duration(value)


def _number(hint: Any, metas: tuple[Any, ...], value: float, path: Path, problems: Problems) -> Any:
    if hint is int and isinstance(value, float):
        return _OTHER_TYPE
    between = next((m for m in metas if isinstance(m, Between)), None)
    if not math.isfinite(value) or (between is not None and not between.fits(value)):
        expected = between.expected if between is not None else "a finite number"
        problems.expect(between.code if between is not None else "C123", path, value, expected)
        return UNSET
    return value if hint is int else float(value)


def _rule(metas: tuple[Any, ...]) -> Rule | None:
    return next((m for m in metas if isinstance(m, Rule)), None)


def _one_of(words: tuple[str, ...]) -> str:
    quoted = [f'"{word}"' for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


_TYPE_NAMES: dict[Any, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dt.datetime: "a date and time with offset, e.g. 2026-12-31T00:00:00Z",
}


def _expected(hint: Any) -> str:
    """Say in words what belongs here."""
    hint, metas = unwrap(hint)
    words = []
    for member in members(hint):
        inner, more = unwrap(member)
        origin = get_origin(inner)
        rule = _rule((*metas, *more))
        between = next((m for m in (*metas, *more) if isinstance(m, Between)), None)
        if inner is str and rule is not None:
            words.append(rule.expected)
        elif between is not None:
            words.append(f"{_TYPE_NAMES[inner]}, {between.expected}")
        elif origin in (list, tuple):
            words.append("an array")
        elif origin is Literal:
            words.append(_one_of(get_args(inner)))
        elif inner is SecretRef:
            words.append('a reference to a secret, e.g. { env = "NAME" }')
        else:
            words.append(_TYPE_NAMES.get(inner, "a table"))
    return " or ".join(words)


def _harmless(hint: Any) -> Any:
    """A value of the right type for a key that is missing or wrong and has no default."""
    inner = unwrap(members(unwrap(hint)[0])[0])[0]
    origin = get_origin(inner)
    if origin in (list, tuple, dict):
        return origin()
    if origin is Literal:
        return get_args(inner)[0]
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return shape(inner, {}, (), Problems())
    return inner()
