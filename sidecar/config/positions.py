"""[P] Where each key and value of a TOML text stands.

``tomllib`` checks and reads the text but keeps no positions; this scanner reads the same text again and
keeps nothing but positions. It is only right for text that ``tomllib`` accepted, and it is held to
``tomllib`` by a property test: every path found there has a position here whose text gives the same value.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import NamedTuple

__all__ = ["Path", "Place", "Positions", "Span", "dotted", "scan"]

Path = tuple[str | int, ...]
"""Keys and array indexes from the top of the document."""

_FILL = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?"""(?:"{0,2})'  # up to two quotes may stand before the closing three
    r"|'''[\s\S]*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
)
_SCALAR = re.compile(r"\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]*|[^\s,\]}#]+")


class Span(NamedTuple):
    """A stretch of the text, as offsets of characters; ``end`` is behind the last one."""

    start: int
    end: int


class Place(NamedTuple):
    """Where a key stands, and its value.

    An element of an array, and a table with its own header, have one span for both. ``scalar`` is False for
    arrays and tables.
    """

    key: Span
    value: Span
    scalar: bool = False


class Positions:
    """All places of one text, and what is needed to show them to a person."""

    def __init__(self, text: str, places: dict[Path, Place]) -> None:
        self.text = text
        self.places = places
        self._starts = [0, *(i + 1 for i, c in enumerate(text) if c == "\n")]

    def nearest(self, path: Path) -> tuple[Place, bool]:
        """Give the place of a path, or of the closest one above it, and whether it is the path's own."""
        for n in range(len(path), 0, -1):
            place = self.places.get(path[:n])
            if place is not None:
                return place, n == len(path)
        return Place(Span(0, 0), Span(0, 0)), False

    def line_column(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line_span(self, line: int) -> Span:
        """The stretch of one line (from 1), without its line end."""
        start = self._starts[line - 1]
        end = self._starts[line] - 1 if line < len(self._starts) else len(self.text)
        return Span(start, end - 1 if self.text[start:end].endswith("\r") else end)


def dotted(path: Path) -> str:
    """Write a path as people name it: ``sources.orders.secrets[0].file``."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            shown = part if _BARE.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            out += f".{shown}" if out else shown
    return out


def scan(text: str) -> Positions:
    """Find every key and value of a text that ``tomllib`` has accepted.

    Raises:
        AssertionError, IndexError: The text is not valid TOML.
    """
    return Positions(text, _Scanner(text).run())


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.places: dict[Path, Place] = {}
        self.array_lengths: dict[Path, int] = {}

    def run(self) -> dict[Path, Place]:
        table: Path = ()
        self.skip(_FILL)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            self.skip(_FILL)
        return self.places

    def skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        assert match is not None, "the text is not what tomllib accepted"
        self.at = match.end()

    def header(self) -> Path:
        double = self.text.startswith("[[", self.at)
        self.at += 2 if double else 1
        keys = self.keys()
        self.at += 2 if double else 1
        path: Path = ()
        for n, (name, span) in enumerate(keys):
            path = (*path, name)
            last = n == len(keys) - 1
            if last and double:
                index = self.array_lengths.get(path, 0)
                self.array_lengths[path] = index + 1
                self.places.setdefault(path, Place(span, span))
                path = (*path, index)
                self.places[path] = Place(span, span)
            elif last:
                self.places[path] = Place(span, span)  # a table's own header beats one that implied it
            else:
                self.places.setdefault(path, Place(span, span))
                if path in self.array_lengths:
                    path = (*path, self.array_lengths[path] - 1)
        return path

    def pair(self, table: Path) -> None:
        keys = self.keys()
        path = table
        for name, span in keys[:-1]:
            path = (*path, name)
            self.places.setdefault(path, Place(span, span))
        name, span = keys[-1]
        self.at += 1  # the equals sign
        self.skip(_BLANK)
        self.value((*path, name), span)

    def keys(self) -> list[tuple[str, Span]]:
        found: list[tuple[str, Span]] = []
        while True:
            self.skip(_BLANK)
            start = self.at
            if self.text[start] in "\"'":
                self.skip(_STRING)
                name = tomllib.loads("k = " + self.text[start : self.at])["k"]
            else:
                self.skip(_BARE)
                name = self.text[start : self.at]
            found.append((name, Span(start, self.at)))
            self.skip(_BLANK)
            if self.text[self.at] != ".":
                return found
            self.at += 1

    def value(self, path: Path, key: Span | None) -> None:
        start = self.at
        first = self.text[start]
        scalar = first not in "[{"
        if first == "[":
            self.array(path)
        elif first == "{":
            self.inline_table(path)
        else:
            self.skip(_STRING if first in "\"'" else _SCALAR)
        span = Span(start, self.at)
        self.places[path] = Place(key if key is not None else span, span, scalar)

    def array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while True:
            self.skip(_FILL)
            if self.text[self.at] == ",":
                self.at += 1
            elif self.text[self.at] == "]":
                self.at += 1
                return
            else:
                self.value((*path, index), None)
                index += 1

    def inline_table(self, path: Path) -> None:
        self.at += 1
        while True:
            self.skip(_FILL)
            if self.text[self.at] == ",":
                self.at += 1
            elif self.text[self.at] == "}":
                self.at += 1
                return
            else:
                self.pair(path)
