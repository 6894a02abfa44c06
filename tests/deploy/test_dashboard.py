"""The dashboard keeps to the rules that Grafana's own linter has, and answers what an operator asks, top to bottom."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

from sidecar.metrics import PREFIX, Metrics
from tests.support.daemon import REPOSITORY

DASHBOARD: dict[str, Any] = json.loads((REPOSITORY / "deploy" / "grafana" / "webhook-sidecar.json").read_text())
PANELS = [p for p in DASHBOARD["panels"] if p["type"] != "row"]
TARGETS = [(p["title"], t) for p in PANELS for t in p["targets"]]
UNITS = {"reqps", "s", "bytes", "short", "percentunit"}

by_title = pytest.mark.parametrize("panel", PANELS, ids=[p["title"] for p in PANELS])
by_target = pytest.mark.parametrize(("title", "target"), TARGETS, ids=[f"{t} {x['refId']}" for t, x in TARGETS])


def test_it_can_be_provisioned_again_and_again() -> None:
    """A fixed uid, no id, nothing that asks at import."""
    assert DASHBOARD["uid"] == "webhook-sidecar"
    assert DASHBOARD["id"] is None
    assert "__inputs" not in DASHBOARD
    assert DASHBOARD["schemaVersion"] == 39
    assert DASHBOARD["tags"]


def test_the_data_source_is_a_variable_and_the_first_one() -> None:
    variables = DASHBOARD["templating"]["list"]
    assert (variables[0]["name"], variables[0]["type"], variables[0]["query"]) == ("datasource",) * 2 + ("prometheus",)
    assert [v["name"] for v in variables[1:]] == ["namespace", "job", "pod", "source", "destination"]
    for variable in variables[1:]:
        assert variable["multi"], variable["name"]
        assert variable["includeAll"], variable["name"]
        assert variable["allValue"] == ".*", variable["name"]
        assert variable["datasource"]["uid"] == "${datasource}"


def test_the_questions_come_in_the_order_in_which_they_are_asked() -> None:
    rows = [p["title"] for p in DASHBOARD["panels"] if p["type"] == "row"]
    words = ["accepting", "Receiving", "behind", "Delivering", "failing", "disk", "process"]
    assert len(rows) == len(words)
    assert all(word in row for word, row in zip(words, rows, strict=True))


def test_ids_are_unique_and_no_panel_covers_another() -> None:
    ids = [p["id"] for p in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        g = panel["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert g["x"] + g["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@by_title
def test_a_panel_has_a_title_a_description_a_unit_and_the_data_source(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    if panel["type"] == "stat":
        assert len(panel["targets"]) == 1
        assert "thresholds" in panel["fieldConfig"]["defaults"]


@by_target
def test_a_query_can_be_narrowed_and_follows_the_resolution(title: str, target: dict[str, Any]) -> None:
    expr = target["expr"]
    for selector in re.findall(r"\{[^{}]*\}", expr):
        assert 'namespace=~"$namespace"' in selector, title
        assert 'job=~"$job"' in selector, title
    assert "{" in expr
    for function, window in re.findall(r"\b(rate|increase|irate)\([^\[]*\[([^\]]*)\]", expr):
        assert window == "$__rate_interval", (title, function)
    assert target["datasource"]["uid"] == "${datasource}"
    assert target["legendFormat"]


@by_target
def test_a_query_names_only_metrics_that_exist(title: str, target: dict[str, Any]) -> None:
    families = {PREFIX + f.name for f in Metrics().all()}
    families |= {f + s for f in families for s in ("_bucket", "_sum", "_count")}
    named = set(re.findall(rf"(?<![\w:]){PREFIX}\w+", target["expr"]))
    assert named <= families, title


def test_every_counter_of_trouble_has_a_panel() -> None:
    """What may go wrong must be visible somewhere."""
    shown = " ".join(t["expr"] for _, t in TARGETS)
    for name in (
        "verification_failures_total", "connections_shed_total", "journal_errors_total", "journal_quarantined_total",
        "dedup_evicted_early_total", "dead_lettered_total", "dead_letters_waiting", "destination_held",
        "oldest_pending_age_seconds", "event_loop_lag_seconds", "config_last_reload_successful", "journal_disk_free_bytes",
    ):  # fmt: skip
        assert PREFIX + name in shown, name


def test_the_picture_in_the_docs_shows_every_panel() -> None:
    picture = (REPOSITORY / "docs" / "deploy" / "dashboard.svg").read_text(encoding="utf-8")
    shown = {html.unescape(t) for t in re.findall(r"<text [^>]*>([^<]*)</text>", picture)}
    assert [p["title"] for p in DASHBOARD["panels"] if p["title"] not in shown] == []
