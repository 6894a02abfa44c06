"""The state table, pair by pair: what is written here is the whole truth, the rest is refused."""

from __future__ import annotations

import itertools

import pytest

from sidecar.lifecycle import TABLE, Change, next_state
from sidecar.model import State

S, C = State, Change

#: For each state, every change that may happen to it. Written apart from the table on purpose.
ALLOWED = {
    S.ABSENT: {C.REPLAY: S.PENDING, C.REDIRECT: S.PENDING},
    S.PENDING: {
        C.SUCCEED: S.DELIVERED,
        C.RETRY: S.PENDING,
        C.PUT_OFF: S.PENDING,
        C.GIVE_UP: S.DYING,
        C.DISCARD: S.DISCARDED,
        C.REDIRECT: S.REDIRECTED,
    },
    S.DYING: {C.BURY: S.DEAD},
    S.DELIVERED: {C.REPLAY: S.PENDING},
    S.DEAD: {C.REMOVE: S.DISCARDED, C.REPLAY: S.PENDING, C.REVIVE: S.PENDING},
    S.DISCARDED: {C.REPLAY: S.PENDING},
    S.REDIRECTED: {C.REPLAY: S.PENDING},
}


@pytest.mark.parametrize(("state", "change"), list(itertools.product(State, Change)), ids=lambda x: x.name)
def test_every_pair_of_state_and_change(state, change):
    """A pair leads where it is meant to, or nowhere."""
    assert next_state(state, change) == ALLOWED[state].get(change)


def test_the_table_has_nothing_else():
    assert len(TABLE) == sum(len(row) for row in ALLOWED.values())


def test_a_delivery_that_is_owed_never_vanishes():
    """Out of the open states only success, a durable dead letter or an operator's hand leads."""
    exits = {(s, c) for (s, c), t in TABLE.items() if s.is_open and not t.is_open}
    assert exits == {(S.PENDING, C.SUCCEED), (S.PENDING, C.DISCARD), (S.PENDING, C.REDIRECT), (S.DYING, C.BURY)}


def test_a_dying_delivery_is_never_attempted_again():
    for change in (C.SUCCEED, C.RETRY, C.PUT_OFF, C.GIVE_UP):
        assert next_state(S.DYING, change) is None


def test_nothing_leads_back_to_absent():
    assert S.ABSENT not in TABLE.values()


def test_every_finished_state_can_be_replayed():
    for state in State:
        if not state.is_open:
            assert next_state(state, C.REPLAY) == S.PENDING


def test_changes_are_called_as_the_diagram_calls_them():
    assert [str(change) for change in Change] == [change.name.lower() for change in Change]
