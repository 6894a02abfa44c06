"""[P] From ``verify`` of a source to a verifier: a preset by name, a preset with options of one's own, or a scheme.

The way back is here as well: ``scheme_table`` writes options as the table that makes them.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from sidecar.config.positions import Path
from sidecar.config.problems import Problems, suggestion
from sidecar.config.schema import Source
from sidecar.config.shape import shape
from sidecar.config.units import format_duration
from sidecar.inbound.verify import (
    PRESETS,
    SCHEMES,
    JwtOptions,
    MissingExtra,
    NoneOptions,
    PaypalOptions,
    Preset,
    SchemeOptions,
    SnsOptions,
    Verifier,
    compile_scheme,
)

__all__ = ["SCHEME_OPTIONS", "Verification", "needs_secret", "read_verification", "scheme_table"]

SCHEME_OPTIONS: dict[str, type[msgspec.Struct]] = {
    str(cls.__struct_config__.tag): cls for cls in get_args(SchemeOptions)
}


class Verification(msgspec.Struct, frozen=True):
    """How a source is verified.

    Attributes:
        options: Of the scheme.
        verifier: Made from them.
        preset: Where they come from; None when they are spelled out.
    """

    options: SchemeOptions
    verifier: Verifier
    preset: Preset | None = None


_NOTHING = NoneOptions(allow_unverified=True)
_UNKNOWN = Verification(_NOTHING, compile_scheme(_NOTHING))
"""Stands for a scheme that depends on variables nobody may look up."""


def needs_secret(verification: Verification) -> bool:
    """Whether the source can do nothing without ``secrets``; not where keys are published or arrive by handshake."""
    if verification.preset is not None:
        return verification.preset.needs_secret
    options = verification.options
    return not (
        isinstance(options, SnsOptions | PaypalOptions) or (isinstance(options, JwtOptions) and options.jwks_url)
    )


def scheme_table(options: msgspec.Struct) -> dict[str, Any]:
    """Write a scheme's options as the table of ``[sources.NAME.verify]`` that makes them; defaults are left out."""
    found: dict[str, Any] = {}
    config = options.__struct_config__
    if config.tag_field is not None:
        found[config.tag_field] = config.tag
    for field in msgspec.structs.fields(options):
        value = getattr(options, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value != default and value is not None:
            found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return scheme_table(value)
    if isinstance(value, float):
        return format_duration(value)
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def read_verification(source: Source, path: Path, problems: Problems, warnings: list[str]) -> Verification | None:
    """Judge ``verify`` of one source.

    Returns:
        None after a problem; what stands in for an unknown scheme where a variable decides it and nobody may look.
    """
    place = (*path, "verify")
    verify = source.verify
    if problems.touches(*place):
        return None if any(p.path[: len(place)] == place for p in problems.found) else _UNKNOWN
    if isinstance(verify, str) and verify in PRESETS:
        verify = {"preset": verify}
    if verify == "none":
        verify = {"scheme": "none"}
    if isinstance(verify, str):
        close = suggestion(verify, [*PRESETS, "none"])
        if verify in SCHEME_OPTIONS:
            close = f"; a scheme is spelled out in a table: [{'.'.join(map(str, path))}.verify]"
        problems.expect("C140", place, verify, 'the name of a preset, "none", or a table with a scheme', close)
        return None
    table = dict(verify)
    if "preset" not in table:
        return _spelled_out(table, source, place, problems, warnings)
    name = table.pop("preset")
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        close = suggestion(name, PRESETS) if isinstance(name, str) else ""
        problems.expect("C140", (*place, "preset"), name, "the name of a preset", close)
        return None
    return _adapted(preset, table, place, problems)


def _adapted(preset: Preset, table: dict[str, Any], place: Path, problems: Problems) -> Verification | None:
    options = preset.scheme
    if table:
        merged = scheme_table(options)
        for key, value in table.items():
            old = merged.get(key)
            merged[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        merged.pop("scheme")
        found = _options(type(options), merged, place, problems)
        if found is None:
            return None
        options = found
    for name in preset.required:
        if not getattr(options, name):
            example = f'verify = {{ preset = "{preset.name}", {name} = "..." }}'
            problems.add(
                "C152", (*place, name) if table else place, f"missing: {name}; expected {example}", at_key=True
            )
            return None
    return _compiled(options, preset, table, place, problems)


def _spelled_out(
    table: dict[str, Any], source: Source, place: Path, problems: Problems, warnings: list[str]
) -> Verification | None:
    scheme = table.get("scheme")
    words = ", ".join(f'"{name}"' for name in SCHEMES)
    if scheme is None:
        problems.add("C102", (*place, "scheme"), f"missing; expected one of {words}", at_key=True)
        return None
    if not isinstance(scheme, str) or scheme not in SCHEME_OPTIONS:
        close = suggestion(scheme, SCHEMES) if isinstance(scheme, str) else ""
        problems.expect("C140", (*place, "scheme"), scheme, f"one of {words}", close)
        return None
    if scheme == "none":
        table["allow_unverified"] = table.get("allow_unverified", False) or source.allow_unverified
        if table["allow_unverified"] is False:
            hint = "with none anybody who can reach the path can send; expected allow_unverified = true beside it"
            problems.add("C142", place, hint)
            return None
        warnings.append(f"{place[0]}.{place[1]}: nothing is verified (allow_unverified = true)")
    options = _options(SCHEME_OPTIONS[scheme], table, place, problems)
    return None if options is None else _compiled(options, None, table, place, problems)


def _options(cls: type[msgspec.Struct], table: dict[str, Any], place: Path, problems: Problems) -> SchemeOptions | None:
    options = shape(cls, table, place, problems, numbers_are_durations=True)
    return None if problems.touches(*place) else options  # type: ignore[return-value]  # a member by SCHEME_OPTIONS


def _compiled(
    options: SchemeOptions, preset: Preset | None, table: dict[str, Any], place: Path, problems: Problems
) -> Verification | None:
    try:
        return Verification(options, compile_scheme(options), preset)
    except MissingExtra as error:
        problems.add("C153", place, str(error).removeprefix("scheme: "))
    except ValueError as error:
        key, colon, rest = str(error).partition(": ")
        own = colon and key in table
        problems.add("C141", (*place, key) if own else place, rest if own else str(error))
    return None
