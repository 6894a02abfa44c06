"""[P] What is signed: a template such as ``{header:webhook-id}.{timestamp}.{body}``, prepared once per source.

``{?id:{query:id};}`` is left out as a whole where its part is missing or empty; ``{headers:NAME}`` stands for the
headers that NAME lists, as ``name:value`` sorted and joined by semicolons.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from sidecar.inbound.verify.form import first_field
from sidecar.inbound.verify.request import Request
from sidecar.inbound.verify.verdicts import first_value

__all__ = ["SignedParts", "header_names", "listed_names", "lower", "parse_signed"]

_TOKEN = re.compile(r"\{\{|\}\}|\{\?([^{}]*)\{([^{}]*)\}([^{}]*)\}|\{([^{}]*)\}|[{}]|[^{}]+")
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
        optional: Those that may be missing.
        lists: Headers that list the names of further ones.
        queries: Parameters of the query it takes in.
        uses: Names of the other parts (``body``, ``timestamp``, ``url``, ...).
    """

    def __init__(self, template: str) -> None:
        self.headers: list[tuple[bytes, ...]] = []
        self.optional: list[tuple[bytes, ...]] = []
        self.lists: list[tuple[bytes, ...]] = []
        self.queries: list[bytes] = []
        uses: set[str] = set()
        self._parts: list[Part] = []
        for found in _TOKEN.finditer(template):
            before, inner, after, name = found.groups()
            if inner is not None:
                self._parts.append(_optional(before.encode(), self._part(inner, uses, optional=True), after.encode()))
            elif name is not None:
                self._parts.append(self._part(name, uses))
            elif found.group() in "{}":
                raise ValueError(f"a lone {found.group()!r}; a brace of the text is doubled")
            else:
                self._parts.append(_literal(found.group().replace("{{", "{").replace("}}", "}").encode()))
        self.uses = frozenset(uses)
        if not (uses or self.headers or self.lists):
            raise ValueError("signs nothing of the request")
        self._body_only = uses == {"body"} and len(self._parts) == 1
        self._quick = _quick(template)

    def _part(self, name: str, uses: set[str], *, optional: bool = False) -> Part:
        kind, _, rest = name.partition(":")
        if kind == "header":
            names = lower(header_names(rest))
            (self.optional if optional else self.headers).append(names)
            return _header(names) if optional or len(names) > 1 else _only_header(names[0])
        if kind == "headers":
            names = lower(header_names(rest))
            self.lists.append(names)
            return _listed(names)
        if kind == "query" and rest:
            uses.add("query")
            self.queries.append(rest.encode())
            return _query(rest.encode())
        if name in _FIELDS:
            uses.add(name)
            return _FIELDS[name]
        raise ValueError(f"unknown part {{{name}}}; known: {{header:NAME}}, {{query:NAME}}, {{{'}, {'.join(_FIELDS)}}}")

    def message(self, request: Request, timestamp: bytes) -> bytes:
        """The bytes that are signed. The caller has seen to it that all headers are there."""
        if self._body_only:
            return request.body
        if self._quick is not None:
            return self._quick % (timestamp, request.body)
        return b"".join([part(request, timestamp) for part in self._parts])


def _quick(template: str) -> bytes | None:
    """A format of timestamp and body, where the template is these two in this order: what most providers sign."""
    before, stamp, rest = template.partition("{timestamp}")
    between, body, after = rest.partition("{body}")
    if not (stamp and body) or any(brace in before + between + after for brace in "{}"):
        return None
    text = [part.replace("%", "%%").encode() for part in (before, between, after)]
    return b"%b%%b%b%%b%b" % (text[0], text[1], text[2])


_FIELDS: dict[str, Part] = {
    "body": lambda request, _: request.body,
    "timestamp": lambda _, timestamp: timestamp,
    "url": lambda request, _: request.url or b"",
    "method": lambda request, _: request.method,
    "path": lambda request, _: request.path,
    "query": lambda request, _: request.query,
    "target": lambda request, _: request.path + (b"?" + request.query if request.query else b""),
}


def _encoded_target(request: Request, _timestamp: bytes) -> bytes:
    """Path and query as Contentful's own library writes them: the query escaped, then the whole once more.

    Source: getNormalizedEncodedURI of @contentful/node-apps-toolkit.
    """
    search = request.query.partition(b"?")[0]
    text = request.path + (b"?" + quote(search, safe=_UNRESERVED).encode() if search else b"")
    return quote(text, safe=_UNRESERVED + ";,/?:@&=+$#").encode()


_UNRESERVED = "-_.!~*'()"
_FIELDS["encoded-target"] = _encoded_target


def parse_signed(template: str) -> SignedParts:
    """Prepare a template.

    Raises:
        ValueError: On an unknown part, a lone brace, or when it takes in nothing of the request.
    """
    return SignedParts(template)


def listed_names(value: bytes) -> list[bytes]:
    """The header names that a header lists, in lower case."""
    return [name.strip().lower() for name in value.split(b",")]


def _literal(text: bytes) -> Part:
    return lambda _request, _timestamp: text


def _optional(before: bytes, part: Part, after: bytes) -> Part:
    def make(request: Request, timestamp: bytes) -> bytes:
        value = part(request, timestamp)
        return before + value + after if value else b""

    return make


def _query(name: bytes) -> Part:
    return lambda request, _: first_field(request.query, name) or b""


def _listed(names: tuple[bytes, ...]) -> Part:
    def make(request: Request, _timestamp: bytes) -> bytes:
        listed = listed_names(first_value(request, names))
        return b";".join([b"%b:%b" % (name, request.headers.get(name, b"").strip()) for name in sorted(listed)])

    return make


def _header(names: tuple[bytes, ...]) -> Part:
    return lambda request, _: first_value(request, names)


def _only_header(name: bytes) -> Part:
    return lambda request, _: request.headers[name]
