"""The schedule of retries, and what each result of a try is judged to be."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model import OutcomeKind
from sidecar.outbound.deliver.kind import Failure, Result
from sidecar.outbound.retry import RETRY_ON, RetryPolicy, expand_statuses, judge, next_delay_s, parse_retry_after

NOW_MS = 784_111_777_000  # Sun, 06 Nov 1994 08:49:37 GMT


def test_the_default_schedule_tries_at_0_1_3_and_7_seconds() -> None:
    """Without jitter the waits are 1, 2 and 4 s, and the fourth failure is the last."""
    policy = RetryPolicy(jitter=0)
    assert [next_delay_s(policy, n, 0.5, None) for n in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, None, None]


def test_jitter_is_drawn_evenly_to_either_side() -> None:
    """A tenth: from 0.9 to 1.1 of the wait, its middle unchanged."""
    waits = [next_delay_s(RetryPolicy(), 1, rand, None) for rand in (0.0, 0.5, 1.0)]
    assert waits == pytest.approx([0.9, 1.0, 1.1])


def test_a_single_attempt_has_no_retry() -> None:
    """max_attempts counts the first try, too."""
    assert next_delay_s(RetryPolicy(max_attempts=1), 1, 0.5, 9.0) is None


def test_retry_after_only_ever_extends_the_wait() -> None:
    """A shorter wish changes nothing, a longer one counts, and no wish is above max_delay."""
    policy = RetryPolicy(jitter=0, base_s=4.0, max_delay_s=60.0)
    assert [next_delay_s(policy, 1, 0.5, wish) for wish in (0.0, 3.9, 30.0, 1e12)] == [4.0, 4.0, 30.0, 60.0]


def test_growth_beyond_any_number_is_max_delay() -> None:
    """A thousand doublings of a large factor overflow a float; the wait is max_delay."""
    policy = RetryPolicy(jitter=0, factor=1e6, max_attempts=10_000, max_delay_s=60.0)
    assert next_delay_s(policy, 9_999, 0.5, None) == 60.0


@given(
    st.integers(1, 50),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0, 1e12),
    st.floats(0, 1),
    st.floats(1, 100),
)
def test_a_wait_is_within_its_bounds(
    attempt: int, rand: float, wish: float | None, jitter: float, factor: float
) -> None:
    """Never negative, never above max_delay, never shorter than the backend asked unless capped."""
    policy = RetryPolicy(max_attempts=40, jitter=jitter, factor=factor, max_delay_s=600.0)
    delay = next_delay_s(policy, attempt, rand, wish)
    assert (delay is None) == (attempt >= 40)
    if delay is not None:
        assert 0 <= delay <= 600.0
        assert delay >= min(wish or 0.0, 600.0)


def test_the_schedule_without_any_setting() -> None:
    """As the reference of the configuration has it."""
    assert RetryPolicy() == RetryPolicy(
        max_attempts=4, on=expand_statuses(RETRY_ON), base_s=1.0, factor=2.0, max_delay_s=3_600.0, jitter=0.1,
        max_age_s=259_200.0,
    )  # fmt: skip


# --- which statuses --------------------------------------------------------------------------------


def test_statuses_are_expanded() -> None:
    """Single codes and whole hundreds."""
    assert expand_statuses(["408", "5xx"]) == {408, *range(500, 600)}
    assert expand_statuses([]) == frozenset()
    assert RetryPolicy().on == expand_statuses(RETRY_ON)


@pytest.mark.parametrize(
    "word", ["200", "2xx", "1xx", "600", "6xx", "5XX", "50", "5000", "", "４08", "4xx ", "-500", "5xx\n"]
)
def test_what_is_not_a_retryable_status_is_refused(word: str) -> None:
    """A success cannot be retried, and a typing error is not guessed at."""
    with pytest.raises(ValueError, match="expected a status from"):
        expand_statuses([word])


# --- judgement -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "label", "speaks"),
    [
        (200, OutcomeKind.DELIVERED, "2xx", False),
        (299, OutcomeKind.DELIVERED, "2xx", False),
        (300, OutcomeKind.PERMANENT, "3xx", False),
        (308, OutcomeKind.PERMANENT, "3xx", False),
        (400, OutcomeKind.PERMANENT, "4xx", False),
        (401, OutcomeKind.PERMANENT, "4xx", True),
        (403, OutcomeKind.PERMANENT, "4xx", True),
        (404, OutcomeKind.PERMANENT, "4xx", True),
        (410, OutcomeKind.PERMANENT, "4xx", False),
        (422, OutcomeKind.PERMANENT, "4xx", False),
        (408, OutcomeKind.RETRYABLE, "4xx", False),
        (409, OutcomeKind.RETRYABLE, "4xx", False),
        (425, OutcomeKind.RETRYABLE, "4xx", False),
        (429, OutcomeKind.RETRYABLE, "4xx", True),
        (500, OutcomeKind.RETRYABLE, "5xx", False),
        (502, OutcomeKind.RETRYABLE, "5xx", True),
        (503, OutcomeKind.RETRYABLE, "5xx", True),
        (504, OutcomeKind.RETRYABLE, "5xx", True),
        (599, OutcomeKind.RETRYABLE, "5xx", False),
        (600, OutcomeKind.RETRYABLE, "5xx", False),
        (999, OutcomeKind.RETRYABLE, "5xx", False),
    ],
)
def test_a_status_is_judged(status: int, kind: OutcomeKind, label: str, speaks: bool) -> None:
    """What each status means by default; 600 and up is a server error like 500."""
    outcome = judge(RetryPolicy(), Result(status))
    assert (outcome.kind, outcome.label, outcome.status, outcome.speaks_about_backend) == (kind, label, status, speaks)
    assert outcome.error == ("" if kind is OutcomeKind.DELIVERED else f"HTTP {status}")


@pytest.mark.parametrize(
    ("failure", "kind", "label", "speaks"),
    [
        ("connect", OutcomeKind.UNREACHABLE, "connect", False),
        ("tls", OutcomeKind.UNREACHABLE, "tls", False),
        ("timeout", OutcomeKind.RETRYABLE, "timeout", True),
        ("reset", OutcomeKind.RETRYABLE, "reset", True),
        ("garbage", OutcomeKind.RETRYABLE, "reset", True),
        ("interrupted", OutcomeKind.INTERRUPTED, "interrupted", False),
    ],
)
def test_a_failure_is_judged(failure: Failure, kind: OutcomeKind, label: str, speaks: bool) -> None:
    """What never reached the backend uses no attempt; what may have is a failed one."""
    outcome = judge(RetryPolicy(), Result(None, failure, "why"))
    assert (outcome.kind, outcome.label, outcome.speaks_about_backend) == (kind, label, speaks)
    assert (outcome.status, outcome.error, outcome.retry_after_s) == (None, "why", None)


def test_the_policy_says_which_statuses_are_retried() -> None:
    """A narrower list makes a 503 final; a 600 follows the 500 of the list."""
    policy = RetryPolicy(on=frozenset({404}))
    assert judge(policy, Result(503)).kind is OutcomeKind.PERMANENT
    assert judge(policy, Result(404)).kind is OutcomeKind.RETRYABLE
    assert judge(policy, Result(600)).kind is OutcomeKind.PERMANENT
    assert judge(RetryPolicy(on=frozenset({500})), Result(600)).kind is OutcomeKind.RETRYABLE


def test_retry_after_is_read_for_what_is_retried_only() -> None:
    """A date counts from the end of the try; a final refusal asks for nothing."""
    date = b"Sun, 06 Nov 1994 08:49:47 GMT"
    outcome = judge(RetryPolicy(), Result(503, retry_after=date, started_at_ms=NOW_MS, duration_ms=2_000))
    assert outcome.retry_after_s == 8.0
    assert judge(RetryPolicy(), Result(404, retry_after=b"7")).retry_after_s is None
    assert judge(RetryPolicy(), Result(200, retry_after=b"7")).retry_after_s is None


# --- Retry-After -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b" \t7 ", 7.0),
        (b"1000000000", 1e9),
        (b"9" * 12, 999_999_999_999.0),
        (b"9" * 13, 1e12),
        (b"9" * 400, 1e12),
        (b"-1", 0.0),
        (b"Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        (b"Sun, 06 Nov 1994 08:49:27 GMT", 0.0),
        (b"Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        (b"Sunday, 06-Nov-93 08:49:47 GMT", 0.0),
        (b"Friday, 06-Nov-44 08:49:37 GMT", 1_577_923_200.0),  # 50 years ahead: still the future
        (b"Sunday, 06-Nov-45 08:49:37 GMT", 0.0),  # 51 years ahead: 1945
        (b"Sun Nov  6 08:49:47 1994", 10.0),
        (b"Sun Nov 16 08:49:37 1994", 864_000.0),
        (b"Tue, 06 Dec 1994 08:49:37 GMT", 2_592_000.0),
        (b"Sun, 06 Nov 1994 08:49:60 GMT", 22.0),  # a leap second
    ],
)
def test_retry_after_is_read(value: bytes, seconds: float) -> None:
    """Seconds, or a date in any of the three forms; never negative."""
    assert parse_retry_after(value, NOW_MS) == seconds


@pytest.mark.parametrize(
    ("now_year", "digits", "years_ahead"),
    [(2005, 5, 0), (2005, 55, 50), (2070, 5, 35), (2070, 71, 1), (2026, 94, 0), (2026, 76, 50), (2026, 77, 0)],
)
def test_a_year_of_two_digits_is_at_most_50_ahead(now_year: int, digits: int, years_ahead: int) -> None:
    """In 2070, 05 is 2105; in 2026, 76 is 2076 and 77 is 1977, long past."""
    now_ms = int(dt.datetime(now_year, 1, 1, tzinfo=dt.UTC).timestamp()) * 1000
    seconds = parse_retry_after(b"Monday, 01-Jan-%02d 00:00:00 GMT" % digits, now_ms)
    assert seconds == pytest.approx(years_ahead * 365.25 * 86_400, rel=0.01)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"soon",
        b"7~",
        b"1e9",
        b"1.5",
        b"1_000",
        b"+5",
        b"-",
        b"--1",
        "١٢".encode(),
        b"\xff",
        b"Sun, 06 Nov 1994 08:49:47 PST",
        b"Sun, 06 Foo 1994 08:49:47 GMT",
        b"Sun, 31 Feb 1994 08:49:47 GMT",
        b"Sun, 06 Nov 1994 25:49:47 GMT",
        b"Sun, 06 Nov 0000 08:49:47 GMT",
        b"Sun, 06 Nov 1994 08:49:47 GMT, 5",
    ],
)
def test_junk_in_retry_after_is_ignored(value: bytes) -> None:
    """What is neither is as good as nothing."""
    assert parse_retry_after(value, NOW_MS) is None


@given(st.binary(max_size=60), st.integers(0, 4_102_444_800_000))
def test_retry_after_never_raises_and_is_never_negative(value: bytes, now_ms: int) -> None:
    """Any bytes from a backend: seconds of 0 or more, or nothing."""
    seconds = parse_retry_after(value, now_ms)
    assert seconds is None or 0 <= seconds <= 1e12
