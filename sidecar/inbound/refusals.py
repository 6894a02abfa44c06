"""[P] How many requests were refused lately, by the hour, so that "did we get it?" can also say "no, and 14 were refused then"."""

from __future__ import annotations

from collections import deque

__all__ = ["RefusalRing"]

_HOUR_MS = 3_600_000
_HOURS = 7 * 24


class RefusalRing:
    """Counts by (source, reason) for each hour of the last 7 days. Both are closed sets, so its size is bounded."""

    def __init__(self) -> None:
        self._hours: deque[tuple[int, dict[tuple[str, str], int]]] = deque(maxlen=_HOURS)

    def add(self, now_ms: int, source: str, reason: str) -> None:
        """Count one refusal (wall clock). A clock that went back counts into the newest hour."""
        hour = now_ms // _HOUR_MS
        if not self._hours or self._hours[-1][0] < hour:
            self._hours.append((hour, {}))
        counts = self._hours[-1][1]
        counts[source, reason] = counts.get((source, reason), 0) + 1

    def since(self, since_ms: int, source: str = "") -> dict[str, int]:
        """Refusals by reason in the hours that end after a moment, of one source or of all."""
        out: dict[str, int] = {}
        for hour, counts in self._hours:
            if (hour + 1) * _HOUR_MS > since_ms:
                for (name, reason), n in counts.items():
                    if source in ("", name):
                        out[reason] = out.get(reason, 0) + n
        return out
