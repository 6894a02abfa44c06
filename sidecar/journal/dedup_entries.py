"""[P] How remembered dedup keys look on disk: entries, sealed frames, segment and run rows, key layout.

An entry is 48 bytes and starts with its 16-byte digest, so that a packed block can be searched by ``bytes.rfind``.
Entries travel in frames: 4 bytes CRC-32, 4 bytes length of the content, an 8-byte mark, then the content. A block
of the ``dedup`` table is one frame, a bucket is one frame after another (one for each run that was sealed into it).

Keys of the table, in its order; numbers are big-endian:

    "r"                          the run that is being sealed or whose blocks are being deleted
    "s" segment:u32 0 0:u16      row of a segment
    "s" segment:u32 1 part:u16   a part of its Bloom filter
    "s" segment:u32 2 bucket:u16 a bucket
    "u" first_seq:u64            block of one batch that is not sealed yet; last, so that batches append
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

__all__ = [
    "BLOCKS",
    "ENTRY_BYTES",
    "RUN_KEY",
    "SEGMENTS",
    "DedupEntry",
    "Run",
    "Segment",
    "block_key",
    "bucket_key",
    "damaged_frames",
    "filter_key",
    "newest_in_bucket",
    "open_frame",
    "pack_entry",
    "pack_run",
    "pack_segment",
    "seal_frame",
    "segment_key",
    "segment_prefix",
    "sound_frames",
    "unpack_entry",
    "unpack_run",
    "unpack_segment",
]

ENTRY_BYTES = 48
RUN_KEY = b"r"
SEGMENTS = b"s"
BLOCKS = b"u"

_48_BITS = (1 << 48) - 1
# digest; state u8, spare u8, seq u48; spare u16, received u48; expires u48, source u16; body digest; ack
_ENTRY = struct.Struct(">16sQQQ4sI")
_HEADER = struct.Struct(">IIQ")
_SOURCE = struct.Struct(">HIQ")
_SEGMENT = struct.Struct(">BxHIIQQ")
_RUN = struct.Struct(">BIQ")
_SEGMENT_KEY = struct.Struct(">cIBH")


class DedupEntry(NamedTuple):
    """What is remembered of the first event with a key.

    Attributes:
        seq: The event's number, 48 bits.
        received_at_ms: Wall clock at its receipt, 48 bits; for its id.
        ack: Number of the ack template it was answered with, 32 bits.
        body_digest: 4 bytes over its body.
        expires_at_ms: Journal clock; from then on the key is as if never seen. 48 bits.
        source: The source's number, 16 bits.
        state: 0 = answered; other numbers are for "not yet answered" and "answer stored". 8 bits.
    """

    seq: int
    received_at_ms: int
    ack: int
    body_digest: bytes
    expires_at_ms: int
    source: int
    state: int = 0


class Segment(NamedTuple):
    """Some runs that live and go together.

    Attributes:
        id: Grows with age: the oldest segment has the smallest.
        capacity: Keys its filter was made for.
        buckets_log2: It has this power of two buckets, chosen by the leading bits of the digest.
        keys: Keys of its complete runs, expired ones included.
        opened_ms: Journal clock when its first key was claimed.
        last_expiry_ms: Journal clock when its last key expires.
        dropping: Its rows are being deleted; it counts no more.
        by_source: For each source number, keys and when the last of them expires.
    """

    id: int
    capacity: int
    buckets_log2: int
    keys: int
    opened_ms: int
    last_expiry_ms: int
    dropping: bool = False
    by_source: tuple[tuple[int, int, int], ...] = ()


class Run(NamedTuple):
    """Blocks on their way out: all with a first seq up to ``last_seq``.

    Attributes:
        segment: Where their entries go; 0 when they are dropped unsealed.
        last_seq: Names the run, too: the mark of its frames in the buckets.
        sealed: Everything is in its buckets and counts there; what is left is to delete the blocks.
    """

    segment: int
    last_seq: int
    sealed: bool


def block_key(first_seq: int) -> bytes:
    """Key of the block of the batch that begins with this seq."""
    return BLOCKS + first_seq.to_bytes(8)


def segment_prefix(segment: int) -> bytes:
    """What all keys of a segment begin with."""
    return SEGMENTS + segment.to_bytes(4)


def segment_key(segment: int) -> bytes:
    """Key of a segment's own row, the first of its keys."""
    return _SEGMENT_KEY.pack(SEGMENTS, segment, 0, 0)


def filter_key(segment: int, part: int) -> bytes:
    """Key of one part of a segment's Bloom filter."""
    return _SEGMENT_KEY.pack(SEGMENTS, segment, 1, part)


def bucket_key(segment: int, bucket: int) -> bytes:
    """Key of one bucket of a segment."""
    return _SEGMENT_KEY.pack(SEGMENTS, segment, 2, bucket)


def pack_entry(digest: bytes, entry: DedupEntry) -> bytes:
    """Pack an entry behind its digest; every field within the range its class states."""
    return _ENTRY.pack(
        digest,
        entry.state << 56 | entry.seq,
        entry.received_at_ms,
        entry.expires_at_ms << 16 | entry.source,
        entry.body_digest,
        entry.ack,
    )


def unpack_entry(packed: bytes) -> DedupEntry:
    """Read the 48 bytes of an entry; spare bits are ignored."""
    _, state_seq, received, expires_source, body_digest, ack = _ENTRY.unpack(packed)
    return DedupEntry(
        seq=state_seq & _48_BITS,
        received_at_ms=received & _48_BITS,
        ack=ack,
        body_digest=body_digest,
        expires_at_ms=expires_source >> 16,
        source=expires_source & 0xFFFF,
        state=state_seq >> 56,
    )


def seal_frame(mark: int, content: bytes) -> bytes:
    """Put content into a frame with its checksum.

    Args:
        mark: 64 bits: journal clock of a block, ``last_seq`` of a run's share of a bucket, 0 elsewhere.
        content: Under 4 GiB.
    """
    header = _HEADER.pack(0, len(content), mark)[4:]
    return zlib.crc32(content, zlib.crc32(header)).to_bytes(4) + header + content


def open_frame(value: bytes | None) -> tuple[int, bytes] | None:
    """Read a value that is one frame.

    Returns:
        Its mark and content; None when there is no value or it is damaged.
    """
    if value is None or len(value) < _HEADER.size:
        return None
    crc, length, mark = _HEADER.unpack_from(value)
    if length != len(value) - _HEADER.size or crc != zlib.crc32(memoryview(value)[4:]):
        return None
    return mark, bytes(value[_HEADER.size :])


def _frames(value: bytes) -> tuple[list[tuple[int, int, int]], int]:
    """Walk the frames of a bucket: (mark, begin, end) of each sound one's content, and how many are damaged."""
    sound: list[tuple[int, int, int]] = []
    damaged = 0
    at = 0
    view = memoryview(value)
    while at < len(value):
        if len(value) - at < _HEADER.size:
            return sound, damaged + 1
        crc, length, mark = _HEADER.unpack_from(value, at)
        end = at + _HEADER.size + length
        if end > len(value):  # the length itself is damaged: nothing behind it can be found
            return sound, damaged + 1
        if crc == zlib.crc32(view[at + 4 : end]):
            sound.append((mark, at + _HEADER.size, end))
        else:
            damaged += 1
        at = end
    return sound, damaged


def damaged_frames(value: bytes) -> int:
    """Count what is damaged in any value of the table: each is one frame or more."""
    return _frames(value)[1]


def sound_frames(value: bytes, run: int) -> tuple[bytes, int, bool]:
    """Leave the damaged frames of a bucket out.

    Args:
        value: The bucket.
        run: Mark of a run.

    Returns:
        What is sound of the bucket (itself, when all is), how many frames were left out, and whether the run has
        its share there.
    """
    sound, damaged = _frames(value)
    there = any(mark == run for mark, _, _ in sound)
    if not damaged:
        return value, 0, there
    return b"".join(value[begin - _HEADER.size : end] for _, begin, end in sound), damaged, there


def newest_in_bucket(value: bytes, digest: bytes) -> tuple[bytes | None, int]:
    """Look a digest up in a bucket; the checksums are worked out only when it seems to be there.

    Returns:
        The newest entry with that digest, packed, or None; and how many damaged frames were seen.
    """
    at = value.rfind(digest)
    if at < 0:
        return None, 0
    sound, damaged = _frames(value)
    while at >= 0:
        for _, begin, end in sound:
            if begin <= at < end and (at - begin) % ENTRY_BYTES == 0:
                return value[at : at + ENTRY_BYTES], damaged
        at = value.rfind(digest, 0, at + len(digest) - 1)
    return None, damaged


def pack_segment(segment: Segment) -> bytes:
    """Pack a segment's row."""
    head = _SEGMENT.pack(
        segment.dropping,
        segment.buckets_log2,
        segment.capacity,
        segment.keys,
        segment.opened_ms,
        segment.last_expiry_ms,
    )
    return seal_frame(0, head + b"".join(_SOURCE.pack(*row) for row in segment.by_source))


def unpack_segment(segment: int, value: bytes | None) -> Segment | None:
    """Read a segment's row; None when it is damaged."""
    frame = open_frame(value)
    if frame is None or len(frame[1]) < _SEGMENT.size or (len(frame[1]) - _SEGMENT.size) % _SOURCE.size:
        return None
    dropping, buckets_log2, capacity, keys, opened_ms, last_expiry_ms = _SEGMENT.unpack_from(frame[1])
    by_source = tuple(_SOURCE.iter_unpack(frame[1][_SEGMENT.size :]))
    return Segment(segment, capacity, buckets_log2, keys, opened_ms, last_expiry_ms, bool(dropping), by_source)


def pack_run(run: Run) -> bytes:
    """Pack the row of the current run."""
    return seal_frame(0, _RUN.pack(run.sealed, run.segment, run.last_seq))


def unpack_run(value: bytes | None) -> Run | None:
    """Read the row of the current run; None when it is damaged or there is none."""
    frame = open_frame(value)
    if frame is None or len(frame[1]) != _RUN.size:
        return None
    sealed, segment, last_seq = _RUN.unpack(frame[1])
    return Run(segment, last_seq, bool(sealed))
