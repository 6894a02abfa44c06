"""[P] Reading query strings and form bodies without changing a byte that somebody may have signed.

Source: WHATWG URL, 5.1 (application/x-www-form-urlencoded parsing).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = ["MAX_FIELDS", "decode_escapes", "first_field", "is_ambiguous", "is_form", "only_field", "parse_form"]

MAX_FIELDS: Final = 1000
"""More fields than any provider sends; beyond it nothing is read."""

_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}")


def is_form(content_type: bytes) -> bool:
    """Whether this Content-Type announces form fields."""
    return content_type.partition(b";")[0].strip().lower() == b"application/x-www-form-urlencoded"


def parse_form(text: bytes) -> list[tuple[bytes, bytes]] | None:
    """Decode all fields in the order given, empty values included.

    Returns:
        None when there are more than ``MAX_FIELDS``.
    """
    if text.count(b"&") >= MAX_FIELDS:
        return None
    fields = []
    for piece in text.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            fields.append((_decode(name), _decode(value)))
    return fields


def first_field(text: bytes, name: bytes) -> bytes | None:
    """Value of the first field of this name; None when there is none."""
    return next((value for found, value in parse_form(text) or () if found == name), None)


def is_ambiguous(text: bytes, name: bytes) -> bool:
    """Whether an app could read another value under this name than ``first_field`` does.

    Source: php.net, "Variables From External Sources": the last of a name counts, and dots and blanks become "_".
    """
    fields = parse_form(text)
    return fields is None or sum(_folded(found) == _folded(name) for found, _ in fields) > 1


def _folded(name: bytes) -> bytes:
    return name.replace(b".", b"_").replace(b" ", b"_")


def only_field(text: bytes, name: bytes) -> bytes | None:
    """Value of a form's only field, if this is its name.

    None where anything stands beside it: an app may take the last field of a name, or one that merely begins like it.
    """
    fields = parse_form(text)
    return fields[0][1] if fields is not None and len(fields) == 1 and fields[0][0] == name else None


def decode_escapes(text: bytes, characters: frozenset[bytes]) -> bytes:
    """Undo the percent-escapes of these characters and leave all others as they are."""

    def plain(match: re.Match[bytes]) -> bytes:
        character = bytes((int(match[0][1:], 16),))
        return character if character in characters else match[0]

    return _ESCAPE.sub(plain, text)


def _decode(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
