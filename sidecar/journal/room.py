"""[P] How much a journal may hold: what its map, its file and the disk leave, and what of it is kept for settling."""

from __future__ import annotations

__all__ = ["MIN_RESERVE_BYTES", "limit_bytes", "reserve_bytes"]

MIN_RESERVE_BYTES = 8 << 20


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
