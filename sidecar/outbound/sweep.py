"""Find what has become too old at a destination that takes nothing: held, or no longer configured.

Deliveries that are tried are looked at on that occasion. Those of a destination that nobody tries would otherwise stay
for ever, so that from time to time a little of them is looked through.
"""

from __future__ import annotations

from sidecar.model import Delivery
from sidecar.outbound.hand import Hand
from sidecar.outbound.retry import RetryPolicy
from sidecar.outbound.settle import expired
from sidecar.outbound.surroundings import LaneJournal

__all__ = ["Sweep"]

EVERY_S = 60.0
AGAIN_S = 0.1  # while there is more to find
_EVENTS = 64
_BYTES = 1 << 20
_SEEN_MOST = 4096  # waiting deliveries remembered as young, so that those behind them are seen as well


class Sweep:
    """Goes through one lane's deliveries, a piece at a time.

    Args:
        hand: The lane's; what is found is put into it, so that nobody else takes it.
    """

    def __init__(self, hand: Hand) -> None:
        self.next_s = 0.0  # monotonic
        self._hand = hand
        self._young: set[int] = set()
        self._more = False

    def reset(self, now_s: float) -> None:
        """Begin anew, after the usual wait."""
        self._young.clear()
        self.next_s = now_s + EVERY_S

    def again(self, now_s: float) -> None:
        """Not now, but soon."""
        self.next_s = now_s + AGAIN_S

    def plan_next(self, now_s: float) -> None:
        """Say when to look again."""
        self.next_s = now_s + (AGAIN_S if self._more else EVERY_S)

    async def look(self, journal: LaneJournal, policy: RetryPolicy) -> list[Delivery]:
        """Look at one piece; no other read of this lane may be under way.

        Returns:
            Those that are too old, in hand now and to be given up.
        """
        hand = self._hand
        self._more = False
        now_ms = journal.clock_ms()
        oldest_ms = await journal.oldest_pending_ms(hand.name)
        if oldest_ms is None or now_ms - oldest_ms < policy.max_age_s * 1000:
            return []
        # Fresh ones are in the order of their age.
        skip = hand.seqs()
        window = await journal.window(hand.name, hand.next, max_events=_EVENTS, max_bytes=_BYTES, skip=skip)
        old = [d for d in window.deliveries if expired(d, policy, now_ms)]
        self._more = bool(old) and len(old) == len(window.deliveries)
        # Waiting ones are not: a replay makes young what was accepted long ago.
        due = await journal.due(hand.name, max_events=_EVENTS, max_bytes=_BYTES, skip=skip | self._young)
        for delivery in due.deliveries:
            if expired(delivery, policy, now_ms):
                old.append(delivery)
            else:
                self._young.add(delivery.event.seq)
        if due.deliveries and len(self._young) < _SEEN_MOST:
            self._more = True
        else:
            self._young.clear()
        return [d for d in old if hand.adopt(d)]
