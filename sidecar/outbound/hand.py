"""[P] What one lane has taken out of the journal, and where it goes on reading.

The promise kept here: every fresh delivery with a seq below ``next`` has been in hand, and nothing in hand is taken a
second time. Memory is bounded by the queues and the byte budget; the journal holds the rest, however long it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from sidecar.journal.types import DueWindow, FreshWindow
from sidecar.model import Delivery, Event
from sidecar.outbound.budget import Budget

__all__ = ["Hand", "Read"]

READ_BYTES = 4 << 20
PROBE_EVENTS = 4  # as many waiting events as a held lane keeps at hand
PROBED_MOST = 4096  # so many due ones take turns at probing


class Read(msgspec.Struct, frozen=True):
    """A read that is to be made.

    Attributes:
        due: From the deliveries that wait for a time, else from the fresh ones.
        from_seq: Where a fresh read begins.
        max_events: At least 1.
        max_bytes: At least 1; this much of the budget is set aside until the read is back.
        skip: Seqs that are not wanted.
        probing: The lane is held: a look round, which does not move ``next``.
    """

    due: bool
    from_seq: int
    max_events: int
    max_bytes: int
    skip: frozenset[int]
    probing: bool


class Hand:
    """The deliveries of one destination that are in memory.

    Args:
        name: The destination.
        budget: Bytes in memory, shared by all lanes.
        capacity: Most queued deliveries of each sort, fresh and due.
        start_at: No fresh delivery has a lower seq.
    """

    def __init__(self, name: str, budget: Budget, capacity: int, start_at: int) -> None:
        self.name = name
        self.capacity = capacity
        self.next = start_at
        self.behind = True  # there may be fresh deliveries from ``next`` on that only the journal has
        self.next_due_at_ms: int | None = 0  # when to look for due ones; None = nothing waits
        self.reading: Read | None = None
        self._budget = budget
        self._posted = 0  # last seq of the newest batch we were told of
        self._in_hand: dict[int, Delivery] = {}
        self._fresh: deque[Delivery] = deque()
        self._due: deque[Delivery] = deque()
        self._due_next = False  # whose turn it is
        self._due_read_next = True
        self._rewound: int | None = None  # while a read is under way: where it must not go past
        self._outdated = False  # the read under way may bring what was taken away meanwhile
        self._probe_from = 0  # where a held lane looks next; 0 = from the oldest
        self._probed: set[int] = set()  # due ones that have had their turn in this hold

    def __len__(self) -> int:
        """How many are in memory: queued, in flight, or settled and not yet committed."""
        return len(self._in_hand)

    @property
    def queued(self) -> int:
        """How many could be tried at once."""
        return len(self._fresh) + len(self._due)

    @property
    def wants_read(self) -> bool:
        """Whether the journal has, or will have, something for this lane that is not in memory."""
        return self.behind or self.next_due_at_ms is not None

    def fresh_from(self) -> int:
        """Where a restart may begin: no fresh delivery that is still owed has a lower seq."""
        lowest = min((seq for seq, d in self._in_hand.items() if not d.due_at_ms), default=self.next)
        return min(lowest, self.next)

    def seqs(self) -> frozenset[int]:
        """What is in hand."""
        return frozenset(self._in_hand)

    # --- from memory, straight after a commit

    def offer(self, events: Sequence[Event], last_seq: int, *, take: bool) -> bool:
        """Hear of a batch, and take its events while there is room.

        Args:
            events: Those of the batch that are owed to this destination, in order.
            last_seq: Of the whole batch.
            take: Whether the lane wants any now.

        Returns:
            Whether there is something new to do.
        """
        self._posted = last_seq
        if self.behind:
            return bool(events)
        queue, name, budget = self._fresh, self.name, self._budget
        for event in events:
            seq = event.seq
            if seq < self.next:  # a window has already seen it
                continue
            size = len(event.body)
            if not take or len(queue) >= self.capacity or not budget.fits(name, size):
                self.next = seq
                self.behind = True
                return True
            delivery = Delivery(event, name, started_at_ms=event.accepted_at_ms)
            self._in_hand[seq] = delivery
            budget.take(name, size)
            queue.append(delivery)
        self.next = max(self.next, last_seq + 1)
        return bool(events)

    # --- from the journal

    def plan(self, now_ms: int, *, probing: bool) -> Read | None:
        """Say what to read now, if anything; one read at a time, fresh and due by turns.

        Args:
            now_ms: Journal clock.
            probing: The lane is held and wants a delivery to probe with.
        """
        if self.reading is not None:
            return None
        low = 0 if probing else self.capacity // 2
        fresh = self.behind and len(self._fresh) <= low
        due = self.next_due_at_ms is not None and self.next_due_at_ms <= now_ms and len(self._due) <= low
        if probing:
            fresh, due = fresh and not self.queued, due and not self.queued
        if not (fresh or due):
            return None
        room = self._budget.room(self.name)
        if room < 1 and self._in_hand:
            return None  # what is in hand ends first, and then we are asked again
        is_due = due and (self._due_read_next or not fresh)
        self._due_read_next = not is_due
        events = PROBE_EVENTS if probing else self.capacity - len(self._due if is_due else self._fresh)
        skip = self.seqs()
        if is_due:
            self.next_due_at_ms = None  # what is noted while we read is kept besides what the read says
            if probing:
                skip |= self._probed
        start = max(self.next, self._probe_from) if probing else self.next
        read = Read(is_due, start, events, max(1, min(room, READ_BYTES)), skip, probing)
        self._budget.take(self.name, read.max_bytes)
        self._rewound = None
        self.reading = read
        return read

    def take_window(self, window: FreshWindow) -> None:
        """Take in what a fresh read brought."""
        if self._outdated:
            self.read_failed()
            return
        read = self._end_read()
        for delivery in window.deliveries:
            self._add(delivery, self._fresh)
        after = window.covered_to + 1
        if read.probing and (window.deliveries or read.from_seq > self.next or not window.at_end):
            # Only a look at those who wait: they are not claimed, and the next look goes on behind them.
            self._probe_from = 0 if window.at_end else after
            return
        self._probe_from = 0
        if window.at_end:
            # Batches are told of in order, so that what lies beyond the newest one may still be on its way, whatever
            # the last seq of the snapshot says. Only what was found there is known to be complete up to itself.
            found = window.deliveries[-1].event.seq if window.deliveries else 0
            after = max(read.from_seq, found + 1, min(after, self._posted + 1))
        self.next = after if self._rewound is None else min(after, self._rewound)
        self.behind = self._rewound is not None or not window.at_end or window.covered_to < self._posted

    def take_due(self, window: DueWindow) -> None:
        """Take in what a due read brought."""
        if self._outdated:
            self.read_failed()
            return
        read = self._end_read()
        for delivery in window.deliveries:
            self._add(delivery, self._due)
        if read.probing:
            self._probed.update(d.event.seq for d in window.deliveries)
            if self._probed:
                if not window.deliveries or len(self._probed) > PROBED_MOST:
                    self._probed.clear()  # everyone has had a turn: begin again
                self.note_due(0)  # those who were passed over wait on, and the hold may be over before the next look
        if window.next_due_at_ms is not None:
            self.note_due(window.next_due_at_ms)

    def read_failed(self) -> None:
        """A read brought nothing: as if it had not been made."""
        if self._end_read().due:
            self.note_due(0)

    def _end_read(self) -> Read:
        read = self.reading
        assert read is not None
        self.reading = None
        self._outdated = False
        self._budget.take(self.name, -read.max_bytes)
        return read

    def _add(self, delivery: Delivery, queue: deque[Delivery]) -> None:
        if self.adopt(delivery):  # else the read was older than what we know
            queue.append(delivery)

    def adopt(self, delivery: Delivery) -> bool:
        """Take in one that is about to be settled without a try; False when it is in hand already."""
        seq = delivery.event.seq
        if seq in self._in_hand:
            return False
        self._in_hand[seq] = delivery
        self._budget.take(self.name, len(delivery.event.body))
        return True

    def note_due(self, at_ms: int) -> None:
        """Something is due at this time (journal clock); 0 = look now."""
        if self.next_due_at_ms is None or at_ms < self.next_due_at_ms:
            self.next_due_at_ms = at_ms

    # --- out of the hand

    def pop(self) -> Delivery | None:
        """Give out the next delivery to try, fresh and due by turns; it stays in hand."""
        fresh, due = self._fresh, self._due
        if due and (self._due_next or not fresh):
            self._due_next = False
            return due.popleft()
        self._due_next = True
        return fresh.popleft() if fresh else None

    def settled(self, delivery: Delivery) -> None:
        """The journal has committed what became of it."""
        if self._in_hand.pop(delivery.event.seq, None) is not None:
            self._budget.take(self.name, -len(delivery.event.body))

    def drop(self, delivery: Delivery) -> None:
        """Forget one that stays pending; the journal brings it again."""
        self.settled(delivery)
        # Also for a fresh one: an operator may have made it due anew while it was passed over as in hand.
        self.note_due(0)
        if delivery.due_at_ms:
            return
        seq = delivery.event.seq
        self.next = min(self.next, seq)
        self.behind = True
        self._rewound = seq if self._rewound is None else min(self._rewound, seq)

    def let_go(self) -> None:
        """Forget everything queued: bodies of a destination that does not take them are not kept in memory."""
        for queue in (self._fresh, self._due):
            while queue:
                self.drop(queue.popleft())

    def recall(self) -> None:
        """Some of what is queued or being read was taken away: forget all of it, and have the journal say what is owed."""
        self.let_go()
        self._outdated = self.reading is not None

    def end_probing(self) -> None:
        """The hold is over: nobody has had a turn any more."""
        self._probe_from = 0
        self._probed.clear()
