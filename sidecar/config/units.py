"""[P] Durations and sizes as the configuration writes them: "250ms", "72h", "1MiB".

One number, one unit. Nothing here guesses: a number without a unit is refused, and so is one that no
machine could hold.
"""

from __future__ import annotations

import re

__all__ = ["DURATION_PATTERN", "SIZE_PATTERN", "format_duration", "format_size", "parse_duration", "parse_size"]

DURATION_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,3})?(ms|s|m|h|d)$"
SIZE_PATTERN = r"^[0-9]{1,20}(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB)$"

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,20})(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB)", re.ASCII)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "B": 1,
    "kB": 1000,
    "KiB": 1 << 10,
    "MB": 1000**2,
    "MiB": 1 << 20,
    "GB": 1000**3,
    "GiB": 1 << 30,
    "TB": 1000**4,
    "TiB": 1 << 40,
}
_MOST_BYTES = (1 << 63) - 1


def parse_duration(text: str) -> float | None:
    """Read one duration.

    Args:
        text: A number (up to three decimals) and one of ``ms``, ``s``, ``m``, ``h``, ``d``.

    Returns:
        Seconds; None when the text is not a duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    number, unit = match.groups()
    # Whole milliseconds divide exactly: 250 / 1000, not 250 * 0.001.
    return float(number) / 1000 if unit == "ms" else float(number) * _SECONDS[unit]


def parse_size(text: str) -> int | None:
    """Read one size.

    Args:
        text: A whole number and one of ``B``, ``kB``, ``KiB``, ``MB``, ``MiB``, ``GB``, ``GiB``, ``TB``, ``TiB``.

    Returns:
        Bytes; None when the text is not a size or does not fit in a signed 64-bit number.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    number, unit = match.groups()
    size = int(number) * _BYTES[unit]
    return size if size <= _MOST_BYTES else None


def format_duration(seconds: float) -> str:
    """Write seconds in the largest unit that needs no decimals: 7200 is "2h", 0.25 is "250ms"."""
    for unit in ("h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    return "0s" if seconds == 0 else f"{round(seconds * 1000)}ms"


def format_size(size: int) -> str:
    """Write bytes in the largest binary unit that needs no decimals: 1048576 is "1MiB"."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"
