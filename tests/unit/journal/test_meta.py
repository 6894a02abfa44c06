"""Every changed bit of a meta row is noticed."""

from __future__ import annotations

import pytest

from sidecar.journal import meta
from sidecar.journal.environment import Names
from sidecar.journal.records import CorruptRecord

ROW = Names(["gh"], ["app", "mail"], [])


def test_a_row_comes_back() -> None:
    assert meta.unpack(meta.pack(ROW), Names) == ROW
    assert meta.unpack(memoryview(meta.pack(ROW)), Names) == ROW


def test_no_flipped_bit_passes() -> None:
    value = meta.pack(ROW)
    for bit in range(8 * len(value)):
        spoilt = bytearray(value)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecord, match="Names"):
            meta.unpack(bytes(spoilt), Names)


@pytest.mark.parametrize("value", [None, b"", b"abc", meta.pack(7), meta.pack([b"x"])])
def test_what_is_no_such_row_is_refused(value: bytes | None) -> None:
    with pytest.raises(CorruptRecord):
        meta.unpack(value, Names)
