"""[P] What one event may cost in counts that do not depend on the machine's mood. The one table to edit.

A value is what was measured when it was last set; ``tolerance`` is the share by which a count may exceed it (other versions
of Python and of libraries count a little differently). Who makes something cheaper lowers the value in the same change:
``make cost`` prints what is measured now beside what stands here. Who raises one says why.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COSTS", "Cost", "excess"]


@dataclass(frozen=True)
class Cost:
    """One line.

    Attributes:
        value: What it was when it was last set.
        tolerance: Share by which it may be exceeded.
        unit: Of both.
    """

    value: float
    tolerance: float
    unit: str

    @property
    def most(self) -> float:
        """Beyond this the check fails."""
        return self.value * (1 + self.tolerance)


COSTS = {
    # Senders and backends take turns, so that a batch holds one event: the most that an event can cost.
    "system calls, acked": Cost(15.2, 0.04, "per event"),
    # Where the machine stops us for 20 ms, a settlement gets a commit of its own: hence more room.
    # One of them asks a connection, before it is used again, whether something unread lies in it.
    "system calls, acked and delivered": Cost(19.6, 0.1, "per event"),
    "function calls, acked": Cost(197, 0.05, "per event"),
    "function calls, acked and delivered": Cost(341, 0.05, "per event"),
    # A batch of 64, the same calls whatever the machine: exact.
    "LMDB calls, 64 arrivals": Cost(4, 0, "per batch"),
    "LMDB calls, 64 arrivals and 64 settlements": Cost(8, 0, "per batch"),
    "LMDB calls, 64 arrivals to three destinations": Cost(6, 0, "per batch"),
    # Instructions, under valgrind: `make cost` alone, it takes minutes.
    "instructions, acked": Cost(584, 0.1, "thousand per event"),
    "instructions, acked and delivered": Cost(827, 0.1, "thousand per event"),
    # Size. The memory is the budget itself; the start's CPU depends on the processor, so it has the widest room.
    "wheel": Cost(439, 0.15, "KiB"),
    "installed, with all it needs": Cost(31.5, 0.2, "MiB"),
    "modules loaded by run": Cost(557, 0.1, "modules"),
    "anonymous memory, idle": Cost(40, 0, "MiB"),
    "CPU from exec to ready": Cost(0.4, 1.5, "s"),
    "awakenings, idle": Cost(3.2, 0.3, "a second"),
}


def excess(name: str, measured: float, detail: object = "") -> str:
    """Why a count is too high; "" when it is not."""
    cost = COSTS[name]
    if measured <= cost.most:
        return ""
    return f"{name}: {measured:.4g} {cost.unit}, at most {cost.most:.4g} (tests/cost/costs.py) {detail}".rstrip()
