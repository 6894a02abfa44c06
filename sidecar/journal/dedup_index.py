"""The store of claimed dedup keys: in the journal's own transactions, made for tens of millions of keys.

New keys join the event's transaction as one block per batch and are kept in memory; older ones move into segments of
buckets on disk with a Bloom filter each, a slice per transaction (``dedup_sealing``). So a claim of a new key reads
nothing from disk, nearly always, and writes 48 bytes in sequence, whatever the number of keys.

All of it runs on the journal's writer thread; ``maybe`` alone may be called on the event loop at the same time.
"""

from __future__ import annotations

from typing import Any

from sidecar.journal.bloom import Bloom, FilterBank
from sidecar.journal.dedup_entries import (
    BLOCKS,
    ENTRY_BYTES,
    RUN_KEY,
    SEGMENTS,
    DedupEntry,
    Run,
    Segment,
    block_key,
    bucket_key,
    filter_key,
    newest_in_bucket,
    open_frame,
    pack_entry,
    seal_frame,
    segment_key,
    segment_prefix,
    unpack_entry,
    unpack_run,
    unpack_segment,
)
from sidecar.journal.dedup_recent import RecentKeys
from sidecar.journal.dedup_sealing import Sealing, Sizes, View

__all__ = ["DedupEntry", "DedupIndex"]

_128_BITS = (1 << 128) - 1
_64_BITS = (1 << 64) - 1
_KEY_BYTES_ON_DISK = 56  # an entry, its share of frames, filter and unused ends of pages


class DedupIndex:
    """Remembers which event first claimed a key.

    One transaction: any number of ``find`` and ``stage``, ``write`` once if something was staged, ``maintain`` before
    or after it, then ``committed`` or ``aborted`` when the outcome is known.

    Args:
        env: The LMDB environment; asked for its page size only.
        db: The table, used by nothing else.
        max_bytes: What its pages may come to; beyond it the oldest keys go early.
        secret: Mixed into every digest, so that nobody can choose keys that share buckets; the same for the life
            of the table. Empty: digests are taken as they are.
        recent_keys: Keys of a generation in memory (there are up to two); smaller for a small ``max_bytes``.
        segment_keys: Most keys of a segment; smaller for a small ``max_bytes``.
        bucket_keys: Keys of one bucket of a segment of ``segment_keys``.
        part_bytes: Content of one stored part of a filter; with its frame 16 pages exactly.

    Attributes:
        corrupt: Damaged blocks, buckets and rows found and skipped since the start.
    """

    def __init__(
        self,
        env: Any,
        db: Any,
        *,
        max_bytes: int,
        secret: bytes = b"",
        recent_keys: int = 1 << 16,
        segment_keys: int = 1 << 20,
        bucket_keys: int = 1 << 10,
        part_bytes: int = 65_504,
    ) -> None:
        while segment_keys > 1024 and segment_keys * 8 * _KEY_BYTES_ON_DISK > max_bytes:
            segment_keys //= 2
        recent_keys = min(recent_keys, max(1, segment_keys // 4))
        self._db = db
        self._sizes = Sizes(recent_keys, segment_keys, bucket_keys, part_bytes, max_bytes, env.stat()["psize"])
        self._factor = int.from_bytes(secret[:16]) | 1
        self._view = self._draft = View(RecentKeys(recent_keys))
        self._staged: dict[bytes, DedupEntry] = {}
        self._block = b""
        self._block_seq = 0
        self._now_ms = 0
        self._unmeasured = recent_keys
        self.corrupt = 0

    # --- one transaction -------------------------------------------------------------------------

    def find(self, txn: Any, digest: bytes, now_ms: int) -> DedupEntry | None:
        """Look up who claimed a key, in this transaction or before.

        Args:
            txn: The running transaction.
            digest: 16 bytes.
            now_ms: Journal clock.

        Returns:
            The entry; None when the key was never claimed, has expired, or was dropped early.
        """
        self._now_ms = max(self._now_ms, now_ms)
        entry = self._staged.get(digest)
        if entry is None:
            high, low, mixed = self._mix(digest)
            packed = self._find_packed(txn, high, low, mixed)
            if packed is None:
                return None
            entry = unpack_entry(packed)
        return entry if entry.expires_at_ms > now_ms else None

    def _find_packed(self, txn: Any, high: int, low: int, mixed: bytes) -> bytes | None:
        """Newest place first: an expired entry may lie behind the one that took its place."""
        view = self._draft
        packed = view.newer.find(high, mixed)
        if packed is None and view.older is not None:
            packed = view.older.find(high, mixed)
        if packed is not None:
            return packed
        ids = view.bank.which(high, low)
        if not ids:
            return None
        for segment in reversed(view.segments):
            if segment.id in ids:
                value = txn.get(bucket_key(segment.id, high >> 48 >> 16 - segment.buckets_log2), db=self._db)
                if value is not None:
                    packed, damaged = newest_in_bucket(bytes(value), mixed)
                    self.corrupt += damaged
                    if packed is not None:
                        return packed
        return None

    def stage(self, digest: bytes, entry: DedupEntry) -> None:
        """Claim a key within the running transaction.

        Args:
            digest: 16 bytes, for which ``find`` just gave None, or an entry that this one takes the place of.
            entry: What is remembered.
        """
        self._staged[digest] = entry

    def write(self, txn: Any, first_seq: int) -> None:
        """Put what was staged as one block; nothing when nothing was.

        Args:
            txn: The running transaction.
            first_seq: Greater than of any block before.
        """
        if not self._staged:
            return
        assert first_seq > self._draft.newer.last_seq
        mix = self._mix
        self._block = b"".join([pack_entry(mix(digest)[2], entry) for digest, entry in self._staged.items()])
        self._block_seq = first_seq
        self._unmeasured += len(self._staged)
        txn.put(block_key(first_seq), seal_frame(self._now_ms, self._block), db=self._db)

    def maintain(self, txn: Any, now_ms: int, *, max_ops: int = 32) -> None:
        """Do one slice of what is due: seal, let expired keys go, or make room; nothing when nothing is due.

        Keeps up with batches of up to about 600 keys at 32 operations; with larger ones more keys stay in memory.

        Args:
            txn: The running transaction.
            now_ms: Journal clock.
            max_ops: LMDB operations it may take, at least 6.
        """
        self._now_ms = max(self._now_ms, now_ms)
        measure = self._unmeasured * 16 >= self._sizes.recent_keys and not self._draft.dropping
        if measure:
            self._unmeasured = 0
        idle = not self._staged
        sealing = Sealing(txn, self._db, self._sizes, now_ms, max_ops, idle=idle, damaged=self._damaged)
        before = self._draft
        self._draft = sealing.advance(before, measure=measure)
        if before.dropping != self._draft.dropping:
            self._unmeasured = self._sizes.recent_keys  # one segment may not have been enough

    def committed(self) -> None:
        """Follow the transaction in memory: it is on disk."""
        assert not self._staged or self._block
        view = self._draft
        if self._block:
            view.newer.add(self._block, self._block_seq, self._now_ms)
        self._view = view
        self._forget_transaction()

    def aborted(self) -> None:
        """Forget the transaction: nothing of it is on disk."""
        self._draft = self._view
        self._unmeasured = self._sizes.recent_keys
        self._forget_transaction()

    def _forget_transaction(self) -> None:
        self._staged.clear()
        self._block = b""

    # --- any thread ------------------------------------------------------------------------------

    def maybe(self, digest: bytes) -> bool:
        """Say whether a key may have been claimed; for the event loop, from memory only.

        Never False for a committed key that ``find`` would give. True without reason for under 1 % of the keys
        for each segment, and for keys that have expired. Does not see what is staged.

        Args:
            digest: 16 bytes.
        """
        view = self._view
        high, low, mixed = self._mix(digest)
        return (
            view.newer.find(high, mixed) is not None
            or (view.older is not None and view.older.find(high, mixed) is not None)
            or bool(view.bank.which(high, low))
        )

    @property
    def keys(self) -> int:
        """About how many keys are remembered, including expired ones that are not dropped yet."""
        view = self._view
        older = 0 if view.older is None else view.older.count
        return view.newer.count + older + sum(segment.keys for segment in view.segments)

    @property
    def memory_bytes(self) -> int:
        """Memory of the keys and filters."""
        view = self._view
        older = 0 if view.older is None else view.older.memory_bytes
        return view.newer.memory_bytes + older + sum(len(f.bits) for f in view.bank.filters.values())

    @property
    def evicted_early(self) -> dict[int, int]:
        """Keys dropped before their time since the start, by source number; to be read only."""
        return self._view.evicted

    # --- start -----------------------------------------------------------------------------------

    def load(self, txn: Any) -> None:
        """Read the filters and the blocks that are not sealed yet; no bucket is read.

        Args:
            txn: Any transaction; nothing is written.
        """
        segments, dropping = self._load_segments(txn)
        value = txn.get(RUN_KEY, db=self._db)
        run = unpack_run(value)
        if value is not None and run is None:
            self.corrupt += 1
        if run is not None and not run.sealed and not any(s.id == run.segment for s in segments):
            run = None  # its segment's row was damaged: its keys are all in blocks still
        newer = RecentKeys(self._sizes.recent_keys, 0 if run is None else run.last_seq)
        older = None if run is None or run.sealed else RecentKeys(self._sizes.recent_keys)
        self._load_blocks(txn, run, older, newer)
        bank = FilterBank({s.id: self._load_filter(txn, s) for s in segments})
        self._view = self._draft = View(newer, older, tuple(segments), bank, tuple(dropping), run)
        self._unmeasured = self._sizes.recent_keys
        self._forget_transaction()

    def _load_segments(self, txn: Any) -> tuple[list[Segment], list[int]]:
        """Read the rows of all segments, hopping from one to the next."""
        segments = []
        dropping = []
        with txn.cursor(db=self._db) as cursor:
            found = cursor.set_range(SEGMENTS)
            while found and bytes(cursor.key()).startswith(SEGMENTS):
                key = bytes(cursor.key())
                number = int.from_bytes(key[1:5])
                own = key == segment_key(number)
                segment = unpack_segment(number, bytes(cursor.value())) if own else None
                if segment is None:
                    self.corrupt += 1
                    dropping.append(number)  # its rows can be found, what they are worth cannot
                elif segment.dropping:
                    dropping.append(number)
                else:
                    segments.append(segment)
                found = cursor.set_range(segment_prefix(number + 1))
        return segments, dropping

    def _load_blocks(self, txn: Any, run: Run | None, older: RecentKeys | None, newer: RecentKeys) -> None:
        """Read the blocks into the generations; those of a sealed run only wait for their deletion."""
        start = block_key(run.last_seq + 1) if run is not None and run.sealed else BLOCKS
        with txn.cursor(db=self._db) as cursor:
            if not cursor.set_range(start):
                return
            for key, value in cursor.iternext(keys=True, values=True):
                first_seq = int.from_bytes(bytes(key)[1:])
                frame = open_frame(value)
                mark, block = (0, b"") if frame is None else frame
                if frame is None or len(block) % ENTRY_BYTES:
                    self.corrupt += 1
                    continue
                generation = older if older is not None and run is not None and first_seq <= run.last_seq else newer
                generation.add(block, first_seq, mark)

    def _load_filter(self, txn: Any, segment: Segment) -> Bloom:
        """Read a segment's filter. Where a part is damaged, every key may be there: slower, not wrong."""
        bloom = Bloom(segment.capacity)
        size = self._sizes.part_bytes
        for at in range(0, len(bloom.bits), size):
            length = min(size, len(bloom.bits) - at)
            frame = open_frame(txn.get(filter_key(segment.id, at // size), db=self._db))
            if frame is not None and len(frame[1]) == length:
                bloom.bits[at : at + length] = frame[1]
            elif segment.keys:  # else its first run is not complete and has left nothing to read
                self.corrupt += 1
                bloom.bits[at : at + length] = b"\xff" * length
        return bloom

    # --- digests ---------------------------------------------------------------------------------

    def _mix(self, digest: bytes) -> tuple[int, int, bytes]:
        """Multiply a digest by the secret odd number: as uniform, as unique, and not to be foreseen.

        Returns:
            Its high and low 64 bits, and all of it.
        """
        mixed = int.from_bytes(digest) * self._factor & _128_BITS
        return mixed >> 64, mixed & _64_BITS, mixed.to_bytes(16)

    def _damaged(self, frames: int) -> None:
        self.corrupt += frames
