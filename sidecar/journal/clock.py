"""The journal's own clock: it goes on across restarts and never follows a step of the wall clock.

Due times, expiry, retention and ``max_age`` are on it. Within one boot it is the stored time plus
CLOCK_BOOTTIME; after a reboot it is the stored time plus what the wall clock says has passed, never less
than nothing. So a clock step of a day neither forgets a dedup key nor stops a retry.
"""

from __future__ import annotations

import msgspec

from sidecar.clock import Clock

__all__ = ["ClockReading", "JournalClock"]


class ClockReading(msgspec.Struct, frozen=True, array_like=True):
    """What one commit remembers of the time."""

    journal_ms: int
    boot_id: str
    boot_ms: int
    wall_ms: int


class JournalClock:
    """Milliseconds since the journal was made, roughly; starts at the wall time of its creation."""

    def __init__(self, clock: Clock, stored: ClockReading | None) -> None:
        self._clock = clock
        self._boot_id = clock.boot_id()
        boot_ms = clock.boot_ms()
        if stored is None:
            now = clock.wall_ms()
        elif stored.boot_id and stored.boot_id == self._boot_id and boot_ms >= stored.boot_ms:
            now = stored.journal_ms + boot_ms - stored.boot_ms
        else:
            now = stored.journal_ms + max(0, clock.wall_ms() - stored.wall_ms)
        self._offset = now - boot_ms

    def now_ms(self) -> int:
        """The time now."""
        return self._clock.boot_ms() + self._offset

    def reading(self) -> ClockReading:
        """What to store with a commit."""
        boot_ms = self._clock.boot_ms()
        return ClockReading(boot_ms + self._offset, self._boot_id, boot_ms, self._clock.wall_ms())
