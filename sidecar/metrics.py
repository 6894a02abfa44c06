"""Every metric, declared once; plain integers while running, Prometheus families at scrape.

Incrementing is a dictionary update on the event loop, about 60 ns; prometheus-client only formats. Label
values come from the configuration and from closed enums, and every combination is created at zero, so
that ``increase()`` sees the first failure. Names get the prefix ``webhook_sidecar_``.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

__all__ = ["Counter", "Gauge", "Histogram", "Metrics", "PREFIX"]

PREFIX = "webhook_sidecar_"

Labels = tuple[str, ...]

REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BATCH_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
ATTEMPT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LATENCY_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
TRIES_BUCKETS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)


class Counter:
    """A number that only grows. ``values`` is public: the hot path may bind and update it directly."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Labels = ()) -> None:
        self.name, self.help, self.labels = name, help, labels
        self.values: dict[Labels, float] = {} if labels else {(): 0}

    def create(self, *values: str) -> None:
        """Make a label combination visible at zero."""
        self.values.setdefault(values, 0)

    def inc(self, *values: str, by: float = 1) -> None:
        """Add ``by`` to one label combination."""
        self.values[values] = self.values.get(values, 0) + by

    def set_total(self, total: float, *values: str) -> None:
        """Take over a total that something durable counts (the journal)."""
        self.values[values] = total

    def drop(self, keep: Callable[[Labels], bool]) -> None:
        """Forget label combinations that are no longer configured; the dictionary stays the same object."""
        for k in [k for k in self.values if not keep(k)]:
            del self.values[k]

    def family(self) -> Metric:
        """Make what prometheus-client prints."""
        f = CounterMetricFamily(PREFIX + self.name.removesuffix("_total"), self.help, labels=self.labels)
        for k, v in sorted(self.values.items()):
            f.add_metric(k, v)
        return f


class Gauge(Counter):
    """A number that goes both ways."""

    kind = "gauge"

    def set(self, value: float, *values: str) -> None:
        """Set one label combination."""
        self.values[values] = value

    def family(self) -> Metric:
        """Make what prometheus-client prints."""
        f = GaugeMetricFamily(PREFIX + self.name, self.help, labels=self.labels)
        for k, v in sorted(self.values.items()):
            f.add_metric(k, v)
        return f


class Series:
    """One label combination of a histogram: hold on to it where it is observed often."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value


class Histogram:
    """How often values fell into each bucket."""

    kind = "histogram"

    def __init__(self, name: str, help: str, buckets: tuple[float, ...], labels: Labels = ()) -> None:
        self.name, self.help, self.labels, self.buckets = name, help, labels, buckets
        self.values: dict[Labels, Series] = {} if labels else {(): Series(buckets)}

    def series(self, *values: str) -> Series:
        """Get, or make at zero, one label combination."""
        s = self.values.get(values)
        if s is None:
            s = self.values[values] = Series(self.buckets)
        return s

    def create(self, *values: str) -> None:
        """Make a label combination visible at zero."""
        self.series(*values)

    def observe(self, value: float, *values: str) -> None:
        """Count one value."""
        self.series(*values).observe(value)

    def drop(self, keep: Callable[[Labels], bool]) -> None:
        """Forget label combinations that are no longer configured; the dictionary stays the same object."""
        for k in [k for k in self.values if not keep(k)]:
            del self.values[k]

    def family(self) -> Metric:
        """Make what prometheus-client prints."""
        f = HistogramMetricFamily(PREFIX + self.name, self.help, labels=self.labels)
        bounds = [*(_le(b) for b in self.buckets), "+Inf"]
        for k, s in sorted(self.values.items()):
            total, rows = 0, []
            for bound, n in zip(bounds, s.counts, strict=True):
                total += n
                rows.append((bound, float(total)))
            f.add_metric(k, rows, sum_value=s.sum)
        return f


def _le(bound: float) -> str:
    return repr(float(bound))


class Metrics:
    """All of them; one object a process (a test makes its own)."""

    def __init__(self) -> None:
        c, g, h = Counter, Gauge, Histogram
        so, sd = ("source", "outcome"), ("source", "destination")
        # --- ingress
        self.received = c("received_total", "Requests by source and what became of them.", so)
        self.verification_failures = c(
            "verification_failures_total", "Requests refused as unauthorized, by the true reason.", ("source", "reason")
        )
        self.dedup_conflicts = c("dedup_conflicts_total", "Duplicates whose bytes differ from the first.", ("source",))
        self.dedup_key_missing = c("dedup_key_missing_total", "Accepted events without a dedup key.", ("source",))
        self.dedup_evicted_early = c(
            "dedup_evicted_early_total", "Dedup keys forgotten before their time, for want of room.", ("source",)
        )
        self.request_duration = h(
            "request_duration_seconds", "From complete request to answer.", REQUEST_BUCKETS, ("source",)
        )
        self.received_bytes = c("received_bytes_total", "Body bytes received.")
        self.last_accepted = g(
            "last_accepted_timestamp_seconds", "When the last event was accepted; 0 = never.", ("source",)
        )
        self.key_matched = c(
            "signature_key_matched_total", "Signatures by the secret that matched.", ("source", "key_id")
        )
        self.connections = g("connections", "Open connections on the webhook listener.")
        self.connections_shed = c("connections_shed_total", "Connections closed at the cap.")
        # --- journal
        self.commit_duration = h("journal_commit_duration_seconds", "One commit, fsync included.", COMMIT_BUCKETS)
        self.batch_events = h("journal_batch_events", "Events that one commit brought in.", BATCH_BUCKETS)
        self.journal_used = g("journal_used_bytes", "Bytes in use by all tables.")
        self.journal_capacity = g("journal_capacity_bytes", "The journal's maximum size.")
        self.journal_disk_free = g("journal_disk_free_bytes", "Free bytes on the journal's file system.")
        self.journal_errors = c("journal_errors_total", "Journal faults by kind.", ("kind",))
        self.journal_quarantined = c(
            "journal_quarantined_total", "Damaged records, and deliveries that are owed and cannot be found."
        )
        self.settlements_stale = c(
            "journal_settlements_stale_total", "Settlements that the record no longer agreed with."
        )
        # --- queue; the two counters are the journal's own, durable ones
        self.enqueued = c("enqueued_total", "Entries into pending.", sd)
        self.settled = c("settled_total", "Exits from pending.", ("destination", "outcome"))
        self.pending = g("pending_events", "Deliveries owed.", ("destination", "state"))
        self.oldest_pending = g("oldest_pending_age_seconds", "Age of the oldest delivery owed.", ("destination",))
        self.dead_letters = g("dead_letters", "Dead-letter files.", ("destination",))
        self.oldest_dead_letter = g("oldest_dead_letter_age_seconds", "Age of the oldest file.", ("destination",))
        self.dead_letters_bytes = g("dead_letters_bytes", "Bytes of all dead-letter files.")
        self.dead_lettered = c("dead_lettered_total", "Deliveries given up.", ("destination", "reason"))
        self.dead_letters_waiting = g(
            "dead_letters_waiting", "Deliveries given up whose file could not be written yet.", ("destination",)
        )
        # --- delivery
        self.attempts = c("delivery_attempts_total", "Tries by outcome.", ("destination", "outcome"))
        self.attempt_duration = h("delivery_attempt_duration_seconds", "One try.", ATTEMPT_BUCKETS, ("destination",))
        self.delivery_latency = h("delivery_latency_seconds", "Accepted to delivered.", LATENCY_BUCKETS, sd)
        self.attempts_per_event = h(
            "delivery_attempts_per_event", "Tries a finished delivery took.", TRIES_BUCKETS, ("destination",)
        )
        self.held = g("destination_held", "1 while the destination is held.", ("destination",))
        self.resigned = c("resigned_total", "Attempts that carried a fresh signature.", ("source",))
        # --- process
        self.build_info = g("build_info", "Always 1; the labels tell the build.", ("version", "revision", "python"))
        self.reload_ok = g("config_last_reload_successful", "1 when the last (re)load worked.")
        self.reload_time = g("config_last_reload_success_timestamp_seconds", "When the configuration was last loaded.")
        self.loop_lag = g("event_loop_lag_seconds", "How late the last heartbeat of the event loop was.")
        self.log_dropped = c("log_lines_dropped_total", "Log lines dropped because the output was blocked.")
        self.log_suppressed = c("log_lines_suppressed_total", "Equal log lines held back by the rate limit.")
        self.series = g("metrics_series", "Series that a scrape returns.")
        #: Called before each scrape to refresh gauges that are computed, not counted.
        self.on_scrape: list[Callable[[], None]] = []

    def all(self) -> Iterator[Counter | Histogram]:
        """Every family, in the order of declaration."""
        for value in vars(self).values():
            if isinstance(value, (Counter, Histogram)):
                yield value

    def collect(self) -> Iterable[Metric]:
        """Be a prometheus-client collector."""
        for refresh in self.on_scrape:
            refresh()
        families = [f.family() for f in self.all() if f is not self.series]
        self.series.set(sum(len(f.samples) for f in families) + 1)  # and itself
        yield from families
        yield self.series.family()

    def describe(self) -> Iterable[Metric]:
        """Let a registry register us without collecting."""
        return [f.family() for f in self.all()]
