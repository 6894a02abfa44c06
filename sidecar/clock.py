"""The only place that asks what time it is.

Everything else is handed a clock or a time. Tests hand in their own.
"""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """The machine's clocks: wall time for people and signatures, the others for waiting."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC. May jump either way."""
        return time.time_ns() // 1_000_000

    def boot_ms(self) -> int:
        """Milliseconds since this machine booted, counting sleep; never goes back."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        return time.monotonic_ns() // 1_000_000  # macOS, development only

    def boot_id(self) -> str:
        """Name of this boot; "" where the system has none. Two equal names share ``boot_ms``."""
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
                return f.read().strip()
        except OSError:
            return ""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back; for durations and timeouts. Never stored."""
        return time.monotonic()
