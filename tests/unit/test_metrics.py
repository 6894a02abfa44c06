"""Metrics: declared once, visible at zero, printed as Prometheus wants them."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from sidecar.metrics import PREFIX, Counter, Gauge, Histogram, Metrics


def scrape(metrics: Metrics) -> str:
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode()


def test_a_counter_without_labels_is_visible_at_zero():
    assert Counter("x_total", "X.").family().samples[0].value == 0


def test_a_label_combination_is_visible_at_zero_once_created():
    c = Counter("x_total", "X.", ("source",))
    assert c.family().samples == []
    c.create("stripe")
    assert [(s.name, s.labels, s.value) for s in c.family().samples] == [
        (PREFIX + "x_total", {"source": "stripe"}, 0),
    ]


def test_creating_again_keeps_the_count():
    c = Counter("x_total", "X.", ("source",))
    c.inc("stripe")
    c.create("stripe")
    assert c.values[("stripe",)] == 1


def test_a_counter_counts_by_labels():
    c = Counter("x_total", "X.", ("source",))
    c.inc("a")
    c.inc("a", by=2)
    c.inc("b")
    assert c.values == {("a",): 3, ("b",): 1}


def test_a_total_that_something_durable_counts_is_taken_over():
    c = Counter("x_total", "X.", ("source",))
    c.set_total(41, "a")
    c.set_total(42, "a")
    assert c.values[("a",)] == 42


def test_a_gauge_goes_both_ways():
    g = Gauge("x", "X.")
    g.set(5)
    g.inc(by=-2)
    assert [(s.name, s.value) for s in g.family().samples] == [(PREFIX + "x", 3)]


@pytest.mark.parametrize(
    "make", [lambda: Counter("x_total", "X.", ("s",)), lambda: Histogram("x", "X.", (1.0,), ("s",))]
)
def test_dropping_labels_keeps_the_dictionary_that_the_hot_path_holds(make):
    """Whoever bound ``values`` goes on counting into what is scraped."""
    family = make()
    bound = family.values
    family.create("old")
    family.create("kept")
    family.drop(lambda labels: labels != ("old",))
    assert set(bound) == {("kept",)}
    assert family.values is bound


def test_a_histogram_counts_into_buckets_with_inclusive_upper_bounds():
    h = Histogram("x", "X.", (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.5):
        h.observe(value)
    samples = {(s.name.removeprefix(PREFIX), s.labels.get("le")): s.value for s in h.family().samples}
    assert samples == {
        ("x_bucket", "1.0"): 2,
        ("x_bucket", "2.0"): 3,
        ("x_bucket", "+Inf"): 4,
        ("x_count", None): 4,
        ("x_sum", None): 5.5,
    }


def test_a_series_that_is_held_on_to_is_the_one_scraped():
    h = Histogram("x", "X.", (1.0,), ("source",))
    bound = h.series("a")
    bound.observe(0.5)
    assert h.series("a") is bound
    assert sum(bound.counts) == 1


def test_a_labelled_histogram_is_visible_at_zero_once_created():
    h = Histogram("x", "X.", (1.0,), ("source",))
    h.create("a")
    assert {s.value for s in h.family().samples} == {0}


def test_every_name_follows_the_rules():
    """Counters end in _total, nothing else does, units are base units, one declaration each."""
    families = list(Metrics().all())
    names = [f.name for f in families]
    assert len(set(names)) == len(names)
    for f in families:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", f.name)
        assert f.name.endswith("_total") == (f.kind == "counter"), f.name
        assert not re.search(r"_(ms|kb|mb|milliseconds|kilobytes)(_|$)", f.name), f.name
        assert f.help.endswith("."), f.name


def test_no_label_can_hold_what_a_sender_writes():
    """Labels are configured names, closed vocabularies and the build; never an id, a path or an address."""
    allowed = {
        "source",
        "destination",
        "outcome",
        "reason",
        "state",
        "kind",
        "key_id",
        "version",
        "revision",
        "python",
    }
    for f in Metrics().all():
        assert set(f.labels) <= allowed, f.name


def test_a_scrape_can_be_read_back_and_has_every_family():
    metrics = Metrics()
    for f in metrics.all():
        f.create(*("x" for _ in f.labels))
    families = {f.name for f in text_string_to_metric_families(scrape(metrics))}
    for f in metrics.all():
        assert PREFIX + f.name.removesuffix("_total") in families


def test_an_openmetrics_scrape_works_too():
    registry = CollectorRegistry()
    registry.register(Metrics())
    assert generate_openmetrics(registry).endswith(b"# EOF\n")


def test_computed_gauges_are_refreshed_before_each_scrape():
    metrics = Metrics()
    metrics.on_scrape.append(metrics.connections.inc)
    scrape(metrics)
    assert f"{PREFIX}connections 2.0" in scrape(metrics)


def test_the_number_of_series_counts_this_very_scrape():
    metrics = Metrics()
    metrics.received.create("stripe", "accepted")
    text = scrape(metrics)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert f"{PREFIX}metrics_series {float(len(lines))}" in lines


def test_registering_does_not_count_as_a_scrape():
    metrics = Metrics()
    called = []
    metrics.on_scrape.append(lambda: called.append(1))
    CollectorRegistry().register(metrics)
    assert called == []
