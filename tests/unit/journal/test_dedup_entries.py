"""Entries and frames come back as they went in, or not at all when a bit of them is off."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.journal import dedup_entries as e
from sidecar.journal.dedup_entries import DedupEntry, Run, Segment

u48 = st.integers(0, 2**48 - 1)
digests = st.binary(min_size=16, max_size=16)
entries = st.builds(
    DedupEntry,
    u48,
    u48,
    st.integers(0, 2**32 - 1),
    st.binary(min_size=4, max_size=4),
    u48,
    st.integers(0, 2**16 - 1),
    st.integers(0, 255),
)
ENTRY = DedupEntry(1, 2, 3, b"body", 4, 5)


def bucket(*runs: tuple[int, list[bytes]]) -> bytes:
    return b"".join(e.seal_frame(mark, b"".join(e.pack_entry(d, ENTRY) for d in ds)) for mark, ds in runs)


def digest(n: int) -> bytes:
    return n.to_bytes(2) * 8


@given(digests, entries)
def test_an_entry_is_48_bytes_behind_its_digest(key, entry):
    packed = e.pack_entry(key, entry)
    assert len(packed) == e.ENTRY_BYTES == 48
    assert packed.startswith(key)
    assert e.unpack_entry(packed) == entry


def test_an_entry_is_answered_and_a_segment_there_unless_they_say_so():
    assert ENTRY.state == 0
    assert not Segment(9, 1, 0, 0, 0, 0).dropping


def test_spare_bits_are_written_as_zero_and_ignored_when_read():
    packed = bytearray(e.pack_entry(bytes(16), ENTRY))
    for spare in (17, 24, 25):
        assert packed[spare] == 0
        packed[spare] = 0xFF
    assert e.unpack_entry(bytes(packed)) == ENTRY


@given(st.integers(0, 2**64 - 1), st.binary(max_size=200))
def test_a_frame_gives_its_content_back(mark, content):
    assert e.open_frame(e.seal_frame(mark, content)) == (mark, content)


@given(st.binary(max_size=60), st.data())
def test_a_frame_with_any_bit_flipped_or_cut_is_refused(content, data):
    frame = bytearray(e.seal_frame(7, content))
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    cut = data.draw(st.integers(0, len(frame) - 1))
    assert e.open_frame(bytes(frame[:cut])) is None
    frame[bit // 8] ^= 1 << bit % 8
    assert e.open_frame(bytes(frame)) is None


def test_no_value_is_no_frame():
    assert e.open_frame(None) is None


def test_a_bucket_gives_the_newest_entry():
    old, new = ENTRY._replace(seq=10), ENTRY._replace(seq=20)
    value = e.seal_frame(1, e.pack_entry(digest(1), old)) + e.seal_frame(2, e.pack_entry(digest(1), new))
    packed, damaged = e.newest_in_bucket(value, digest(1))
    assert packed is not None
    assert (e.unpack_entry(packed).seq, damaged) == (20, 0)
    assert e.newest_in_bucket(value, digest(2)) == (None, 0)


def test_the_newest_entry_is_found_though_its_digest_goes_on_behind_it():
    """Zeros, and the fields of an entry begin with some: the same 16 bytes are at seven wrong places, too."""
    value = bucket((1, [bytes(16)]))
    packed, _ = e.newest_in_bucket(value, bytes(16))
    assert packed is not None
    assert e.unpack_entry(packed) == ENTRY


def test_a_header_that_looks_like_a_digest_is_no_entry():
    first, second = bucket((1, [digest(1)])), bucket((2, [digest(2)]))
    assert e.newest_in_bucket(first + second, second[:16]) == (None, 0)
    assert e.newest_in_bucket(digest(1), digest(1)) == (None, 1), "and one of no frame is damage"


def test_digest_bytes_that_lie_across_entries_are_no_match():
    value = bucket((1, [digest(1), digest(2)]))
    across = value[20:36]
    assert across in value
    assert e.newest_in_bucket(value, across) == (None, 0)


def test_a_damaged_share_is_skipped_and_the_others_are_found():
    value = bytearray(bucket((1, [digest(1)]), (2, [digest(2)]), (3, [digest(3), digest(4)])))
    value[64 + 16 + 20] ^= 1
    assert e.newest_in_bucket(bytes(value), digest(1))[0] is not None
    assert e.newest_in_bucket(bytes(value), digest(2)) == (None, 1)
    assert e.newest_in_bucket(bytes(value), digest(4))[0] is not None
    sound, damaged, there = e.sound_frames(bytes(value), 3)
    assert (sound, damaged, there) == (bucket((1, [digest(1)]), (3, [digest(3), digest(4)])), 1, True)
    assert not e.sound_frames(bytes(value), 2)[2]


def test_nothing_behind_a_damaged_length_is_trusted():
    value = bytearray(bucket((1, [digest(1)]), (2, [digest(2)])))
    value[64 + 4] ^= 0x80
    assert e.newest_in_bucket(bytes(value), digest(1))[0] is not None
    assert e.newest_in_bucket(bytes(value), digest(2)) == (None, 1)
    assert e.sound_frames(bytes(value), 2) == (bucket((1, [digest(1)])), 1, False)
    assert e.sound_frames(bytes(value[:70]), 1) == (bucket((1, [digest(1)])), 1, True)


def test_a_sound_bucket_is_left_as_it_is():
    value = bucket((1, [digest(1)]))
    assert e.sound_frames(value, 1) == (value, 0, True)
    assert e.sound_frames(b"", 1) == (b"", 0, False)
    empty = e.seal_frame(2, b"")
    assert e.sound_frames(value + empty, 2) == (value + empty, 0, True)


@given(st.booleans(), st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), u48), max_size=5))
def test_a_segment_row_comes_back(dropping, by_source):
    segment = Segment(9, 1 << 20, 10, 77, 1000, 2000, dropping, tuple(by_source))
    assert e.unpack_segment(9, e.pack_segment(segment)) == segment
    assert (e.open_frame(e.pack_segment(segment)) or (None,))[0] == 0


def test_a_segment_row_of_the_wrong_size_is_refused():
    assert e.unpack_segment(9, None) is None
    assert e.unpack_segment(9, e.seal_frame(0, b"short")) is None
    whole = e.open_frame(e.pack_segment(Segment(9, 1, 0, 0, 0, 0)))
    assert whole is not None
    assert e.unpack_segment(9, e.seal_frame(0, whole[1] + b"x")) is None


@given(st.booleans(), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_a_run_row_comes_back(sealed, segment, last_seq):
    run = Run(segment, last_seq, sealed)
    assert e.unpack_run(e.pack_run(run)) == run
    assert (e.open_frame(e.pack_run(run)) or (None,))[0] == 0
    assert e.unpack_run(None) is None
    assert e.unpack_run(e.seal_frame(0, b"x")) is None


def test_the_keys_are_those_of_every_journal_there_is():
    assert e.RUN_KEY == b"r"
    assert e.segment_key(1) == b"s\0\0\0\1\0\0\0"
    assert e.filter_key(1, 2) == b"s\0\0\0\1\1\0\2"
    assert e.bucket_key(1, 3) == b"s\0\0\0\1\2\0\3"
    assert e.block_key(4) == b"u\0\0\0\0\0\0\0\4"


def test_the_keys_of_a_segment_lie_together_and_blocks_come_last():
    keys = [
        e.RUN_KEY,
        e.segment_key(1),
        e.filter_key(1, 0),
        e.filter_key(1, 300),
        e.bucket_key(1, 0),
        e.bucket_key(1, 65535),
        e.segment_key(2),
        e.block_key(1),
        e.block_key(2**48),
    ]
    assert keys == sorted(keys)
    assert all(k.startswith(e.segment_prefix(1)) for k in keys[1:6])
    assert not keys[6].startswith(e.segment_prefix(1))


def test_what_is_damaged_in_a_value_is_counted():
    value = bucket((1, [digest(1)]), (2, [digest(2), digest(3)]))
    assert e.damaged_frames(value) == 0
    assert e.damaged_frames(value[:-1] + b"?") == 1
    assert e.damaged_frames(b"") == 0
