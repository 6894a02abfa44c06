"""The generation in memory finds what was added, and hands it out bucket by bucket without a loss."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.journal.dedup_entries import ENTRY_BYTES, DedupEntry, pack_entry
from sidecar.journal.dedup_recent import RecentKeys


def entry(seq: int, expires_at_ms: int = 1000) -> DedupEntry:
    return DedupEntry(seq, 0, 0, b"body", expires_at_ms, 0)


def high(digest: bytes) -> int:
    return int.from_bytes(digest[:8])


def cut(packed: bytes) -> list[bytes]:
    return [packed[i : i + ENTRY_BYTES] for i in range(0, len(packed), ENTRY_BYTES)]


# Few leading bits and few others: full clusters, wraps round the end of the table, and repeats.
digests = st.tuples(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFD, 0xFE, 0xFF]), st.integers(0, 9)).map(
    lambda t: bytes([t[0]]) * 8 + bytes([t[1]]) * 8
)


@given(st.lists(st.lists(digests, max_size=9), max_size=9), st.integers(1, 20), st.integers(0, 5))
def test_it_finds_the_newest_entry_of_each_digest_and_gathers_each_once(batches, capacity, buckets_log2):
    recent = RecentKeys(capacity)
    model: dict[bytes, bytes] = {}
    n = 0
    for seq, batch in enumerate(batches, 1):
        block = b""
        for digest in batch:
            n += 1
            model[digest] = pack_entry(digest, entry(n))
            block += model[digest]
        recent.add(block, seq, seq)
    for digest in [bytes([a]) * 8 + bytes([b]) * 8 for a in (0, 2, 0x80, 0xFF, 0x33) for b in range(10)]:
        assert recent.find(high(digest), digest) == model.get(digest)
    gathered = []
    for bucket in range(1 << buckets_log2):
        share = cut(recent.gather(bucket, buckets_log2, 0))
        assert all(r[0] >> (8 - buckets_log2) == bucket for r in share)
        gathered += share
    assert sorted(gathered) == sorted(model.values())
    assert recent.count == n


def test_expired_entries_are_not_gathered():
    recent = RecentKeys(8)
    a, b = bytes(16), bytes([1] * 16)
    recent.add(pack_entry(a, entry(1, 100)) + pack_entry(b, entry(2, 101)), 1, 5)
    assert cut(recent.gather(0, 0, 100)) == [pack_entry(b, entry(2, 101))]
    assert recent.last_expiry_ms == 101


def test_the_last_expiry_is_that_of_all_blocks_of_today_too():
    """Milliseconds since 1970 take six bytes, and a later block may expire earlier."""
    now_ms = 1_700_000_000_000
    recent = RecentKeys(8)
    late = pack_entry(bytes(16), entry(1, now_ms + 1))
    recent.add(late, 1, 5)
    recent.add(pack_entry(bytes([1] * 16), entry(2, now_ms)), 2, 6)
    assert recent.last_expiry_ms == now_ms + 1
    assert recent.gather(0, 0, now_ms) == late


@pytest.mark.parametrize("buckets_log2", [9, 12, 16])
def test_a_bucket_may_be_told_by_the_second_byte_too(buckets_log2):
    """As many as 65,536 of them; keys that only differ there are in different ones."""
    recent = RecentKeys(300)
    keys = [bytes([first, second, 255 - second]) + bytes(13) for first in (0, 7, 255) for second in range(100)]
    recent.add(b"".join(pack_entry(key, entry(n)) for n, key in enumerate(keys, 1)), 1, 1)
    buckets = [int.from_bytes(key[:2]) >> (16 - buckets_log2) for key in keys]
    for bucket in {0, 1, *buckets}:
        share = [record[:16] for record in cut(recent.gather(bucket, buckets_log2, 0))]
        assert sorted(share) == [key for key, own in zip(keys, buckets, strict=True) if own == bucket]


def test_an_entry_in_another_state_replaces_the_one_before():
    """The digest alone is the key."""
    recent = RecentKeys(8)
    recent.add(pack_entry(bytes(16), entry(1)), 1, 1)
    newest = pack_entry(bytes(16), entry(2)._replace(state=1))
    recent.add(newest, 2, 2)
    assert recent.find(0, bytes(16)) == recent.gather(0, 0, 0) == newest


def test_it_takes_more_than_it_was_made_for():
    recent = RecentKeys(2)
    rng = random.Random(1)
    keys = [rng.randbytes(16) for _ in range(500)]
    for seq, key in enumerate(keys, 1):
        recent.add(pack_entry(key, entry(seq)), seq, seq)
    recent.add(b"".join(pack_entry(rng.randbytes(16), entry(9)) for _ in range(2000)), 501, 501)
    assert all(recent.find(high(k), k) == pack_entry(k, entry(seq)) for seq, k in enumerate(keys, 1))
    assert sum(len(cut(recent.gather(b, 4, 0))) for b in range(16)) == recent.count == 2500


@pytest.mark.parametrize(("capacity", "slots"), [(1, 8), (4, 8), (5, 16), (1024, 2048), (1025, 4096)])
def test_a_key_that_it_was_made_for_has_two_slots_or_more(capacity, slots):
    assert len(RecentKeys(capacity)._table[0]) == slots


@pytest.mark.parametrize(("keys", "slots"), [(6, 8), (7, 16), (8, 16), (9, 32), (100, 256)])
def test_the_table_grows_when_it_is_three_quarters_full(keys, slots):
    """And is half full then, or less."""
    recent = RecentKeys(1)
    recent.add(b"".join(pack_entry(bytes([n] * 16), entry(n)) for n in range(1, keys + 1)), 1, 1)
    assert len(recent._table[0]) == slots


def test_it_knows_its_first_time_and_its_last_block():
    assert (RecentKeys(8).last_seq, RecentKeys(8).last_expiry_ms) == (0, 0)
    recent = RecentKeys(8, 41)
    assert (recent.last_seq, recent.opened_ms, recent.count) == (41, 0, 0)
    recent.add(pack_entry(bytes(16), entry(1)), 50, 777)
    recent.add(pack_entry(bytes(16), entry(2)), 60, 888)
    assert (recent.last_seq, recent.opened_ms, recent.count) == (60, 777, 2)
    assert recent.packed() == pack_entry(bytes(16), entry(1)) + pack_entry(bytes(16), entry(2))


@pytest.mark.parametrize("capacity", [1, 65_536])
def test_its_memory_is_the_entries_and_a_few_bytes_of_table_for_each(capacity):
    recent = RecentKeys(capacity)
    recent.add(random.Random(2).randbytes(48) * 1, 1, 1)
    assert 4 * capacity <= recent.memory_bytes <= 8 * capacity + 400
