"""[P] When a destination is left alone, probed, and trusted again.

    open ──unreachable, or hold_after failures in a row──▶ held ──first 2xx──▶ gentle ──doubling──▶ open

Time and randomness are handed in. A pause (Retry-After) lies on top of any of these: nothing starts until it is over.
"""

from __future__ import annotations

import enum

from sidecar.model import Outcome, OutcomeKind

__all__ = ["FIRST_WAIT_S", "LAST_WAIT_S", "Hold", "Turn"]

FIRST_WAIT_S = 1.0
LAST_WAIT_S = 30.0
_JITTER = 0.1  # share of a wait that chance may take off, so that many sidecars do not probe together
_PAUSING = (429, 503)  # RFC 9110, 10.2.3; RFC 6585, 4


class Turn(enum.Enum):
    """What an outcome changed."""

    NONE = 0
    BEGUN = 1
    ENDED = 2


class Hold:
    """One destination's state.

    Args:
        hold_after: So many failures in a row that speak about the backend, of different events, hold; 0 = never.
        concurrency: Tries at once while all is well.
        max_pause_s: Longest pause that a backend can ask for.
    """

    def __init__(self, hold_after: int, concurrency: int, max_pause_s: float) -> None:
        self.held = False
        self.held_since_s = 0.0
        self.last_error = ""
        self.next_probe_s = 0.0
        self.paused_until_s = 0.0
        self._failed: set[int] = set()  # events of the failures in a row
        self._wait_s = FIRST_WAIT_S
        self._hold_after = hold_after
        self._concurrency = self._trusted = concurrency
        self._max_pause_s = max_pause_s

    def configure(self, hold_after: int, concurrency: int, max_pause_s: float) -> None:
        """Take over changed settings; a hold goes on."""
        grown = self._trusted == self._concurrency
        self._hold_after = hold_after
        self._max_pause_s = max_pause_s
        self._trusted = concurrency if grown else min(self._trusted, concurrency)
        self._concurrency = concurrency

    def limit(self, now_s: float) -> int:
        """Say how many tries may run at once now; 0 while waiting for the next probe or for a pause to end."""
        if now_s < self.paused_until_s:
            return 0
        if self.held:
            return 1 if now_s >= self.next_probe_s else 0
        return self._trusted

    def opens_at_s(self) -> float:
        """Say from when on ``limit`` is not 0."""
        return max(self.paused_until_s, self.next_probe_s if self.held else 0.0)

    def note(self, seq: int, outcome: Outcome, now_s: float, rand: float, *, probe: bool) -> Turn:
        """Take in one outcome.

        Args:
            seq: The event's number: one event that fails again and again is one.
            outcome: The judged result.
            now_s: Monotonic.
            rand: Uniform in [0, 1).
            probe: The try began while the destination was held; only these move the next one.
        """
        kind = outcome.kind
        if kind is OutcomeKind.INTERRUPTED:
            return Turn.NONE
        if outcome.status in _PAUSING and outcome.retry_after_s is not None:
            self.paused_until_s = max(self.paused_until_s, now_s + min(outcome.retry_after_s, self._max_pause_s))
        if kind is OutcomeKind.DELIVERED:
            return self._succeed()
        if kind is not OutcomeKind.UNREACHABLE and not outcome.speaks_about_backend:
            self._failed.clear()  # it is about the event, so the backend is there
            if self.held and probe:
                self.next_probe_s = now_s
                self.last_error = outcome.error  # people read why it is held: what it says now, not what it said before
            return Turn.NONE
        self.last_error = outcome.error
        if self.held:
            if probe:
                self._wait(now_s, rand)
            return Turn.NONE
        if self._hold_after:  # else nobody asks, and in an outage of days it would be millions
            self._failed.add(seq)
        if kind is OutcomeKind.UNREACHABLE or 0 < self._hold_after <= len(self._failed):
            self.hold(now_s, rand)
            return Turn.BEGUN
        return Turn.NONE

    def hold(self, now_s: float, rand: float) -> None:
        """Begin a hold; the first probe follows after the first wait."""
        self.held = True
        self.held_since_s = now_s
        self._failed.clear()
        self._wait_s = FIRST_WAIT_S
        self._wait(now_s, rand)

    def _wait(self, now_s: float, rand: float) -> None:
        self.next_probe_s = now_s + self._wait_s * (1 - _JITTER * rand)
        self._wait_s = min(self._wait_s * 2, LAST_WAIT_S)

    def _succeed(self) -> Turn:
        self._failed.clear()
        if self.held:
            self.held = False
            self._trusted = 1
            return Turn.ENDED
        self._trusted = min(self._trusted * 2, self._concurrency)
        return Turn.NONE
