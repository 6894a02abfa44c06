"""[P] Reading and writing the timestamps that providers sign.

Python's own parsers take more than a provider ever sends (``1_700``, Arabic digits, ``nan``), and some of that
passes an age check, so the forms are spelled out.
"""

from __future__ import annotations

import datetime as dt
import re

from sidecar.inbound.verify.options import TimestampOptions, Unit
from sidecar.inbound.verify.request import Rejected
from sidecar.model import RejectReason

__all__ = ["AgeLimit", "format_timestamp", "parse_timestamp"]

# More digits than these would be a time after the year 30000, or a number in the wrong unit.
_SECONDS = re.compile(rb"[0-9]{1,12}")
_MILLISECONDS = re.compile(rb"[0-9]{1,15}")
_RFC3339 = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    rb"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HTTP_DATE = re.compile(
    rf"(?:{'|'.join(_DAYS)}), ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([0-9]{{4}}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT".encode()
)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)


def parse_timestamp(text: bytes, unit: Unit) -> int | None:
    """Read a timestamp.

    Returns:
        Milliseconds since the Unix epoch; None when the text is not exactly of its form.

    Source: RFC 3339, 5.6; RFC 9110, 5.6.7 (IMF-fixdate).
    """
    if unit == "s":
        return int(text) * 1000 if _SECONDS.fullmatch(text) else None
    if unit == "unix":
        unit = "s" if len(text) < 12 else "ms"
        return parse_timestamp(text, unit)
    if unit == "ms":
        return int(text) if _MILLISECONDS.fullmatch(text) else None
    found = (_RFC3339 if unit == "rfc3339" else _HTTP_DATE).fullmatch(text)
    if found is None:
        return None
    part = found.groups()
    offset = dt.timedelta(0)
    try:
        if unit == "rfc3339":
            when = dt.datetime(*map(int, part[:6]), tzinfo=dt.UTC)  # type: ignore[arg-type, misc]  # six of them
            if part[6]:
                when += dt.timedelta(milliseconds=int(part[6].ljust(9, b"0")) // 1_000_000)
            if part[7]:
                offset = dt.timedelta(hours=int(part[8]), minutes=int(part[9])) * (-1 if part[7] == b"-" else 1)
        else:
            month = _MONTHS.index(part[1].decode()) + 1
            when = dt.datetime(int(part[2]), month, int(part[0]), *map(int, part[3:]), tzinfo=dt.UTC)  # type: ignore[arg-type, misc]
    except ValueError:  # the 31st of February
        return None
    return (when - _EPOCH - offset) // _MILLISECOND


def format_timestamp(now_ms: int, unit: Unit) -> bytes:
    """Write a moment as a provider would."""
    if unit in ("s", "unix"):
        return b"%d" % (now_ms // 1000)
    if unit == "ms":
        return b"%d" % now_ms
    when = _EPOCH + now_ms * _MILLISECOND
    if unit == "rfc3339":
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
    return (
        f"{_DAYS[when.weekday()]}, {when.day:02} {_MONTHS[when.month - 1]} {when.year:04} {when:%H:%M:%S} GMT".encode()
    )


class AgeLimit:
    """How far a timestamp may be from the moment of receipt."""

    def __init__(self, options: TimestampOptions) -> None:
        self.unit: Unit = options.unit
        self.past_ms = int(options.tolerance * 1000)
        self._future_ms: int | None = None
        if not options.past_only:
            self._future_ms = int((options.tolerance if options.future is None else options.future) * 1000)

    def check(self, text: bytes, now_ms: int) -> Rejected | None:
        """Judge a timestamp as received."""
        at_ms = parse_timestamp(text, self.unit)
        if at_ms is None:
            return Rejected(RejectReason.MALFORMED_TIMESTAMP)
        age_ms = now_ms - at_ms
        if age_ms > self.past_ms:
            return Rejected(RejectReason.STALE_TIMESTAMP, f"{age_ms // 1000} s old, at most {self.past_ms // 1000} s")
        if self._future_ms is not None and -age_ms > self._future_ms:
            return Rejected(
                RejectReason.FUTURE_TIMESTAMP, f"{-age_ms // 1000} s ahead, at most {self._future_ms // 1000} s"
            )
        return None
