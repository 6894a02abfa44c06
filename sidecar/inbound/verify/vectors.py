"""[P] Signature cases: recorded requests with the verdict that is expected, one JSON object a line.

Fields: ``provider`` (preset name), ``id``, ``method``, ``url``, ``headers``, ``body_base64``, ``secret`` (as the
provider's page shows it), ``extra_secrets``, ``now`` (Unix seconds, null = irrelevant) and ``expect`` (``accept`` or
``reject``); ``params`` has options of the preset's scheme (``webhook_id``, ``audience``, ...), ``key`` (Pusher: the id
of the secret) and ``secondary_key`` (Box); ``origin`` and ``why`` are for people.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from sidecar.inbound.verify.options import SchemeOptions
from sidecar.inbound.verify.presets import PRESETS
from sidecar.inbound.verify.request import Rejected, Request, Secret, Verifier
from sidecar.inbound.verify.schemes import compile_scheme

__all__ = ["Case", "parse_case", "prepare", "run_case", "with_params"]


class Case(msgspec.Struct, kw_only=True):
    """One line of a vector file."""

    provider: str
    id: str
    expect: Literal["accept", "reject"]
    headers: dict[str, str]
    secret: str
    body_base64: str = ""
    method: str = "POST"
    url: str = ""
    extra_secrets: list[str] = []
    params: dict[str, Any] = {}
    now: float | None = None
    origin: str = ""
    why: str = ""

    def __repr__(self) -> str:  # its secrets may be real
        return f"Case(id={self.id!r})"


_decoder = msgspec.json.Decoder(Case)


def parse_case(line: bytes | str) -> Case:
    """Read one line.

    Raises:
        ValueError: When it is no case; the text says which field.
    """
    try:
        case = _decoder.decode(line)
        binascii.a2b_base64(case.body_base64, strict_mode=True) if case.body_base64 else b""
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"not a signature case: {error}") from None
    return case


def prepare(case: Case) -> tuple[Verifier, Request, tuple[Secret, ...], int]:
    """Make what ``Verifier.verify`` wants of a case whose preset exists."""
    target = case.url.encode()
    _, _, rest = target.partition(b"://")
    path, _, query = rest[rest.find(b"/") :].partition(b"?") if b"/" in rest else (b"/", b"", b"")
    request = Request(
        method=case.method.encode(),
        path=path,
        query=query,
        headers={name.lower().encode(): value.encode() for name, value in case.headers.items()},
        body=binascii.a2b_base64(case.body_base64),
        url=target,
    )
    texts = [case.secret, *case.extra_secrets]
    names = [msgspec.convert(case.params.get("key", "1"), str), *map(str, range(2, len(texts) + 1))]
    secrets = [Secret(name, text.encode()) for name, text in zip(names, texts, strict=True)]
    if "secondary_key" in case.params:
        second = msgspec.convert(case.params["secondary_key"], str)
        secrets = [Secret("primary", texts[0].encode()), Secret("secondary", second.encode())]
    verifier = compile_scheme(with_params(PRESETS[case.provider].scheme, case.params))
    return verifier, request, tuple(secrets), int((case.now or 0) * 1000)


def with_params(scheme: SchemeOptions, params: Mapping[str, Any]) -> SchemeOptions:
    """The options with those params that are options of their scheme.

    Raises:
        ValidationError: One has another type than its option.
    """
    own = {field.name: field.type for field in msgspec.structs.fields(scheme)}
    given = {name: msgspec.convert(value, own[name]) for name, value in params.items() if name in own}
    return msgspec.structs.replace(scheme, **given)


def run_case(case: Case) -> Literal[True] | str:
    """Judge one case with its preset.

    Returns:
        True when it turns out as expected; else what happened, for people. ``unknown preset`` when there is none.
    """
    if case.provider not in PRESETS:
        return "unknown preset"
    try:
        verifier, request, secrets, now_ms = prepare(case)
    except (ValueError, msgspec.ValidationError) as error:
        return str(error)  # its packages are not installed, or its params make no sense
    verdict = verifier.verify(request, secrets, now_ms)
    if isinstance(verdict, Rejected):
        return True if case.expect == "reject" else f"expected accept, got reject: {verdict.reason}"
    return True if case.expect == "accept" else f"expected reject, got accept by secret {verdict.key_id}"
