"""[P] How many body bytes each destination may have in memory on their way out.

Half of all is shared out evenly and is each lane's own, so that a slow destination takes nothing from the others; the
other half goes to whoever asks first. A lane that holds nothing may always take one body, whatever its size.
"""

from __future__ import annotations

__all__ = ["Budget"]


class Budget:
    """The one account of ``delivery.max_buffered``.

    Args:
        max_bytes: All lanes together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used: dict[str, int] = {}
        self._own = max_bytes
        self._common_used = 0

    @property
    def used_bytes(self) -> int:
        """Body bytes in memory now."""
        return sum(self._used.values())

    def share_out(self, lanes: set[str], max_bytes: int) -> None:
        """Say who there is and how much; lanes that still hold something stay until they do not."""
        self._max_bytes = max_bytes
        self._used = {n: self._used.get(n, 0) for n in lanes | {n for n, used in self._used.items() if used}}
        self._own = max_bytes // 2 // max(1, len(self._used))
        self._common_used = sum(max(0, used - self._own) for used in self._used.values())

    def room(self, lane: str) -> int:
        """Bytes that a lane may take now; 0 or less means none, unless it holds nothing."""
        common = self._max_bytes - self._own * len(self._used) - self._common_used
        return max(0, self._own - self._used.get(lane, 0)) + max(0, common)

    def fits(self, lane: str, size: int) -> bool:
        """Whether a lane may take a body of this size."""
        return not self._used.get(lane) or size <= self.room(lane)

    def take(self, lane: str, size: int) -> None:
        """Count bytes in; a negative size counts them out again."""
        before = self._used.get(lane, 0)
        after = self._used[lane] = before + size
        self._common_used += max(0, after - self._own) - max(0, before - self._own)
