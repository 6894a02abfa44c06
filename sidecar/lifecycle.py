"""[P] Every change of a delivery's state, as one literal table.

The journal applies this table inside its transactions and nothing else changes a state; a pair that is
not here is refused. The diagram in ``docs/architecture.md`` is generated from it.
"""

from __future__ import annotations

import enum

from sidecar.model import State

__all__ = ["TABLE", "Change", "next_state"]


class Change(enum.StrEnum):
    """What can happen to a delivery."""

    SUCCEED = "succeed"  # the backend answered 2xx
    RETRY = "retry"  # an attempt failed, tries are left: pending again, later due
    PUT_OFF = "put_off"  # unreachable, held, shut down or paused: pending, no try used
    GIVE_UP = "give_up"  # rejected, or tries or age used up
    BURY = "bury"  # the dead-letter file is durable
    DISCARD = "discard"  # an operator drops it
    REDIRECT = "redirect"  # an operator sends it to another destination instead
    REMOVE = "remove"  # an operator removed the dead letter's file
    REPLAY = "replay"  # an operator wants it again: a new round
    REVIVE = "revive"  # the provider sent it again while it was dead: a new round


TABLE: dict[tuple[State, Change], State] = {
    (State.PENDING, Change.SUCCEED): State.DELIVERED,
    (State.PENDING, Change.RETRY): State.PENDING,
    (State.PENDING, Change.PUT_OFF): State.PENDING,
    (State.PENDING, Change.GIVE_UP): State.DYING,
    (State.PENDING, Change.DISCARD): State.DISCARDED,
    (State.PENDING, Change.REDIRECT): State.REDIRECTED,
    (State.DYING, Change.BURY): State.DEAD,
    (State.DEAD, Change.REMOVE): State.DISCARDED,
    (State.DEAD, Change.REPLAY): State.PENDING,
    (State.DEAD, Change.REVIVE): State.PENDING,
    (State.DELIVERED, Change.REPLAY): State.PENDING,
    (State.DISCARDED, Change.REPLAY): State.PENDING,
    (State.REDIRECTED, Change.REPLAY): State.PENDING,
    # A delivery that a replay or a redirect makes at a destination the event was never owed to.
    (State.ABSENT, Change.REPLAY): State.PENDING,
    (State.ABSENT, Change.REDIRECT): State.PENDING,
}


def next_state(state: State, change: Change) -> State | None:
    """Say where a change leads.

    Returns:
        The new state; None when this change is not allowed from this state (a stale settlement, or an
        operator's wish that no longer applies).
    """
    return TABLE.get((state, change))
