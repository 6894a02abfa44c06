"""Rows on disk: what goes in comes out, a flipped bit is noticed, and the form of version 1 stays what it is."""

from __future__ import annotations

import struct
import zlib

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.journal import records as r
from sidecar.journal.records import CorruptRecord, DeliveryRow, Record
from sidecar.model import Attempt, State
from tests.support.journals import make_event

ATTEMPT = Attempt(1, 1_800_000_000_000, 7, "5xx", 503, "HTTP 503", 0)


def event(body=b"{}", **fields):
    return make_event(
        body, key="k-1", accepted_at_ms=17, forwarded_for=b"192.0.2.1", forwarded_proto=b"https",
        forwarded_host=b"hooks.example", replay_of="", **fields,
    )  # fmt: skip


# --- events


def test_an_event_comes_out_as_it_went_in():
    e = event(b"\x00\xff body", query=b"a=1")
    stored = r.decode_event(r.encode_event(e, 3, (0, 2)))
    assert (stored.source, stored.destinations, stored.verified, stored.body) == (3, [0, 2], True, e.body)
    assert (stored.received_at_ms, stored.accepted_at_ms) == (e.received_at_ms, 17)
    assert (stored.method, stored.path, stored.query, stored.headers) == (e.method, e.path, e.query, e.headers)
    assert (stored.forwarded_for, stored.forwarded_proto, stored.forwarded_host) == (
        b"192.0.2.1",
        b"https",
        b"hooks.example",
    )
    assert (stored.key, stored.body_bytes, stored.replay_of, stored.extra) == ("k-1", len(e.body), "", [])


def test_a_body_that_is_too_large_for_its_block_is_left_out_but_its_size_is_not():
    inline, parted = b"x" * r.INLINE_BODY_BYTES, b"x" * (r.INLINE_BODY_BYTES + 1)
    assert r.decode_event(r.encode_event(event(inline), 0, (0,))).body == inline
    stored = r.decode_event(r.encode_event(event(parted), 0, (0,)))
    assert (stored.body, stored.body_bytes) == (None, len(parted))


def test_fields_of_a_later_version_are_kept():
    row = msgpack.unpackb(r.encode_event(event(), 0, (0,)), raw=False)
    assert r.decode_event(msgpack.packb([*row, "new", 7])).extra == ["new", 7]


def test_the_form_of_an_event_is_pinned():
    """Version 1, byte for byte: a journal written today is read by every later version."""
    e = make_event(b"{}", key="k", received_at_ms=1_800_000_000_000, headers=[(b"A", b"b")])
    assert r.encode_event(e, 1, (2,)).hex() == (
        "dc0010" "01" "9102" "c3" "cf000001a3185c5000" "00" "c404504f5354" "c40e2f776562686f6f6b732f73686f70" "c400"
        "92c40141c40162" "c400" "c400" "c400" "a16b" "c4027b7d" "02" "a0"
    )  # fmt: skip


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x01",
        msgpack.packb([1, 2, 3]),
        msgpack.packb([0] * 16),
        b"\x91",
        b"\x80",
        msgpack.packb([{}] * 16),
    ],
)
def test_what_is_no_event_is_a_corrupt_record(payload):
    with pytest.raises(CorruptRecord):
        r.decode_event(payload)


def block(first=100, slots=(0, 1, 5)):
    payloads = {slot: (b"payload %d" % slot, slot == 5) for slot in slots}
    return r.events_block(first, payloads, 77)


def test_a_block_gives_each_slot_back_and_knows_its_gaps():
    b = block()
    assert r.block_head(b) == (6, 77)
    assert list(r.event_slots(b)) == [(0, False), (1, False), (5, True)]
    assert [r.event_slot(b, 100, slot) for slot in range(7)] == [
        b"payload 0",
        b"payload 1",
        None,
        None,
        None,
        b"payload 5",
        None,
    ]
    assert r.event_slot(b, 100, -1) is None


def test_a_block_cannot_stand_in_for_another():
    with pytest.raises(CorruptRecord, match="checksum"):
        r.event_slot(block(first=100), 101, 0)


@given(st.data())
def test_a_flipped_bit_in_a_slot_never_comes_out_as_data(data):
    b = bytearray(block())
    bit = data.draw(st.integers(0, len(b) * 8 - 1))
    b[bit // 8] ^= 1 << bit % 8
    for slot in (0, 1, 5):
        try:
            found = r.event_slot(bytes(b), 100, slot)
        except CorruptRecord:
            continue
        assert found in (b"payload %d" % slot, None)


@pytest.mark.parametrize(
    "b", [b"", b"\x01", struct.pack("<BBHQ", 2, 0, 0, 0), struct.pack("<BBHQ", 1, 65, 0, 0) + bytes(8 * 65), struct.pack("<BBHQ", 1, 3, 0, 0)]
)  # fmt: skip
def test_what_is_no_block_is_a_corrupt_record(b):
    with pytest.raises(CorruptRecord):
        r.block_head(b)


def test_a_block_cut_short_is_a_corrupt_record():
    with pytest.raises(CorruptRecord, match="checksum"):
        r.event_slot(block()[:-1], 100, 5)


# --- bodies


@given(st.integers(0, 3), st.integers(-1, 1))
def test_a_large_body_is_put_together_again(parts, more):
    body = bytes(range(256)) * ((parts * r.PART_BYTES + more + 256) // 256)
    body = body[: max(0, parts * r.PART_BYTES + more)]
    rows = list(r.body_parts(9, body))
    assert all(len(value) <= r.PART_BYTES + 4 for _, value in rows)
    assert b"".join(bytes(r.join_part(9, n, value)) for n, (_, value) in enumerate(rows)) == body
    assert [key for key, _ in rows] == [r.bodies_key(9, n) for n in range(len(rows))]


def test_a_part_of_another_place_or_a_damaged_one_is_a_corrupt_record():
    ((_, value),) = r.body_parts(9, b"body")
    assert r.join_part(9, 0, value) == b"body"
    for seq, part, bad in ((8, 0, value), (9, 1, value), (9, 0, value[:-1] + b"?"), (9, 0, b"abc")):
        with pytest.raises(CorruptRecord):
            r.join_part(seq, part, bad)


# --- deliveries

KEY = r.deliveries_key(2, 100)


def row():
    made = DeliveryRow(bytearray([State.PENDING, State.ABSENT, State.DYING]), 55)
    made.records[2] = Record(1, 4, 50, r.NEVER, "rejected", [ATTEMPT], 0)
    return made


def test_a_row_of_deliveries_comes_out_as_it_went_in():
    read = DeliveryRow.decode(KEY, row().encode(KEY))
    assert (read.states, read.accepted_at_ms, read.records) == (row().states, 55, row().records)
    assert [read.state(slot) for slot in range(4)] == [State.PENDING, State.ABSENT, State.DYING, State.ABSENT]
    assert read.record(2) == row().records[2]
    assert read.record(0) == Record(started_at_ms=55), "an untouched one has only its state"
    assert not DeliveryRow.decode(KEY, DeliveryRow(bytearray([1]), 5).encode(KEY)).records


def test_a_row_has_something_open_until_nothing_is():
    made = row()
    assert made.has_open
    made.set_state(0, State.ABSENT)
    assert made.has_open
    made.set_state(2, State.ABSENT)
    assert not made.has_open
    made.set_state(5, State.PENDING)
    assert list(made.states) == [0, 0, 0, 0, 0, State.PENDING]


@given(st.data())
def test_no_flipped_bit_in_a_row_goes_unnoticed(data):
    value = bytearray(row().encode(KEY))
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptRecord):
        DeliveryRow.decode(KEY, bytes(value))


def sealed(body: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(body, zlib.crc32(KEY))) + body


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "too short"),
        (row().encode(r.deliveries_key(2, 101)), "checksum"),
        (sealed(struct.pack("<BBHQ", 2, 1, 0, 0) + b"\x01"), "version"),
        (sealed(struct.pack("<BBHQ", 1, 1, 0, 0) + b"\x07"), "unknown state"),
        (sealed(struct.pack("<BBHQ", 1, 1, 0, 0) + b"\x01" + b"\xc1"), "records"),
        (sealed(struct.pack("<BBHQ", 1, 1, 0, 0) + b"\x01" + msgpack.packb({0: ["x"]})), "records"),
        (sealed(struct.pack("<BBHQ", 1, 1, 0, 0) + b"\x01" + b"\x81\x00\x95\x00\x00\x00\x00\xa1\xff"), "records"),
        (
            sealed(
                struct.pack("<BBHQ", 1, 1, 0, 0)
                + b"\x01"
                + b"\x81\x00\x98"
                + b"\x00" * 4
                + b"\xa0\x90\x00"
                + b"\x91" * 5000
            ),
            "records",
        ),
    ],
)
def test_what_is_no_row_is_a_corrupt_record(value, why):
    with pytest.raises(CorruptRecord, match=why):
        DeliveryRow.decode(KEY, value)


def test_fields_of_a_record_that_a_later_version_added_do_not_harm():
    body = struct.pack("<BBHQ", 1, 1, 0, 0) + b"\x01" + msgpack.packb({0: [1, 2, 3, 4, "", [], 0, "new"]})
    assert DeliveryRow.decode(KEY, sealed(body)).records[0] == Record(1, 2, 3, 4)


# --- history


def test_the_last_entry_of_a_slot_counts():
    value = r.history_entry(3, State.DEAD, Record(reason="rejected")) + r.history_entry(4, State.DELIVERED, Record())
    value += r.history_entry(3, State.DELIVERED, Record(round=1, log=[ATTEMPT]))
    assert r.history_entries(value) == {
        3: (State.DELIVERED, Record(round=1, log=[ATTEMPT])),
        4: (State.DELIVERED, Record()),
    }
    assert r.history_entries(b"") == {}


@given(st.data())
def test_no_flipped_bit_in_history_goes_unnoticed(data):
    value = bytearray(r.history_entry(3, State.DEAD, Record(reason="rejected")))
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptRecord):
        r.history_entries(bytes(value))


@pytest.mark.parametrize(
    "body",
    [
        msgspec.msgpack.encode((3, 99, Record())),
        b"\xc1",
        b"\x93\x03\x03\x95\x00\x00\x00\x00\xa1\xff",
        b"\x94\x03\x03\x90" + b"\x91" * 5000,
    ],
)
def test_an_entry_that_says_what_nobody_knows_is_a_corrupt_record(body):
    with pytest.raises(CorruptRecord, match="entry"):
        r.history_entries(struct.pack("<IH", zlib.crc32(body), len(body)) + body)


def test_a_history_cut_short_is_a_corrupt_record():
    with pytest.raises(CorruptRecord, match="too short"):
        r.history_entries(r.history_entry(1, State.DEAD, Record()) + b"\x00")


# --- keys


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_keys_sort_by_their_numbers_and_give_them_back(destination, at_ms, seq):
    assert r.split_key(r.events_key(seq)) == seq
    assert r.split_due_key(r.due_key(destination, at_ms, seq)) == (destination, at_ms, seq)
    if seq:
        assert r.due_key(destination, at_ms, seq - 1) < r.due_key(destination, at_ms, seq)
        assert r.events_key(seq - 1) < r.events_key(seq)


@pytest.mark.parametrize("key", [b"", b"\x00" * 7, b"\x00" * 9])
def test_a_key_of_another_length_is_a_corrupt_record(key):
    with pytest.raises(r.CorruptRecord, match=f"key of {len(key)} bytes"):
        r.split_key(key)


# --- bounds, and what a later version must find as it is


def test_the_numbers_of_the_format_are_pinned():
    """Rows of today were cut by these; another number is another format, but for the last two."""
    assert (r.FORMAT, r.BLOCK_EVENTS, r.BLOCK_BYTES, r.PART_BYTES) == (1, 64, 65_000, 65_516)
    assert (r.NEVER, r.INLINE_BODY_BYTES, r.LOG_ATTEMPTS) == (0xFFFF_FFFF_FFFF_FFFF, 32_768, 32)


def test_the_form_of_a_block_and_of_a_row_is_pinned():
    """Version 1, byte for byte, with a gap and a body in parts; the reserved bytes are 0."""
    found = r.events_block(100, {0: (b"even", False), 2: (b"odd", True)}, 77)
    assert found.hex() == (
        "01030000" "4d00000000000000"
         "04000000" + struct.pack("<I", zlib.crc32(b"even", 100)).hex()
        + "00000000" "00000000"
        + "03000080" + struct.pack("<I", zlib.crc32(b"odd", 102)).hex()
        + b"evenodd".hex()
    )  # fmt: skip
    assert DeliveryRow(bytearray([1, 0]), 9).encode(KEY)[4:].hex() == "0102000009000000000000000100"


def test_a_record_begins_with_nothing():
    assert Record() == Record(0, 0, 0, 0, "", [], 0)


def test_the_smallest_and_the_largest_block_are_blocks():
    """One slot, gaps alone, and 64 slots; a block without any was never written."""
    assert r.block_head(struct.pack("<BBHQ", 1, 1, 0, 5) + bytes(8)) == (1, 5)
    with pytest.raises(CorruptRecord, match="bad frame"):
        r.block_head(struct.pack("<BBHQ", 1, 0, 0, 5))
    gaps = struct.pack("<BBHQ", 1, 2, 0, 5) + bytes(16)
    assert (r.block_head(gaps), list(r.event_slots(gaps)), r.event_slot(gaps, 1, 1)) == ((2, 5), [], None)
    full = r.events_block(0, {63: (b"x", False)}, 5)
    assert (r.block_head(full), r.event_slot(full, 0, 63)) == ((64, 5), b"x")


def test_a_block_is_as_long_as_its_frame_says():
    """Bodies in parts are not in it; a slot that is gone makes it shorter than it is."""
    whole = r.events_block(0, {1: (b"abc", False), 3: (b"de", True)}, 5)
    assert r.block_bytes(whole) == len(whole) == 12 + 4 * 8 + 5
    gone = bytearray(whole)
    gone[12 + 3 * 8] = 0
    assert r.block_bytes(gone) == len(whole) - 2


def test_a_number_beyond_32_bits_counts_as_a_whole_in_the_checksum():
    """Both halves: else a block could stand in for the one 2^32 events before."""
    high = (1 << 32) + 100
    assert r.event_slot(block(first=high), high, 0) == b"payload 0"
    with pytest.raises(CorruptRecord, match="checksum"):
        r.event_slot(block(first=high), 100, 0)


def test_an_empty_part_and_a_row_without_slots_are_read():
    ((_, value),) = r.body_parts(9, b"x")
    assert r.join_part(9, 0, struct.pack("<I", zlib.crc32(b"", 9))) == b""
    assert len(value) == 5
    empty = DeliveryRow.decode(KEY, sealed(struct.pack("<BBHQ", 1, 0, 0, 5)))
    assert (empty.states, empty.accepted_at_ms, empty.records) == (bytearray(), 5, {})


def test_one_unknown_state_among_known_ones_is_a_corrupt_record():
    with pytest.raises(CorruptRecord, match="unknown state"):
        DeliveryRow.decode(KEY, sealed(struct.pack("<BBHQ", 1, 3, 0, 0) + b"\x01\x07\x00"))


def test_a_state_can_be_set_right_behind_the_last_one():
    made = row()
    made.set_state(3, State.PENDING)
    assert made.states == bytearray([State.PENDING, State.ABSENT, State.DYING, State.PENDING])


def test_an_event_with_half_a_header_is_a_corrupt_record_and_a_new_field_may_be_any():
    fields = msgpack.unpackb(r.encode_event(event(headers=[(b"A", b"b")]), 3, (0,)))
    assert r.decode_event(msgpack.packb([*fields, {1: 2}])).extra == [{1: 2}]
    fields[8] = [b"A", b"b", b"C"]
    with pytest.raises(CorruptRecord):
        r.decode_event(msgpack.packb(fields))


def test_an_empty_entry_of_history_is_a_corrupt_record():
    with pytest.raises(CorruptRecord, match="entry"):
        r.history_entries(struct.pack("<IH", zlib.crc32(b""), 0))
