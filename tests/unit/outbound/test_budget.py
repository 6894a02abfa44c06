"""Bodies in memory: half is everybody's own, half goes to whoever comes first, one is always allowed."""

from __future__ import annotations

from sidecar.outbound.budget import Budget


def _budget(lanes: str = "ab", size: int = 1000) -> Budget:
    budget = Budget(size)
    budget.share_out(set(lanes), size)
    return budget


def test_one_lane_alone_may_use_everything():
    budget = _budget("a")
    assert budget.room("a") == 1000
    assert budget.room("x") == 500, "its own half is nobody else's"


def test_before_anything_is_shared_out_all_is_common():
    budget = Budget(1000)
    assert budget.room("x") == 1000
    budget.take("x", 400)
    assert budget.room("y") == 600


def test_a_lane_that_takes_all_it_can_leaves_the_others_their_own():
    budget = _budget("ab")
    budget.take("a", budget.room("a"))
    assert budget.used_bytes == 750
    assert budget.room("a") == 0
    assert budget.room("b") == 250
    assert not budget.fits("a", 1)
    assert budget.fits("b", 250)


def test_what_is_common_may_be_filled_to_the_last_byte():
    budget = _budget("ab")
    budget.take("a", 250)
    assert budget.fits("a", 500)
    assert not budget.fits("a", 501)
    budget.take("a", 500)
    assert not budget.fits("a", 600), "as much as it holds, but there is no room"


def test_a_lane_without_a_share_takes_from_what_is_common():
    budget = _budget("ab")
    budget.take("x", 100)
    assert budget.room("a") == 250 + 400


def test_sharing_out_anew_changes_nothing_for_lanes_that_stay():
    """Only what is beyond a lane's own counts against the others."""
    budget = _budget("ab")
    budget.take("a", 300)
    budget.take("b", 100)
    before = (budget.room("a"), budget.room("b"))
    assert before == (450, 150 + 450)
    budget.share_out({"a", "b"}, 1000)
    assert (budget.room("a"), budget.room("b")) == before


def test_a_lane_that_holds_nothing_may_always_take_one():
    budget = _budget("ab")
    assert budget.fits("a", 10**9)
    budget.take("a", 10**9)
    assert not budget.fits("a", 1)
    assert budget.room("b") == 250
    assert budget.fits("b", 10**9)


def test_what_is_given_back_is_there_again():
    budget = _budget("ab")
    for size in (100, 300, 350):
        budget.take("a", size)
    for size in (350, 100, 300):
        budget.take("a", -size)
    assert (budget.used_bytes, budget.room("a"), budget.room("b")) == (0, 750, 750)


def test_a_removed_lane_is_counted_until_it_holds_nothing():
    budget = _budget("ab")
    budget.take("a", 400)
    budget.share_out({"b", "c"}, 1200)
    assert budget.used_bytes == 400
    assert budget.room("b") == 300 + 600 - 400
    budget.take("a", -400)
    budget.share_out({"b"}, 1200)
    assert budget.room("b") == 1200
    assert budget._used == {}, "names that are gone do not pile up"


def test_nobody_there_is_no_error():
    budget = Budget(100)
    budget.share_out(set(), 100)
    assert budget.room("x") == 100
