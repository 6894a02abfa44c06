"""[P] What becomes of a delivery after one try: outcome and policy in, the lifecycle's change out.

The lane asks here, the journal applies. Whether a failure of a held destination counts at all is said here too, since
it is the same question: did this try use one of the delivery's attempts?
"""

from __future__ import annotations

import msgspec

from sidecar.lifecycle import Change
from sidecar.model import Attempt, DeadReason, Delivery, Outcome, OutcomeKind, State
from sidecar.outbound.retry import RetryPolicy, next_delay_s

__all__ = ["Decision", "decide", "expired", "given_up"]

_KEPT_ATTEMPTS = 32  # as many as the journal keeps of one delivery


class Decision(msgspec.Struct, frozen=True):
    """What is to be done.

    Attributes:
        change: SUCCEED, RETRY, GIVE_UP, or PUT_OFF: it stays pending as it is, and nothing is written.
        counts: Whether the try used up an attempt.
        due_at_ms: For RETRY, journal clock.
        reason: For GIVE_UP.
    """

    change: Change
    counts: bool
    due_at_ms: int = 0
    reason: str = ""


_LATER = Decision(Change.PUT_OFF, counts=False)


def expired(delivery: Delivery, policy: RetryPolicy, now_ms: int) -> bool:
    """Say whether a delivery is too old to be tried.

    Args:
        delivery: Its age counts from acceptance or from the last replay.
        policy: Of its destination.
        now_ms: Journal clock.
    """
    return now_ms - delivery.started_at_ms >= policy.max_age_s * 1000


def decide(
    delivery: Delivery, outcome: Outcome, policy: RetryPolicy, now_ms: int, rand: float, *, held: bool = False
) -> Decision:
    """Decide what one try means for its delivery.

    Args:
        delivery: As claimed; ``attempts`` are the ones before this.
        outcome: The judged result.
        policy: Of the destination.
        now_ms: Journal clock.
        rand: Uniform in [0, 1); the caller owns the generator.
        held: The destination was held when the answer came: what then speaks about the backend uses no attempt.

    Returns:
        PUT_OFF where no attempt was used; else the change that the journal is to make. A retry that would only be
        due when the delivery is too old is given up now, as expired.
    """
    kind = outcome.kind
    if kind is OutcomeKind.DELIVERED:
        return Decision(Change.SUCCEED, counts=True)
    if kind in (OutcomeKind.UNREACHABLE, OutcomeKind.INTERRUPTED) or (held and outcome.speaks_about_backend):
        return _LATER
    if kind is OutcomeKind.PERMANENT:
        return Decision(Change.GIVE_UP, counts=True, reason=DeadReason.REJECTED)
    delay_s = next_delay_s(policy, delivery.attempts + 1, rand, outcome.retry_after_s)
    if delay_s is None:
        return Decision(Change.GIVE_UP, counts=True, reason=DeadReason.ATTEMPTS_EXHAUSTED)
    due_at_ms = now_ms + round(delay_s * 1000)
    if expired(delivery, policy, due_at_ms):
        return Decision(Change.GIVE_UP, counts=True, reason=DeadReason.EXPIRED)
    return Decision(Change.RETRY, counts=True, due_at_ms=due_at_ms)


def given_up(delivery: Delivery, attempt: Attempt | None, reason: str) -> Delivery:
    """Make the delivery as the journal has it once GIVE_UP is committed: dying, with its last attempt.

    The claimed one stays as it is, because its round and attempts are the fence of the settlement under way.
    """
    return msgspec.structs.replace(
        delivery,
        state=State.DYING,
        attempts=delivery.attempts + (attempt is not None),
        reason=reason,
        log=delivery.log if attempt is None else (*delivery.log, attempt)[-_KEPT_ATTEMPTS:],
        due_at_ms=0,
    )
