"""[P] The newest dedup keys, in memory: packed entries in order of arrival and a hash table of their numbers.

Ten million small objects in a dict would cost four times the memory of the bytes. The table is an array with linear
probing whose slots follow the leading bits of the digest; so walking it in order gives the entries bucket by bucket,
which is all the sorting that sealing needs.

One thread adds, any thread may look up at the same time: an entry is in the log before a slot names it, and the table
is replaced whole when it grows.
"""

from __future__ import annotations

import struct
from array import array

from sidecar.journal.dedup_entries import ENTRY_BYTES

__all__ = ["RecentKeys"]

_INDEXED = struct.Struct(">Q24xQ8x")  # leading digest bits; expiry and source


class RecentKeys:
    """A generation of keys.

    Args:
        capacity: Keys it is made for; it takes more, slower.
        last_seq: Of the generation before; 0 when there is none.

    Attributes:
        count: Entries, replaced ones included.
        opened_ms: Journal clock at its first batch; 0 while empty.
        last_expiry_ms: Journal clock when its last key expires.
        last_seq: First seq of its last block, or the argument while empty.
    """

    __slots__ = ("_log", "_table", "count", "last_expiry_ms", "last_seq", "opened_ms")

    def __init__(self, capacity: int, last_seq: int = 0) -> None:
        bits = max(3, (2 * capacity - 1).bit_length())
        self._log = bytearray()
        self._table = (array("I", bytes(4 << bits)), bits)
        self.count = 0
        self.opened_ms = 0
        self.last_expiry_ms = 0
        self.last_seq = last_seq

    def add(self, block: bytes, first_seq: int, claimed_ms: int) -> None:
        """Take in a block of packed entries; later ones replace earlier ones with the same digest.

        Args:
            block: Packed entries.
            first_seq: The block's key; greater than that of the one before.
            claimed_ms: Journal clock when they were claimed.
        """
        if not self.count:
            self.opened_ms = claimed_ms
        self.last_seq = first_seq
        before = len(self._log)
        self._log += block
        self.count = len(self._log) // ENTRY_BYTES
        bits = self._table[1]
        if self.count * 4 > 3 << bits:
            while self.count * 2 > 1 << bits:
                bits += 1
            table = (array("I", bytes(4 << bits)), bits)
            self._enter(table, 0)
            self._table = table
        else:
            self._enter(self._table, before)

    def _enter(self, table: tuple[array[int], int], start: int) -> None:
        """Give every entry from byte ``start`` of the log on its slot."""
        slots, bits = table
        log = self._log
        mask = len(slots) - 1
        shift = 64 - bits
        last_expiry = self.last_expiry_ms << 16
        at = start
        for high, expires_source in _INDEXED.iter_unpack(memoryview(bytes(log[start:]))):
            slot = high >> shift
            while number := slots[slot]:
                if log.startswith(log[at : at + 16], (number - 1) * ENTRY_BYTES):
                    break
                slot = (slot + 1) & mask
            slots[slot] = at // ENTRY_BYTES + 1
            if expires_source > last_expiry:  # noqa: PLR1730 - max() would be a call for each key
                last_expiry = expires_source
            at += ENTRY_BYTES
        self.last_expiry_ms = last_expiry >> 16

    def find(self, high: int, digest: bytes) -> bytes | None:
        """Look a digest up.

        Args:
            high: Its leading 64 bits.
            digest: All 16 bytes.

        Returns:
            The packed entry, or None.
        """
        slots, bits = self._table
        log = self._log
        mask = len(slots) - 1
        slot = high >> (64 - bits)
        while number := slots[slot]:
            at = (number - 1) * ENTRY_BYTES
            if log.startswith(digest, at):
                return bytes(log[at : at + ENTRY_BYTES])
            slot = (slot + 1) & mask
        return None

    def gather(self, bucket: int, buckets_log2: int, now_ms: int) -> bytes:
        """Collect the entries of one bucket that have not expired.

        Args:
            bucket: The leading ``buckets_log2`` bits of their digests.
            buckets_log2: 0 to 16.
            now_ms: Journal clock.

        Returns:
            Packed entries, in no particular order; each digest once, its newest entry.
        """
        slots, bits = self._table
        mask = len(slots) - 1
        first = (bucket << bits) >> buckets_log2
        last = (((bucket + 1) << bits) - 1) >> buckets_log2
        shift = 16 - buckets_log2
        log = self._log
        found = []
        slot = first
        # Past its last own slot a bucket's entries go on up to the next free one, round the end of the table if need be.
        while ((number := slots[slot & mask]) or slot < last) and slot - first <= mask:
            if number:
                at = (number - 1) * ENTRY_BYTES
                if (log[at] << 8 | log[at + 1]) >> shift == bucket and int.from_bytes(log[at + 32 : at + 38]) > now_ms:
                    found.append(log[at : at + ENTRY_BYTES])
            slot += 1
        return b"".join(found)

    def packed(self) -> bytes:
        """All entries as they came in."""
        return bytes(self._log)

    @property
    def memory_bytes(self) -> int:
        """Memory of the log and the table."""
        return self._log.__sizeof__() + len(self._table[0]) * 4
