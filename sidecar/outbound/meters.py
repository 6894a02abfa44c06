"""What one lane counts: every label combination made at zero when it is configured, held on to while it works."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.metrics import Metrics, Series
from sidecar.model import DeadReason, Outcome

__all__ = ["OUTCOMES", "Meters"]

OUTCOMES = ("2xx", "3xx", "4xx", "5xx", "timeout", "reset", "connect", "tls", "interrupted")


class Meters:
    """One destination's rows of the metrics.

    Args:
        metrics: All of them.
        destination: Whose.
    """

    def __init__(self, metrics: Metrics, destination: str) -> None:
        self.held = metrics.held
        self.dead_lettered = metrics.dead_lettered
        self._metrics = metrics
        self._destination = destination
        self._attempts = metrics.attempts
        for outcome in OUTCOMES:
            metrics.attempts.create(destination, outcome)
        for reason in DeadReason:
            metrics.dead_lettered.create(destination, reason.value)
        metrics.dead_letters_waiting.create(destination)
        metrics.held.create(destination)
        self._duration = metrics.attempt_duration.series(destination)
        self._tries = metrics.attempts_per_event.series(destination)
        self._latency: dict[str, Series] = {}

    def routes(self, sources: Iterable[str]) -> None:
        """Make the rows of the sources that send here."""
        for source in sources:
            self._latency[source] = self._metrics.delivery_latency.series(source, self._destination)
            self._metrics.resigned.create(source)

    def tried(self, outcome: Outcome, duration_ms: int) -> None:
        """Count one try."""
        self._attempts.inc(self._destination, outcome.label)
        self._duration.observe(duration_ms / 1000)

    def delivered(self, source: str, latency_ms: int, tries: int) -> None:
        """Count one success; latency is from acceptance, on the journal clock."""
        series = self._latency.get(source)
        if series is None:
            series = self._latency[source] = self._metrics.delivery_latency.series(source, self._destination)
        series.observe(max(0, latency_ms) / 1000)
        self._tries.observe(tries)

    def finished(self, tries: int) -> None:
        """Count one that was given up."""
        self._tries.observe(tries)
