"""A real Prometheus scrapes the real daemon: what it gets is what is declared, and no query of ours looks for what is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from sidecar.metrics import PREFIX, Metrics
from tests.support.daemon import REPOSITORY, Daemon, eventually, free_port
from tests.support.promtool import FOLDER, MISSING, RULE_FILES, Prometheus, check_metrics
from tests.support.senders import fresh_id, github
from tests.support.sink import Sink

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

SECRET = "prometheus-test"
DASHBOARD: dict[str, Any] = json.loads((REPOSITORY / "deploy" / "grafana" / "webhook-sidecar.json").read_text())
RULES: list[dict[str, Any]] = [
    rule for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]
]
# Not ours: kube-state-metrics has them, and a rule that people add for themselves.
FOREIGN = {
    "kube_pod_init_container_status_restarts_total",
    "kube_pod_container_status_restarts_total",
    "webhook_sidecar:no_webhooks_after:seconds",
}
SELECTOR = re.compile(
    r"\b(?:(?:webhook_sidecar|destination:|source:|process_|kube_)[\w:]*(?:\{[^{}]*\})?|up\{[^{}]*\})"
)

CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ value = "{secret}" }}]
destinations = ["app", "grumpy", "gone"]
[destinations.app]
url = "{app}/in"
[destinations.grumpy]
url = "{grumpy}/in"
[destinations.gone]
url = "http://127.0.0.1:{closed}/in"
"""


@dataclass(frozen=True)
class World:
    """A daemon with some history, and the Prometheus that watches it."""

    daemon: Daemon
    prometheus: Prometheus


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Sink() as app, Sink(400) as grumpy:
        config = CONFIG.format(secret=SECRET, app=app.url, grumpy=grumpy.url, closed=free_port())
        with (
            # An empty label is no label to Prometheus, so the build gets a revision.
            Daemon(tmp_path_factory.mktemp("prom"), config, env={"WEBHOOK_SIDECAR_REVISION": "abc"}) as daemon,
            Prometheus([f"127.0.0.1:{daemon.admin_port}"]) as prometheus,
        ):
            eventually(lambda: prometheus.query('up{job="webhook-sidecar"} == 1'), 60, "the first scrape")
            for n in range(20):
                body = f'{{"n": {n}}}'.encode()
                headers = github(body, SECRET, fresh_id())
                assert daemon.post("/github", body, headers)[0] == 200
                assert daemon.post("/github", body, headers)[0] == 200  # a duplicate
            assert daemon.post("/github", b"{}", github(b"{}", "wrong"))[0] == 401
            assert daemon.post("/github", b"{}")[0] == 401
            assert daemon.post("/nowhere", b"{}")[0] == 404
            eventually(
                lambda: len(daemon.api("dead-letters")["dead_letters"]) == 20, 60, "the grumpy one's dead letters"
            )
            eventually(lambda: daemon.lane("gone")["held"], 60, "a destination that is gone")
            eventually(lambda: prometheus.query('webhook_sidecar_dead_letters{destination="grumpy"} == 20'), 60)
            # Two evaluations more, so that what is recorded from it is there as well.
            seen = "destination:webhook_sidecar_undelivered:increase6h"
            eventually(lambda: prometheus.query(f'{seen}{{destination="gone"}} > 0'), 60, "recording rules")
            eventually(lambda: prometheus.query("destination:webhook_sidecar_delivery_errors:ratio5m"), 60)
            yield World(daemon, prometheus)


def selectors(expression: str) -> set[str]:
    """Each metric of an expression with its label matchers, without ranges and functions."""
    return set(SELECTOR.findall(expression))


def filled_in(expression: str) -> str:
    """A query of the dashboard as Grafana sends it with every variable on All."""
    return re.sub(r"\$(namespace|job|pod|source|destination)\b", ".*", expression).replace("$__rate_interval", "10m")


def test_the_format_is_what_prometheus_calls_good(world: World) -> None:
    status, text = world.daemon.admin("GET", "/metrics")
    assert status == 200
    ours = "".join(line for line in text.decode().splitlines(keepends=True) if PREFIX in line)
    outcome = check_metrics(ours)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert check_metrics("# TYPE things counter\nthings 1\n").returncode != 0, "it takes anything"


def test_every_metric_arrives_with_its_type_and_labels(world: World) -> None:
    known = world.prometheus.ask("metadata")
    for family in Metrics().all():
        name = PREFIX + family.name
        # In OpenMetrics, which Prometheus asks for, a counter's family is named without its suffix.
        described = known.get(name) or known.get(name.removesuffix("_total"))
        assert described, name
        assert described[0]["type"] == family.kind, name
        assert described[0]["help"], name
        series = world.prometheus.query(f"{name}_count" if family.kind == "histogram" else name)
        for row in series:
            labels = row["metric"].keys() - {"__name__", "job", "instance"}
            assert labels == set(family.labels), name


def test_every_metric_has_series_before_anything_has_happened_to_it(world: World) -> None:
    """So that increase() sees the first failure."""
    for family in Metrics().all():
        name = PREFIX + family.name
        assert world.prometheus.query(f"{name}_count" if family.kind == "histogram" else name), name


def test_the_books_balance_in_prometheus_too(world: World) -> None:
    for destination in ("app", "grumpy", "gone"):
        expression = (
            f'sum(webhook_sidecar_enqueued_total{{destination="{destination}"}})'
            f' - sum(webhook_sidecar_settled_total{{destination="{destination}"}})'
            f' - sum(webhook_sidecar_pending_events{{destination="{destination}"}})'
        )
        assert float(world.prometheus.query(expression)[0]["value"][1]) == 0


def test_every_rule_can_be_evaluated(world: World) -> None:
    def groups() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = world.prometheus.ask("rules")["groups"]
        return found if all(r["health"] != "unknown" for g in found for r in g["rules"]) else []

    rules = [r for g in eventually(groups, 60) for r in g["rules"]]
    assert len(rules) == len(RULES)
    assert [r["name"] for r in rules if r["health"] != "ok"] == []


@pytest.mark.parametrize("name", sorted({r["record"] for r in RULES if "record" in r}))
def test_every_recording_rule_records(world: World, name: str) -> None:
    assert eventually(lambda: world.prometheus.query(name), 60, name)


@pytest.mark.parametrize("alert", sorted({r["alert"] for r in RULES if "alert" in r}))
def test_every_alert_looks_at_series_that_exist(world: World, alert: str) -> None:
    """An alert on a misspelt metric or label value is quiet for ever."""
    for rule in (r for r in RULES if r.get("alert") == alert):
        looked_at = selectors(rule["expr"])
        assert looked_at
        for selector in looked_at:
            if selector.partition("{")[0] not in FOREIGN:
                assert world.prometheus.query(selector), selector


def test_a_misspelt_label_value_is_noticed(world: World) -> None:
    """The negative control of the test above."""
    (selector,) = selectors('sum(increase(webhook_sidecar_settled_total{outcome="deliverd"}[5m])) > 0')
    assert world.prometheus.query(selector) == []


def test_what_happened_is_what_the_alerts_see(world: World) -> None:
    """Dead letters and one that is gone: these alerts are on their way, and no other."""

    def told() -> set[str]:
        return {a["labels"]["alertname"] for a in world.prometheus.ask("alerts")["alerts"]}

    expected = {"EventsDeadLettered", "DeliveryStalled", "DeliverySLOBurn"}
    assert eventually(lambda: told() == {f"WebhookSidecar{a}" for a in expected} or None, 60, str(told()))


QUERIES = [
    (f"{panel['title']} {target['refId']}", target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]


@pytest.mark.parametrize(("panel", "expression"), QUERIES, ids=[q[0] for q in QUERIES])
def test_every_query_of_the_dashboard_returns_series(world: World, panel: str, expression: str) -> None:
    assert world.prometheus.query(filled_in(expression)), panel


def test_every_variable_and_annotation_of_the_dashboard_finds_series(world: World) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert match is not None
        series = world.prometheus.query(filled_in(match[1]))
        assert series
        if match[2] not in {"namespace", "pod"}:  # Kubernetes gives those
            assert all(match[2] in row["metric"] for row in series)
    for annotation in DASHBOARD["annotations"]["list"]:
        for selector in selectors(filled_in(annotation["expr"])):
            assert world.prometheus.query(selector), selector


def test_the_configuration_for_a_laptop_scrapes_under_the_same_job() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    assert [s["job_name"] for s in config["scrape_configs"]] == ["webhook-sidecar"]
    assert config["rule_files"] == ["rules.yaml", "alerts.yaml"]
