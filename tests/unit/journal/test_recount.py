"""Rows that a rotten page hides are missed, once, without a checksum having failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.journal import recount
from sidecar.journal.records import deliveries_key, due_key, events_key
from sidecar.lifecycle import Change
from sidecar.metrics import Metrics
from tests.support.journals import Books


@pytest.fixture
async def books(tmp_path: Path) -> Books:
    """Three events: one fresh, one that waits, one that is dying."""
    books = Books.open(str(tmp_path / "journal"), metrics=Metrics())
    for n in range(3):
        await books.stored(b"%d" % n, destinations=("app",))
    waits, dying, _ = await books.fresh()
    assert await books.settle(waits, Change.RETRY, due_at_ms=77)
    assert await books.settle(dying, Change.GIVE_UP, reason="rejected")
    return books


def hide(books: Books, table: bytes, key: bytes) -> None:
    """Take a row away behind the books' back, as a page that leads past it does."""
    environment = books.journal._environment
    with environment.env.begin(write=True) as txn:
        assert txn.delete(key, db=environment.db[table])


async def count(books: Books) -> int:
    """What a recount notes."""
    journal = books.journal
    before = journal.quarantined
    await journal._reader.scan(journal._recount)
    assert journal._metrics.journal_quarantined.values.get((), 0) == journal.quarantined
    return journal.quarantined - before


async def test_a_sound_journal_is_even(books: Books) -> None:
    assert await count(books) == 0
    await books.journal.aclose()


async def test_a_hidden_delivery_is_missed_once(books: Books) -> None:
    [fresh] = await books.fresh()
    hide(books, b"deliveries", deliveries_key(0, fresh.event.block))
    assert await books.fresh() == [], "nothing fails"
    assert await count(books) == 1
    assert await count(books) == 0, "it is told once"
    await books.journal.aclose()


@pytest.mark.parametrize("due_at_ms", [77, (1 << 64) - 1])
async def test_a_delivery_whose_turn_is_hidden_is_missed(books: Books, due_at_ms: int) -> None:
    seq = books.batches[0 if due_at_ms == 77 else 1][1]
    hide(books, b"due", due_key(0, due_at_ms, seq))
    assert await count(books) == 1
    await books.journal.aclose()


async def test_a_row_of_due_that_points_nowhere_is_noted(books: Books) -> None:
    seq = books.batches[0][1]
    hide(books, b"deliveries", deliveries_key(0, seq))
    assert await books.due_now() == []
    assert books.journal.quarantined == 1
    await books.journal.aclose()


async def test_a_delivery_whose_event_is_hidden_is_noted(books: Books) -> None:
    [fresh] = await books.fresh()
    hide(books, b"events", events_key(fresh.event.block))
    assert await books.fresh() == []
    assert books.journal.quarantined == 1
    await books.journal.aclose()


async def test_a_journal_with_too_much_to_count_at_once_is_left_to_the_audit(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    [fresh] = await books.fresh()
    hide(books, b"deliveries", deliveries_key(0, fresh.event.block))
    monkeypatch.setattr(recount, "MOST_ROWS", 1)
    assert await count(books) == 0
    await books.journal.aclose()


async def test_it_counts_some_seconds_after_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sidecar.journal import journal as module

    monkeypatch.setattr(module, "RECOUNT_AFTER_S", 0.01)
    books = Books.open(str(tmp_path / "journal"))
    event = await books.stored(b"x", destinations=("app",))
    hide(books, b"deliveries", deliveries_key(0, event.seq))
    await books.journal.aclose()
    again = Books.open(str(tmp_path / "journal"))
    for _ in range(200):
        await again.settle_nothing()
        if again.journal.quarantined:
            break
    assert again.journal.quarantined == 1
    await again.journal.aclose()
