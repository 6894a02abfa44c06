"""One destination's lane: take what is owed, try it, settle it; never more at once than is allowed.

Between the hand (``hand.py``, what is in memory), the hold (``hold.py``, whether to try at all) and the decision
(``settle.py``, what a try means). Nothing here waits: every step is a callback on the event loop, and there is no task
per delivery. A lane knows nothing of the others, so that a dead destination costs them nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Sequence

from sidecar.journal.types import Settlement
from sidecar.lifecycle import Change
from sidecar.log import bug_text, get_logger
from sidecar.model import Attempt, DeadReason, Delivery, Event, Outcome, OutcomeKind
from sidecar.outbound.claim import Claim
from sidecar.outbound.deliver import Result
from sidecar.outbound.hand import Hand
from sidecar.outbound.hold import Hold, Turn
from sidecar.outbound.meters import Meters
from sidecar.outbound.retry import RetryPolicy, judge
from sidecar.outbound.settle import decide, expired, given_up
from sidecar.outbound.surroundings import Outlet, Surroundings

__all__ = ["MAX_UNSETTLED", "Lane", "queue_bound"]

log = get_logger("outbound")

MAX_UNSETTLED = 256  # settled and not yet committed: what a kill -9 repeats besides what is in flight
_NOTE_EVERY = 64  # settled deliveries between two reports of where a restart may begin
_LONGEST_TIMER_S = 60.0
_LONG_PAUSE_S = 5.0  # a pause from which on bodies are not kept in memory


def queue_bound(concurrency: int) -> int:
    """Say how many deliveries of each sort a lane keeps ready, so that it never waits for the journal in between."""
    return max(256, 4 * concurrency)


class Lane:
    """The deliveries of one destination, from their claim to their end.

    Args:
        name: The destination.
        around: What all lanes share.
        retire: Closes an outlet that is no longer used and has no running tries.
    """

    def __init__(self, name: str, around: Surroundings, retire: Callable[[Outlet], None]) -> None:
        self.name = name
        self.outlet: Outlet | None = None  # None: it is not configured (any more)
        self.in_flight = 0
        self.in_flight_due = 0  # those of them that the journal counts as scheduled
        self.unsettled = 0
        self.hold = Hold(0, 1, 0)
        self.hand = Hand(name, around.budget, queue_bound(1), around.journal.fresh_from(name))
        self.policy = RetryPolicy()
        self._around = around
        self._journal = around.journal
        self._retire = retire
        self._meters = Meters(around.metrics, name)
        self._loop: asyncio.AbstractEventLoop | None = None  # set while it works
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0
        self._woken = False
        self._claim = Claim(self, self.hand, self._journal, around.clock)
        self._settled_since_note = 0
        self._noted = -1

    # --- configuration and life

    def configure(self, outlet: Outlet | None, sources: Iterable[str] = ()) -> None:
        """Take over a changed backend, or the lack of one; running tries go on where they began."""
        self._meters.routes(sources)
        old, self.outlet = self.outlet, outlet
        if old is not None and old is not outlet:
            old.retired = True
            if not old.running:
                self._retire(old)
        if outlet is not None:
            options = outlet.options
            self.policy = options.retry
            concurrency = options.http.concurrency
            self.hold.configure(options.hold_after, concurrency, options.retry.max_delay_s)
            self.hand.capacity = queue_bound(concurrency)
        else:
            self.hand.let_go()
        self._meters.held.set(float(outlet is None or self.hold.held), self.name)
        self._wake()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to work."""
        self._loop = loop
        self._wake()

    def stop(self) -> None:
        """Begin nothing any more; running tries go on until they end or are cancelled. Safe to call twice."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._claim.stop()
        self._note()

    def cancel(self, outlet: Outlet) -> None:
        """Interrupt the running tries of one outlet; they use no attempt."""
        for handle in list(outlet.running.values()):
            handle.cancel()

    def ready(self, until_ms: int) -> bool:
        """Whether something is being done, or could be before a time (journal clock)."""
        if self.in_flight or self.unsettled:
            return True
        if self.outlet is None or self._loop is None:
            return False
        if self.hold.held or self._around.clock.monotonic_s() < self.hold.paused_until_s:
            return False
        due = self.hand.next_due_at_ms
        reading = self.hand.reading is not None
        return bool(self.hand.queued) or self.hand.behind or reading or (due is not None and due <= until_ms)

    # --- what wakes it

    def on_batch(self, events: Sequence[Event], last_seq: int) -> None:
        """Hear of a commit: ``events`` are those of it that are owed here."""
        hold = self.hold
        take = self._loop is not None and self.outlet is not None and not hold.held
        if take and hold.paused_until_s:
            take = self._around.clock.monotonic_s() >= hold.paused_until_s
        if self.hand.offer(events, last_seq, take=take):
            self._pump()

    def on_due(self) -> None:
        """Hear that something may be due now."""
        self.hand.note_due(0)
        self._wake()

    def on_withdrawn(self) -> None:
        """Hear that something in memory may not be owed any more."""
        self.hand.recall()
        self._wake()

    def _wake(self) -> None:
        """Look round soon, once for however many reasons."""
        if not self._woken and self._loop is not None:
            self._woken = True
            self._loop.call_soon(self.look)

    def _ring(self) -> None:
        self._timer = None
        self._pump()

    # --- the one loop

    def _pump(self) -> None:
        loop = self._loop
        if loop is None:
            return
        now_s = self._around.clock.monotonic_s()
        outlet, hold, hand, claim = self.outlet, self.hold, self.hand, self._claim
        if outlet is not None:
            limit = hold.limit(now_s)
            while self.in_flight < limit and self.unsettled < MAX_UNSETTLED:
                delivery = hand.pop()
                if delivery is None:
                    break
                self._begin(outlet, delivery)
            if not (hand.wants_read or hold.held or now_s < hold.paused_until_s):
                return  # all is in hand, and nothing waits for a time
            # Reading ahead needs no free place, except for a probe.
            if limit > (self.in_flight if hold.held else 0) and not claim.busy and now_s >= claim.not_before_s:
                read = hand.plan(self._journal.clock_ms(), probing=hold.held)
                if read is not None:
                    claim.fetch(loop, read)
        if (outlet is None or hold.held) and now_s >= claim.sweep.next_s and not claim.busy:
            if self.unsettled < MAX_UNSETTLED // 2:
                claim.look_for_old(loop)
            else:
                claim.sweep.again(now_s)
        self._arm(loop, now_s)

    def _arm(self, loop: asyncio.AbstractEventLoop, now_s: float) -> None:
        """Have one timer that rings when there will be something to do that nothing else tells of."""
        hand, hold = self.hand, self.hold
        at_s = float("inf")
        if (self.outlet is None or hold.held) and not self._claim.busy:  # a read looks round when it ends
            at_s = self._claim.sweep.next_s
        if self.outlet is not None:
            opens_s = hold.opens_at_s()
            due = hand.next_due_at_ms
            if opens_s > now_s:
                if hand.queued or hand.behind or due is not None:
                    at_s = min(at_s, opens_s)
            elif due is not None and not hand.reading:
                wait_s = (due - self._journal.clock_ms()) / 1000
                if wait_s > 0:
                    # The journal clock goes on while the machine sleeps, timers do not.
                    at_s = min(at_s, now_s + min(wait_s, _LONGEST_TIMER_S))
            if self._claim.not_before_s > now_s:
                at_s = min(at_s, self._claim.not_before_s)
        if self._timer is not None:
            if self._timer_at_s <= at_s:
                return  # rings early enough, and then it is armed again
            self._timer.cancel()
        if at_s < float("inf"):
            self._timer_at_s = at_s
            self._timer = loop.call_later(max(0.001, at_s - now_s), self._ring)

    # --- one try

    def _begin(self, outlet: Outlet, delivery: Delivery) -> None:
        now_ms = self._journal.clock_ms()
        if expired(delivery, self.policy, now_ms):
            self.give_up(delivery, None, DeadReason.EXPIRED)
            return
        event = delivery.event
        seq = event.seq
        resigned: list[tuple[bytes, bytes]] | None = None
        self.in_flight += 1
        self.in_flight_due += delivery.due_at_ms > 0
        done = functools.partial(self._finished, outlet, delivery, self.hold.held)
        try:
            if outlet.options.signature == "fresh" and event.verified:
                resigned = self._around.resign(event, self._around.clock.wall_ms())
                if resigned:
                    self._around.metrics.resigned.inc(event.source)
            outlet.running[seq] = outlet.destination.attempt(delivery, resigned or (), done)
        except Exception as e:  # noqa: BLE001 - one event's bug must not cost the others their turn
            why = bug_text(e)
            log.limited(
                "attempt", "error", "a try could not begin", destination=self.name, event_id=event.id, error=why
            )
            started_at_ms = self._around.clock.wall_ms()
            result = Result(failure="garbage", error="internal error", started_at_ms=started_at_ms)
            assert self._loop is not None
            self._loop.call_soon(done, result)

    def _finished(self, outlet: Outlet, delivery: Delivery, probe: bool, result: Result) -> None:
        event = delivery.event
        self.in_flight -= 1
        self.in_flight_due -= delivery.due_at_ms > 0
        outlet.running.pop(event.seq, None)
        if outlet.retired and not outlet.running:
            self._retire(outlet)
        outcome = judge(self.policy, result)
        self._meters.tried(outcome, result.duration_ms)
        if self._around.feed.watched:
            self._publish(delivery, outcome, result)
        if outcome.kind is OutcomeKind.INTERRUPTED:
            self.hand.drop(delivery)
            self._ended()
            return
        around, hold = self._around, self.hold
        now_s, now_ms, rand = around.clock.monotonic_s(), self._journal.clock_ms(), around.rand()
        was_held = hold.held
        turn = hold.note(event.seq, outcome, now_s, rand, probe=probe)
        decision = decide(delivery, outcome, self.policy, now_ms, rand, held=was_held)
        if decision.change is Change.PUT_OFF:
            self.hand.drop(delivery)
        else:
            attempt = Attempt(
                delivery.attempts + 1,
                result.started_at_ms,
                result.duration_ms,
                outcome.label,
                outcome.status,
                outcome.error,
                delivery.round,
            )
            if decision.change is Change.SUCCEED:
                self._meters.delivered(event.source, now_ms - event.accepted_at_ms, attempt.number)
                self._settle(Settlement(delivery, Change.SUCCEED, attempt, done=self._settled))
            elif decision.change is Change.RETRY:
                self._settle(Settlement(delivery, Change.RETRY, attempt, decision.due_at_ms, done=self._settled))
            else:
                self.give_up(delivery, attempt, decision.reason)
        if turn is not Turn.NONE:
            self._turned(turn, now_s)
        elif hold.paused_until_s > now_s + _LONG_PAUSE_S:
            self.hand.let_go()
        if self._loop is not None:
            self._pump()
        else:
            self._around.progress()

    def _turned(self, turn: Turn, now_s: float) -> None:
        hold = self.hold
        begun = turn is Turn.BEGUN
        self._meters.held.set(float(begun or self.outlet is None), self.name)
        if begun:
            self.hand.let_go()
            self._claim.sweep.reset(now_s)
            log.limited(f"held {self.name}", "warning", "destination held", destination=self.name, why=hold.last_error)
        else:
            self.hand.end_probing()
            for_s = round(now_s - hold.held_since_s, 1)
            why = hold.last_error
            log.limited(
                f"held {self.name}", "info", "destination is back", destination=self.name, held_s=for_s, why=why
            )
        if self._around.feed.watched:
            self._around.feed.publish(
                {
                    "type": "held" if begun else "recovered",
                    "at_ms": self._around.clock.wall_ms(),
                    "destination": self.name,
                    "error": hold.last_error if begun else "",
                }
            )

    # --- settling

    def give_up(self, delivery: Delivery, attempt: Attempt | None, reason: str) -> None:
        """Settle a delivery as given up; once that is committed, its dead letter is written."""
        self._meters.finished(delivery.attempts + (attempt is not None))
        self._settle(Settlement(delivery, Change.GIVE_UP, attempt, reason=reason, done=self._settled))

    def _settle(self, settlement: Settlement) -> None:
        self.unsettled += 1
        self._journal.settle(settlement)

    def _settled(self, settlement: Settlement, applied: bool) -> None:
        self.unsettled -= 1
        delivery = settlement.delivery
        self.hand.settled(delivery)
        if not applied:
            self.hand.note_due(0)  # an operator was faster; whatever that made due is found again
        elif settlement.change is Change.RETRY:
            self.hand.note_due(settlement.due_at_ms)
        elif settlement.change is Change.GIVE_UP:
            self._meters.dead_lettered.inc(self.name, settlement.reason)
            self._around.bury(given_up(delivery, settlement.attempt, settlement.reason))
        self._settled_since_note += 1
        if self._settled_since_note >= _NOTE_EVERY or not len(self.hand):
            self._note()
        self._ended()

    def _ended(self) -> None:
        """Something is over: look round, or, when nothing begins any more, tell whoever waits for that."""
        if self._loop is not None:
            self._wake()
        else:
            self._around.progress()

    def _note(self) -> None:
        """Report where a restart may begin."""
        self._settled_since_note = 0
        seq = self.hand.fresh_from()
        if seq != self._noted:
            self._noted = seq
            self._journal.note_fresh_from(self.name, seq)

    # --- what a read asks of us

    def wants(self, *, probing: bool) -> bool:
        """Whether what a read brought is still wanted: not when the hold began, or the destination went, meanwhile."""
        return self.outlet is not None and (probing or not self.hold.held)

    def expire(self, delivery: Delivery) -> None:
        """Give up a delivery that became too old without being tried."""
        self.give_up(delivery, None, DeadReason.EXPIRED)

    def look(self) -> None:
        """Look round now."""
        self._woken = False
        self._pump()
        self._around.progress()

    def _publish(self, delivery: Delivery, outcome: Outcome, result: Result) -> None:
        self._around.feed.publish(
            {
                "type": "attempt",
                "at_ms": self._around.clock.wall_ms(),
                "event_id": delivery.event.id,
                "source": delivery.event.source,
                "destination": self.name,
                "attempt": delivery.attempts + 1,
                "outcome": outcome.label,
                "status": outcome.status,
                "error": outcome.error,
                "duration_ms": result.duration_ms,
            }
        )
