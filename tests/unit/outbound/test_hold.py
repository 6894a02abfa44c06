"""A destination is left alone when it is away, probed with growing waits, and trusted again step by step."""

from __future__ import annotations

import pytest

from sidecar.model import Outcome, OutcomeKind
from sidecar.outbound.hold import Hold, Turn

GOOD = Outcome(OutcomeKind.DELIVERED, "2xx", 200)
AWAY = Outcome(OutcomeKind.UNREACHABLE, "connect", error="connection refused")
BUSY = Outcome(OutcomeKind.RETRYABLE, "5xx", 503, "HTTP 503", None, speaks_about_backend=True)
BROKEN = Outcome(OutcomeKind.RETRYABLE, "5xx", 500, "HTTP 500")
UNWANTED = Outcome(OutcomeKind.PERMANENT, "4xx", 422, "HTTP 422")
STOPPED = Outcome(OutcomeKind.INTERRUPTED, "interrupted")


def _hold(after: int = 3, concurrency: int = 8) -> Hold:
    return Hold(after, concurrency, 3600.0)


def _note(hold: Hold, outcome: Outcome, seq: int = 1, now: float = 0.0, rand: float = 0.0, probe: bool | None = None):
    return hold.note(seq, outcome, now, rand, probe=hold.held if probe is None else probe)


def test_an_open_destination_may_use_its_whole_concurrency():
    assert _hold(concurrency=8).limit(0) == 8
    assert _hold().opens_at_s() == 0


def test_where_failures_never_hold_they_are_not_remembered():
    """A backend that times out for days would fill the memory with the numbers of events."""
    hold = _hold(0)
    for seq in range(1000):
        assert _note(hold, BUSY, seq) is Turn.NONE
    assert not hold._failed


@pytest.mark.parametrize("after", [0, 1, 20])
def test_unreachable_holds_at_once_whatever_hold_after_says(after):
    hold = _hold(after)
    assert _note(hold, AWAY, now=5) is Turn.BEGUN
    assert (hold.held, hold.held_since_s, hold.last_error) == (True, 5, "connection refused")
    assert hold.limit(5.9) == 0
    assert hold.limit(6.0) == 1
    assert hold.opens_at_s() == 6.0


def test_so_many_failures_in_a_row_of_different_events_hold():
    hold = _hold(3)
    assert [_note(hold, BUSY, seq) for seq in (1, 2)] == [Turn.NONE] * 2
    assert _note(hold, BUSY, 3) is Turn.BEGUN


def test_one_event_that_fails_again_and_again_counts_once():
    hold = _hold(3)
    assert [_note(hold, BUSY, 1) for _ in range(50)] == [Turn.NONE] * 50


@pytest.mark.parametrize("between", [GOOD, BROKEN, UNWANTED])
def test_any_other_answer_ends_the_row(between):
    hold = _hold(3)
    for outcome in (BUSY, BUSY, between):
        _note(hold, outcome, id(outcome))
    assert [_note(hold, BUSY, seq) for seq in (1, 2)] == [Turn.NONE] * 2
    assert _note(hold, BUSY, 3) is Turn.BEGUN


def test_an_interrupted_try_says_nothing():
    hold = _hold(2)
    _note(hold, BUSY, 1)
    assert _note(hold, STOPPED, 2) is Turn.NONE
    assert _note(hold, BUSY, 3) is Turn.BEGUN


@pytest.mark.parametrize("answer", [BROKEN, UNWANTED])
def test_a_probes_answer_about_the_event_replaces_what_was_said_before(answer):
    """Else a backend that answers again would still be shown as refusing connections."""
    hold = _hold()
    _note(hold, AWAY)
    _note(hold, answer, probe=False)  # it began before the hold: older than what is shown
    assert hold.last_error == "connection refused"
    _note(hold, answer, now=1.0)
    assert (hold.held, hold.last_error) == (True, answer.error)


def test_zero_never_holds_for_answers():
    hold = _hold(0)
    assert {_note(hold, BUSY, seq) for seq in range(1000)} == {Turn.NONE}


def test_waits_double_up_to_thirty_seconds_and_chance_only_shortens_them():
    for rand, share in ((0.0, 1.0), (0.999, 0.9001)):
        hold = _hold()
        now, waits = 0.0, []
        _note(hold, AWAY, now=now, rand=rand)
        for _ in range(8):
            waits.append(round((hold.next_probe_s - now) / share, 3))
            now = hold.next_probe_s
            assert _note(hold, AWAY, now=now, rand=rand) is Turn.NONE
        assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_only_probes_move_the_next_probe():
    hold = _hold()
    _note(hold, AWAY, now=0)
    _note(hold, AWAY, 2, now=0.5, probe=False)
    _note(hold, UNWANTED, 3, now=0.5, probe=False)
    assert hold.next_probe_s == 1.0


@pytest.mark.parametrize("outcome", [BROKEN, UNWANTED])
def test_an_answer_about_the_event_lets_the_next_probe_follow_at_once(outcome):
    hold = _hold()
    _note(hold, AWAY, now=0)
    assert _note(hold, outcome, now=1.0) is Turn.NONE
    assert hold.held
    assert hold.limit(1.0) == 1


def test_the_first_success_ends_it_and_trust_doubles_from_one():
    hold = _hold(concurrency=6)
    _note(hold, AWAY)
    assert _note(hold, GOOD) is Turn.ENDED
    limits = [hold.limit(0)]
    for _ in range(4):
        assert _note(hold, GOOD) is Turn.NONE
        limits.append(hold.limit(0))
    assert limits == [1, 2, 4, 6, 6]


def test_a_new_hold_begins_with_the_first_wait_again():
    hold = _hold()
    for now in (0, 10, 20):
        _note(hold, AWAY, now=now)
    _note(hold, GOOD, now=30)
    assert _note(hold, AWAY, now=40) is Turn.BEGUN
    assert hold.next_probe_s == 41


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_pauses_everything_up_to_the_longest_wait(status):
    hold = Hold(20, 8, 60.0)
    outcome = Outcome(OutcomeKind.RETRYABLE, "x", status, "", 30.0, speaks_about_backend=True)
    _note(hold, outcome, now=100)
    assert hold.limit(129.9) == 0
    assert hold.opens_at_s() == 130
    assert hold.limit(130) == 8
    _note(hold, Outcome(OutcomeKind.RETRYABLE, "x", status, "", 5.0, speaks_about_backend=True), now=101)
    assert hold.paused_until_s == 130  # a shorter wish does not shorten it
    _note(hold, Outcome(OutcomeKind.RETRYABLE, "x", status, "", 9e9, speaks_about_backend=True), now=200)
    assert hold.paused_until_s == 260


def test_retry_after_on_another_status_concerns_the_event_only():
    hold = _hold()
    _note(hold, Outcome(OutcomeKind.RETRYABLE, "5xx", 500, "", 30.0))
    assert hold.limit(0) == 8


def test_a_pause_delays_probes_too():
    hold = _hold()
    _note(hold, AWAY, now=0)
    _note(hold, Outcome(OutcomeKind.RETRYABLE, "5xx", 503, "", 50.0, speaks_about_backend=True), now=1)
    assert hold.limit(40) == 0
    assert hold.opens_at_s() == 51


def test_changed_settings_apply_at_once_and_keep_a_hold():
    hold = _hold(20, 8)
    hold.configure(2, 16, 3600)
    assert hold.limit(0) == 16
    hold.configure(2, 4, 3600)
    assert hold.limit(0) == 4
    _note(hold, AWAY)
    hold.configure(2, 32, 3600)
    assert hold.held
    _note(hold, GOOD)
    hold.configure(2, 64, 3600)
    assert hold.limit(0) == 1  # still being careful


def test_one_that_was_never_held_has_nothing_to_tell():
    hold = _hold()
    assert (hold.held, hold.held_since_s, hold.last_error) == (False, 0.0, "")
    assert (hold.next_probe_s, hold.paused_until_s) == (0.0, 0.0)


def test_what_an_outcome_changes_is_told_apart():
    assert len(set(Turn)) == 3


def test_a_changed_threshold_and_a_changed_longest_pause_apply_at_once():
    hold = _hold(20, 8)
    hold.configure(1, 8, 60.0)
    assert _note(hold, Outcome(OutcomeKind.RETRYABLE, "5xx", 503, "", 9e9, True), now=100) is Turn.BEGUN
    assert hold.paused_until_s == 160


def test_trust_grows_up_to_the_changed_concurrency():
    hold = _hold(20, 8)
    hold.configure(20, 3, 3600)
    _note(hold, AWAY)
    for _ in range(5):
        _note(hold, GOOD)
    assert hold.limit(0) == 3


def test_an_answer_about_the_event_moves_a_probe_that_was_far_away():
    """Two tries began as probes: one finds nobody, the other is answered later."""
    hold = _hold()
    _note(hold, AWAY, now=0)
    _note(hold, AWAY, now=1.0)
    assert hold.next_probe_s == 3.0
    _note(hold, UNWANTED, 2, now=1.5)
    assert hold.limit(1.5) == 1


def test_one_failure_holds_where_one_is_enough():
    assert _note(_hold(1), BUSY) is Turn.BEGUN
