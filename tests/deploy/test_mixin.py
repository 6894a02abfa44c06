"""The mixin gives the very files, with the runbooks' place filled in."""

from __future__ import annotations

import json
from typing import Any

import _jsonnet
import yaml

from tests.support.daemon import REPOSITORY
from tests.support.promtool import FOLDER


def evaluated(config: str = "") -> dict[str, Any]:
    """What somebody who imports it gets."""
    mixin = f"(import '{FOLDER / 'mixin.libsonnet'}') + {{ {config} }}"
    fields = "{ alerts: m.prometheusAlerts, rules: m.prometheusRules, dashboards: m.grafanaDashboards }"
    found: dict[str, Any] = json.loads(_jsonnet.evaluate_snippet("test", f"local m = {mixin}; {fields}"))
    return found


def test_the_mixin_gives_the_very_rules_and_dashboard() -> None:
    mixin = evaluated()
    assert mixin["alerts"] == yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    assert mixin["rules"] == yaml.safe_load((FOLDER / "rules.yaml").read_text())
    dashboard = json.loads((REPOSITORY / "deploy" / "grafana" / "webhook-sidecar.json").read_text())
    assert mixin["dashboards"] == {"webhook-sidecar.json": dashboard}


def test_the_place_of_the_runbooks_can_be_set() -> None:
    mixin = evaluated("_config+:: { runbookBase: 'https://wiki.test' }")
    urls = [r["annotations"]["runbook_url"] for g in mixin["alerts"]["groups"] for r in g["rules"]]
    assert urls
    assert all(u.startswith("https://wiki.test/docs/runbooks/") for u in urls)
