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
        self._own: dict[str, int] = {}  # what each lane with a share has for itself
        self._common_used = 0

    @property
    def used_bytes(self) -> int:
        """Body bytes in memory now."""
        return sum(self._used.values())

    def share_out(self, lanes: set[str], max_bytes: int) -> None:
        """Say who there is and how much; what others still hold is counted until they give it back."""
        self._max_bytes = max_bytes
        self._own = dict.fromkeys(lanes, max_bytes // 2 // max(1, len(lanes)))
        self._used = {n: used for n, used in self._used.items() if used}
        self._common_used = sum(max(0, used - self._own.get(n, 0)) for n, used in self._used.items())

    def room(self, lane: str) -> int:
        """Bytes that a lane may take now; with 0 it may still take one body if it holds nothing."""
        own = max(0, self._own.get(lane, 0) - self._used.get(lane, 0))
        return own + max(0, self._max_bytes - sum(self._own.values()) - self._common_used)

    def fits(self, lane: str, size: int) -> bool:
        """Whether a lane may take a body of this size."""
        used = self._used.get(lane, 0)
        return not used or used + size <= self._own.get(lane, 0) or size <= self.room(lane)

    def take(self, lane: str, size: int) -> None:
        """Count bytes in; a negative size counts them out again."""
        before = self._used.get(lane, 0)
        after = self._used[lane] = before + size
        own = self._own.get(lane, 0)
        if before > own or after > own:
            self._common_used += max(0, after - own) - max(0, before - own)
