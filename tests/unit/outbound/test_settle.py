"""What one try means for its delivery, by the contract's table."""

from __future__ import annotations

import itertools

import pytest

from sidecar.lifecycle import TABLE, Change
from sidecar.model import Attempt, DeadReason, Delivery, Event, Outcome, OutcomeKind, State
from sidecar.outbound.deliver import Result
from sidecar.outbound.retry import RetryPolicy, judge
from sidecar.outbound.settle import decide, expired, given_up

NOW = 1_000_000_000
POLICY = RetryPolicy(jitter=0.0)
EVENT = Event("s", ("d",), 0, b"POST", b"/", b"", [], b"")


def _delivery(attempts: int = 0, age_ms: int = 0, round_: int = 0) -> Delivery:
    return Delivery(EVENT, "d", attempts=attempts, started_at_ms=NOW - age_ms, round=round_)


def _decide(outcome: Outcome, attempts: int = 0, age_ms: int = 0, *, held: bool = False, policy: RetryPolicy = POLICY):
    return decide(_delivery(attempts, age_ms), outcome, policy, NOW, 0.5, held=held)


@pytest.mark.parametrize("held", [False, True])
def test_2xx_is_delivered(held):
    decision = _decide(judge(POLICY, Result(204)), held=held)
    assert (decision.change, decision.counts, decision.due_at_ms) == (Change.SUCCEED, True, 0)


def test_a_destination_is_not_held_unless_somebody_says_so():
    """A 503 speaks about the backend, and still uses an attempt."""
    assert decide(_delivery(), judge(POLICY, Result(503)), POLICY, NOW, 0.5).counts


@pytest.mark.parametrize("failure", ["connect", "tls", "interrupted"])
@pytest.mark.parametrize("attempts", [0, 3, 99])
def test_what_reached_nobody_uses_no_attempt(failure, attempts):
    decision = _decide(judge(POLICY, Result(failure=failure)), attempts)
    assert (decision.change, decision.counts) == (Change.PUT_OFF, False)


@pytest.mark.parametrize("status", [300, 301, 308, 400, 401, 403, 404, 410, 422, 451])
def test_what_is_refused_for_good_dies_at_once(status):
    decision = _decide(judge(POLICY, Result(status)))
    assert (decision.change, decision.counts, decision.reason) == (Change.GIVE_UP, True, DeadReason.REJECTED)


@pytest.mark.parametrize(
    "result",
    [Result(s) for s in (408, 409, 425, 429, 500, 502, 503, 504, 599, 700)]
    + [Result(failure=f) for f in ("timeout", "reset", "garbage")],
)
def test_a_failed_attempt_is_retried_by_the_schedule_and_dies_after_the_fourth(result):
    outcome = judge(POLICY, result)
    waits = []
    for attempts in range(3):
        decision = _decide(outcome, attempts)
        assert (decision.change, decision.counts) == (Change.RETRY, True)
        waits.append(decision.due_at_ms - NOW)
    assert waits == [1000, 2000, 4000]
    last = _decide(outcome, 3)
    assert (last.change, last.counts, last.reason) == (Change.GIVE_UP, True, DeadReason.ATTEMPTS_EXHAUSTED)


def test_retry_after_extends_the_wait_up_to_max_delay():
    outcome = judge(POLICY, Result(503, retry_after=b"60"))
    assert _decide(outcome).due_at_ms == NOW + 60_000
    assert _decide(judge(POLICY, Result(503, retry_after=b"9999999"))).due_at_ms == NOW + 3_600_000
    assert _decide(judge(POLICY, Result(503, retry_after=b"0"))).due_at_ms == NOW + 1000


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503, 504])
def test_while_held_what_speaks_about_the_backend_uses_no_attempt(status):
    decision = _decide(judge(POLICY, Result(status)), 3, held=True)
    assert (decision.change, decision.counts) == (Change.PUT_OFF, False)


@pytest.mark.parametrize("failure", ["timeout", "reset", "garbage"])
def test_while_held_a_broken_exchange_uses_no_attempt(failure):
    assert not _decide(judge(POLICY, Result(failure=failure)), held=True).counts


@pytest.mark.parametrize(("status", "change"), [(400, Change.GIVE_UP), (422, Change.GIVE_UP), (500, Change.RETRY)])
def test_while_held_what_speaks_about_the_event_counts_as_usual(status, change):
    decision = _decide(judge(POLICY, Result(status)), held=True)
    assert (decision.change, decision.counts) == (change, True)


def test_age_counts_on_the_journal_clock_from_acceptance_or_replay():
    policy = RetryPolicy(max_age_s=100)
    assert not expired(_delivery(age_ms=99_999), policy, NOW)
    assert expired(_delivery(age_ms=100_000), policy, NOW)
    assert not expired(_delivery(age_ms=-5000), policy, NOW)


def test_a_retry_that_would_be_too_late_is_given_up_now():
    policy = RetryPolicy(jitter=0.0, max_age_s=100)
    outcome = judge(policy, Result(500))
    assert _decide(outcome, age_ms=98_999, policy=policy).change is Change.RETRY
    late = _decide(outcome, age_ms=99_000, policy=policy)
    assert (late.change, late.counts, late.reason) == (Change.GIVE_UP, True, DeadReason.EXPIRED)


def test_every_decision_is_a_change_that_a_pending_delivery_can_make():
    """Exhaustive over kinds, statuses, attempts, age and hold."""
    kinds = [
        Outcome(kind, "x", status, "", retry_after, speaks)
        for kind, status, retry_after, speaks in itertools.product(
            OutcomeKind, (None, 200, 302, 404, 429, 500, 503), (None, 0.0, 1e12), (False, True)
        )
    ]
    for outcome, attempts, age_ms, held in itertools.product(
        kinds, (0, 1, 3, 4, 50), (0, 72 * 3_600_000 - 1, 72 * 3_600_000), (False, True)
    ):
        d = _decide(outcome, attempts, age_ms, held=held)
        assert (State.PENDING, d.change) in TABLE
        assert d.counts == (d.change is not Change.PUT_OFF)
        assert (d.due_at_ms > NOW) == (d.change is Change.RETRY)
        assert bool(d.reason) == (d.change is Change.GIVE_UP)
        assert d.due_at_ms <= NOW + 3_600_000


def test_a_given_up_delivery_has_its_last_attempt_and_the_claimed_one_stays_as_it_was():
    log = tuple(Attempt(n, 0, 1, "5xx", 500) for n in range(1, 33))
    claimed = Delivery(EVENT, "d", attempts=32, log=log, due_at_ms=5, round=2)
    dead = given_up(claimed, Attempt(33, 0, 1, "4xx", 404), "rejected")
    assert claimed.ref == (0, 2, 32)
    assert (claimed.state, len(claimed.log)) == (State.PENDING, 32)
    assert (dead.state, dead.attempts, dead.reason, dead.due_at_ms) == (State.DYING, 33, "rejected", 0)
    assert [a.number for a in dead.log] == list(range(2, 34))


def test_one_that_was_never_tried_has_no_attempt():
    dead = given_up(_delivery(), None, "expired")
    assert (dead.attempts, dead.log, dead.reason) == (0, (), "expired")
