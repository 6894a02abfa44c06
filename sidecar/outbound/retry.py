"""[P] The schedule of a failed delivery, and what one try means for it.

``judge`` turns what a destination brought back into an outcome; ``next_delay_s`` says when to try again. Both are
functions of values: clock, randomness and the journal are the caller's.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

import msgspec

from sidecar.model import Outcome, OutcomeKind
from sidecar.outbound.deliver.kind import Result

__all__ = ["RETRY_ON", "RetryPolicy", "expand_statuses", "judge", "next_delay_s", "parse_retry_after"]

RETRY_ON = ("408", "409", "425", "429", "5xx")
"""The default of ``retry.on``: what a later try may well turn into a success."""

SPEAKS_ABOUT_BACKEND = frozenset({401, 403, 404, 429, 502, 503, 504})
"""Statuses that, given to different events in a row, tell of the backend and not of the events."""

_MAX_DELAY_DIGITS = 12  # more seconds than that are all the same: the caller clamps to max_delay
_HTTP_DATE = re.compile(
    rb"""
      (?: [A-Z][a-z]{2},\ (?P<d1>\d\d)\ (?P<m1>[A-Z][a-z]{2})\ (?P<y1>\d{4})\ (?P<t1>\d\d:\d\d:\d\d)\ GMT        # IMF-fixdate
        | [A-Z][a-z]{5,8},\ (?P<d2>\d\d)-(?P<m2>[A-Z][a-z]{2})-(?P<y2>\d\d)\ (?P<t2>\d\d:\d\d:\d\d)\ GMT         # RFC 850
        | [A-Z][a-z]{2}\ (?P<m3>[A-Z][a-z]{2})\ (?P<d3>[ \d]\d)\ (?P<t3>\d\d:\d\d:\d\d)\ (?P<y3>\d{4})           # asctime
      )""",
    re.VERBOSE,
)
_MONTHS = {name: n for n, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)}


def expand_statuses(words: Iterable[str]) -> frozenset[int]:
    """Turn ``["408", "5xx"]`` into the set of status codes meant.

    Raises:
        ValueError: a word is neither a status of 300 to 599 nor ``3xx``, ``4xx`` or ``5xx``. A 2xx cannot be
            retried: it is a success.
    """
    codes: set[int] = set()
    for word in words:
        if re.fullmatch(r"[345]xx", word):
            first = int(word[0]) * 100
            codes.update(range(first, first + 100))
        elif re.fullmatch(r"[345][0-9][0-9]", word):
            codes.add(int(word))
        else:
            raise ValueError(f'got "{word[:20]}"; expected a status from "300" to "599", or "3xx", "4xx", "5xx"')
    return frozenset(codes)


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When and how often one destination is tried again.

    Attributes:
        max_attempts: The first try and its retries together; at least 1.
        on: Status codes that are a failed attempt; any other that is not 2xx is a refusal for good.
        base_s: Wait after the first failure.
        factor: Growth of the wait with each further failure; at least 1.
        max_delay_s: No wait is longer, whatever the schedule or the backend says.
        jitter: Share of the wait, drawn evenly to either side; 0 to 1.
        max_age_s: From acceptance or the last replay; given up after this, whatever the count.
    """

    max_attempts: int = 4
    on: frozenset[int] = expand_statuses(RETRY_ON)
    base_s: float = 1.0
    factor: float = 2.0
    max_delay_s: float = 3600.0
    jitter: float = 0.1
    max_age_s: float = 72 * 3600.0


def next_delay_s(policy: RetryPolicy, attempt: int, rand: float, retry_after_s: float | None) -> float | None:
    """Say how long to wait before the next attempt.

    Args:
        policy: Growth and limits of one destination.
        attempt: Attempts made so far; 1 after the first failure.
        rand: Uniform in [0, 1); the caller owns the generator.
        retry_after_s: The backend's own wish, if it gave one. It only ever extends the wait.

    Returns:
        Seconds, at most ``policy.max_delay_s``; None when attempts are used up.

    Source: RFC 9110, 10.2.3 (Retry-After).
    """
    if attempt >= policy.max_attempts:
        return None
    try:
        delay = policy.base_s * policy.factor ** (attempt - 1)
    except OverflowError:
        delay = policy.max_delay_s
    delay *= 1 + policy.jitter * (2 * rand - 1)
    if retry_after_s is not None and retry_after_s > delay:
        delay = retry_after_s
    return min(delay, policy.max_delay_s)


def judge(policy: RetryPolicy, result: Result) -> Outcome:
    """Say what one try means for the delivery.

    Returns:
        Delivered for any 2xx; retryable for a status in ``policy.on`` and for what may have reached the backend
        (timeout, reset, an answer that is not HTTP); unreachable for what has not; permanent for the rest, 3xx
        included, since a redirect is never followed.

    Source: RFC 9110, 15 (a status outside 100 to 599 is treated as a server error).
    """
    status = result.status
    if status is not None:
        if 200 <= status < 300:
            return Outcome(OutcomeKind.DELIVERED, "2xx", status)
        counted = status if status < 600 else 500
        retryable = counted in policy.on
        return Outcome(
            OutcomeKind.RETRYABLE if retryable else OutcomeKind.PERMANENT,
            f"{counted // 100}xx",
            status,
            f"HTTP {status}",
            parse_retry_after(result.retry_after, result.started_at_ms + result.duration_ms) if retryable else None,
            status in SPEAKS_ABOUT_BACKEND,
        )
    failure = result.failure
    if failure == "interrupted":
        return Outcome(OutcomeKind.INTERRUPTED, "interrupted", error=result.error)
    if failure in ("connect", "tls"):
        return Outcome(OutcomeKind.UNREACHABLE, failure, error=result.error)
    label = "timeout" if failure == "timeout" else "reset"
    return Outcome(OutcomeKind.RETRYABLE, label, error=result.error, speaks_about_backend=True)


def parse_retry_after(value: bytes, now_ms: int) -> float | None:
    """Read a Retry-After header.

    Args:
        value: As received; seconds or an HTTP date in any of its three forms.
        now_ms: Wall clock, UTC, milliseconds, that a date is compared with.

    Returns:
        Seconds, 0 or more and without an upper bound of sense (the caller clamps): a negative number or a date in
        the past is 0. None for an empty header and for junk.

    Source: RFC 9110, 10.2.3 (Retry-After) and 5.6.7 (dates).
    """
    value = value.strip(b" \t")
    if value.isdigit():
        return float(value) if len(value) <= _MAX_DELAY_DIGITS else float(10**_MAX_DELAY_DIGITS)
    if value[:1] == b"-" and value[1:].isdigit():
        return 0.0
    found = _HTTP_DATE.fullmatch(value)
    if found is None:
        return None
    form = next(n for n in "123" if found["d" + n] is not None)
    month = _MONTHS.get(found["m" + form])
    if month is None:
        return None
    year = int(found["y" + form])
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    if form == "2":
        # Two digits mean a year that is at most 50 ahead (RFC 9110, 5.6.7).
        year += now.year // 100 * 100
        if year > now.year + 50:
            year -= 100
        elif year <= now.year - 50:
            year += 100
    hour, minute, second = (int(part) for part in found["t" + form].split(b":"))
    try:
        # A leap second (60) is allowed by the grammar and unknown to datetime.
        then = dt.datetime(year, month, int(found["d" + form]), hour, minute, min(second, 59), tzinfo=dt.UTC)
    except ValueError:
        return None
    return max((then - now).total_seconds(), 0.0)
