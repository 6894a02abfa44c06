"""Operators' commands on a real journal."""

from __future__ import annotations

from sidecar.journal.types import Ref
from tests.support.journals import Books


async def test_a_delivery_that_is_not_there_cannot_be_redirected(tmp_path):
    """The event is owed to app alone: redirecting it away from mail enqueues nothing anywhere."""
    books = Books.open(str(tmp_path / "journal"))
    event = await books.stored(destinations=("app",))
    result = await books.journal.redirect([Ref(event.id, "mail")], "audit")
    assert result.applied == 0
    assert result.refused[0][1] == "not_allowed"
    assert {d for (_, d), n in books.journal.counters().enqueued.items() if n} == {"app"}
    await books.journal.aclose()


async def test_a_pending_delivery_is_redirected_and_the_books_balance(tmp_path):
    """It leaves the one destination as redirected and is pending at the other."""
    books = Books.open(str(tmp_path / "journal"))
    event = await books.stored(destinations=("app",))
    assert (await books.journal.redirect([Ref(event.id, "app")], "audit")).applied == 1
    assert books.journal.counters().settled == {("app", "redirected"): 1}
    assert [d.event.id for d in await books.due_now("audit")] == [event.id]
    assert all(row.balanced for row in (await books.journal.audit()).rows)
    await books.journal.aclose()
