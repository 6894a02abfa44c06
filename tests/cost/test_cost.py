"""It stays fast: counts per event that do not depend on the machine's mood, each with a regression that it must notice."""

from __future__ import annotations

import sys

import pytest

from tests.cost.costs import COSTS, excess
from tests.cost.function_calls import function_calls
from tests.cost.lmdb_calls import BATCH, lmdb_calls
from tests.cost.system_calls import system_calls
from tests.support.tracing import needs_strace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it counts with strace and /proc: Linux only")

ACKED, DELIVERED = "acked", "acked and delivered"


needs_this_python = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="other versions of Python count calls differently; the table is for 3.11"
)


@needs_strace
@pytest.mark.parametrize("what", [ACKED, DELIVERED])
def test_an_event_takes_no_more_system_calls_than_it_did(tmp_path, what):
    """All threads; waits of threads for each other are left out."""
    count, detail = system_calls(tmp_path, deliver=what == DELIVERED)
    assert not excess(f"system calls, {what}", count, detail)
    assert detail["fdatasync"] >= 1, "an ack without a flush is no saving"


@needs_strace
def test_one_system_call_more_an_event_is_noticed(tmp_path):
    count, _ = system_calls(tmp_path, deliver=False, worse=True)
    assert excess("system calls, acked", count)


@needs_this_python
@pytest.mark.parametrize("what", [ACKED, DELIVERED])
def test_an_event_takes_no_more_function_calls_than_it_did(tmp_path, what):
    """On the event loop's thread, which is what saturates first."""
    count, detail = function_calls(tmp_path, deliver=what == DELIVERED)
    assert not excess(f"function calls, {what}", count, dict(list(detail.items())[:30]))


@needs_this_python
def test_a_dictionary_of_headers_that_nobody_needs_is_noticed(tmp_path):
    count, _ = function_calls(tmp_path, deliver=False, worse=True)
    assert excess("function calls, acked", count)


async def test_a_batch_takes_no_more_lmdb_calls_than_it_did(tmp_path):
    calls = await lmdb_calls(tmp_path)
    assert not excess("LMDB calls, 64 arrivals", calls.total(), calls)


async def test_settling_a_batch_takes_no_more_lmdb_calls_than_it_did(tmp_path):
    calls = await lmdb_calls(tmp_path, settle=True)
    assert not excess("LMDB calls, 64 arrivals and 64 settlements", calls.total(), calls)


async def test_further_destinations_take_no_more_lmdb_calls_than_they_did(tmp_path):
    calls = await lmdb_calls(tmp_path, destinations=("app", "mail", "audit"))
    assert not excess("LMDB calls, 64 arrivals to three destinations", calls.total(), calls)


async def test_one_put_more_an_event_is_noticed(tmp_path):
    calls = await lmdb_calls(tmp_path, extra_put=True)
    assert calls.total() >= BATCH
    assert excess("LMDB calls, 64 arrivals", calls.total())


def test_what_is_over_by_more_than_its_tolerance_is_too_much_and_nothing_else():
    for name, cost in COSTS.items():
        assert excess(name, cost.most) == ""
        assert name in excess(name, cost.most * 1.001)
