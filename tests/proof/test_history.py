"""The history checker finds nothing in an honest run, and each kind of lie in one that is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sidecar.lifecycle import Change
from sidecar.model import Attempt
from sidecar.outbound.retry import RetryPolicy
from tests.proof.history import Accepted, Got, History, compare, digest, read_journal, too_early
from tests.support.journals import Books


@pytest.fixture
async def honest(tmp_path: Path) -> History:
    """Three events: one delivered, one retried, one fresh."""
    books = Books.open(str(tmp_path / "journal"))
    events = [await books.stored(b"body-%d" % n, key=f"k{n}") for n in range(3)]
    first, second, _ = await books.fresh()
    await books.settle(first, Change.SUCCEED)
    await books.settle(second, Change.RETRY, due_at_ms=1, status=500)
    await books.journal.aclose()
    accepted = [Accepted(e.key, e.id, digest(e.body)) for e in events]
    got = [
        Got("app", events[0].id, "k0", digest(b"body-0")),
        Got("app", events[1].id, "k1", digest(b"body-1"), taken=False),
    ]
    return History(accepted, got, read_journal(tmp_path / "journal", tmp_path / "letters"))


def test_an_honest_run_is_in_order(honest: History) -> None:
    assert compare(honest) == []


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (lambda h: h.stored.events.pop(h.accepted[2].event_id), "is gone"),
        (lambda h: setattr(h.stored.events[h.accepted[2].event_id].event, "body", b"other"), "has other bytes"),
        (lambda h: h.accepted.append(Accepted("k0", h.accepted[1].event_id, h.accepted[1].body)), "acknowledged as"),
        (lambda h: h.got.pop(0), "which never took it"),
        (lambda h: h.got.append(Got("app", "wse_x", "k9", b"")), "never stored"),
        (lambda h: h.got.append(dataclasses.replace(h.got[0], body=b"altered")), "altered bytes"),
        (lambda h: h.got.append(dataclasses.replace(h.got[0], key="k1")), "was delivered as"),
        (lambda h: setattr(h.stored.events[h.accepted[1].event_id].event, "key", "k0"), "is stored 2 times"),
        (lambda h: setattr(h.stored.rows[0], "enqueued", 4), "do not balance"),
        (lambda h: setattr(h.stored.rows[0], "pending", 3), "are open, the books say"),
        (lambda h: h.stored.events[h.accepted[2].event_id].deliveries.clear(), "nothing there knows of it"),
        (lambda h: setattr(h.stored, "quarantined", 1), "damaged records"),
    ],
)
def test_each_lie_is_noticed(honest: History, lie, says: str) -> None:
    lie(honest)
    assert any(says in line for line in compare(honest)), compare(honest)


def test_a_retry_before_its_time_is_noticed() -> None:
    log = [Attempt(1, 1000, 10, "5xx", 500), Attempt(2, 1500, 10, "5xx", 500)]
    assert list(too_early(log, RetryPolicy(base_s=1.0, jitter=0.1)))
    assert not list(too_early(log, RetryPolicy(base_s=0.5, jitter=0.1)))
