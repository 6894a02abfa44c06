"""Copies the alerts, the recording rules and the dashboard into the forms that Kubernetes wants them in."""

from __future__ import annotations

import textwrap
from pathlib import Path

PROMETHEUS = Path(__file__).resolve().parent.parent / "deploy" / "prometheus"
_NOTE = "# Generated from deploy/prometheus: change it there and run `make generate`.\n"
_HEAD = """apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: webhook-sidecar
  labels:
    release: kube-prometheus-stack   # your Prometheus takes only what carries its label: the first thing to check
spec:
"""


def groups() -> str:
    """Both rule files in one, as text: their comments stay."""
    texts = [(PROMETHEUS / name).read_text(encoding="utf-8") for name in ("rules.yaml", "alerts.yaml")]
    return "groups:\n" + "\n".join(text.partition("\ngroups:\n")[2].rstrip("\n") + "\n" for text in texts)


def helm_rules() -> str:
    """What the chart puts below ``spec``."""
    return _NOTE + groups()


def prometheus_rule() -> str:
    """The object for the Prometheus Operator."""
    return _NOTE + _HEAD + textwrap.indent(groups(), "  ")
