"""Durations and sizes: one number, one unit, no guessing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.units import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10.0), ("250ms", 0.25), ("72h", 259200.0), ("1.5s", 1.5), ("2m", 120.0), ("1d", 86400.0), ("0s", 0.0)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert re.search(DURATION_PATTERN, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "s",
        "xs",
        "5h,",
        "10 s",
        "-1s",
        "+1s",
        "1h30m",
        "1e3s",
        "1_0s",
        "١s",
        "nans",
        "1.s",
        "10S",
        "1" * 13 + "s",
    ],
)
def test_anything_else_is_not_a_duration(text: str) -> None:
    assert parse_duration(text) is None
    assert not re.search(DURATION_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("7B", 7),
        ("1kB", 1000),
        ("1MB", 1_000_000),
        ("2GB", 2 * 10**9),
        ("3TB", 3 * 10**12),
        ("64KiB", 65536),
        ("1MiB", 1 << 20),
        ("1GiB", 1 << 30),
        ("8TiB", 8 << 40),
    ],
)
def test_a_size_is_a_whole_number_and_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert re.search(SIZE_PATTERN, text)


@pytest.mark.parametrize("text", ["", "1", "1.5MiB", "-1B", "1 MiB", "1mib", "1_0B", "١B"])
def test_anything_else_is_not_a_size(text: str) -> None:
    assert parse_size(text) is None


def test_a_size_that_overflows_64_bits_is_not_a_size() -> None:
    assert parse_size("18014398509481984KiB") is None
    assert parse_size("9223372036854775807B") == 2**63 - 1
    assert parse_size("9223372036854775808B") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7200, "2h"), (90, "90s"), (0.25, "250ms"), (0, "0s"), (1.5, "1500ms"), (60, "1m"), (86400, "24h")],
)
def test_durations_are_written_in_the_largest_whole_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(1 << 20, "1MiB"), (1536, "1536B"), (0, "0B"), (3 << 30, "3GiB")])
def test_sizes_are_written_in_the_largest_whole_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 10**9))
def test_what_is_written_reads_back(number: int) -> None:
    assert parse_duration(format_duration(number / 1000)) == number / 1000
    assert parse_size(format_size(number)) == number


@given(st.text(max_size=12) | st.from_regex(DURATION_PATTERN) | st.from_regex(SIZE_PATTERN))
def test_the_published_patterns_say_what_the_parsers_take(text: str) -> None:
    """The JSON Schema's patterns and the parsers agree, but for sizes that overflow."""
    body = text.rstrip("\n")  # Python's $ matches before a last line end, a schema's does not
    assert (parse_duration(body) is not None) == bool(re.search(DURATION_PATTERN, body))
    if parse_size(body) is not None:
        assert re.search(SIZE_PATTERN, body)
