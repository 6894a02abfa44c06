"""[P] Reading one field out of a JSON body that nobody should trust.

Used for dedup keys, handshakes and timestamps that a provider puts into the body. The body is never changed; where
it is doubtful in any way, nothing is read: a wrong id would be worse than none.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

__all__ = ["MAX_DEPTH", "parse_pointer", "read_document", "read_field"]

MAX_DEPTH = 64
_MAX_TOKENS = 16
_PLAIN_TOKEN = re.compile(r"[A-Za-z0-9_.-]+")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")

_decode = msgspec.json.Decoder().decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


def parse_pointer(text: str) -> tuple[str, ...]:
    """Take a JSON pointer apart into its tokens.

    Raises:
        ValueError: When it does not begin with "/", has a bad escape, or more than 16 tokens.

    Source: RFC 6901, sections 3 and 4.
    """
    if not text.startswith("/"):
        raise ValueError('a JSON pointer begins with "/"')
    tokens = text[1:].split("/")
    if len(tokens) > _MAX_TOKENS:
        raise ValueError(f"at most {_MAX_TOKENS} steps")
    if any(re.search("~(?![01])", t) for t in tokens):
        raise ValueError('"~" is written "~0" and "/" inside a name "~1"')
    return tuple(t.replace("~1", "/").replace("~0", "~") for t in tokens)


def read_field(body: bytes, path: tuple[str, ...]) -> str | int | None:
    """Read the string or integer at a path.

    Args:
        body: The document; strict UTF-8 without a byte order mark.
        path: Tokens as ``parse_pointer`` makes them.

    Returns:
        None when the field is missing or neither string nor integer, and when the document is doubtful: not JSON
        as RFC 8259 has it (NaN, Infinity, lone surrogates, other encodings), numbers out of range, more than
        64 levels, or a name on the path that occurs twice.
    """
    value, raw, last = _document(body), body, len(path) - 1
    for i, token in enumerate(path):
        if isinstance(value, dict):
            if token not in value:
                return None
            members = None
            if not _surely_once(raw, token):
                members = _decode_members(raw)
                if _occurs_twice(raw, members, token):
                    return None
            value = value[token]
            if i < last:
                raw = bytes((members or _decode_members(raw))[token])
        elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
            if i < last:
                raw = bytes(_decode_elements(raw)[int(token)])
        else:
            return None
    return value if type(value) in (str, int) else None


def read_document(body: bytes) -> Any:
    """Read a whole document for schemes whose signature is over its fields.

    Returns:
        None when it is doubtful in any way: as ``read_field``, and when any object names anything twice.
    """
    if _document(body) is None:
        return None
    try:
        return json.loads(body, object_pairs_hook=_once)
    except ValueError:
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("named twice")
    return found


def _document(body: bytes) -> Any:
    try:
        value = _decode(body)  # every string of it, also where nobody looks
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None
    return None if _too_deep(body, value) else value


def _too_deep(body: bytes, value: Any) -> bool:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _surely_once(raw: bytes, name: str) -> bool:
    """One look at the bytes settles most objects that have this name; only an escape could hide a second spelling."""
    if not _PLAIN_TOKEN.fullmatch(name) or (b"\\" in raw and b"\\u" in raw):
        return False
    spelled = b'"%b"' % name.encode()
    return raw.find(spelled) == raw.rfind(spelled)  # several times faster than counting


def _occurs_twice(raw: bytes, members: dict[str, msgspec.Raw], name: str) -> bool:
    """Whether an object (valid JSON) spells a name twice, of which ``members`` has kept only the last.

    A repeated member brings at least one more comma than the kept values and their separators account for, so
    counting is enough for nearly every object; the rest (also names with a comma) is parsed again, pair by pair.
    """
    kept = b" ".join(members.values())
    if raw.count(b",") == kept.count(b",") + len(members) - 1:
        return False
    pairs: list[tuple[str, object]] = json.loads(raw, object_pairs_hook=list)
    return sum(key == name for key, _ in pairs) > 1
