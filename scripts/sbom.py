"""Makes ``deploy/sbom.cdx.json``: everything that a running webhook-sidecar consists of, as CycloneDX 1.6 has it.

Versions come from the lock files, licenses and who needs whom from the packages' own metadata. There is no date and no
random number in it, so the same lock files make the same bytes anywhere.
"""

from __future__ import annotations

import json
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

import lock
from packaging.requirements import Requirement

from sidecar import __version__

__all__ = ["closure", "text"]

ROOT = Path(__file__).resolve().parent.parent
_PLATFORM = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.0",
    "python_version": "3.11",
    "sys_platform": "linux",
}
"""The platform whose set of packages covers that of the others; the lock files are for it too."""


def needs(requirements: list[str]) -> set[str]:
    """Names of those requirements that count on the platform, extras left out."""
    parsed = [Requirement(r) for r in requirements]
    return {lock.normal(r.name) for r in parsed if r.marker is None or r.marker.evaluate({**_PLATFORM, "extra": ""})}


def closure(asked: list[str]) -> dict[str, set[str]]:
    """Everything that requirements bring in: name -> what it needs itself."""
    found: dict[str, set[str]] = {}
    waiting = needs(asked)
    while waiting:
        name = waiting.pop()
        found[name] = needs(metadata.requires(name) or [])
        waiting |= found[name] - found.keys()
    return found


def text() -> str:
    """The whole document."""
    core, everything = (lock.pins((ROOT / name).read_text(encoding="utf-8")) for name in lock.LOCKS)
    graph = closure(lock.asked("crypto"))
    own = f"pkg:pypi/webhook-sidecar@{__version__}"
    refs = {name: f"pkg:pypi/{name}@{version}" for name, version in everything.items()}
    components = [_component(name, everything[name], "required" if name in core else "optional") for name in refs]
    edges = [{"ref": own, "dependsOn": sorted(refs[n] for n in needs(lock.asked("crypto")))}]
    edges += [{"ref": refs[name], "dependsOn": sorted(refs[n] for n in graph[name])} for name in refs]
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "webhook-sidecar",
                "version": __version__,
                "purl": own,
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": components,
        "dependencies": edges,
    }
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _component(name: str, version: str, scope: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    found = {"type": "library", "bom-ref": purl, "name": name, "version": version, "scope": scope, "purl": purl}
    about = metadata.metadata(name)
    expression = about.get("License-Expression")
    if expression:
        return {**found, "licenses": [{"expression": expression}]}
    named = next((c.rpartition(" :: ")[2] for c in about.get_all("Classifier", []) if c.startswith("License ::")), "")
    named = named or about.get("License", "").partition("\n")[0]
    return {**found, "licenses": [{"license": {"name": named}}]} if named else found
