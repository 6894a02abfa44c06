"""[P] Writes the documents of the configuration from its structs: JSON Schema, and the values of every key.

``scripts/generate.py`` puts the results into files; ``example`` and ``reference`` lay them out for people. A key
that is added to ``schema`` appears in all of them by itself.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from sidecar.config.positions import Path
from sidecar.config.problems import sensitive
from sidecar.config.rules import Between, Rule
from sidecar.config.schema import Config, SecretRef
from sidecar.config.shape import TOLERANCE, Key, keys_of, members, unwrap
from sidecar.config.units import format_duration
from sidecar.config.verification import SCHEME_OPTIONS
from sidecar.inbound.verify import PRESETS

__all__ = ["attribute_docs", "json_schema", "kind_of", "range_of", "render", "toml_value"]

_PLACEHOLDER = r"\$\{"
_ATTRIBUTE = re.compile(r"^        (\w+): ")

Json = dict[str, Any]


def attribute_docs(cls: type[msgspec.Struct]) -> dict[str, str]:
    """Read the ``Attributes:`` of a struct's docstring: name to text in one line."""
    found: dict[str, str] = {}
    name = ""
    lines = (cls.__doc__ or "").partition("Attributes:\n")[2].splitlines()
    for line in lines:
        match = _ATTRIBUTE.match(line)
        if match is not None:
            name = match[1]
            found[name] = line[match.end() :].strip()
        elif line.strip() and name:
            found[name] += " " + line.strip()
    return {
        key: text.replace("``", '"').replace("None = ", "left out: ").replace("None when", "Left out when")
        for key, text in found.items()
    }


def json_schema() -> Json:
    """Make the JSON Schema (draft-07) of the file, for editors and linters."""
    definitions: Json = {}
    top = _object(Config, definitions)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "webhook-sidecar configuration",
        **top,
        "definitions": dict(sorted(definitions.items())),
    }


def _object(cls: type[msgspec.Struct], definitions: Json, *, durations: bool = False) -> Json:
    docs = attribute_docs(cls)
    properties: Json = {}
    tag = cls.__struct_config__.tag_field
    if tag is not None:
        properties[tag] = {"const": cls.__struct_config__.tag}
    required = [tag] if tag is not None else []
    for key in keys_of(cls).values():
        schema = {
            "description": key.description or docs.get(key.name, ""),
            **_schema_of_key(cls, key, definitions, durations=durations),
        }
        if key.default is msgspec.UNSET:
            required.append(key.name)
        elif key.default is not None and not isinstance(key.default, msgspec.Struct):
            schema["default"] = format_duration(key.default) if durations and key.hint is float else key.default
        properties[key.name] = schema
    found: Json = {"type": "object", "additionalProperties": False, "properties": properties}
    if required:
        found["required"] = required
    if cls is SecretRef:
        found["oneOf"] = [{"required": [place]} for place in ("env", "file", "credential", "value")]
    return found


def _schema_of_key(cls: type[msgspec.Struct], key: Key, definitions: Json, *, durations: bool) -> Json:
    if key.name == "verify" and not durations and cls.__name__ == "Source":
        tables = [_reference(options, definitions, durations=True) for options in SCHEME_OPTIONS.values()]
        adapted = {"type": "object", "required": ["preset"], "properties": {"preset": {"enum": sorted(PRESETS)}}}
        names = {"enum": [*sorted(PRESETS), "none"]}
        return {"anyOf": [names, {"type": "string", "pattern": _PLACEHOLDER}, adapted, *tables]}
    return _schema(key.hint, definitions, durations=durations)


def _reference(cls: type[msgspec.Struct], definitions: Json, *, durations: bool) -> Json:
    if cls.__name__ not in definitions:
        definitions[cls.__name__] = {}
        definitions[cls.__name__] = _object(cls, definitions, durations=durations)
    return {"$ref": f"#/definitions/{cls.__name__}"}


def _schema(hint: Any, definitions: Json, *, durations: bool) -> Json:
    inner, metas = unwrap(hint)
    options = [_member(member, metas, definitions, durations=durations) for member in members(inner)]
    # Keywords beside a $ref are ignored in draft-07, so a lone one is wrapped as well.
    return options[0] if len(options) == 1 and "$ref" not in options[0] else {"anyOf": options}


def _member(hint: Any, metas: tuple[Any, ...], definitions: Json, *, durations: bool) -> Json:
    inner, more = unwrap(hint)
    metas = (*metas, *more)
    origin = get_origin(inner)
    rule = next((m for m in metas if isinstance(m, Rule)), None)
    between = next((m for m in metas if isinstance(m, Between)), None)
    if inner is float and durations:
        return {"type": "string", "pattern": f"{TOLERANCE.pattern}|{_PLACEHOLDER}"}
    if inner is str:
        return {"type": "string", **({"pattern": f"{rule.pattern}|{_PLACEHOLDER}"} if rule is not None else {})}
    if inner in (int, float):
        kind = {"type": "integer" if inner is int else "number"}
        return {**kind, **({"minimum": between.least, "maximum": between.most} if between is not None else {})}
    if inner is bool:
        return {"type": "boolean"}
    if inner is dt.datetime:
        return {"type": "string", "format": "date-time"}
    if origin is Literal:
        return {"anyOf": [{"enum": list(get_args(inner))}, {"type": "string", "pattern": _PLACEHOLDER}]}
    if origin in (list, tuple):
        return {"type": "array", "items": _schema(get_args(inner)[0], definitions, durations=durations)}
    if origin is dict:
        names, values = get_args(inner)
        name_rule = next((m for m in unwrap(names)[1] if isinstance(m, Rule)), None)
        found: Json = {"type": "object", "additionalProperties": _schema(values, definitions, durations=durations)}
        return {**found, **({"propertyNames": {"pattern": name_rule.pattern}} if name_rule is not None else {})}
    return _reference(inner, definitions, durations=durations)


def kind_of(hint: Any, *, durations: bool = False) -> str:
    """Name the type of a key for people: "string", "duration", "table", ..."""
    inner, metas = unwrap(hint)
    names = []
    for member in members(inner):
        kind, more = unwrap(member)
        rule = next((m for m in (*metas, *more) if isinstance(m, Rule)), None)
        origin = get_origin(kind)
        if kind is float and durations:
            names.append("duration")
        elif kind is str:
            names.append(_RULE_NAMES.get(type(rule).__name__, "string"))
        elif origin is Literal:
            names.append(" or ".join(f'"{word}"' for word in get_args(kind)))
        elif origin in (list, tuple):
            names.append(f"array of {kind_of(get_args(kind)[0], durations=durations)}")
        elif kind is SecretRef:
            names.append("secret reference")
        else:
            names.append(_TYPE_NAMES.get(kind, "table"))
    return " or ".join(names)


_RULE_NAMES = {
    "Duration": "duration",
    "Size": "size",
    "DestinationUrl": "URL",
    "PublicUrl": "URL",
    "Network": "network",
}
_TYPE_NAMES: dict[Any, str] = {bool: "true or false", int: "number", float: "number", dt.datetime: "date and time"}


def range_of(hint: Any) -> str:
    """Say what range a key has, "1s to 1h"; empty where there is none worth a word."""
    inner, metas = unwrap(hint)
    for meta in (*metas, *(m for member in members(inner) for m in unwrap(member)[1])):
        if isinstance(meta, Between):
            return meta.expected
        least, most = getattr(meta, "least", ""), getattr(meta, "most", "")
        if least and most:
            return f"{least} to {most}"
    return ""


def toml_value(value: Any) -> str:
    """Write a value as TOML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but TOML wants DEL escaped as well.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml_key(k)} = {toml_value(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, dt.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


def render(config: Config, origins: Mapping[str, str] | None = None) -> str:
    """Write the effective configuration as TOML, with all defaults filled in and secrets masked.

    Args:
        config: As ``Settings.config``.
        origins: For keys set from elsewhere than the file, where from; becomes a comment.
    """
    lines: list[str] = []
    _render_table(_plain(config), (), origins or {}, lines)
    return "\n".join(lines).strip() + "\n"


def _plain(value: Any) -> Any:
    """Structs become tables; keys without a value are left out."""
    if isinstance(value, msgspec.Struct):
        pairs = ((f.encode_name, getattr(value, f.name)) for f in msgspec.structs.fields(value))
        return {k: _plain(v) for k, v in pairs if v is not None}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _render_table(table: Json, path: Path, origins: Mapping[str, str], lines: list[str]) -> None:
    inline = {k: v for k, v in table.items() if not _is_section(v, (*path, k))}
    if path and (inline or not table):
        lines += ["", "[" + ".".join(_toml_key(str(part)) for part in path) + "]"]
    for key, value in inline.items():
        origin = origins.get(".".join(map(str, (*path, key))))
        note = f"  # {origin}" if origin else ""
        lines.append(f"{_toml_key(key)} = {toml_value(_masked(value, (*path, key)))}{note}")
    for key, value in table.items():
        if key not in inline:
            _render_table(value, (*path, key), origins, lines)


def _is_section(value: Any, path: Path) -> bool:
    return isinstance(value, dict) and path[-1] not in {"token", "tls", "headers"} and "verify" not in path[:-1]


def _masked(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {k: _masked(v, (*path, k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_masked(v, (*path, n)) for n, v in enumerate(value)]
    if not sensitive(path, value):
        return value
    base, question, query = value.partition("?") if isinstance(value, str) else ("", "", "")
    if question and str(path[-1]).endswith("url") and not sensitive(path, base):  # where to is no secret
        return f"{base}?" + "&".join(f"{part.partition('=')[0]}=***" for part in query.split("&"))
    return "***"
