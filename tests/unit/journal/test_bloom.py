"""The filters never forget a key, rarely invent one, and agree whether asked alone or together."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.journal.bloom import BITS_PER_KEY, PROBES, Bloom, FilterBank

halves = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))


def random_halves(seed: int, n: int) -> list[tuple[int, int]]:
    return list(struct.iter_unpack(">QQ", random.Random(seed).randbytes(16 * n)))


@given(st.lists(halves, max_size=40), st.integers(1, 60))
def test_every_added_digest_is_found(keys, capacity):
    bloom = Bloom(capacity)
    bloom.add(keys)
    bank = FilterBank({7: bloom})
    assert all(bank.which(*key) == [7] for key in keys)


def test_fewer_than_2_percent_are_found_without_reason_at_full_capacity():
    bloom = Bloom(4096)
    bloom.add(random_halves(1, 4096))
    bank = FilterBank({1: bloom})
    wrong = sum(bool(bank.which(*key)) for key in random_halves(2, 20_000))
    assert 0 < wrong < 400


def test_filters_of_different_sizes_are_asked_together():
    keys = random_halves(3, 300)
    filters = {n: Bloom(64 << n % 3) for n in range(6)}
    for n, bloom in filters.items():
        bloom.add(keys[n * 50 : n * 50 + 50])
    bank = FilterBank(filters)
    for i, key in enumerate(keys):
        together = set(bank.which(*key))
        assert i // 50 in together
        assert together == {n for n, f in filters.items() if FilterBank({n: f}).which(*key)}


def test_all_probes_are_used():
    bloom = Bloom(10_000)
    bloom.add([(3, 5)])
    assert sum(byte.bit_count() for byte in bloom.bits) == PROBES == 7, "filters on disk were made with so many"


def test_a_filter_that_lacks_any_one_of_its_bits_does_not_have_the_digest():
    probed = Bloom(10_000)
    probed.add([(3, 5)])
    full = bytearray(b"\xff" * len(probed.bits))
    assert FilterBank({1: Bloom(10_000, full)}).which(3, 5) == [1]
    for at in range(8 * len(full)):
        if probed.bits[at // 8] & 1 << at % 8:
            full[at // 8] ^= 1 << at % 8
            assert FilterBank({1: Bloom(10_000, full)}).which(3, 5) == []
            full[at // 8] ^= 1 << at % 8


def test_a_probe_that_hits_the_end_goes_on_at_the_beginning():
    bloom = Bloom(1 << 24)
    bloom.add([(1, len(bloom.bits) * 8 - 1)])
    assert bloom.bits[0] == 0b111111
    assert FilterBank({1: bloom}).which(1, len(bloom.bits) * 8 - 1) == [1]


def test_the_size_follows_the_capacity_in_powers_of_two():
    sizes = {n: len(Bloom(n).bits) * 8 for n in (1, 8, 9, 1 << 20, (1 << 20) + 1)}
    assert sizes == {1: 80, 8: 80, 9: 160, 1 << 20: BITS_PER_KEY << 20, (1 << 20) + 1: BITS_PER_KEY << 21}
    assert len(Bloom(1 << 40).bits) == len(Bloom(1 << 24).bits)
    assert Bloom(1, bytearray(10)).bits == bytearray(10)
    with pytest.raises(AssertionError):
        Bloom(1, bytearray(9))


@pytest.mark.parametrize("capacity", [64, 1024, 65_536])
def test_small_filters_are_as_sharp_as_large_ones(capacity):
    wrong = 0
    for seed in range(max(1, 4096 // capacity)):
        bloom = Bloom(capacity)
        bloom.add(random_halves(seed, capacity))
        bank = FilterBank({1: bloom})
        wrong += sum(bool(bank.which(*key)) for key in random_halves(1000 + seed, 20_000 * capacity // 65_536 + 400))
    asked = (20_000 * capacity // 65_536 + 400) * max(1, 4096 // capacity)
    assert wrong / asked < 0.02


def test_a_bank_is_replaced_not_changed():
    one = FilterBank({1: Bloom(8)})
    two = one.with_filter(2, Bloom(8))
    assert list(one.filters) == [1]
    assert list(two.filters) == [1, 2]
    assert list(two.without(1).filters) == [2]
    assert list(two.without(9).filters) == [1, 2]


def test_an_empty_bank_has_nothing():
    assert FilterBank({}).which(1, 2) == []
