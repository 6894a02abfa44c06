"""Rendering manifests with the real tools, and judging them by the schemas of Kubernetes and of the CRDs."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.support.daemon import REPOSITORY

__all__ = [
    "CHART",
    "K8S",
    "MISSING",
    "VERSIONS",
    "containers",
    "helm",
    "kustomize",
    "pod_of",
    "problems",
    "render_helm",
]

K8S = REPOSITORY / "deploy" / "k8s"
CHART = K8S / "helm" / "webhook-sidecar"
VERSIONS = ("1.29", "1.33", "1.35", "1.37")
"""The oldest that has native sidecars by default, and newer ones."""

_CRDS = REPOSITORY / "tests" / "data" / "crds"
_TOOLS = Path(sys.prefix) / "deploy-tools"

Manifest = dict[str, Any]


def _tool(name: str) -> str | None:
    installed = _TOOLS / name
    return str(installed) if installed.exists() else shutil.which(name)


MISSING = "" if _tool("kubectl") and _tool("helm") else "needs kubectl and helm: scripts/install_deploy_tools.py"


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = _tool(tool)
    assert path is not None, MISSING
    return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=120, check=False)


def _documents(text: str) -> list[Manifest]:
    return [d for d in yaml.safe_load_all(text) if d]


@cache
def _kustomized(folder: Path) -> str:
    outcome = _run("kubectl", "kustomize", str(folder))
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr == "", "a warning counts as a failure"
    return outcome.stdout


def kustomize(folder: Path) -> list[Manifest]:
    """Build a folder with kustomize; a warning fails."""
    return _documents(_kustomized(folder))


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm."""
    return _run("helm", *arguments)


def render_helm(*arguments: str, release: str = "hooks") -> list[Manifest]:
    """Render the chart; a warning fails."""
    outcome = helm("template", release, str(CHART), "--namespace", "webhooks", *arguments)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr == "", outcome.stderr
    return _documents(outcome.stdout)


# --- schemas


def problems(manifest: Manifest, version: str) -> list[str]:
    """Say what is wrong with an object in a version of Kubernetes; unknown fields and unknown kinds are wrong."""
    kind = str(manifest.get("kind"))
    group = str(manifest.get("apiVersion")).partition("/")[0]
    custom = _CRDS / f"{kind}.json"
    if custom.exists() and json.loads(custom.read_text())["group"] == group:
        validator = _custom(kind)
        return [f"{kind} {e.json_path}: {e.message}" for e in validator.iter_errors(manifest)]
    try:
        kubernetes_validate.validate(copy.deepcopy(manifest), version, strict=True)
    except kubernetes_validate.ValidationError as e:
        return [f"{kind} {'.'.join(map(str, e.path))}: {e.message}"]
    except kubernetes_validate.SchemaNotFoundError as e:
        return [e.message]
    return []


@cache
def _custom(kind: str) -> jsonschema.Draft7Validator:
    described = json.loads((_CRDS / f"{kind}.json").read_text())
    schema = _strict(described["schema"])
    schema["properties"] |= {
        "apiVersion": {"const": f"{described['group']}/{described['version']}"},
        "kind": {"const": kind},
        "metadata": {"type": "object", "required": ["name"]},
    }
    return jsonschema.Draft7Validator(schema)


def _strict(node: Any) -> Any:
    """An object with named properties takes no others, unless the schema says so; an int-or-string takes both."""
    if isinstance(node, list):
        return [_strict(n) for n in node]
    if not isinstance(node, dict):
        return node
    made = {k: _strict(v) for k, v in node.items()}
    if "properties" in made and not node.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if node.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


# --- looking into objects


def pod_of(manifest: Manifest) -> Manifest | None:
    """The Pod that an object makes, metadata and spec; None when it makes none."""
    kind = manifest["kind"]
    if kind == "Pod":
        return {"metadata": manifest["metadata"], "spec": manifest["spec"]}
    if kind in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
        template: Manifest = manifest["spec"]["template"]
        return template
    return None


def containers(manifest: Manifest) -> list[Manifest]:
    """Our own containers of an object: sidecars and plain ones, by their name."""
    pod = pod_of(manifest)
    if pod is None:
        return []
    every = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return [c for c in every if c["name"] == "webhook-sidecar"]
