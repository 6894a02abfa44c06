"""What is in hand is taken once, nothing that is owed is passed over, and memory stays bounded."""

from __future__ import annotations

import pytest

from sidecar.journal.types import DueWindow, FreshWindow
from sidecar.model import Delivery, Event
from sidecar.outbound.budget import Budget
from sidecar.outbound.hand import PROBE_EVENTS, PROBED_MOST, Hand


def _event(seq: int, size: int = 10) -> Event:
    return Event("s", ("d",), 0, b"POST", b"/", b"", [], b"x" * size, accepted_at_ms=5, seq=seq)


def _fresh(*seqs: int, size: int = 10) -> list[Delivery]:
    return [Delivery(_event(seq, size), "d") for seq in seqs]


def _due(*seqs: int) -> list[Delivery]:
    return [Delivery(_event(seq), "d", due_at_ms=100 + seq, attempts=1) for seq in seqs]


def _hand(capacity: int = 4, start_at: int = 1, max_bytes: int = 1000) -> Hand:
    budget = Budget(max_bytes)
    budget.share_out({"d"}, max_bytes)
    return Hand("d", budget, capacity, start_at)


def _caught_up(capacity: int = 4, last_seq: int = 0, max_bytes: int = 1000) -> Hand:
    hand = _hand(capacity, max_bytes=max_bytes)
    read = hand.plan(0, probing=False)
    assert read is not None
    assert read.due
    hand.take_due(DueWindow([], None))
    hand.plan(0, probing=False)
    hand.take_window(FreshWindow([], last_seq, at_end=True))
    assert not hand.behind
    return hand


def _seqs(hand: Hand) -> list[int]:
    found = []
    while (d := hand.pop()) is not None:
        found.append(d.event.seq)
    return found


# --- beginning


def test_at_the_start_it_looks_for_both_sorts_from_where_the_last_process_was():
    hand = _hand(start_at=40)
    first = hand.plan(0, probing=False)
    assert first is not None
    assert (first.due, first.max_events, first.skip) == (True, 4, frozenset())
    assert hand.plan(0, probing=False) is None  # one at a time
    hand.take_due(DueWindow(_due(7), 900))
    second = hand.plan(0, probing=False)
    assert second is not None
    assert (second.due, second.from_seq, second.skip) == (False, 40, frozenset({7}))
    assert hand.next_due_at_ms == 900


# --- from memory


def test_a_batch_is_taken_from_memory_when_everything_older_was():
    hand = _caught_up()
    assert hand.offer([_event(1), _event(3)], 5, take=True)
    assert (_seqs(hand), hand.next, hand.behind) == ([1, 3], 6, False)
    assert len(hand) == 2  # still in hand
    assert hand.seqs() == {1, 3}


def test_a_delivery_from_memory_counts_its_age_from_acceptance():
    hand = _caught_up()
    hand.offer([_event(1)], 1, take=True)
    delivery = hand.pop()
    assert delivery is not None
    assert (delivery.started_at_ms, delivery.destination) == (5, "d")


def test_a_batch_for_others_moves_on_and_is_nothing_to_do():
    hand = _caught_up()
    assert not hand.offer([], 9, take=True)
    assert hand.next == 10


def test_while_behind_nothing_is_taken_from_memory():
    hand = _hand()
    assert hand.offer([_event(8)], 8, take=True)
    assert not hand.offer([], 9, take=True)
    assert (_seqs(hand), hand.next) == ([], 1)


def test_what_does_not_fit_is_left_to_the_journal():
    hand = _caught_up(capacity=2)
    assert hand.offer([_event(n) for n in (1, 2, 3, 4)], 4, take=True)
    assert (hand.next, hand.behind, len(hand)) == (3, True, 2)
    hand = _caught_up(max_bytes=100)
    assert hand.offer([_event(1, 500), _event(2, 1)], 2, take=True)  # one body is always allowed
    assert (hand.next, hand.behind, len(hand)) == (2, True, 1)
    hand = _caught_up()
    assert hand.offer([_event(6)], 7, take=False)
    assert (hand.next, hand.behind, len(hand)) == (6, True, 0)


def test_what_a_window_has_seen_already_is_not_taken_again():
    hand = _hand()
    hand.next_due_at_ms = None
    hand.plan(0, probing=False)
    hand.take_window(FreshWindow(_fresh(5, 6), 6, at_end=True))  # before we were told of their batch
    hand.offer([_event(5), _event(6), _event(7)], 7, take=True)
    assert (_seqs(hand), hand.next) == ([5, 6, 7], 8)


def test_a_window_that_claims_more_than_was_told_passes_over_nothing_that_is_on_its_way():
    hand = _hand(capacity=8)
    hand.next_due_at_ms = None
    hand.offer([], 4, take=True)
    hand.plan(0, probing=False)
    hand.take_window(FreshWindow(_fresh(3), 13, at_end=True))
    assert (hand.next, hand.behind) == (5, False)
    hand.offer([_event(5), _event(8)], 8, take=True)
    assert _seqs(hand) == [3, 5, 8]


# --- windows


def test_a_window_to_the_end_ends_being_behind_unless_more_was_posted():
    hand = _hand()
    hand.next_due_at_ms = None
    hand.offer([_event(1), _event(2)], 2, take=True)
    hand.plan(0, probing=False)
    hand.offer([_event(9)], 9, take=True)
    hand.take_window(FreshWindow(_fresh(1, 2), 2, at_end=True))
    assert (hand.next, hand.behind) == (3, True)
    read = hand.plan(0, probing=False)
    assert read is not None
    assert (read.from_seq, read.max_events) == (3, 2)
    hand.take_window(FreshWindow(_fresh(9), 9, at_end=True))
    assert (hand.next, hand.behind, _seqs(hand)) == (10, False, [1, 2, 9])


def test_a_window_that_stops_early_leaves_it_behind():
    hand = _hand()
    hand.next_due_at_ms = None
    hand.plan(0, probing=False)
    hand.take_window(FreshWindow(_fresh(1, 2, 3, 4), 4, at_end=False))
    assert (hand.next, hand.behind) == (5, True)
    assert hand.plan(0, probing=False) is None  # enough in the queue


def test_what_is_in_hand_is_not_taken_a_second_time():
    hand = _caught_up()
    hand.offer([_event(1)], 1, take=True)
    hand.pop()
    hand.note_due(0)
    hand.plan(0, probing=False)
    hand.take_due(DueWindow(_due(1, 2), None))
    assert (_seqs(hand), len(hand)) == ([2], 2)


def test_what_was_dropped_while_a_window_was_read_is_read_again():
    hand = _caught_up()
    hand.offer([_event(1)], 1, take=True)
    first = hand.pop()
    hand.offer([_event(5)], 5, take=False)
    read = hand.plan(0, probing=False)
    assert read is not None
    assert read.skip == {1}
    assert first is not None
    hand.drop(first)
    hand.take_window(FreshWindow(_fresh(5), 5, at_end=True))
    assert (hand.next, hand.behind) == (1, True)
    again = hand.plan(0, probing=False)
    assert again is not None
    assert again.skip == {5}


def test_a_failed_read_changes_nothing():
    hand = _hand()
    hand.plan(0, probing=False)
    hand.read_failed()
    assert hand.next_due_at_ms == 0
    assert hand.plan(0, probing=False) is not None
    hand.read_failed()
    assert (hand.next, hand.behind) == (1, True)


# --- bytes


def test_a_read_sets_its_bytes_aside_and_gives_them_back():
    hand = _hand(max_bytes=1000)
    read = hand.plan(0, probing=False)
    assert read is not None
    assert read.max_bytes == 1000
    assert hand._budget.used_bytes == 1000
    hand.take_due(DueWindow([], None))
    assert hand._budget.used_bytes == 0


def test_without_room_it_reads_only_when_it_holds_nothing():
    hand = _caught_up(max_bytes=20)
    hand.offer([_event(1, 50), _event(2)], 2, take=True)
    first = hand.pop()
    assert first is not None
    assert hand.plan(0, probing=False) is None
    hand.settled(first)
    read = hand.plan(0, probing=False)
    assert read is not None
    assert read.max_bytes == 20


# --- turns


def test_due_and_fresh_take_turns():
    hand = _caught_up()
    hand.offer([_event(n) for n in (1, 2, 3)], 3, take=True)
    hand.note_due(0)
    hand.plan(0, probing=False)
    hand.take_due(DueWindow(_due(11, 12), None))
    assert _seqs(hand) == [1, 11, 2, 12, 3]
    assert hand.queued == 0


def test_reads_take_turns_too():
    hand = _hand(capacity=8)
    kinds = []
    for n in range(4):
        hand.note_due(0)
        read = hand.plan(0, probing=False)
        assert read is not None
        kinds.append(read.due)
        if read.due:
            hand.take_due(DueWindow([], None))
        else:
            hand.take_window(FreshWindow([], n, at_end=False))
    assert kinds == [True, False, True, False]


# --- due times


def test_the_earliest_due_time_counts():
    hand = _caught_up()
    assert hand.next_due_at_ms is None
    for at_ms in (500, 300, 400):
        hand.note_due(at_ms)
    assert hand.next_due_at_ms == 300
    assert hand.plan(299, probing=False) is None
    assert hand.plan(300, probing=False) is not None
    hand.note_due(350)  # while it is read
    hand.take_due(DueWindow([], 800))
    assert hand.next_due_at_ms == 350


def test_it_wants_a_read_while_it_is_behind_or_somebody_waits():
    assert _hand().wants_read  # it has not looked yet
    hand = _caught_up()
    assert not hand.wants_read
    hand.note_due(10**15)  # however late
    assert hand.wants_read
    crowded = _caught_up(capacity=1)
    crowded.offer([_event(1), _event(2)], 2, take=True)
    assert (crowded.behind, crowded.wants_read) == (True, True)


# --- leaving


def test_what_is_settled_is_forgotten_once():
    hand = _caught_up()
    hand.offer([_event(1)], 1, take=True)
    d = hand.pop()
    assert d is not None
    hand.settled(d)
    hand.settled(d)
    assert (len(hand), hand._budget.used_bytes) == (0, 0)


def test_letting_go_leaves_everything_to_the_journal():
    hand = _caught_up(capacity=8)
    hand.offer([_event(n) for n in (1, 2, 3)], 3, take=True)
    running = hand.pop()
    hand.note_due(0)
    hand.plan(0, probing=False)
    hand.take_due(DueWindow(_due(11), None))
    hand.let_go()
    assert (len(hand), hand.queued, hand.next, hand.behind, hand.next_due_at_ms) == (1, 0, 2, True, 0)
    assert running is not None
    hand.drop(running)
    assert hand.next == 1


def test_a_restart_may_begin_at_the_lowest_fresh_one_that_is_owed():
    hand = _caught_up(capacity=8)
    hand.offer([_event(n) for n in (1, 2, 3)], 3, take=True)
    assert hand.fresh_from() == 1
    first = hand.pop()
    assert first is not None
    hand.settled(first)
    assert hand.fresh_from() == 2
    hand.note_due(0)
    hand.plan(0, probing=False)
    hand.take_due(DueWindow(_due(1), None))
    assert hand.fresh_from() == 2  # waiting ones are found by their time
    hand.let_go()
    assert hand.fresh_from() == 2


def test_what_is_adopted_is_in_hand_but_not_tried():
    hand = _caught_up()
    (d,) = _fresh(4)
    assert hand.adopt(d)
    assert not hand.adopt(d)
    assert (hand.queued, len(hand)) == (0, 1)


# --- probing


def test_probes_go_round_all_who_wait_without_claiming_them():
    hand = _caught_up()
    hand.offer([_event(2)], 9, take=False)
    looked = []
    for window in (
        FreshWindow(_fresh(2, 3, 4, 5), 5, at_end=False),
        FreshWindow(_fresh(6, 7), 9, at_end=True),
        FreshWindow(_fresh(2, 3, 4, 5), 5, at_end=False),
    ):
        read = hand.plan(0, probing=True)
        assert read is not None
        assert read.max_events == PROBE_EVENTS
        looked.append(read.from_seq)
        hand.take_window(window)
        assert hand.plan(0, probing=True) is None  # there is one to probe with
        while (d := hand.pop()) is not None:
            hand.drop(d)
    assert looked == [2, 6, 2]
    assert (hand.next, hand.behind) == (2, True)
    hand.plan(0, probing=True)
    hand.take_window(FreshWindow(_fresh(6), 6, at_end=False))
    hand.end_probing()
    hand.let_go()
    read = hand.plan(0, probing=False)
    assert read is not None
    assert read.from_seq == 2


def test_when_nobody_waits_a_look_round_ends_being_behind():
    hand = _hand()
    hand.next_due_at_ms = None
    hand.plan(0, probing=True)
    hand.take_window(FreshWindow([], 30, at_end=False))  # the slice was over
    read = hand.plan(0, probing=True)
    assert read is not None
    assert read.from_seq == 31
    hand.take_window(FreshWindow([], 60, at_end=True))  # from the middle: begin again
    hand.offer([], 60, take=True)
    hand.plan(0, probing=True)
    hand.take_window(FreshWindow([], 60, at_end=True))
    assert (hand.next, hand.behind) == (61, False)
    assert hand.plan(0, probing=True) is None


def test_waiting_ones_take_turns_at_probing():
    hand = _caught_up()
    hand.note_due(0)
    skips = []
    for found in (_due(1, 2), _due(3), [], _due(1, 2, 3)):
        read = hand.plan(0, probing=True)
        assert read is not None
        skips.append(set(read.skip))
        hand.take_due(DueWindow(found, None))
        while (d := hand.pop()) is not None:
            hand.drop(d)
    assert skips == [set(), {1, 2}, {1, 2, 3}, set()]


def test_turns_at_probing_are_remembered_up_to_a_bound():
    hand = _caught_up()
    hand.note_due(0)
    hand.plan(0, probing=True)
    hand.take_due(DueWindow(_due(*range(PROBED_MOST + 1)), None))
    assert hand.next_due_at_ms == 0
    hand.let_go()
    read = hand.plan(0, probing=True)
    assert read is not None
    assert read.skip == frozenset()


def test_nobody_due_to_probe_with_ends_the_looking():
    hand = _caught_up()
    hand.note_due(0)
    hand.plan(0, probing=True)
    hand.take_due(DueWindow([], None))
    assert hand.plan(0, probing=True) is None


def test_a_probe_passes_over_nobody_for_good():
    """Those that had their turn in a hold wait in the journal; a probe that succeeds must not be the last look."""
    hand = _caught_up(capacity=8)
    hand.note_due(0)
    hand.plan(0, probing=True)
    hand.take_due(DueWindow(_due(11), None))
    first = hand.pop()
    assert first is not None
    hand.drop(first)  # the probe failed, it stays due
    read = hand.plan(0, probing=True)
    assert read is not None
    assert 11 in read.skip
    hand.take_due(DueWindow(_due(12), None))
    second = hand.pop()
    assert second is not None
    hand.end_probing()  # the second one is delivered
    hand.settled(second)
    again = hand.plan(0, probing=False)
    assert again is not None
    assert 11 not in again.skip


def test_both_sorts_count_as_queued():
    hand = _caught_up()
    hand.offer([_event(1)], 1, take=True)
    hand.note_due(0)
    hand.plan(0, probing=False)
    hand.take_due(DueWindow(_due(11, 12), None))
    assert hand.queued == 3


def test_the_last_free_byte_is_enough_to_read_on():
    hand = _caught_up(max_bytes=11)
    hand.offer([_event(1, 10)], 1, take=True)
    hand.note_due(0)
    read = hand.plan(0, probing=False)
    assert read is not None
    assert read.max_bytes == 1


def test_without_a_free_byte_it_asks_for_one_at_a_time():
    hand = _caught_up(max_bytes=20)
    hand._budget.room = lambda _: 0  # type: ignore[method-assign]
    hand.note_due(0)
    read = hand.plan(0, probing=False)
    assert read is not None
    assert read.max_bytes == 1


def test_the_next_hold_begins_from_the_oldest_and_everybody_has_a_turn_again():
    hand = _caught_up()
    hand.offer([_event(2)], 9, take=False)
    hand.note_due(0)
    hand.plan(0, probing=True)
    hand.take_due(DueWindow(_due(11), None))
    hand.let_go()
    read = hand.plan(0, probing=True)
    assert read is not None
    assert not read.due
    hand.take_window(FreshWindow(_fresh(2, 3, 4, 5), 5, at_end=False))
    hand.let_go()
    hand.end_probing()
    first, second = hand.plan(0, probing=True), None
    assert first is not None
    assert (first.due, first.skip) == (True, frozenset())
    hand.take_due(DueWindow([], None))
    second = hand.plan(0, probing=True)
    assert second is not None
    assert (second.due, second.from_seq) == (False, 2)


def test_a_window_does_not_go_past_the_lowest_that_was_dropped_meanwhile_and_the_next_one_does():
    hand = _caught_up(capacity=8)
    hand.offer([_event(3), _event(5)], 6, take=True)
    third, fifth = hand.pop(), hand.pop()
    assert third is not None
    assert fifth is not None
    hand.offer([_event(8)], 9, take=False)
    hand.plan(0, probing=False)
    hand.drop(third)
    hand.drop(fifth)
    hand.take_window(FreshWindow([], 9, at_end=True))
    assert (hand.next, hand.behind) == (3, True)
    hand.plan(0, probing=False)
    hand.take_window(FreshWindow(_fresh(3, 5, 8), 9, at_end=True))
    assert (hand.next, hand.behind) == (10, False)


def test_what_is_adopted_counts_against_the_budget():
    hand = _caught_up()
    (delivery,) = _due(4)
    assert hand.adopt(delivery)
    assert hand._budget.used_bytes == len(delivery.event.body)
    assert not hand.adopt(delivery)
    assert hand._budget.used_bytes == len(delivery.event.body)


# --- taken away


def test_after_a_recall_nothing_is_given_out_but_what_the_journal_says_then():
    hand = _caught_up(last_seq=0)
    hand.offer([_event(1), _event(2)], 2, take=True)
    in_flight = hand.pop()
    assert in_flight is not None
    hand.recall()
    assert (_seqs(hand), hand.behind, hand.next, len(hand)) == ([], True, 2, 1)
    hand.next_due_at_ms = None
    read = hand.plan(0, probing=False)
    assert read is not None
    assert (read.from_seq, read.skip) == (2, frozenset({1}))
    hand.take_window(FreshWindow(_fresh(3), 3, at_end=True))
    assert _seqs(hand) == [3]


@pytest.mark.parametrize("due", [False, True])
def test_what_a_read_brings_that_began_before_a_recall_is_not_taken(due):
    hand = _caught_up(last_seq=9)
    if due:
        hand.note_due(0)
    else:
        hand.drop(_fresh(5)[0])
        hand.next_due_at_ms = None
    read = hand.plan(0, probing=False)
    assert read is not None
    assert read.due is due
    hand.recall()
    take = hand.take_due if due else hand.take_window
    brought = DueWindow(_due(5), None) if due else FreshWindow(_fresh(5), 9, at_end=True)
    take(brought)
    assert (hand.queued, len(hand), hand._budget.used_bytes) == (0, 0, 0)
    again = hand.plan(0, probing=False)
    assert again is not None
    assert (again.due, again.from_seq) == (due, read.from_seq)
    take(brought)
    assert _seqs(hand) == [5]
