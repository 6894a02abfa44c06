"""Timestamps have exact forms; what Python would take beyond them is refused."""

import datetime as dt
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.options import TimestampOptions
from sidecar.inbound.verify.request import Rejected
from sidecar.inbound.verify.timestamp import AgeLimit, format_timestamp, parse_timestamp
from sidecar.model import RejectReason

UNITS = ["s", "ms", "rfc3339", "http-date"]


@pytest.mark.parametrize(
    ("text", "unit", "at_ms"),
    [
        (b"1700000000", "s", 1_700_000_000_000),
        (b"0", "s", 0),
        (b"999999999999", "s", 999_999_999_999_000),
        (b"1700000000123", "ms", 1_700_000_000_123),
        (b"2023-11-14T22:13:20Z", "rfc3339", 1_700_000_000_000),
        (b"2023-11-14t22:13:20z", "rfc3339", 1_700_000_000_000),
        (b"2023-11-14T22:13:20.123456789Z", "rfc3339", 1_700_000_000_123),
        (b"2023-11-14T22:13:20.5Z", "rfc3339", 1_700_000_000_500),
        (b"2023-11-14T15:13:20-07:00", "rfc3339", 1_700_000_000_000),
        (b"2023-11-15T03:43:20.25+05:30", "rfc3339", 1_700_000_000_250),
        (b"Tue, 14 Nov 2023 22:13:20 GMT", "http-date", 1_700_000_000_000),
    ],
)
def test_each_form_is_read(text, unit, at_ms):
    """To the millisecond, fractions cut."""
    assert parse_timestamp(text, unit) == at_ms


BAD = [b"", b" 1700000000", b"1700000000 ", b"1700000000\n", b"1_700_000_000", b"+1700000000", b"-1", b"1e9", b"nan"]
BAD += [b"inf", b"0x1", b"1.5", "١٧٠٠٠٠٠٠٠٠".encode(), "１７".encode(), b"\xff", b"1" * 5000, b"\x00"]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("text", BAD)
def test_what_is_not_exactly_of_the_form_is_refused(text, unit):
    """Among it everything that ``int`` and ``float`` would take."""
    assert parse_timestamp(text, unit) is None


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        (b"1700000000000", "s"),
        (b"1" * 16, "ms"),
        (b"2023-02-30T00:00:00Z", "rfc3339"),
        (b"2023-11-14T24:00:00Z", "rfc3339"),
        (b"0000-01-01T00:00:00Z", "rfc3339"),
        (b"2023-11-14 22:13:20Z", "rfc3339"),
        (b"2023-11-14T22:13:20", "rfc3339"),
        (b"2023-11-14T22:13:20.Z", "rfc3339"),
        (b"2023-11-14T22:13:20.1234567890Z", "rfc3339"),
        (b"2023-11-14T22:13:20Z\n", "rfc3339"),
        (b"Tue, 31 Feb 2023 22:13:20 GMT", "http-date"),
        (b"Tue, 14 nov 2023 22:13:20 GMT", "http-date"),
        (b"Tuesday, 14-Nov-23 22:13:20 GMT", "http-date"),
        (b"Tue, 14 Nov 2023 22:13:20 CET", "http-date"),
    ],
)
def test_dates_that_do_not_exist_and_other_units_are_refused(text, unit):
    """Milliseconds where seconds are due have too many digits."""
    assert parse_timestamp(text, unit) is None


@pytest.mark.parametrize("unit", UNITS)
@given(st.integers(0, 4_000_000_000_000))
def test_what_is_written_is_read_again(unit, now_ms):
    """To the precision of the form."""
    precision = 1 if unit in ("ms", "rfc3339") else 1000
    assert parse_timestamp(format_timestamp(now_ms, unit), unit) == now_ms - now_ms % precision


EARLIEST, LATEST = dt.datetime.fromisoformat("1970-01-01"), dt.datetime.fromisoformat("9999-12-31")


@given(st.datetimes(EARLIEST, LATEST), st.integers(-1439, 1439))
def test_rfc_3339_agrees_with_the_standard_library(when, offset):
    """For any moment and offset."""
    zone = dt.timezone(dt.timedelta(minutes=offset))
    when = when.replace(tzinfo=zone)
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert parse_timestamp(when.isoformat().encode(), "rfc3339") == (when - epoch) // dt.timedelta(milliseconds=1)


@given(st.binary(max_size=40), st.sampled_from(UNITS))
def test_arbitrary_bytes_never_raise(text, unit):
    """None or a number."""
    assert isinstance(parse_timestamp(text, unit), (int, type(None)))


def judged(options, age_ms):
    verdict = AgeLimit(TimestampOptions(header="T", unit="ms", **options)).check(
        b"1700000000000", 1_700_000_000_000 + age_ms
    )
    return verdict.reason if isinstance(verdict, Rejected) else None


def test_the_tolerance_itself_is_inside():
    """On both sides; a millisecond more is not."""
    assert judged({}, 300_000) is None
    assert judged({}, 300_001) is RejectReason.STALE_TIMESTAMP
    assert judged({}, -300_000) is None
    assert judged({}, -300_001) is RejectReason.FUTURE_TIMESTAMP


def test_the_future_can_have_a_limit_of_its_own_or_none():
    """Zero means none into the future; past_only never refuses it."""
    assert judged({"future": 0.0}, -1) is RejectReason.FUTURE_TIMESTAMP
    assert judged({"tolerance": 10.0, "future": 60.0}, -60_000) is None
    assert judged({"past_only": True}, -(10**12)) is None
    assert judged({"past_only": True}, 300_001) is RejectReason.STALE_TIMESTAMP


def test_a_refusal_says_by_how_much():
    """In seconds, for the log; a malformed one says nothing of its value."""
    limit = AgeLimit(TimestampOptions(header="T"))
    assert limit.check(b"100", 1_000_000) == Rejected(RejectReason.STALE_TIMESTAMP, "900 s old, at most 300 s")
    assert limit.check(b"1900", 1_000_000) == Rejected(RejectReason.FUTURE_TIMESTAMP, "900 s ahead, at most 300 s")
    assert limit.check(b"nan", 1_000_000) == Rejected(RejectReason.MALFORMED_TIMESTAMP)


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        (b"1700000000", 1_700_000_000_000),
        (b"17000000000", 17_000_000_000_000),
        (b"1700000000123", 1_700_000_000_123),
        (b"170000000012", 170_000_000_012),
        (b"-1", None),
        (b"", None),
        (b"1e9", None),
        (b"1" * 16, None),
    ],
)
def test_unix_is_seconds_or_milliseconds_by_its_length(text, at_ms):
    """Some providers send either; we write seconds."""
    assert parse_timestamp(text, "unix") == at_ms
    assert format_timestamp(1_700_000_000_123, "unix") == b"1700000000"


@pytest.mark.parametrize("day", range(0, 366, 5))
def test_every_month_and_day_of_the_week_is_written_as_the_standard_library_does(day):
    """And read again."""
    when = dt.datetime(2024, 1, 1, 22, 13, 20, tzinfo=dt.UTC) + dt.timedelta(days=day)
    now_ms = int(when.timestamp()) * 1000
    text = format_datetime(when, usegmt=True).encode()
    assert format_timestamp(now_ms, "http-date") == text
    assert parse_timestamp(text, "http-date") == now_ms


def test_rfc_3339_is_written_in_utc_with_milliseconds():
    assert format_timestamp(1_700_000_000_123, "rfc3339") == b"2023-11-14T22:13:20.123Z"
