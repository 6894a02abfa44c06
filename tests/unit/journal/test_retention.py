"""What has ended is forgotten in its time, whatever rotted before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.journal.records import events_key, split_key
from sidecar.lifecycle import Change
from tests.support.clocks import FakeClock
from tests.support.journals import Books


@pytest.mark.parametrize("at", [0, 11], ids=["version", "time"])
async def test_a_block_whose_head_rotted_keeps_itself_and_nothing_behind_it(tmp_path: Path, at: int):
    """Its time may say that it is years from now; it stays for whoever looks into the damage."""
    clock = FakeClock()
    books = Books.open(str(tmp_path / "journal"), clock, retention_s=60.0)
    for n in range(3):
        await books.stored(b"%d" % n)
    for delivery in await books.fresh():
        assert await books.settle(delivery, Change.SUCCEED)
    environment = books.journal._environment
    with environment.env.begin(write=True) as txn:
        block = bytearray(txn.get(events_key(2), db=environment.db[b"events"]))
        block[at] ^= 0x40
        txn.put(events_key(2), bytes(block), db=environment.db[b"events"])
    clock.advance(61_000)
    await books.settle_nothing()
    with environment.env.begin() as txn:
        assert [split_key(bytes(key)) for key, _ in txn.cursor(environment.db[b"events"])] == [2]
    await books.journal.aclose()
