"""How much of everything: three minutes, ten minutes, or as long as it takes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "FULL", "QUICK", "Scale"]


@dataclass(frozen=True)
class Scale:
    """Sizes of one run.

    Attributes:
        seconds: One measured window.
        repeats: Windows of which the best counts, where a figure is judged: others use this machine and its disk, too.
        rate: Honest webhooks a second in the scenarios that look at side effects.
        shares: Of the saturation rate, for the open loop.
        backlog: Deliveries that wait.
        keys: Dedup keys remembered.
        idle_s: How long an idle daemon is watched.
    """

    name: str
    seconds: float
    repeats: int
    rate: float
    shares: tuple[float, ...]
    connections: tuple[int, ...]
    bodies: tuple[int, ...]
    destinations: tuple[int, ...]
    backlog: int
    keys: int
    idle_s: float


QUICK = Scale("quick", 1.5, 1, 1000, (0.5,), (1, 64), (1024, 1 << 20), (1, 3), 100_000, 100_000, 3)
DEFAULT = Scale(
    "default", 4, 3, 1000, (0.25, 0.5, 0.75, 0.9), (1, 8, 64, 256, 1000), (256, 1024, 16 << 10, 1 << 20), (1, 3, 10),
    1_000_000, 1_000_000, 10,
)  # fmt: skip
FULL = Scale(
    "full", 15, 5, 1000, (0.1, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0), (1, 4, 16, 64, 256, 1000),
    (256, 1024, 16 << 10, 1 << 20), (1, 3, 10), 10_000_000, 20_000_000, 60,
)  # fmt: skip
