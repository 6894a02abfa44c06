"""Filters of look-ups and bulk commands: from what people write to what the journal is asked. Pure.

Times are RFC 3339 (``2026-11-20T08:00:00Z``), a day (``2026-11-20``) or an age (``2h``, ``3d``).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping

import msgspec

from sidecar.journal.types import DeliveryView, EventQuery
from sidecar.model import DeadReason, State, parse_event_id

__all__ = [
    "BulkRequest",
    "FilterError",
    "Filters",
    "STATES",
    "id_range_ms",
    "parse_duration_s",
    "parse_when_ms",
    "rfc3339",
]

STATES: dict[str, State] = {s.word: s for s in State if s is not State.ABSENT}
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d|w)")
_ID_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MAX_IDS = 5000


class FilterError(ValueError):
    """A filter that makes no sense; the text says which and what was expected."""


def parse_duration_s(text: str) -> float:
    """Read ``500ms``, ``20s``, ``5m``, ``2h``, ``3d`` or ``1w``.

    Raises:
        FilterError: It is none of these.
    """
    m = _DURATION.fullmatch(text.strip())
    if m is None:
        raise FilterError(f'got the duration "{text[:40]}"; expected a number and a unit, e.g. "20s", "5m", "2h", "3d"')
    return float(m[1]) * _UNITS_S[m[2]]


def parse_when_ms(text: str, now_ms: int) -> int:
    """Read a point in time: RFC 3339, a day (UTC), or an age before now.

    Returns:
        Milliseconds since the epoch; 0 for an empty text.

    Raises:
        FilterError: It is none of these.
    """
    if not text:
        return 0
    if _DURATION.fullmatch(text):
        return max(1, now_ms - int(parse_duration_s(text) * 1000))
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        raise FilterError(
            f'got the time "{text[:40]}"; expected e.g. "2026-11-20T08:00:00Z", "2026-11-20" or an age like "2h"'
        ) from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(1, int((when - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).total_seconds() * 1000))


def rfc3339(ms: int | None) -> str | None:
    """Write a wall clock time; None for 0, None and what no calendar has."""
    if not ms or not 0 < ms < 253_402_300_800_000:
        return None
    when = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=ms)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def id_range_ms(prefix: str) -> tuple[int, int] | None:
    """Say when events whose id begins like this were received: ids sort by time.

    Returns:
        (from, before) in ms; None when no event id begins like this.
    """
    digits = prefix[4:]
    if not prefix.startswith("wse_") or len(digits) > 26 or any(c not in _ID_ALPHABET for c in digits):
        return None
    low = high = 0
    for i in range(26):
        low = low << 5 | (_ID_ALPHABET.index(digits[i]) if i < len(digits) else 0)
        high = high << 5 | (_ID_ALPHABET.index(digits[i]) if i < len(digits) else 31)
    if low >> 128:
        return None
    return low >> 80, (min(high, (1 << 128) - 1) >> 80) + 1


class Filters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which events or dead letters are meant; empty fields match everything.

    Attributes:
        ids: Our event ids; with these the other fields still narrow down.
        key: The provider's own id (exact) or our event id.
        source: Name of a source.
        destination: Name of a destination.
        state: pending, dying, delivered, dead, discarded or redirected.
        reason: rejected, attempts_exhausted or expired.
        contains: Text that the body contains.
        since: Received at or after.
        until: Received before.
    """

    ids: list[str] = []
    key: str = ""
    source: str = ""
    destination: str = ""
    state: str = ""
    reason: str = ""
    contains: str = ""
    since: str = ""
    until: str = ""

    @property
    def anything(self) -> bool:
        """Whether nothing is narrowed down."""
        return not any(
            (
                self.ids,
                self.key,
                self.source,
                self.destination,
                self.state,
                self.reason,
                self.contains,
                self.since,
                self.until,
            )
        )

    def check(self) -> None:
        """Refuse what cannot match.

        Raises:
            FilterError: With the field, what was got and what was expected.
        """
        if self.state and self.state not in STATES:
            raise FilterError(f'state: got "{self.state[:40]}"; expected one of {", ".join(STATES)}')
        if self.reason and self.reason not in set(DeadReason):
            raise FilterError(f'reason: got "{self.reason[:40]}"; expected one of {", ".join(DeadReason)}')
        if len(self.ids) > _MAX_IDS:
            raise FilterError(f"ids: got {len(self.ids)}; expected at most {_MAX_IDS} at once, or a filter")
        for event_id in self.ids:
            if parse_event_id(event_id) is None:
                raise FilterError(f'ids: got "{event_id[:40]}"; expected a whole event id, "wse_" and 26 characters')

    def query(self, now_ms: int, *, before_seq: int = 0, limit: int = 50, max_scan: int = 1_000_000) -> EventQuery:
        """Make what the journal is asked.

        Raises:
            FilterError: A field makes no sense.
        """
        self.check()
        return EventQuery(
            key=self.key,
            source=self.source,
            destination=self.destination,
            state=STATES.get(self.state),
            contains=self.contains.encode("utf-8", "surrogatepass"),
            since_ms=parse_when_ms(self.since, now_ms),
            until_ms=parse_when_ms(self.until, now_ms),
            reason=self.reason,
            before_seq=before_seq,
            limit=limit,
            max_scan=max_scan,
        )

    def takes(self, delivery: DeliveryView) -> bool:
        """Say whether one delivery of a matching event is meant."""
        return (
            (not self.destination or delivery.destination == self.destination)
            and (not self.state or delivery.state is STATES.get(self.state))
            and (not self.reason or delivery.reason == self.reason)
        )


class BulkRequest(Filters, kw_only=True, forbid_unknown_fields=True):
    """A command for many.

    Attributes:
        all: Must be true when nothing is narrowed down.
        to: Send it to this destination instead.
        rate: At most so many a second; 0 = as fast as it goes.
        max: At most so many; 0 = no limit.
        dry_run: Only count.
        edited: Dead letters only: take files whose mac does not agree, as unverified new events.
    """

    all: bool = False
    to: str = ""
    rate: float = 0.0
    max: int = 0
    dry_run: bool = False
    edited: bool = False

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            FilterError: With the field, what was got and what was expected.
        """
        super().check()
        if self.anything and not self.all:
            raise FilterError("nothing is narrowed down: give ids or a filter, or say all")
        if not 0 <= self.rate <= 100_000:
            raise FilterError("rate: expected 0 (no limit) to 100000 a second")
        if self.max < 0:
            raise FilterError("max: expected 0 (no limit) or more")


def filters_from(params: Mapping[str, str]) -> Filters:
    """Take the filters out of a query string's parameters; others are left alone."""
    known = {f: params[f] for f in Filters.__struct_fields__ if f != "ids" and f in params}
    filters = msgspec.convert(known, Filters)
    if params.get("ids"):
        filters.ids = params["ids"].split(",")
    filters.check()
    return filters
