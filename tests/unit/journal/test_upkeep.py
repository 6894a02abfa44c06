"""Looking after a journal that no daemon uses."""

from __future__ import annotations

import asyncio
import os

import pytest

from sidecar.clock import Clock
from sidecar.errors import JournalError, JournalLocked
from sidecar.journal import Journal, upkeep
from sidecar.journal.types import EventQuery, JournalOptions
from sidecar.model import ACK_DEFAULT, Event


@pytest.fixture
async def options(tmp_path) -> JournalOptions:
    """A journal with some events in it."""
    made = JournalOptions(path=str(tmp_path / "journal"), max_size_bytes=32 << 20)
    journal = Journal.open(made, Clock())
    journal.register(["s"], ["app"])
    journal.start(asyncio.get_running_loop())
    for n in range(5):
        done = asyncio.get_running_loop().create_future()
        event = Event(
            source="s", destinations=("app",), received_at_ms=1_800_000_000_000 + n, method=b"POST", path=b"/",
            query=b"", headers=[], body=b"x" * 200_000,
        )  # fmt: skip
        journal.append(event, None, ACK_DEFAULT, done.set_result)
        await done
    await journal.aclose()
    return made


def size(options: JournalOptions) -> int:
    return os.path.getsize(os.path.join(options.path, "data.mdb"))


async def contents(options: JournalOptions) -> tuple[list[str], int, bytes]:
    journal = Journal.open(options, Clock(), read_only=True)
    journal.start(asyncio.get_running_loop())
    page = await journal.events(EventQuery())
    report = await journal.audit(full=True)
    found = ([v.event.id for v in page.events], journal.journal_id, journal.mac_key)
    assert (report.quarantined, report.rows[0].pending) == (0, 5)
    await journal.aclose()
    return found


async def test_compacting_keeps_every_event_and_the_identity(options):
    before = await contents(options)
    was, now = upkeep.compact(options, Clock())
    assert 1_000_000 < now < was
    assert size(options) == now
    assert await contents(options) == before
    assert upkeep.verify_structure(options, Clock()) == []
    assert sorted(os.listdir(options.path)) == ["data.mdb", "journal.lock", "lock.mdb"]


async def test_a_compaction_that_fails_changes_nothing(options, monkeypatch):
    before = await contents(options)

    def fail(_: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(upkeep, "fsync_path", fail)
    with pytest.raises(JournalError, match="could not be compacted") as failed:
        upkeep.compact(options, Clock())
    assert "it was not changed" in failed.value.hint
    monkeypatch.undo()
    assert await contents(options) == before
    assert ".compact" not in os.listdir(options.path)


async def test_a_compaction_whose_last_flush_fails_says_that_the_new_file_is_there(options, monkeypatch):
    before, was = await contents(options), size(options)
    honest = upkeep.fsync_path

    def fail(path: str) -> None:
        if path == options.path:
            raise OSError(5, "Input/output error")
        honest(path)

    monkeypatch.setattr(upkeep, "fsync_path", fail)
    with pytest.raises(JournalError, match="Input/output error") as failed:
        upkeep.compact(options, Clock())
    assert "not changed" not in failed.value.hint
    assert "power cut" in failed.value.hint
    monkeypatch.undo()
    assert size(options) < was
    assert await contents(options) == before


async def test_a_journal_larger_than_its_maximum_can_be_compacted(options):
    small = JournalOptions(path=options.path, max_size_bytes=16 << 10)
    with pytest.raises(JournalError, match="journal compact"):
        Journal.open(small, Clock(), read_only=True)
    assert upkeep.compact(small, Clock())[1] > 0


async def test_a_journal_in_use_is_left_alone(options):
    journal = Journal.open(options, Clock(), read_only=True)
    try:
        with pytest.raises(JournalLocked):
            upkeep.compact(options, Clock())
        with pytest.raises(JournalLocked):
            upkeep.verify_structure(options, Clock())
    finally:
        journal.close()


def scribble(path: str) -> None:
    """Write over the head of every page but the two meta pages."""
    with open(path, "r+b") as f:
        for page in range(2, os.path.getsize(path) // 4096):
            f.seek(page * 4096 + 10)
            f.write(b"\xff\xff")


async def test_a_broken_page_is_found(options):
    scribble(os.path.join(options.path, "data.mdb"))
    try:
        problems = upkeep.verify_structure(options, Clock())
    except JournalError as e:  # so broken that it does not even open
        problems = [e.message]
    assert problems
