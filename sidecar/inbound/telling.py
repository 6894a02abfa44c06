"""What became of requests, told: counted, logged, shown to whoever watches; and the answer that a refusal gets.

Outside, all refusals of unproven requests look the same; the reason is told here, and only inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar import log
from sidecar.clock import Clock
from sidecar.feed import Feed
from sidecar.inbound.ack import Answer, error_answer
from sidecar.inbound.refusals import RefusalRing
from sidecar.inbound.source import Source
from sidecar.inbound.verify import Rejected
from sidecar.metrics import Metrics, Series
from sidecar.model import Refusal, RejectReason

__all__ = ["UNKNOWN", "Telling"]

UNKNOWN: Final = "unknown"
"""Source of what no source claims; nobody may call a source so."""

_log = log.get_logger("inbound")


class Telling:
    """Everything that is told about requests.

    Attributes:
        durations: Where the time that a source's requests take is counted, by its name.

    Args:
        metrics: Where to count.
        feed: Where to tell those who watch.
        clock: The machine's clocks.
    """

    def __init__(self, metrics: Metrics, feed: Feed, clock: Clock) -> None:
        self._metrics = metrics
        self._feed = feed
        self._clock = clock
        self._refusals = RefusalRing()
        self.durations: dict[str, Series] = {}

    # --- the rows of the metrics

    def configure(self, sources: Sequence[Source]) -> None:
        """Make every row of these sources visible at zero, and forget those of all others."""
        m = self._metrics
        names = {source.name for source in sources}
        kept = names | {UNKNOWN}
        for family in (m.received, m.verification_failures, m.key_matched, m.dedup_conflicts, m.dedup_key_missing):
            family.drop(lambda labels: labels[0] in kept)
        m.last_accepted.drop(lambda labels: labels[0] in names)
        m.request_duration.drop(lambda labels: labels[0] in names)
        for name in sorted(kept):
            for outcome in ("accepted", "duplicate", "handshake", "aborted", *Refusal):
                m.received.create(name, outcome)
        self.durations = {name: m.request_duration.series(name) for name in names}
        for source in sources:
            for reason in RejectReason:
                m.verification_failures.create(source.name, reason)
            self.create_keys(source)
            for counter in (m.dedup_conflicts, m.dedup_key_missing, m.last_accepted):
                counter.create(source.name)

    def create_keys(self, source: Source) -> None:
        """Make the rows of every key that a source's requests may match visible at zero."""
        for secret in source.secrets:
            self._metrics.key_matched.create(source.name, secret.id)
        if source.fetches:
            self._metrics.key_matched.create(source.name, "network")

    # --- refusals

    def refuse(self, source: Source | None, code: Refusal) -> Answer:
        """Tell of a refusal; its answer."""
        self.count(source, code, code)
        allow = source.allow if source is not None and code is Refusal.METHOD_NOT_ALLOWED else b""
        return error_answer(code, allow=allow)

    def refuse_on_bug(self, source: Source | None, error: Exception) -> Answer:
        """Tell of a bug by its type alone, since the text of an exception may quote the request; the answer, a 500."""
        _log.limited("bug", "error", "request failed on a bug", error=type(error).__name__)
        return self.refuse(source, Refusal.INTERNAL_ERROR)

    def unauthorized(self, source: Source, rejected: Rejected) -> Answer:
        """Tell why; the answer is the same for every reason."""
        self._metrics.verification_failures.inc(source.name, rejected.reason)
        self.count(source, Refusal.UNAUTHORIZED, rejected.reason, rejected.detail)
        return error_answer(Refusal.UNAUTHORIZED)

    def count(
        self,
        source: Source | None,
        code: Refusal,
        reason: Refusal | RejectReason,
        detail: str = "",
        **numbers: int | None,
    ) -> None:
        """Tell of a refusal that somebody else answers; the numbers are for the log."""
        name = UNKNOWN if source is None else source.name
        self._metrics.received.inc(name, code)
        self._refusals.add(self._clock.wall_ms(), name, reason)
        # Strangers knock on unknown paths all day; what a configured source refuses, somebody wants to know.
        level: log.Level = "info" if source is None else "warning"
        _log.limited(
            f"{name} {reason}",
            level,
            "request refused",
            source=name,
            outcome=code,
            reason=None if reason == code else reason,
            detail=detail or None,
            **numbers,
        )
        if self._feed.watched:
            self.publish(name, code, reason=None if reason == code else reason)

    def refused_since(self, since_ms: int, source: str = "") -> dict[str, int]:
        """How many requests were refused since then (wall clock, whole hours, 7 days), by reason or error code."""
        return self._refusals.since(since_ms, source)

    # --- what was taken

    def handshake(self, source: Source) -> None:
        """Tell that one was answered."""
        self._metrics.received.inc(source.name, "handshake")
        if self._feed.watched:
            self.publish(source.name, "handshake")

    def publish(self, source: str, outcome: str, **more: str | int | None) -> None:
        """Show a row to those who watch; ask the feed first whether anybody does."""
        row: dict[str, str | int | float | bool | None] = {
            "type": "received",
            "at_ms": self._clock.wall_ms(),
            "source": source,
            "outcome": outcome,
        }
        row.update({name: value for name, value in more.items() if value is not None})
        self._feed.publish(row)
