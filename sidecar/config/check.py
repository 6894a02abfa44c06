"""[P] Judges everything that the configuration's text alone decides, and reports all of it at once.

Shape and ranges come from the structs (``shape``); here is what takes two values or a lane's own knowledge: paths
that clash, destinations that do not exist, options of a scheme, sizes that cannot work together. Files, environment
and network are not looked at.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar.config.positions import Path
from sidecar.config.problems import Problems, suggestion
from sidecar.config.schema import Config, Destination, SecretRef, Source
from sidecar.config.shape import shape
from sidecar.config.units import format_duration, format_size, parse_duration, parse_size
from sidecar.config.verification import Verification, needs_secret, read_verification
from sidecar.inbound.dedup import DedupOptions, key_headers, key_parts
from sidecar.inbound.verify import (
    HANDSHAKES,
    AnyOptions,
    EcdsaOptions,
    Ed25519Options,
    HmacOptions,
    JwtOptions,
    Preset,
    Rfc9421Options,
    SchemeOptions,
    SnsOptions,
)
from sidecar.inbound.verify.signed import parse_signed
from sidecar.outbound.deliver.headers import check_header

__all__ = ["Checked", "check", "key_is_signed", "max_body_of"]

GRACE_S = 60.0
"""``terminationGracePeriodSeconds`` of the manifests."""

_PLACES = ("env", "file", "credential", "value")


class Checked(msgspec.Struct):
    """The configuration as far as it could be read.

    Attributes:
        config: Harmless values stand in it where there were problems.
        verifications: By source; those with problems are left out.
        warnings: What works and is probably not meant, in words for people.
    """

    config: Config
    verifications: dict[str, Verification]
    warnings: list[str]


def check(data: dict[str, Any], problems: Problems) -> Checked:
    """Judge a whole document.

    Args:
        data: As ``tomllib`` gives it, variables filled in.
        problems: Gets everything that is wrong.
    """
    config = shape(Config, data, (), problems)
    checked = Checked(config, {}, [])
    if config.admin.token is not None:
        _check_reference(config.admin.token, ("admin", "token"), problems, checked.warnings)
    raw = data.get("destinations")
    known = frozenset(raw) if isinstance(raw, dict) else frozenset()
    paths: dict[str, str] = {}
    for name, source in config.sources.items():
        verification = read_verification(source, ("sources", name), problems, checked.warnings)
        if verification is not None:
            checked.verifications[name] = verification
        _check_source(name, source, verification, config, known, problems, checked.warnings)
        if source.path and paths.setdefault(source.path, name) != name:
            other = paths[source.path]
            problems.add("C130", ("sources", name, "path"), f"sources.{other} has the same path; expected another one")
    for name, destination in config.destinations.items():
        _check_destination(name, destination, problems, checked.warnings)
    _check_sizes(checked, problems)
    if config.admin.listen == config.server.listen and not config.admin.listen.endswith(":0"):
        problems.expect("C124", ("admin", "listen"), config.admin.listen, "another address than server.listen")
    _warn(checked, known)
    return checked


def max_body_of(source: Source, preset: Preset | None, config: Config) -> int:
    """Largest body of a source in bytes: its own setting, else its preset's, else the server's."""
    if source.max_body is None and preset is not None and preset.max_body is not None:
        return preset.max_body
    return _size(source.max_body if source.max_body is not None else config.server.max_body)


def key_is_signed(options: SchemeOptions, key: str) -> bool:
    """Say whether a scheme's signature covers a dedup key, so that nobody can claim it for other bytes."""
    return key != "none" and all(_part_is_signed(options, part) for part in key_parts(key))


def _part_is_signed(options: SchemeOptions, key: str) -> bool:
    in_body = not key.startswith("header:")
    if isinstance(options, AnyOptions):
        return all(_part_is_signed(form, key) for form in options.forms)
    if isinstance(options, JwtOptions):
        return in_body and bool(options.body_claim)
    if isinstance(options, Rfc9421Options):
        return in_body and options.require_content_digest
    if not isinstance(options, HmacOptions | Ed25519Options | EcdsaOptions):
        return False  # bespoke schemes cover some fields only; their presets know which
    signed = parse_signed(options.signed)
    # The same names in the same order, else the signature may cover one header and the key come from another.
    return "body" in signed.uses if in_body else key_headers(DedupOptions(key=key)) in signed.headers


def _size(text: str) -> int:
    return parse_size(text) or 0


def _check_source(
    name: str,
    source: Source,
    verification: Verification | None,
    config: Config,
    known: frozenset[str],
    problems: Problems,
    warnings: list[str],
) -> None:
    path: Path = ("sources", name)
    if not source.destinations and not problems.touches(*path, "destinations"):
        problems.expect("C132", (*path, "destinations"), [], "at least one destination")
    for n, destination in enumerate(source.destinations):
        where = (*path, "destinations", n)
        if destination in source.destinations[:n]:
            problems.expect("C133", where, destination, "each destination once")
        elif destination not in known:
            close = suggestion(destination, known) or ("" if known else "; there are no [destinations.NAME] tables")
            problems.expect("C131", where, destination, "the name of a destination", close)
    _check_secrets(source, verification, path, problems, warnings)
    if (
        verification is not None
        and verification.verifier.needs_url
        and source.public_url is None
        and config.server.public_url is None
    ):
        problems.add(
            "C143",
            (*path, "public_url"),
            "missing; the signature covers the URL that the sender calls; expected it here or in server.public_url",
            at_key=True,
        )
    _check_handshake(source, verification, path, problems, warnings)
    if source.methods == []:
        problems.expect("C129", (*path, "methods"), [], "at least one method")
    try:
        key_headers(DedupOptions(key=source.dedup.key or "none"))
    except ValueError as error:
        problems.add("C150", (*path, "dedup", "key"), str(error))
    if source.ack is not None and source.ack.body and source.ack.status in (204, 205):
        problems.expect("C151", (*path, "ack", "body"), source.ack.body, f"no body with status {source.ack.status}")


def _check_handshake(
    source: Source, verification: Verification | None, path: Path, problems: Problems, warnings: list[str]
) -> None:
    name = source.handshake
    if name is None:
        name = verification.preset.handshake if verification is not None and verification.preset is not None else None
    elif name != "none" and name not in HANDSHAKES:
        close = suggestion(name, HANDSHAKES)
        problems.expect("C154", (*path, "handshake"), name, 'the name of a handshake, or "none"', close)
    if source.handshake_token is not None:
        _check_reference(source.handshake_token, (*path, "handshake_token"), problems, warnings)
    elif name == "meta":
        warnings.append(f"sources.{path[1]}: without handshake_token the provider cannot confirm this URL")
    if name == "websub" and not source.handshake_allow:
        warnings.append(f"sources.{path[1]}: without handshake_allow no topic is confirmed")


def _check_secrets(
    source: Source, verification: Verification | None, path: Path, problems: Problems, warnings: list[str]
) -> None:
    ids: dict[str, int] = {}
    for n, reference in enumerate(source.secrets):
        where = (*path, "secrets", n)
        _check_reference(reference, where, problems, warnings)
        name = reference.id if reference.id is not None else str(n + 1)
        if ids.setdefault(name, n) != n:
            problems.expect("C148", (*where, "id"), name, "an id that no other secret of the source has")
    if verification is None or problems.touches(*path, "secrets"):
        return
    if verification.verifier.unverified:
        if source.secrets:
            warnings.append(f"sources.{path[1]}.secrets: not used, since nothing is verified")
    elif not source.secrets and needs_secret(verification):
        problems.add(
            "C145",
            (*path, "secrets"),
            'missing; expected at least one reference, e.g. secrets = [{ env = "WEBHOOK_SECRET" }]',
            at_key=True,
        )


def _check_reference(reference: SecretRef, path: Path, problems: Problems, warnings: list[str]) -> None:
    places = [place for place in _PLACES if getattr(reference, place) is not None]
    if len(places) != 1 and not problems.touches(*path):
        what = "none of them" if not places else " and ".join(places)
        problems.add("C144", path, f"got {what}; expected exactly one of env, file, credential and value")
    if reference.value == "":
        problems.expect("C145", (*path, "value"), "", "a secret")
    elif reference.value is not None:
        shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
        warnings.append(f"{shown}: the secret stands in the file itself; use env, file or credential in production")
    for key, time in (("not_before", reference.not_before), ("not_after", reference.not_after)):
        if time is not None and time.tzinfo is None:
            problems.expect("C149", (*path, key), time, "a time with offset, e.g. 2026-12-31T00:00:00Z")
    before, after = reference.not_before, reference.not_after
    if before and after and before.tzinfo and after.tzinfo and before >= after:
        problems.expect("C149", (*path, "not_after"), after, "a time after not_before")


def _check_destination(name: str, destination: Destination, problems: Problems, warnings: list[str]) -> None:
    path: Path = ("destinations", name)
    seen: dict[str, str] = {}
    for header, value in destination.headers.items():
        where = (*path, "headers", header)
        if isinstance(value, SecretRef):
            _check_reference(value, where, problems, warnings)
        try:
            check_header(header.encode(), b"")
        except ValueError as error:
            problems.add("C127", where, str(error), at_key=True)
        if seen.setdefault(header.lower(), header) != header:
            problems.add("C133", where, f"{seen[header.lower()]} is the same header; expected it once", at_key=True)
    retry = destination.retry
    base, most = parse_duration(retry.base), parse_duration(retry.max_delay)
    if base is not None and most is not None and base > most:
        problems.expect("C121", (*path, "retry", "base"), retry.base, f'at most retry.max_delay, "{retry.max_delay}"')


def _check_sizes(checked: Checked, problems: Problems) -> None:
    config = checked.config
    bodies = [
        (max_body_of(source, v.preset if (v := checked.verifications.get(name)) is not None else None, config), name)
        for name, source in config.sources.items()
    ]
    largest, name = max(bodies, default=(_size(config.server.max_body), ""))
    whose = f"of sources.{name}, {format_size(largest)}" if name else f"server.max_body, {format_size(largest)}"
    for path, value, times, why in (
        (("server", "max_buffered"), config.server.max_buffered, 2, "twice the largest max_body"),
        (("journal", "max_size"), config.journal.max_size, 4, "four times the largest max_body"),
        (("dead_letters", "max_size"), config.dead_letters.max_size, 2, "twice the largest max_body"),
    ):
        if not problems.touches(*path) and _size(value) < times * largest:
            problems.expect("C160", path, value, f"at least {why} ({whose}): {format_size(times * largest)}")


def _warn(checked: Checked, known: frozenset[str]) -> None:
    config, warnings = checked.config, checked.warnings
    if not config.sources:
        warnings.append("there are no sources: every webhook is answered 404")
    used = {name for source in config.sources.values() for name in source.destinations}
    warnings += [f"destinations.{name}: no source delivers to it" for name in sorted(known - used)]
    slowest = max((parse_duration(d.timeout) or 0.0 for d in config.destinations.values()), default=0.0)
    accept = 0.0 if config.journal.ephemeral else parse_duration(config.drain.accept_for) or 0.0
    if accept + slowest > GRACE_S:
        warnings.append(
            f"drain.accept_for and the longest timeout of a destination make {format_duration(accept + slowest)}, more "
            f"than the usual terminationGracePeriodSeconds of {GRACE_S:.0f}: attempts may be cut off at a stop"
        )
    for name, verification in checked.verifications.items():
        verifier = verification.verifier
        if isinstance(verification.options, SnsOptions) and not verification.options.topics:
            warnings.append(
                f"sources.{name}: any topic of any AWS account is accepted, and no subscription is confirmed; name yours: "
                'verify = { preset = "aws-sns", topics = ["arn:aws:sns:..."] }'
            )
        fresh = [d for d in config.sources[name].destinations if _wants_fresh(config, d)]
        if verifier.tolerance_ms is not None and not verifier.can_sign and fresh:
            warnings.append(
                f"sources.{name}: this scheme cannot be signed afresh, so late deliveries keep their old timestamp and "
                "the app's own check may refuse them"
            )


def _wants_fresh(config: Config, destination: str) -> bool:
    found = config.destinations.get(destination)
    return found is not None and found.signature == "fresh"
