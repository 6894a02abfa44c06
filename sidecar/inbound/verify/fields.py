"""[P] The part of Structured Fields that HTTP Message Signatures are written in.

Dictionaries of byte sequences, and of inner lists with parameters. Anything else is no value.

Source: RFC 9651, 3 and 4.2.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

import msgspec

__all__ = ["InnerList", "parse_byte_sequences", "parse_inner_lists"]

MAX_MEMBERS: Final = 8
MAX_ITEMS: Final = 64
_KEY: Final = re.compile(r"[a-z*][a-z0-9_.*-]{0,63}")
_BYTES: Final = re.compile(r":([A-Za-z0-9+/]*={0,2}):")
_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_PARAMETER: Final = re.compile(
    r';[ ]*([a-z*][a-z0-9_.*-]*)(?:=("(?:[ !#-\[\]-~]|\\["\\])*"|-?[0-9]{1,15}|\?[01]|:[A-Za-z0-9+/]*={0,2}:|[A-Za-z*][!#$%&\'*+.^_`|~:/0-9A-Za-z-]*))?'
)
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")

Parameters = dict[str, str | int | bool]


class InnerList(msgspec.Struct, frozen=True):
    """One member of Signature-Input.

    Attributes:
        items: Strings of the list, each with its parameters as they are written.
        parameters: Of the list.
        text: The member's value as received: what the signature covers.
    """

    items: tuple[tuple[str, str], ...]
    parameters: Parameters
    text: str


def parse_byte_sequences(text: str) -> dict[str, bytes] | None:
    """Read ``label=:base64:, ...``; None when it is anything else."""
    found: dict[str, bytes] = {}
    at = 0
    while True:
        key = _KEY.match(text, at)
        if key is None or key[0] in found or len(found) >= MAX_MEMBERS or text[key.end() : key.end() + 1] != "=":
            return None
        value = _BYTES.match(text, key.end() + 1)
        if value is None:
            return None
        try:
            found[key[0]] = binascii.a2b_base64(value[1], strict_mode=True)
        except binascii.Error:
            return None
        if value.end() == len(text):
            return found
        comma = _COMMA.match(text, value.end())
        if comma is None:
            return None
        at = comma.end()


def parse_inner_lists(text: str) -> dict[str, InnerList] | None:
    """Read ``label=("a" "b";x);y=1, ...``; None when it is anything else."""
    found: dict[str, InnerList] = {}
    at = 0
    while True:
        key = _KEY.match(text, at)
        if key is None or key[0] in found or len(found) >= MAX_MEMBERS or text[key.end() : key.end() + 2] != "=(":
            return None
        read = _inner_list(text, key.end() + 1)
        if read is None:
            return None
        found[key[0]], end = read
        if end == len(text):
            return found
        comma = _COMMA.match(text, end)
        if comma is None:
            return None
        at = comma.end()


def _inner_list(text: str, start: int) -> tuple[InnerList, int] | None:
    at = start + 1
    items: list[tuple[str, str]] = []
    while True:
        while text[at : at + 1] == " ":
            at += 1
        if text[at : at + 1] == ")":
            break
        name = _STRING.match(text, at)
        if name is None or len(items) >= MAX_ITEMS or text[name.end() : name.end() + 1] not in (" ", ")", ";"):
            return None
        after = _parameters(text, name.end())
        if after is None:
            return None
        items.append((_unquote(name[1]), text[name.end() : after[1]]))
        at = after[1]
    parameters = _parameters(text, at + 1)
    if parameters is None:
        return None
    return InnerList(tuple(items), parameters[0], text[start : parameters[1]]), parameters[1]


def _parameters(text: str, at: int) -> tuple[Parameters, int] | None:
    found: Parameters = {}
    while text[at : at + 1] == ";":
        match = _PARAMETER.match(text, at)
        if match is None or match[1] in found or len(found) >= MAX_ITEMS:
            return None
        found[match[1]] = _value(match[2])
        at = match.end()
    return found, at


def _value(text: str | None) -> str | int | bool:
    if text is None or text.startswith("?"):
        return text != "?0"
    if text.startswith('"'):
        return _unquote(text[1:-1])
    return int(text) if text.lstrip("-").isdigit() else text


def _unquote(text: str) -> str:
    return re.sub(r'\\(["\\])', r"\1", text)
