"""[P] What is signed: a template such as ``{header:webhook-id}.{timestamp}.{body}``, prepared once per source."""

from __future__ import annotations

import re
from collections.abc import Callable

from sidecar.inbound.verify.request import Request

__all__ = ["SignedParts", "header_names", "lower", "parse_signed"]

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`~-]+")

Part = Callable[[Request, bytes], bytes]


def header_names(text: str, numbers: int = 0) -> tuple[str, ...]:
    """The names that an option gives, as written and in the order in which they are looked for.

    Args:
        text: ``A`` or ``A|B``.
        numbers: How far ``{n}`` in a name counts; 0 = it has no meaning here.

    Raises:
        ValueError: When one is no header name. Names with "_" are none: backends fold them into other names.
    """
    names: list[str] = []
    for name in text.split("|"):
        numbered = bool(numbers) and "{n}" in name
        if not _HEADER_NAME.fullmatch(name.replace("{n}", "1", 1) if numbered else name):
            raise ValueError(f"{name!r} is not a header name")
        names += [name.replace("{n}", str(n)) for n in range(1, numbers + 1)] if numbered else [name]
    return tuple(names)


def lower(names: tuple[str, ...]) -> tuple[bytes, ...]:
    """The same names as they stand in ``Request.headers``."""
    return tuple(name.lower().encode() for name in names)


class SignedParts:
    """A prepared template.

    Attributes:
        headers: The headers it takes in; each must be there, under the first of its names that is.
        uses: Names of the other parts (``body``, ``timestamp``, ``url``, ...).
    """

    def __init__(self, parts: list[Part], headers: list[tuple[bytes, ...]], uses: frozenset[str]) -> None:
        self._parts = parts
        self.headers = headers
        self.uses = uses
        self._body_only = uses == {"body"} and len(parts) == 1

    def message(self, request: Request, timestamp: bytes) -> bytes:
        """The bytes that are signed. The caller has seen to it that all headers are there."""
        if self._body_only:
            return request.body
        return b"".join([part(request, timestamp) for part in self._parts])


_FIELDS: dict[str, Part] = {
    "body": lambda request, _: request.body,
    "timestamp": lambda _, timestamp: timestamp,
    "url": lambda request, _: request.url or b"",
    "method": lambda request, _: request.method,
    "path": lambda request, _: request.path,
    "query": lambda request, _: request.query,
}


def parse_signed(template: str) -> SignedParts:
    """Prepare a template.

    Raises:
        ValueError: On an unknown part, a lone brace, or when it takes in nothing of the request.
    """
    parts: list[Part] = []
    headers: list[tuple[bytes, ...]] = []
    uses: set[str] = set()
    for found in _TOKEN.finditer(template):
        text, name = found.group(), found.group(1)
        if name is None:
            if text in "{}":
                raise ValueError(f"a lone {text!r}; a brace of the text is doubled")
            parts.append(_literal(text.replace("{{", "{").replace("}}", "}").encode()))
        elif name.startswith("header:"):
            names = lower(header_names(name.removeprefix("header:")))
            headers.append(names)
            parts.append(_header(names))
        elif name in _FIELDS:
            uses.add(name)
            parts.append(_FIELDS[name])
        else:
            raise ValueError(f"unknown part {text!r}; known: {{header:NAME}}, {{{'}, {'.join(_FIELDS)}}}")
    if not uses and not headers:
        raise ValueError("signs nothing of the request")
    return SignedParts(parts, headers, frozenset(uses))


def _literal(text: bytes) -> Part:
    return lambda _request, _timestamp: text


def _header(names: tuple[bytes, ...]) -> Part:
    if len(names) == 1:
        name = names[0]
        return lambda request, _: request.headers[name]
    return lambda request, _: next(v for v in map(request.headers.get, names) if v)
