"""Writes every generated file of the repository; with ``--check`` only says which are not current.

To add a file: one line in ``FILES``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import dashboard
import monitoring
import mutants_page
import proof_page
import sbom
import state_diagram

from sidecar.cli import reference
from sidecar.config import describe, documents, providers
from tests.proof import corpus

ROOT = Path(__file__).resolve().parent.parent


def _config_schema() -> str:
    return json.dumps(describe.json_schema(), indent=2, ensure_ascii=False) + "\n"


FILES: dict[str, Callable[[], str]] = {
    "config.example.toml": documents.example,
    "config.schema.json": _config_schema,
    "deploy/grafana/webhook-sidecar.json": dashboard.dashboard_json,
    "deploy/k8s/components/grafana/webhook-sidecar.json": dashboard.dashboard_json,
    "deploy/k8s/components/prometheusrule/prometheusrule.yaml": monitoring.prometheus_rule,
    "deploy/k8s/helm/webhook-sidecar/files/rules.yaml": monitoring.helm_rules,
    "deploy/k8s/helm/webhook-sidecar/files/webhook-sidecar.json": dashboard.dashboard_json,
    "deploy/sbom.cdx.json": sbom.text,
    "docs/architecture.md": state_diagram.architecture,
    "docs/cli.md": reference.cli_reference,
    "docs/config.md": documents.reference,
    "docs/metrics.md": reference.metrics_reference,
    "docs/providers.md": providers.page,
    "docs/proof.md": proof_page.page,
    "docs/proof/mutants.md": mutants_page.page,
    "tests/data/http/corpus.jsonl": corpus.text,
}
"""Path from the root of the repository -> what makes its content."""


def stale() -> list[str]:
    """Name the generated files that are missing or not what would be written now."""
    return [name for name, make in FILES.items() if _read(ROOT / name) != make()]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main() -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated files of this repository.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is not current")
    arguments = parser.parse_args()
    names = stale()
    for name in names:
        print(f"{name} is not current: run `make generate`" if arguments.check else f"wrote {name}", file=sys.stderr)
        if not arguments.check:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(FILES[name](), encoding="utf-8")
    return 1 if names and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
