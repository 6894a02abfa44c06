"""The nouns: closed vocabularies keep their stored numbers and words, ids go both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model import (
    ACK_DEFAULT,
    AckTemplate,
    Attempt,
    DeadReason,
    Delivery,
    Event,
    Outcome,
    OutcomeKind,
    Refusal,
    RejectReason,
    State,
    format_event_id,
    parse_event_id,
)


def test_state_numbers_are_the_stored_ones():
    """A number in a journal means the same for ever."""
    assert {s.name: int(s) for s in State} == {
        "ABSENT": 0,
        "PENDING": 1,
        "DYING": 2,
        "DELIVERED": 3,
        "DEAD": 4,
        "DISCARDED": 5,
        "REDIRECTED": 6,
    }


def test_only_pending_and_dying_are_owed():
    assert {s for s in State if s.is_open} == {State.PENDING, State.DYING}


def test_a_state_is_written_as_its_lower_case_name():
    assert [s.word for s in State] == [s.name.lower() for s in State]


@pytest.mark.parametrize(
    "words", [Refusal, RejectReason, DeadReason], ids=["refusals", "reject reasons", "dead reasons"]
)
def test_a_reason_is_one_word_for_label_field_and_code(words):
    for member in words:
        assert member.value == member.name.lower()


def test_outcome_kinds_are_distinct():
    assert len({int(k) for k in OutcomeKind}) == len(OutcomeKind.__members__) == 5


def test_an_outcome_says_nothing_that_was_not_found_out():
    made = Outcome(OutcomeKind.DELIVERED, "2xx")
    assert (made.status, made.error, made.retry_after_s, made.speaks_about_backend) == (None, "", None, False)


def test_the_default_ack_names_the_event():
    assert AckTemplate(200, "application/json", b'{"status":"accepted","id":"{id}"}', with_id=True) == ACK_DEFAULT
    assert not AckTemplate(200, "", b"{id}").with_id, "any other one is sent as it is"


def test_an_event_is_unverified_and_the_rest_of_it_empty_until_somebody_says_more():
    event = Event("s", ("d",), 1, b"POST", b"/", b"", [], b"")
    assert event.verified is False
    assert (event.key, event.replay_of, event.id) == ("", "", "")
    assert (event.forwarded_for, event.forwarded_proto, event.forwarded_host) == (b"", b"", b"")
    assert (event.accepted_at_ms, event.seq, event.block, event.forward_head) == (0, 0, 0, None)


def test_a_delivery_begins_pending_with_no_try_used():
    delivery = Delivery(Event("s", ("d",), 1, b"POST", b"/", b"", [], b""), "d")
    assert (delivery.state, delivery.round, delivery.attempts) == (State.PENDING, 0, 0)
    assert (delivery.started_at_ms, delivery.due_at_ms, delivery.reason, delivery.log) == (0, 0, "", ())
    attempt = Attempt(1, 0, 5, "timeout")
    assert (attempt.status, attempt.error, attempt.round) == (None, "", 0)


def test_a_claim_is_fenced_by_number_round_and_attempts():
    event = Event("s", ("d",), 1, b"POST", b"/", b"", [], b"", seq=7)
    delivery = Delivery(event, "d", round=2, attempts=3, log=(Attempt(1, 0, 5, "5xx", 500),))
    assert delivery.ref == (7, 2, 3)


def test_an_event_id_has_the_documented_form():
    """``wse_`` and 26 characters of Crockford base32, worked out by hand for known numbers."""
    assert format_event_id(0, 0, 0) == "wse_" + "0" * 26
    assert format_event_id(0, 0, 1) == "wse_" + "0" * 25 + "1"
    assert format_event_id(0, 0, 33) == "wse_" + "0" * 24 + "11"
    assert format_event_id(2**48 - 1, 2**32 - 1, 2**48 - 1) == "wse_7" + "Z" * 25


numbers = st.tuples(st.integers(0, 2**48 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**48 - 1))


@given(numbers)
def test_an_event_id_gives_its_numbers_back(parts):
    assert parse_event_id(format_event_id(*parts)) == parts


@given(numbers, numbers)
def test_event_ids_sort_by_time_journal_and_number(a, b):
    assert (format_event_id(*a) < format_event_id(*b)) == (a < b)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wse_",
        "wse_" + "0" * 25,
        "wse_" + "0" * 27,
        "evt_" + "0" * 26,
        "WSE_" + "0" * 26,
        "wse_" + "0" * 25 + "U",  # not in the alphabet
        "wse_" + "0" * 25 + "a",  # lower case is another spelling, not the same id
        "wse_" + "0" * 25 + "٣",
        "wse_8" + "0" * 25,  # more than 128 bits
    ],
)
def test_any_other_text_is_no_event_id(text):
    assert parse_event_id(text) is None


@given(st.text(max_size=40) | st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26).map("wse_".__add__))
def test_parsing_never_raises_and_accepts_one_spelling_only(text):
    parts = parse_event_id(text)
    assert parts is None or format_event_id(*parts) == text
