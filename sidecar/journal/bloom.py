"""[P] Bloom filters over dedup digests: one for each segment, asked all at once.

A digest is uniform already, so its two 64-bit halves are the two hashes of double hashing, and nothing is hashed here.
Filters of equal size share their positions: a look-up works each position out once and keeps the filters that
still have all bits so far, which is down to none after a few rounds.

Source: Kirsch and Mitzenmacher, "Less Hashing, Same Performance: Building a Better Bloom Filter" (2006).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["BITS_PER_KEY", "PROBES", "Bloom", "FilterBank"]

BITS_PER_KEY = 10
PROBES = 7  # 10 ln 2, rounded: under 1 % false positives at full capacity

_BIT = tuple(1 << n for n in range(8))


class Bloom:
    """One filter. Bits are only ever set, so a reader on another thread sees at worst a key too few of those being added.

    Attributes:
        size: Number of bits, a multiple of 8.
        bits: The filter itself.
    """

    __slots__ = ("bits", "size")

    def __init__(self, capacity: int, bits: bytearray | None = None) -> None:
        self.size = (capacity * BITS_PER_KEY + 7) // 8 * 8
        self.bits = bytearray(self.size // 8) if bits is None else bits
        assert len(self.bits) * 8 == self.size

    def add(self, halves: Iterable[tuple[int, int]]) -> None:
        """Remember digests.

        Args:
            halves: Each digest as its (high, low) 64 bits.
        """
        bits = self.bits
        size = self.size
        bit = _BIT
        rounds = range(PROBES)
        for high, low in halves:
            at = low % size
            step = high % size
            for _ in rounds:
                bits[at >> 3] |= bit[at & 7]
                at += step
                if at >= size:
                    at -= size


class FilterBank:
    """All filters together; immutable but for the bits of the filters themselves."""

    __slots__ = ("_groups", "filters")

    def __init__(self, filters: Mapping[int, Bloom]) -> None:
        self.filters = dict(filters)
        groups: dict[int, list[tuple[bytearray, int]]] = {}
        for name, bloom in self.filters.items():
            groups.setdefault(bloom.size, []).append((bloom.bits, name))
        self._groups = tuple(groups.items())

    def which(self, high: int, low: int) -> list[int]:
        """Name the filters that may have a digest.

        Args:
            high: Its leading 64 bits.
            low: Its other 64 bits.

        Returns:
            Names as given to the constructor, in no particular order.
        """
        names: list[int] = []
        bit = _BIT
        for size, group in self._groups:
            at = low % size
            step = high % size
            byte = at >> 3
            mask = bit[at & 7]
            live = [f for f in group if f[0][byte] & mask]
            probes = 1
            while live and probes < PROBES:
                at += step
                if at >= size:
                    at -= size
                byte = at >> 3
                mask = bit[at & 7]
                live = [f for f in live if f[0][byte] & mask]
                probes += 1
            names += [name for _, name in live]
        return names

    def with_filter(self, name: int, bloom: Bloom) -> FilterBank:
        """Make a bank that has one more."""
        return FilterBank({**self.filters, name: bloom})

    def without(self, name: int) -> FilterBank:
        """Make a bank that has one less; the name may be unknown."""
        return FilterBank({n: f for n, f in self.filters.items() if n != name})
