"""The upkeep of the dedup table: keys move from memory into segments and out of them, one slice per transaction.

    newer --full, or old--> older --slices--> buckets of a segment --last key expired, or no room--> dropped
                              └--all expired--> dropped

``older`` is sealed as one run: every bucket of the segment gets its share appended, then the filter is written, then
one transaction lets the run count (segment row) and says that its blocks may go (run row). A crash before that
transaction starts the run over from its first bucket; a bucket knows by a frame's mark that it has the run's share
already. Nothing is deleted before that transaction, so no key is ever without a place.

Everything is decided on a ``View``, which is replaced and never changed, so an aborted transaction is undone in
memory by keeping the view from before. Only filter bits may stay behind, and those err towards "maybe".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from sidecar.journal.bloom import Bloom, FilterBank
from sidecar.journal.dedup_entries import (
    BLOCKS,
    ENTRY_BYTES,
    RUN_KEY,
    Run,
    Segment,
    bucket_key,
    filter_key,
    pack_run,
    pack_segment,
    seal_frame,
    segment_key,
    segment_prefix,
    sound_frames,
)
from sidecar.journal.dedup_recent import RecentKeys

__all__ = ["Sealing", "Sizes", "View"]

_HALVES = struct.Struct(">QQ32x")
_EXPIRY_SOURCE = struct.Struct(">32xQ8x")

_DELETES = 8  # a slice, unless sealing is behind: each delete gives up the GIL
_SLICE_BYTES = 1 << 20


class Sizes(NamedTuple):
    """The constants of one index.

    Attributes:
        recent_keys: A generation in memory, and the usual run.
        segment_keys: Most keys of a segment.
        bucket_keys: Keys of a bucket of the largest segment; smaller ones have as many buckets, a power of two.
        part_bytes: Content of one stored part of a filter.
        max_bytes: What the pages of the table may come to before the oldest keys go early.
        page_bytes: Size of an LMDB page.
    """

    recent_keys: int
    segment_keys: int
    bucket_keys: int
    part_bytes: int
    max_bytes: int
    page_bytes: int


class View(NamedTuple):
    """What is remembered, as of one transaction.

    Attributes:
        newer: The generation that new keys join.
        older: The generation before, until its run is sealed or dropped.
        segments: Oldest first, without those being dropped.
        bank: The filters of ``segments``, by segment id.
        dropping: Ids of the segments whose rows are being deleted.
        run: What happens to ``older``, or to the blocks it left.
        step: How far sealing has come: buckets, then parts of the filter.
        tally: For each source, keys written by this run and when the last of them expires.
        evicted: For each source, keys dropped before their time since the start.
    """

    newer: RecentKeys
    older: RecentKeys | None = None
    segments: tuple[Segment, ...] = ()
    bank: FilterBank = FilterBank({})
    dropping: tuple[int, ...] = ()
    run: Run | None = None
    step: int = 0
    tally: dict[int, tuple[int, int]] = {}  # noqa: RUF012 - replaced, never changed
    evicted: dict[int, int] = {}  # noqa: RUF012


class Sealing:
    """One slice of upkeep at a time; made for each call, used on the writer thread.

    Args:
        txn: The running write transaction.
        db: The table.
        sizes: The constants.
        now_ms: Journal clock.
        max_ops: LMDB operations this slice may take, at least 6.
        idle: The transaction brings no new keys.
        damaged: Called with the number of damaged frames found and left out.
    """

    def __init__(
        self, txn: Any, db: Any, sizes: Sizes, now_ms: int, max_ops: int, *, idle: bool, damaged: Callable[[int], None]
    ) -> None:
        self._txn = txn
        self._db = db
        self._sizes = sizes
        self._now_ms = now_ms
        self._left = max_ops
        self._idle = idle
        self._written = 0
        self._damaged = damaged

    def advance(self, view: View, *, measure: bool) -> View:
        """Do one slice.

        Args:
            view: What is remembered before it.
            measure: Whether to look if the table has outgrown its room; not while rows are being dropped.

        Returns:
            What is remembered once the transaction is committed.
        """
        view = self._retire(view, crowded=measure and self._crowded())
        # However much there is to seal, rows that go keep going: nothing more is evicted before they have gone.
        kept = min(_DELETES + 2, self._left // 2) if view.dropping else 0
        self._left -= kept
        if view.run is None:
            view = self._begin(view)
        elif view.run.sealed:
            view = self._clear(view)
        else:
            view = self._seal(view)
        self._left += kept
        return self._drop(view)

    # --- what goes -------------------------------------------------------------------------------

    def _crowded(self) -> bool:
        """Say whether the table has outgrown its room."""
        self._left -= 1
        stat = self._txn.stat(self._db)
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return bool(pages * self._sizes.page_bytes > self._sizes.max_bytes)

    def _retire(self, view: View, *, crowded: bool) -> View:
        """Begin to drop the oldest segment that has expired, or the oldest of all when it is crowded."""
        target = view.run.segment if view.run is not None and not view.run.sealed else 0
        candidates = [s for s in view.segments if s.id != target]
        expired = [s for s in candidates if s.last_expiry_ms <= self._now_ms]
        if not expired and not crowded:
            return view
        if not candidates:
            return self._forfeit(view)
        segment = (expired or candidates)[0]
        self._put(segment_key(segment.id), pack_segment(segment._replace(dropping=True)))
        evicted = dict(view.evicted)
        for source, count, last_expiry_ms in segment.by_source:
            if last_expiry_ms > self._now_ms:
                evicted[source] = evicted.get(source, 0) + count
        return view._replace(
            segments=tuple(s for s in view.segments if s is not segment),
            bank=view.bank.without(segment.id),
            dropping=(*view.dropping, segment.id),
            evicted=evicted,
        )

    def _forfeit(self, view: View) -> View:
        """Drop the older generation unsealed, as there is no segment to make room with."""
        if view.run is not None:
            return view
        view = _rotate(view, self._sizes) if view.older is None and view.newer.count else view
        if view.older is None:
            return view
        evicted = dict(view.evicted)
        for (expires_source,) in _EXPIRY_SOURCE.iter_unpack(view.older.packed()):
            if expires_source >> 16 > self._now_ms:
                source = expires_source & 0xFFFF
                evicted[source] = evicted.get(source, 0) + 1
        return self._discard(view)._replace(evicted=evicted)

    def _discard(self, view: View) -> View:
        """Let the blocks of the older generation go without sealing them."""
        assert view.older is not None
        run = Run(0, view.older.last_seq, sealed=True)
        self._put(RUN_KEY, pack_run(run))
        return view._replace(older=None, run=run)

    def _drop(self, view: View) -> View:
        """Delete some rows of the first segment that goes, its own row last."""
        if not view.dropping or self._left < 3:
            return view
        prefix = segment_prefix(view.dropping[0])
        cursor = self._txn.cursor(db=self._db)
        self._left -= 1
        found = cursor.set_range(prefix + b"\x01")  # behind its own row
        key = bytes(cursor.key()) if found else b""
        cursor.close()
        kind, index = key[5:6], int.from_bytes(key[6:])
        # By computed keys, as a cursor would read each value from disk only to delete it.
        deletes = min(self._left - 1, _DELETES)
        while deletes > 0 and key.startswith(prefix) and index < 1 << 16:
            self._delete(prefix + kind + index.to_bytes(2))
            index += 1
            deletes -= 1
        if key.startswith(prefix):
            return view
        self._delete(segment_key(view.dropping[0]))
        return view._replace(dropping=view.dropping[1:])

    def _clear(self, view: View) -> View:
        """Delete some blocks of a run that counts in its segment, or has expired."""
        assert view.run is not None
        cursor = self._txn.cursor(db=self._db)
        self._left -= 1
        cursor.set_range(BLOCKS)
        deletes = self._left - 1 if self._behind(view) else min(self._left - 1, _DELETES)
        while not (done := not _is_block(bytes(cursor.key()), view.run.last_seq)) and deletes > 0:
            cursor.delete()
            self._left -= 1
            deletes -= 1
        cursor.close()
        if not done:
            return view
        self._delete(RUN_KEY)
        return view._replace(run=None)

    # --- what moves ------------------------------------------------------------------------------

    def _begin(self, view: View) -> View:
        """Begin a run when it is time: the younger generation is full, or all of the older one has expired."""
        sizes = self._sizes
        newer = view.newer
        if view.older is None and newer.count:
            age = self._now_ms - newer.opened_ms
            if newer.count >= sizes.recent_keys or age >= newer.last_expiry_ms - self._now_ms:
                view = _rotate(view, sizes)
        older = view.older
        if older is None or self._left < 2:
            return view
        if older.last_expiry_ms <= self._now_ms:
            return self._discard(view)
        if max(older.count, view.newer.count) < sizes.recent_keys:
            return view  # few keys: they may well expire before there are enough for a run
        view, segment = self._open_segment(view, older)
        run = Run(segment.id, older.last_seq, sealed=False)
        self._put(RUN_KEY, pack_run(run))
        return view._replace(run=run, step=0, tally={})

    def _open_segment(self, view: View, older: RecentKeys) -> tuple[View, Segment]:
        """Give the youngest segment while it has room and is young, else a new one."""
        sizes = self._sizes
        wanted = older.count
        if view.segments:
            segment = view.segments[-1]
            aged = 8 * (self._now_ms - segment.opened_ms) >= older.last_expiry_ms - self._now_ms
            full = segment.keys + older.count > segment.capacity
            if not aged and not full:
                return view, segment
            # A filter costs memory by its capacity: double it only when the keys of an eighth of their life need that.
            wanted = segment.keys if aged else segment.capacity * 2
        capacity = sizes.recent_keys
        while capacity < min(wanted, sizes.segment_keys) or capacity < older.count:
            capacity *= 2
        buckets_log2 = min(16, max(0, (sizes.segment_keys // sizes.bucket_keys).bit_length() - 1))
        newest = max([0, *(s.id for s in view.segments), *view.dropping])
        segment = Segment(newest + 1, capacity, buckets_log2, 0, older.opened_ms, 0)
        self._put(segment_key(segment.id), pack_segment(segment))
        return (
            view._replace(
                segments=(*view.segments, segment), bank=view.bank.with_filter(segment.id, Bloom(segment.capacity))
            ),
            segment,
        )

    def _behind(self, view: View) -> bool:
        return view.newer.count >= self._sizes.recent_keys

    def _seal(self, view: View) -> View:
        """Write some buckets, then some parts of the filter, and let the run count after the last."""
        run, older = view.run, view.older
        assert run is not None
        assert older is not None
        segment = next(s for s in view.segments if s.id == run.segment)
        bloom = view.bank.filters[segment.id]
        buckets = 1 << segment.buckets_log2
        total = buckets + -(-len(bloom.bits) // self._sizes.part_bytes)
        # Evenly over three quarters of the time the younger generation takes to fill, and on when nothing comes.
        due = max(view.step + self._idle, total * view.newer.count * 4 // (3 * self._sizes.recent_keys))
        step = view.step
        tally = dict(view.tally)
        while step < min(due, total) and self._left >= 2 and self._written < _SLICE_BYTES:
            if step < buckets:
                self._fill_bucket(segment, step, run, older, bloom, tally)
            else:
                self._put_part(segment.id, step - buckets, bloom)
            step += 1
        view = view._replace(step=step, tally=tally)
        if step < total or self._left < 2:
            return view
        done = _with_run(segment, tally)
        run = run._replace(sealed=True)
        self._put(segment_key(segment.id), pack_segment(done))
        self._put(RUN_KEY, pack_run(run))
        return view._replace(
            older=None, run=run, segments=tuple(done if s is segment else s for s in view.segments), step=0, tally={}
        )

    def _fill_bucket(
        self,
        segment: Segment,
        bucket: int,
        run: Run,
        older: RecentKeys,
        bloom: Bloom,
        tally: dict[int, tuple[int, int]],
    ) -> None:
        """Append a run's share to a bucket, unless a start before the last crash did."""
        share = older.gather(bucket, segment.buckets_log2, self._now_ms)
        if not share:
            return
        bloom.add(_HALVES.iter_unpack(share))
        for (expires_source,) in _EXPIRY_SOURCE.iter_unpack(share):
            source = expires_source & 0xFFFF
            count, last_expiry_ms = tally.get(source, (0, 0))
            tally[source] = (count + 1, max(last_expiry_ms, expires_source >> 16))
        key = bucket_key(segment.id, bucket)
        self._left -= 1
        value, damaged, there = sound_frames(bytes(self._txn.get(key, b"", db=self._db)), run.last_seq)
        if damaged:
            self._damaged(damaged)
        if there:
            self._left -= 1  # it took as much time as one that is written
        else:
            self._put(key, value + seal_frame(run.last_seq, share))

    def _put_part(self, segment: int, part: int, bloom: Bloom) -> None:
        size = self._sizes.part_bytes
        self._put(filter_key(segment, part), seal_frame(0, bytes(bloom.bits[part * size : (part + 1) * size])))

    # --- LMDB ------------------------------------------------------------------------------------

    def _put(self, key: bytes, value: bytes) -> None:
        self._left -= 1
        self._written += len(value)
        self._txn.put(key, value, db=self._db)

    def _delete(self, key: bytes) -> None:
        self._left -= 1
        self._txn.delete(key, db=self._db)


def _rotate(view: View, sizes: Sizes) -> View:
    """Begin a new generation. Nothing on disk says so: after a restart both are one again."""
    return view._replace(older=view.newer, newer=RecentKeys(sizes.recent_keys, view.newer.last_seq))


def _is_block(key: bytes, last_seq: int) -> bool:
    return key[:1] == BLOCKS and int.from_bytes(key[1:]) <= last_seq


def _with_run(segment: Segment, tally: dict[int, tuple[int, int]]) -> Segment:
    """Add what a run brought to a segment's row."""
    by_source = {source: (count, last) for source, count, last in segment.by_source}
    for source, (count, last_expiry_ms) in tally.items():
        had, last = by_source.get(source, (0, 0))
        by_source[source] = (had + count, max(last, last_expiry_ms))
    return segment._replace(
        keys=segment.keys + sum(count for count, _ in tally.values()),
        last_expiry_ms=max(segment.last_expiry_ms, *(last for _, last in by_source.values()), 0),
        by_source=tuple((source, *row) for source, row in sorted(by_source.items())),
    )


assert ENTRY_BYTES == _HALVES.size == _EXPIRY_SOURCE.size
