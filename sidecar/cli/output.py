"""What commands write: data on stdout, everything else on stderr; tables, JSON lines, a progress bar."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from sidecar.log import safe_text

__all__ = [
    "Progress",
    "age",
    "clean",
    "colour",
    "confirm",
    "emit",
    "is_terminal",
    "note",
    "say",
    "short_time",
    "size",
    "table",
    "wants_colour",
]

_COLOURS = {
    "delivered": "green",
    "ok": "green",
    "pending": "yellow",
    "dying": "yellow",
    "held": "yellow",
    "warn": "yellow",
    "dead": "red",
    "fail": "red",
    "discarded": "bright_black",
    "redirected": "bright_black",
}
_STATES = {click.style(word, fg=fg): word for word, fg in _COLOURS.items()}
_COLOURED = re.compile("(" + "|".join(map(re.escape, _STATES)) + ")")


def is_terminal(*, err: bool = False) -> bool:
    """Whether stdout (or stderr) is a terminal; one that was closed by whoever started us is none."""
    stream = sys.stderr if err else sys.stdout
    return stream is not None and stream.isatty()


def wants_colour() -> bool:
    """Whether words on stdout get a colour.

    Source: no-color.org, force-color.org.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal() and os.environ.get("TERM") != "dumb"


def colour(word: str) -> str:
    """Give a state its colour, where colours are wanted."""
    return click.style(word, fg=_COLOURS[word]) if word in _COLOURS and wants_colour() else word


def clean(text: str) -> str:
    """Make text harmless for a terminal: what is no line, no tab and no coloured state of ours is escaped.

    The last gate. What comes from outside was cut and escaped where a value was made of it; this holds for what was
    forgotten there, for names of files, and for what somebody pasted into a command line.
    """
    if text.isascii() and text.isprintable():
        return text
    parts = _COLOURED.split(text)
    return "".join(part if part in _STATES else _harmless(part) for part in parts)


def _harmless(text: str) -> str:
    pieces = re.split(r"([\n\t])", text)
    return "".join(piece if piece in ("\n", "\t") else safe_text(piece, len(piece)) for piece in pieces)


def say(text: str) -> None:
    """Write data to stdout; colours were decided where the text was made."""
    click.echo(clean(text), color=True)


def note(text: str) -> None:
    """Write anything else to stderr; where nobody reads it, what is done and the exit code stay what they are."""
    with contextlib.suppress(OSError):
        click.echo(clean(text), err=True)


def emit(value: Any) -> None:
    """Write one JSON value as one line; everything outside ASCII is escaped, so that no terminal acts on it."""
    click.echo(json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("\x7f", "\\u007f"))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write aligned columns; numbers to the right, nothing is cut.

    Args:
        columns: Headings; upper case by custom.
        rows: Cells; None becomes ``-``.
    """
    cells = [["-" if c is None or c == "" else str(c) for c in row] for row in rows]
    right = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
    widths = [max(len(click.unstyle(row[i])) for row in [list(columns), *cells]) for i in range(len(columns))]
    for row in [list(columns), *cells]:
        parts = []
        for cell, width, to_right in zip(row, widths, right, strict=True):
            pad = " " * (width - len(click.unstyle(cell)))
            parts.append(pad + cell if to_right else cell + pad)
        say("  ".join(parts).rstrip())


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").isdigit()


def size(n: int | None) -> str:
    """Write a size for people: ``812 B``, ``4.0 KiB``, ``1.5 GiB``."""
    if n is None:
        return "-"
    value = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{n} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def age(seconds: float | None) -> str:
    """Write a span for people: ``0.4s``, ``12s``, ``3m20s``, ``2h05m``, ``4d03h``."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    s = int(seconds)
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m{s % 60:02}s"
    if s < 86400:
        return f"{s // 3600}h{s % 3600 // 60:02}m"
    return f"{s // 86400}d{s % 86400 // 3600:02}h"


def short_time(rfc3339: str | None) -> str:
    """Write a time to the second, UTC: ``2026-11-20 08:00:00``."""
    if not rfc3339:
        return "-"
    return dt.datetime.fromisoformat(rfc3339).astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost; without a terminal nobody can answer, so ``--yes`` is needed.

    Raises:
        UsageError: There is no terminal and no ``--yes``.
        Abort: The answer is no.
    """
    if yes:
        return
    if not (sys.stdin is not None and sys.stdin.isatty() and is_terminal(err=True)):
        raise click.UsageError(f"{question} Add --yes: there is no terminal to ask on.")
    if not click.confirm(question, err=True):
        raise click.exceptions.Exit(1)


class Progress:
    """A bar on stderr while a bulk command goes on; silent where stderr is no terminal."""

    _WIDTH = 30

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._shown = is_terminal(err=True)

    def show(self, row: Mapping[str, Any]) -> None:
        """Draw one progress row: done, failed, rate, ETA."""
        if not self._shown:
            return
        handled, rate = row["done"] + row["failed"], row["rate"]
        text = f"{row['done']:,} done, {row['failed']:,} failed, {rate:,.0f}/s"
        if self._total:
            full = min(self._WIDTH, self._WIDTH * handled // self._total)
            eta = age((self._total - handled) / rate) if rate else "?"
            text = f"[{'#' * full}{' ' * (self._WIDTH - full)}] {handled:,}/{self._total:,}  {text}, {eta} left"
        click.echo(f"\r\x1b[K{text}", err=True, nl=False)

    def close(self) -> None:
        """Leave the line."""
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
