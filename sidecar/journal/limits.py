"""[P] How much a journal may hold: what its map, its file and the disk leave, and what of it is kept for settling."""

from __future__ import annotations

__all__ = [
    "EARLY_FILL",
    "MIN_RESERVE_BYTES",
    "dedup_bytes",
    "dedup_keys",
    "early_fill",
    "limit_bytes",
    "reserve_bytes",
]

MIN_RESERVE_BYTES = 8 << 20
EARLY_FILL = 0.70
_BEFORE_REFUSING = 0.80  # share of what may be used at all, where the reserve is a large part of a small journal
# 48 of its own, its share of frames, filter and pages, and an eighth as it goes later than its time.
_DEDUP_KEY_BYTES = 64


def limit_bytes(map_bytes: int, file_bytes: int, disk_free_bytes: int) -> int:
    """Say how much the journal can hold at all.

    Its file never shrinks, and is used again from within: on a full disk all of it still counts.

    Args:
        map_bytes: ``journal.max_size``.
        file_bytes: What the file takes on disk now.
        disk_free_bytes: What the file system has left for it to grow.
    """
    return min(map_bytes, file_bytes + disk_free_bytes)


def reserve_bytes(limit: int) -> int:
    """Say how much of its limit is kept free for settling: from there on webhooks are refused."""
    return max(limit // 10, MIN_RESERVE_BYTES)


def early_fill(limit: int, reserve: int) -> float:
    """Say from which share of its limit on finished events go early: always well before webhooks are refused for want of room."""
    return min(EARLY_FILL, _BEFORE_REFUSING * (1 - reserve / limit))


def dedup_bytes(map_bytes: int) -> int:
    """Say how much of ``journal.max_size`` dedup keys may take; beyond it the oldest go early."""
    return map_bytes // 4


def dedup_keys(map_bytes: int) -> int:
    """Say how many keys that have not expired surely fit there: the longest TTL times the rate of all keys."""
    return dedup_bytes(map_bytes) // _DEDUP_KEY_BYTES
