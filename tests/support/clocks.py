"""A clock that tests move."""

from __future__ import annotations

from sidecar.clock import Clock


class FakeClock(Clock):
    """Wall and boot clocks stand still until they are moved; the monotonic one is real unless it is moved too."""

    def __init__(self, wall_ms: int = 1_800_000_000_000, boot_ms: int = 5_000_000, boot_id: str = "boot-1") -> None:
        self.wall = wall_ms
        self.boot = boot_ms
        self.boot_name = boot_id

    def wall_ms(self) -> int:
        return self.wall

    def boot_ms(self) -> int:
        return self.boot

    def boot_id(self) -> str:
        return self.boot_name

    def advance(self, ms: int) -> None:
        """Let time pass, on both clocks."""
        self.wall += ms
        self.boot += ms

    def step(self, ms: int) -> None:
        """Set the wall clock off, as an administrator or a bad time server would."""
        self.wall += ms

    def reboot(self, down_ms: int = 60_000) -> None:
        """Switch the machine off and on again."""
        self.wall += down_ms
        self.boot = 10_000
        self.boot_name += "+"
