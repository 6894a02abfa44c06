"""[P] One problem of the configuration and how it is shown: place, code, key, got, expected, suggestion.

Problems are collected, never raised one by one, so that a person sees all of them at once. Nothing shown
here may contain a secret: ``sensitive`` decides by the path, and ``Report`` blanks such values also in the
source lines below a problem, together with every text under a key that does not exist.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping

import msgspec

from sidecar.config.positions import Path, Positions, Span, dotted, scan

__all__ = ["CODES", "Problem", "Problems", "Report", "got", "printable", "sensitive", "suggestion"]

CODES: dict[str, str] = {
    "C001": "the file cannot be read",
    "C002": "the text is not TOML",
    "C010": "a variable is not set",
    "C011": "a placeholder is not well-formed",
    "C101": "unknown key",
    "C102": "a key is missing",
    "C103": "wrong type",
    "C104": "not one of the words allowed",
    "C110": "a name of a source or destination is not allowed",
    "C120": "not a destination URL",
    "C121": "not a duration, or out of range",
    "C122": "not a size, or out of range",
    "C123": "a number is out of range",
    "C124": "not an address to listen on",
    "C125": "not a network",
    "C126": "not a public URL",
    "C127": "not a header name or value",
    "C128": "not a path of a source",
    "C129": "not a method",
    "C130": "two sources have one path",
    "C131": "unknown destination",
    "C132": "a source has no destination",
    "C133": "named twice",
    "C140": "unknown preset or scheme",
    "C141": "options of a scheme are wrong",
    "C142": "unverified without allow_unverified",
    "C143": "the scheme signs the URL and public_url is missing",
    "C144": "not a secret reference",
    "C145": "a secret is missing or empty",
    "C146": "a secret cannot be read",
    "C147": "a secret file is writable by everybody",
    "C148": "two secrets have one id",
    "C149": "a time is not usable",
    "C150": "not a dedup key",
    "C151": "not an answer to a sender",
    "C152": "a preset needs an option that only you know",
    "C153": "a scheme needs packages that are not installed",
    "C154": "unknown handshake",
    "C160": "sizes that cannot work together",
    "C170": "not a status to retry on",
    "C180": "a file that is named cannot be read",
}
"""Every code with its meaning. Codes are public: never reuse one."""

_SECRET_WORDS = re.compile(
    r"secret(?!_encoding|_prefix|_unprefixed|_headers)|token|passw|credential|authorization|api_?key|^value$|^headers$",
    re.IGNORECASE,
)
_REFERENCE_KEYS = frozenset({"env", "file", "credential", "id", "not_before", "not_after"})
_NAMED = frozenset({"sources", "destinations"})  # what stands below them is a name, not a key
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_SHOWN = 80
_MAX_LINE = 160


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        code: A key of ``CODES``.
        path: Where in the document; () for the whole file.
        text: What is wrong, what was got, what is expected. Without secrets.
        at_key: Whether the key is at fault rather than its value.
        offset: Position in the text where the path says nothing (a syntax error); -1 otherwise.
    """

    code: str
    path: Path
    text: str
    at_key: bool = False
    offset: int = -1


class Problems:
    """Collects problems; one for each path and code, and none where a value is not known yet.

    Args:
        unknown: Paths whose values nobody can judge (variables while nothing but the file is looked at).
        written: For values that were filled in from variables, the text as written.
    """

    def __init__(self, unknown: Iterable[Path] = (), written: Mapping[Path, str] | None = None) -> None:
        self.found: list[Problem] = []
        self.unknown = frozenset(unknown)
        self.written = written or {}

    def add(self, code: str, path: Path, text: str, *, at_key: bool = False) -> None:
        """Note one problem."""
        judged = path not in self.unknown or code == "C101"  # a key that does not exist is wrong with any value
        if judged and not any(p.path == path and p.code == code for p in self.found):
            self.found.append(Problem(code, path, text, at_key))

    def expect(self, code: str, path: Path, value: object, expected: str, hint: str = "") -> None:
        """Note a value that is not what it should be."""
        self.add(code, path, f"got {got(path, self.written.get(path, value))}; expected {expected}{hint}")

    def touches(self, *path: str | int) -> bool:
        """Whether a path, or anything below it, has a problem or a value that is not known."""
        return any(p[: len(path)] == path for p in (*(found.path for found in self.found), *self.unknown))


def sensitive(path: Path, value: object) -> bool:
    """Whether the value at a path may be a secret and must not be shown."""
    words = [part for n, part in enumerate(path) if isinstance(part, str) and not (n == 1 and path[0] in _NAMED)]
    if words and words[-1] in _REFERENCE_KEYS and words[-2:-1] != ["headers"]:
        # A secret pasted where the name of a variable belongs is still a secret.
        return words[-1] == "env" and not (isinstance(value, str) and _ENV_NAME.fullmatch(value) is not None)
    if (
        words
        and words[-1].endswith("url")
        and isinstance(value, str)
        and ("@" in value or "=" in value.partition("?")[2])
    ):
        return True  # user and password do not belong there, a key in the query does; neither is shown
    return any(_SECRET_WORDS.search(word) is not None for word in words)


def got(path: Path, value: object) -> str:
    """Show a value as TOML would write it, cut and escaped; only its type where it may be secret."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    if sensitive(path, value):
        kind = "a string" if isinstance(value, str) else f"a value of type {type(value).__name__}"
        return f"{kind} (not shown)" if value != "" else 'an empty string, ""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        cut = value[:_MAX_SHOWN] + ("…" if len(value) > _MAX_SHOWN else "")
        return '"' + printable(json.dumps(cut, ensure_ascii=False)[1:-1]) + '"'
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "a number with more than 64 bits"
    return str(value)


def printable(text: str) -> str:
    r"""Escape what is not visible (control, bidirectional, surrogates) as ``\uXXXX``; tabs become blanks."""
    return "".join(c if c.isprintable() else " " if c == "\t" else f"\\u{ord(c):04x}" for c in text)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Give ``; did you mean "..."?``, or nothing when no known word is close."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


class Report:
    """Shows problems of one file as lines for a terminal, in the order of the file.

    Args:
        name: The file as the person named it.
        positions: Of its text.
        overrides: For paths that came from elsewhere than the file, where from (shown instead of a line).
    """

    def __init__(self, name: str, positions: Positions, overrides: Mapping[Path, str] | None = None) -> None:
        self.name = printable(name)
        self.positions = positions
        self.overrides = overrides or {}
        self._hidden: list[Span] | None = None
        self._unknown: tuple[Path, ...] = ()

    def lines(self, problems: Iterable[Problem]) -> tuple[str, ...]:
        """Format all problems; each may take three lines of text."""
        found = tuple(problems)
        self._unknown = tuple(p.path for p in found if p.code == "C101")
        self._hidden = None
        shown = [self._one(p) for p in found]
        return tuple(text for _, text in sorted(shown, key=lambda pair: pair[0]))

    def _one(self, problem: Problem) -> tuple[int, str]:
        key = printable(dotted(problem.path))
        text = (
            f"{problem.code} {key}: {printable(problem.text)}" if key else f"{problem.code} {printable(problem.text)}"
        )
        origin = self._origin(problem.path)
        if origin:
            return len(self.positions.text) + 1, f"{printable(origin)}: {text}"
        if problem.offset < 0 and not problem.path:
            return -1, f"{self.name}: {text}"
        if problem.offset >= 0:
            span = Span(problem.offset, problem.offset + 1)
        else:
            place, own = self.positions.nearest(problem.path)
            span = place.value if own and not problem.at_key else place.key
        line, column = self.positions.line_column(span.start)
        return (
            span.start,
            f"{self.name}:{line}:{column}: {text}\n{self._excerpt(span, line, loose=problem.offset >= 0)}",
        )

    def _origin(self, path: Path) -> str:
        for n in range(len(path), 0, -1):
            if path[:n] in self.overrides:
                return self.overrides[path[:n]]
        if path in self.positions.places:
            return ""
        return next((o for p, o in self.overrides.items() if path and p[: len(path)] == path), "")

    def _excerpt(self, span: Span, line: int, *, loose: bool) -> str:
        whole = self.positions.line_span(line)
        first = max(whole.start, span.start - _MAX_LINE // 2) if whole.end - whole.start > _MAX_LINE else whole.start
        last = min(whole.end, first + _MAX_LINE)
        text = self.positions.text
        hide = _blank_loosely(text[: whole.start], text[whole.start : whole.end]) if loose else None
        shown = ""
        caret_at = carets = 0
        was_hidden = False
        for at in range(first, last):
            if at == span.start:
                caret_at = len(shown)
            hidden = at - whole.start >= hide if hide is not None else self._is_hidden(at)
            c = text[at]
            hidden = hidden and not c.isspace() and c not in "\"'[]{}=,#"
            # Three stars for each run, so that not even the length of a secret shows.
            piece = printable(c) if not hidden else "" if was_hidden else "***"
            was_hidden = hidden
            shown += piece
            carets += len(piece) if span.start <= at < span.end else 0
        if span.start >= last:
            caret_at = len(shown)
        margin = f"  {line} | "
        below = " " * (len(margin) - 2) + "| "
        return f"{margin}{shown}\n{below}{' ' * caret_at}{'^' * max(carets, 1)}"

    def _is_hidden(self, at: int) -> bool:
        if self._hidden is None:
            text = self.positions.text
            self._hidden = [
                place.value
                for path, place in self.positions.places.items()
                if place.scalar
                and (
                    sensitive(path, text[place.value.start : place.value.end].strip("\"'"))
                    # Who knows what it was meant to be; a number was not meant to be a secret.
                    or (text[place.value.start] in "\"'" and any(path[: len(key)] == key for key in self._unknown))
                )
            ]
        return any(span.start <= at < span.end for span in self._hidden)


def _blank_loosely(before: str, line: str) -> int | None:
    """Say from where a line with a syntax error must not be shown; None: show all.

    Args:
        before: The text above the line, which has no error.
        line: The whole line.
    """
    probe = before + "_ = 0"
    try:
        tomllib.loads(probe)
        table = list(scan(probe).places)[-1][:-1]
    except (ValueError, RecursionError):
        return 0  # the line is within an array or a text that began above it
    key, equals, value = line.partition("=")
    if not equals:  # the header of a table, or a text without a key
        return None if line.lstrip().startswith("[") and not set(line) & set("\"'{") else 0
    path = (*table, *re.findall(r"[A-Za-z0-9_-]+", key))
    # More keys may be in the value, and a URL may have a password in it.
    return len(key) if set(value) & set("{=@") or sensitive(path, value.strip(" \t\"'")) else None
