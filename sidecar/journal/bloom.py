"""[P] Bloom filters over dedup digests: one for each segment, asked all at once.

A digest is uniform already, so its two 64-bit halves are the two hashes of double hashing, and nothing is hashed here.
The sizes of filters differ by powers of two, and a position in a smaller one is that in the largest, shifted. So a
look-up works out each position once for all of them, and keeps the filters that still have all bits so far, which is
down to none after a few rounds.

Source: Kirsch and Mitzenmacher, "Less Hashing, Same Performance: Building a Better Bloom Filter" (2006).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["BITS_PER_KEY", "PROBES", "Bloom", "FilterBank"]

BITS_PER_KEY = 10
PROBES = 7  # 10 ln 2, rounded: under 1 % false positives at full capacity

_LARGEST_LOG2 = 24
_LARGEST = BITS_PER_KEY << _LARGEST_LOG2  # positions in the largest filter; fits one digit of a Python int

_BIT = tuple(1 << n for n in range(8))


class Bloom:
    """One filter. Bits are only ever set, so a reader on another thread misses at most a key that is being added.

    Args:
        capacity: Keys, rounded up to a power of two from 8 to 16,777,216.
        bits: The filter as it was stored; None for an empty one.

    Attributes:
        bits: The filter itself.
        shift: How much smaller it is than the largest.
    """

    __slots__ = ("bits", "shift")

    def __init__(self, capacity: int, bits: bytearray | None = None) -> None:
        log2 = min(max(3, (capacity - 1).bit_length()), _LARGEST_LOG2)
        size_bytes = BITS_PER_KEY << log2 - 3
        self.shift = _LARGEST_LOG2 - log2
        self.bits = bytearray(size_bytes) if bits is None else bits
        assert len(self.bits) == size_bytes

    def add(self, halves: Iterable[tuple[int, int]]) -> None:
        """Remember digests.

        Args:
            halves: Each digest as its (high, low) 64 bits.
        """
        bits = self.bits
        shift = self.shift + 3
        bit = _BIT
        rounds = range(PROBES)
        for high, low in halves:
            at = low % _LARGEST
            step = high % _LARGEST
            for _ in rounds:
                bits[at >> shift] |= bit[at & 7]
                at += step
                if at >= _LARGEST:
                    at -= _LARGEST


class FilterBank:
    """All filters together; immutable but for the bits of the filters themselves."""

    __slots__ = ("_filters", "filters")

    def __init__(self, filters: Mapping[int, Bloom]) -> None:
        self.filters = dict(filters)
        self._filters = [(bloom.bits, bloom.shift + 3, name) for name, bloom in self.filters.items()]

    def which(self, high: int, low: int) -> list[int]:
        """Name the filters that may have a digest.

        Args:
            high: Its leading 64 bits.
            low: Its other 64 bits.

        Returns:
            Names as given to the constructor, in its order.
        """
        first = low % _LARGEST
        step = high % _LARGEST
        second = (first + step) % _LARGEST
        at = (second + step) % _LARGEST
        first_bit, second_bit, third_bit = _BIT[first & 7], _BIT[second & 7], _BIT[at & 7]
        # Three probes at once rule out seven of eight filters.
        live = [
            (bits, shift, name)
            for bits, shift, name in self._filters
            if bits[first >> shift] & first_bit and bits[second >> shift] & second_bit and bits[at >> shift] & third_bit
        ]
        probes = 3
        while live and probes < PROBES:
            at = (at + step) % _LARGEST
            bit = _BIT[at & 7]
            live = [f for f in live if f[0][at >> f[1]] & bit]
            probes += 1
        return [name for _, _, name in live]

    def with_filter(self, name: int, bloom: Bloom) -> FilterBank:
        """Make a bank that has one more."""
        return FilterBank({**self.filters, name: bloom})

    def without(self, name: int) -> FilterBank:
        """Make a bank that has one less; the name may be unknown."""
        return FilterBank({n: f for n, f in self.filters.items() if n != name})
