"""What our manifests must keep to beyond their schemas: each policy says what is wrong with one object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.manifests import containers, pod_of

__all__ = ["POLICIES", "Manifest"]

Manifest = dict[str, Any]

PORTS = {"webhooks": 8787, "sidecar-admin": 9787}
_MOUNTS = {
    "/etc/webhook-sidecar": True,
    "/run/secrets/webhook-sidecar": True,
    "/var/lib/webhook-sidecar": False,
    "/tmp": False,
}


def restricted(manifest: Manifest) -> list[str]:
    """Pod Security "restricted", the numeric user of the image, and a root file system that cannot be written."""
    wrong = []
    for container in containers(manifest):
        context = container.get("securityContext", {})
        wanted = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        wrong += [f"securityContext.{k}: {context.get(k)}" for k, v in wanted.items() if context.get(k) != v]
    pod = pod_of(manifest)
    if pod is not None:
        spec = pod["spec"]
        wrong += [k for k in ("hostNetwork", "hostPID", "hostIPC") if spec.get(k)]
        wrong += [f"volume {v['name']}: hostPath" for v in spec.get("volumes", []) if "hostPath" in v]
    return wrong


def image_is_pinned(manifest: Manifest) -> list[str]:
    """A version or a digest, never what moves."""
    wrong = []
    for container in containers(manifest):
        name, at, digest = container["image"].partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        if not (digest if at else tag) or tag == "latest":
            wrong.append(f"image {container['image']}")
    return wrong


def resources(manifest: Manifest) -> list[str]:
    """Requests, a memory limit, and no CPU limit."""
    wrong = []
    for container in containers(manifest):
        given = container.get("resources", {})
        wrong += [f"requests.{k}" for k in ("cpu", "memory") if k not in given.get("requests", {})]
        if "memory" not in given.get("limits", {}):
            wrong.append("limits.memory")
        if "cpu" in given.get("limits", {}):
            wrong.append("limits.cpu throttles")
    return wrong


def probes(manifest: Manifest) -> list[str]:
    """Those of the table, on the admin port by number; readiness only where the Pod is ours alone."""
    wrong = []
    pod = pod_of(manifest)
    for container in containers(manifest):
        if "run" not in container["args"]:
            continue
        wanted = {
            "startupProbe": {"path": "/startupz", "periodSeconds": 1, "failureThreshold": 120},
            "livenessProbe": {"path": "/livez", "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
            "readinessProbe": {"path": "/readyz", "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 2},
        }
        assert pod is not None
        every = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
        if len(every) > 1:
            wanted.pop("readinessProbe")
            if "readinessProbe" in container:
                wrong.append("readinessProbe takes the app out of its own Services")
        for name, numbers in wanted.items():
            probe = container.get(name, {})
            found = {**probe, **probe.get("httpGet", {})}
            if found.get("port") != PORTS["sidecar-admin"] or any(found.get(k) != v for k, v in numbers.items()):
                wrong.append(f"{name}: {probe}")
    return wrong


def drains(manifest: Manifest) -> list[str]:
    """Its own preStop asks for a drain, with the header, and the Pod has the time."""
    wrong = []
    for container in containers(manifest):
        if "run" not in container["args"]:
            continue
        hook = container.get("lifecycle", {}).get("preStop", {}).get("httpGet", {})
        if not _asks_for_a_drain(hook):
            wrong.append(f"preStop: {hook}")
        pod = pod_of(manifest)
        assert pod is not None
        if pod["spec"].get("terminationGracePeriodSeconds", 30) < 60:
            wrong.append("terminationGracePeriodSeconds")
    return wrong


def app_drains_first(manifest: Manifest) -> list[str]:
    """Beside a native sidecar the app's own preStop waits for deliveries."""
    pod = pod_of(manifest)
    if pod is None or not any(c["name"] == "webhook-sidecar" for c in pod["spec"].get("initContainers", [])):
        return []
    if manifest["metadata"].get("labels", {}).get("webhook-sidecar/app-prestop") == "own":
        return []
    hook = pod["spec"]["containers"][0].get("lifecycle", {}).get("preStop", {}).get("httpGet", {})
    return [] if _asks_for_a_drain(hook) and "wait=" in hook["path"] else [f"the app's preStop: {hook}"]


def _asks_for_a_drain(hook: Manifest) -> bool:
    headers = {h["name"]: h["value"] for h in hook.get("httpHeaders", [])}
    path = str(hook.get("path", "")).partition("?")[0]
    return (
        path == "/-/drain" and hook.get("port") == PORTS["sidecar-admin"] and headers == {"Webhook-Sidecar-Drain": "1"}
    )


def numeric_ports(manifest: Manifest) -> list[str]:
    """In Services, policies and routes: names of a sidecar's ports are not found before 1.32."""
    wrong = []
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        wrong += [
            f"targetPort {p.get('targetPort')}" for p in spec["ports"] if not isinstance(p.get("targetPort"), int)
        ]
    if manifest["kind"] == "NetworkPolicy":
        rules = [*spec.get("ingress", []), *spec.get("egress", [])]
        wrong += [f"port {p['port']}" for r in rules for p in r.get("ports", []) if not isinstance(p["port"], int)]
    for container in containers(manifest):
        found = {p["name"]: p["containerPort"] for p in container.get("ports", [])}
        if "run" in container["args"] and found != PORTS:
            wrong.append(f"ports {found}")
    return wrong


def keeps_to_itself(manifest: Manifest) -> list[str]:
    """No token of the API server; no variables of other Services in a Pod of our own; its last words where one looks."""
    wrong = []
    pod = pod_of(manifest)
    if pod is not None and containers(manifest):
        alone = len([*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]) == 1
        if alone and pod["spec"].get("automountServiceAccountToken") is not False:
            wrong.append("automountServiceAccountToken")
        if alone and pod["spec"].get("enableServiceLinks") is not False:
            wrong.append("enableServiceLinks")
        wrong += [
            "terminationMessagePolicy"
            for c in containers(manifest)
            if c.get("terminationMessagePolicy") != "FallbackToLogsOnError"
        ]
    if manifest["kind"] == "ServiceAccount" and manifest.get("automountServiceAccountToken") is not False:
        wrong.append("automountServiceAccountToken")
    return wrong


def mounts(manifest: Manifest) -> list[str]:
    """Configuration and secrets as read-only folders, since subPath never changes; written is only what must be."""
    wrong = []
    for container in containers(manifest):
        for mount in container["volumeMounts"]:
            path = mount["mountPath"]
            if "subPath" in mount:
                wrong.append(f"{path}: subPath is never reloaded")
            if path in _MOUNTS and mount.get("readOnly", False) != _MOUNTS[path]:
                wrong.append(f"{path}: readOnly {mount.get('readOnly', False)}")
            if path not in _MOUNTS and not mount.get("readOnly"):
                wrong.append(f"{path} can be written")
    return wrong


def volumes(manifest: Manifest) -> list[str]:
    """An emptyDir has a size and is never memory; a journal's claim is for one Pod; secrets are no one else's to write."""
    pod = pod_of(manifest)
    if pod is None or not containers(manifest):
        return []
    wrong = []
    for volume in pod["spec"].get("volumes", []):
        empty = volume.get("emptyDir")
        if empty is not None and (not empty.get("sizeLimit") or empty.get("medium") == "Memory"):
            wrong.append(f"volume {volume['name']}: {empty}")
        if "secret" in volume and volume["secret"].get("defaultMode", 0o644) & 0o222:
            wrong.append(f"volume {volume['name']}: can be written")
    wrong += [
        f"claim {claim['metadata']['name']}: {claim['spec']['accessModes']}"
        for claim in manifest["spec"].get("volumeClaimTemplates", [])
        if claim["spec"]["accessModes"] not in (["ReadWriteOncePod"], ["ReadWriteOnce"])
    ]
    return wrong


def one_writer(manifest: Manifest) -> list[str]:
    """Two Pods never share a journal, and no volume with events in it is deleted by itself."""
    wrong = []
    spec = manifest.get("spec", {})
    pod = pod_of(manifest)
    if manifest["kind"] == "StatefulSet" and containers(manifest):
        if spec.get("podManagementPolicy", "OrderedReady") != "Parallel" and len(pod["spec"]["containers"]) == 1:
            wrong.append("podManagementPolicy")
        if spec.get("volumeClaimTemplates"):
            kept = spec.get("persistentVolumeClaimRetentionPolicy")
            if kept != {"whenDeleted": "Retain", "whenScaled": "Retain"}:
                wrong.append(f"persistentVolumeClaimRetentionPolicy: {kept}")
    if manifest["kind"] == "Deployment" and containers(manifest):
        claims = [v for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v]
        if claims and (spec.get("replicas") != 1 or spec.get("strategy") != {"type": "Recreate"}):
            wrong.append(f"replicas {spec.get('replicas')}, strategy {spec.get('strategy')}")
    return wrong


def budget(manifest: Manifest) -> list[str]:
    """A budget that cannot block the drain of a node."""
    if manifest["kind"] != "PodDisruptionBudget":
        return []
    spec = manifest["spec"]
    good = spec.get("maxUnavailable") == 1 and "minAvailable" not in spec
    return [] if good and spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow" else [f"{spec}"]


def admin_stays_inside(manifest: Manifest) -> list[str]:
    """No route leads to the admin port, and routes name exact paths."""
    wrong = []
    spec = manifest.get("spec", {})
    if manifest["kind"] == "HTTPRoute":
        for rule in spec["rules"]:
            wrong += [f"path {m['path']}" for m in rule["matches"] if m["path"]["type"] != "Exact"]
            wrong += [f"port {b['port']}" for b in rule["backendRefs"] if b["port"] == PORTS["sidecar-admin"]]
    if manifest["kind"] == "Ingress":
        for rule in spec["rules"]:
            for path in rule["http"]["paths"]:
                if path["pathType"] != "Exact" or path["backend"]["service"]["port"] == {"number": 9787}:
                    wrong.append(f"path {path}")
        if manifest["metadata"].get("annotations"):
            wrong.append("annotations are one controller's own")
    return wrong


def labels(manifest: Manifest) -> list[str]:
    """Ours carry the recommended labels."""
    ours = manifest["metadata"]["name"].find("webhook-sidecar") >= 0
    kinds = {"StatefulSet", "Service", "ServiceAccount", "Job"}
    if not ours or manifest["kind"] not in kinds:
        return []
    found = manifest["metadata"].get("labels", {})
    wanted = ("name", "component", "part-of", "managed-by")
    return [f"label {w}" for w in wanted if f"app.kubernetes.io/{w}" not in found]


def monitored(manifest: Manifest) -> list[str]:
    """The job is called what the alerts look for."""
    if manifest["kind"] != "PodMonitor":
        return []
    wrong = []
    for endpoint in manifest["spec"]["podMetricsEndpoints"]:
        if {"targetLabel": "job", "replacement": "webhook-sidecar"} not in endpoint.get("relabelings", []):
            wrong.append("job")
        if endpoint.get("port") not in PORTS:
            wrong.append(f"port {endpoint.get('port')}")
    return wrong


POLICIES: tuple[Callable[[Manifest], list[str]], ...] = (
    restricted, image_is_pinned, resources, probes, drains, app_drains_first, numeric_ports, keeps_to_itself, mounts,
    volumes, one_writer, budget, admin_stays_inside, labels, monitored,
)  # fmt: skip
