"""Filters: what people write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.admin.filters import (
    BulkRequest,
    FilterError,
    Filters,
    filters_from,
    id_range_ms,
    parse_duration_s,
    parse_when_ms,
    rfc3339,
)
from sidecar.journal.types import DeliveryView
from sidecar.model import State, format_event_id

NOW_MS = 1_800_000_000_000
ID = format_event_id(NOW_MS, 7, 42)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("20s", 20), ("1.5m", 90), ("2h", 7200), ("3d", 259_200), ("1w", 604_800)]
)
def test_durations_are_a_number_and_a_unit(text, seconds):
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "20", "s", "-1s", "1_0s", "٣s", "nan s", "1e3s", "9999999999s"])
def test_anything_else_is_no_duration(text):
    with pytest.raises(FilterError, match="expected a number and a unit"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("", 0),
        ("2h", NOW_MS - 7_200_000),
        ("99999w", 1),
        ("2026-11-20", 1_795_132_800_000),
        ("2026-11-20T08:00:00Z", 1_795_161_600_000),
        ("2026-11-20T08:00:00.250+01:00", 1_795_158_000_250),
        ("1960-01-01", 1),
    ],
)
def test_a_time_is_rfc_3339_a_day_or_an_age(text, ms):
    assert parse_when_ms(text, NOW_MS) == ms


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "1800000000000000"])
def test_anything_else_is_no_time(text):
    with pytest.raises(FilterError, match="got the time"):
        parse_when_ms(text, NOW_MS)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, None),
        (0, None),
        (-5, None),
        (1 << 48, None),
        (1, "1970-01-01T00:00:00.001Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, None),
        (1_795_161_600_250, "2026-11-20T08:00:00.250Z"),
    ],
)
def test_what_no_calendar_has_is_not_written(ms, text):
    assert rfc3339(ms) == text


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 48) - 1), st.integers(0, 30))
def test_every_beginning_of_an_id_spans_the_time_of_that_id(ms, journal_id, seq, length):
    prefix = format_event_id(ms, journal_id, seq)[: 4 + length]
    span = id_range_ms(prefix)
    assert span is not None
    assert span[0] <= ms < span[1]


@pytest.mark.parametrize(
    ("prefix", "span"),
    [
        ("wse_", (0, 1 << 48)),
        ("wse_7", (7 << 45, 1 << 48)),
        ("wse_1", (1 << 45, 2 << 45)),
        (ID, (NOW_MS, NOW_MS + 1)),
        (ID[:-20], (NOW_MS >> 20 << 20, (NOW_MS >> 20 << 20) + (1 << 20))),
    ],
)
def test_the_span_of_a_beginning_is_no_wider_than_it_has_to_be(prefix, span):
    assert id_range_ms(prefix) == span


@pytest.mark.parametrize(
    "prefix", ["", "evt_1", "wse", "wse_u", "wse_I", "wse_~", "wse_0~", "wse_8", "wse_Z", "wse_" + "0" * 27]
)
def test_what_no_id_begins_with_spans_nothing(prefix):
    assert id_range_ms(prefix) is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"state": "lost"}, "state: "),
        ({"reason": "bored"}, "reason: "),
        ({"ids": ["wse_1"]}, "ids: "),
        ({"ids": [ID] * 5001}, "ids: "),
        ({"since": "soon"}, "time"),
    ],
)
def test_a_filter_that_cannot_match_is_refused(fields, why):
    with pytest.raises(FilterError, match=why):
        Filters(**fields).query(NOW_MS)


def test_filters_become_a_query():
    filters = Filters(
        key="k", source="s", destination="d", state="dead", reason="expired", contains="ö", since="1h", until="1m"
    )
    query = filters.query(NOW_MS, before_seq=9, limit=3, max_scan=4)
    assert (query.key, query.source, query.destination, query.state) == ("k", "s", "d", State.DEAD)
    assert (query.reason, query.contains) == ("expired", "ö".encode())
    assert (query.since_ms, query.until_ms) == (NOW_MS - 3_600_000, NOW_MS - 60_000)
    assert (query.before_seq, query.limit, query.max_scan) == (9, 3, 4)
    query = Filters(ids=[ID] * 5000, contains="\ud800").query(NOW_MS)
    assert (query.before_seq, query.limit, query.max_scan) == (0, 50, 1_000_000)
    assert query.contains == b"\xed\xa0\x80"


@pytest.mark.parametrize(
    ("fields", "takes"),
    [
        ({}, True),
        ({"destination": "app", "state": "dead", "reason": "expired"}, True),
        ({"destination": "other"}, False),
        ({"state": "pending"}, False),
        ({"reason": "rejected"}, False),
    ],
)
def test_a_delivery_is_meant_when_all_filters_agree(fields, takes):
    delivery = DeliveryView("app", State.DEAD, 0, 4, 0, None, "expired", ())
    assert Filters(**fields).takes(delivery) is takes


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rate": -1, "all": True},
        {"rate": 100_000.5, "all": True},
        {"max": -1, "all": True},
        {"state": "lost"},
        {"ids": ["wse_1"]},
    ],
)
def test_a_command_for_many_must_say_what_it_means(fields):
    with pytest.raises(FilterError):
        BulkRequest(**fields).check()


@pytest.mark.parametrize("fields", [{"all": True, "rate": 100_000}, {"ids": [ID]}, {"source": "s"}, {"since": "1h"}])
def test_a_command_for_many_may_be_narrow_or_say_all(fields):
    BulkRequest(**fields).check()


def test_filters_come_from_a_query_string_and_leave_others_alone():
    filters = filters_from({"source": "s", "ids": ID, "cursor": "9", "limit": "1"})
    assert (filters.source, filters.ids) == ("s", [ID])
    assert filters_from({}).anything
    assert filters_from({"ids": f"{ID},{ID}"}).ids == [ID, ID]
    for wrong in ({"state": "lost"}, {"ids": "wse_1"}):
        with pytest.raises(FilterError):
            filters_from(wrong)


def test_a_command_does_nothing_that_it_was_not_told_to():
    """No other destination, no limits, for real, and only letters as they were."""
    asked = BulkRequest()
    assert (asked.all, asked.to, asked.rate, asked.max, asked.dry_run, asked.edited) == (
        False,
        "",
        0.0,
        0,
        False,
        False,
    )
