"""Every manifest, rendered by the real tools, keeps to the schemas of several versions of Kubernetes and to our policies."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.manifests import CHART, K8S, MISSING, VERSIONS, containers, kustomize, pod_of, problems, render_helm
from tests.support.policies import POLICIES, Manifest

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

WORKLOAD: Manifest = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "shop", "labels": {"webhook-sidecar/inject": "true"}},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "shop"}},
        "template": {
            "metadata": {"labels": {"app": "shop"}},
            "spec": {
                "securityContext": {"fsGroup": 1234},
                "initContainers": [{"name": "migrate", "image": "example.org/shop:1"}],
                "containers": [{"name": "shop", "image": "example.org/shop:1"}, {"name": "more", "image": "more:1"}],
            },
        },
    },
}


def stateful() -> Manifest:
    made = copy.deepcopy(WORKLOAD)
    made["kind"] = "StatefulSet"
    made["spec"]["serviceName"] = "shop"
    return made


def with_components(folder: Path, *components: str, workload: Manifest = WORKLOAD) -> list[Manifest]:
    """What a user gets who puts these components on a workload of their own."""
    folder.mkdir(exist_ok=True)
    (folder / "workload.yaml").write_text(yaml.safe_dump(workload))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["workload.yaml"],
        "components": [os.path.relpath(K8S / "components" / c, folder.resolve()) for c in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return kustomize(folder.resolve())


EVERYTHING = (
    "--set=networkPolicy.enabled=true,podMonitor.enabled=true,prometheusRule.enabled=true,dashboard.enabled=true",
    "--set=ingress.enabled=true,ingress.hosts[0]=hooks.test,ingress.className=any",
    "--set=httpRoute.enabled=true,httpRoute.parentRefs[0].name=public,httpRoute.hostnames[0]=hooks.test",
    "--set=reload=false,podAnnotations.a=b,podLabels.c=d,extraEnv[0].name=X,extraEnv[0].value=y",
    "--set=extraVolumes[0].name=ca,extraVolumes[0].configMap.name=ca",
    "--set=extraVolumeMounts[0].name=ca,extraVolumeMounts[0].mountPath=/ca,extraVolumeMounts[0].readOnly=true",
    "--set=nodeSelector.disk=ssd,priorityClassName=high,persistence.storageClass=fast,imagePullSecrets[0].name=pull",
    "--set=tolerations[0].operator=Exists,topologySpreadConstraints[0].maxSkew=1",
    "--set=topologySpreadConstraints[0].topologyKey=zone,topologySpreadConstraints[0].whenUnsatisfiable=DoNotSchedule",
)

SETS: dict[str, Callable[[Path], list[Manifest]]] = {
    "base": lambda _: kustomize(K8S / "base"),
    "overlays/dev": lambda _: kustomize(K8S / "overlays" / "dev"),
    "overlays/production": lambda _: kustomize(K8S / "overlays" / "production"),
    "drain": lambda _: kustomize(K8S / "drain"),
    "examples/stripe-sidecar": lambda _: kustomize(K8S / "examples" / "stripe-sidecar"),
    "sidecar": lambda tmp: with_components(tmp / "a", "sidecar"),
    "sidecar in a StatefulSet": lambda tmp: with_components(tmp / "b", "sidecar", workload=stateful()),
    "sidecar with a volume": lambda tmp: with_components(tmp / "c", "sidecar", "journal-pvc"),
    "sidecar with a volume in a StatefulSet": lambda tmp: with_components(
        tmp / "d", "sidecar", "journal-pvc", workload=stateful()
    ),
    "plain sidecar": lambda tmp: with_components(tmp / "e", "sidecar-plain", "ingress"),
    "helm": lambda _: render_helm(),
    "helm with everything": lambda _: render_helm(*EVERYTHING),
    "helm with a digest": lambda _: render_helm("--set=image.digest=sha256:" + "0" * 64),
}
every_set = pytest.mark.parametrize("name", SETS)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Manifest]]:
    """Each set, rendered once."""
    folder = tmp_path_factory.mktemp("rendered")
    return cache(lambda name: SETS[name](folder))


@every_set
@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_keep_to_the_schemas(name: str, version: str, rendered: Callable[[str], list[Manifest]]) -> None:
    manifests = rendered(name)
    assert manifests
    assert [p for m in manifests for p in problems(m, version)] == []


@every_set
@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.__name__)
def test_manifests_keep_to_our_policies(
    name: str, policy: Callable[[Manifest], list[str]], rendered: Callable[[str], list[Manifest]]
) -> None:
    for manifest in rendered(name):
        assert policy(manifest) == [], manifest["metadata"]["name"]


# --- controls: a check that cannot fail proves nothing


def change(manifests: list[Manifest], kind: str, path: str, value: Any) -> Manifest:
    """A copy of the first object of a kind with one value changed; ``...`` takes it away."""
    made = copy.deepcopy(next(m for m in manifests if m["kind"] == kind))
    *way, last = path.split(".")
    node: Any = made
    for step in way:
        node = node[int(step) if isinstance(node, list) else step]
    if value is ...:
        node.pop(int(last) if isinstance(node, list) else last)
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return made


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("StatefulSet", "spec.template.spec.containers.0.restartPolcy", "Always"),
        ("StatefulSet", "spec.replicas", "one"),
        ("PodMonitor", "spec.selector", ...),
        ("PodMonitor", "spec.podMetricsEndpoints.0.intervall", "30s"),
        ("PrometheusRule", "spec.groups.0.rules.0.expr", ...),
        ("PrometheusRule", "spec.groups.0.rules.0.annotation", {}),
        ("HTTPRoute", "spec.rules.0.timeouts.request", "soon"),
        ("HTTPRoute", "spec.hostname", "a.b"),
        ("NetworkPolicy", "spec.podSelector", []),
        ("PodDisruptionBudget", "spec.minUnavailable", 1),
        ("StatefulSet", "kind", "StatefulSett"),
        ("HTTPRoute", "apiVersion", "gateway.networking.k8s.io/v1alpha2"),
    ],
)
def test_a_fault_is_found_by_the_schemas(kind: str, path: str, value: Any) -> None:
    manifests = kustomize(K8S / "overlays" / "production")
    assert problems(change(manifests, kind, path, value), "1.33")


C = "spec.template.spec.containers.0"
FAULTS = [
    ("restricted", "StatefulSet", f"{C}.securityContext.runAsUser", 0),
    ("restricted", "StatefulSet", f"{C}.securityContext.capabilities", {"add": ["NET_ADMIN"]}),
    ("restricted", "StatefulSet", "spec.template.spec.hostNetwork", True),
    ("image_is_pinned", "StatefulSet", f"{C}.image", "example.org/webhook-sidecar:latest"),
    ("image_is_pinned", "StatefulSet", f"{C}.image", "example.org/webhook-sidecar"),
    ("resources", "StatefulSet", f"{C}.resources.limits.cpu", "1"),
    ("resources", "StatefulSet", f"{C}.resources.limits.memory", ...),
    ("probes", "StatefulSet", f"{C}.livenessProbe.httpGet.path", "/readyz"),
    ("probes", "StatefulSet", f"{C}.startupProbe.httpGet.port", "sidecar-admin"),
    ("drains", "StatefulSet", f"{C}.lifecycle.preStop.httpGet.httpHeaders", []),
    ("drains", "StatefulSet", "spec.template.spec.terminationGracePeriodSeconds", 30),
    ("numeric_ports", "Service", "spec.ports.0.targetPort", "webhooks"),
    ("numeric_ports", "NetworkPolicy", "spec.ingress.0.ports.0.port", "webhooks"),
    ("keeps_to_itself", "StatefulSet", "spec.template.spec.automountServiceAccountToken", True),
    ("keeps_to_itself", "StatefulSet", f"{C}.terminationMessagePolicy", "File"),
    ("mounts", "StatefulSet", f"{C}.volumeMounts.0.subPath", "config.toml"),
    ("mounts", "StatefulSet", f"{C}.volumeMounts.1.readOnly", False),
    ("volumes", "StatefulSet", "spec.volumeClaimTemplates.0.spec.accessModes", ["ReadWriteMany"]),
    ("volumes", "StatefulSet", "spec.template.spec.volumes.2.emptyDir", {"medium": "Memory", "sizeLimit": "1Mi"}),
    ("one_writer", "StatefulSet", "spec.persistentVolumeClaimRetentionPolicy.whenScaled", "Delete"),
    ("budget", "PodDisruptionBudget", "spec.minAvailable", 1),
    ("admin_stays_inside", "HTTPRoute", "spec.rules.0.matches.0.path.type", "PathPrefix"),
    ("labels", "Service", "metadata.labels", {}),
    ("monitored", "PodMonitor", "spec.podMetricsEndpoints.0.relabelings", []),
]


@pytest.mark.parametrize(("policy", "kind", "path", "value"), FAULTS)
def test_a_fault_is_found_by_our_policies(policy: str, kind: str, path: str, value: Any) -> None:
    manifests = kustomize(K8S / "overlays" / "production")
    check = next(p for p in POLICIES if p.__name__ == policy)
    assert check(change(manifests, kind, path, value)) != []


@pytest.mark.parametrize(
    ("policy", "path", "value"),
    [
        (
            "probes",
            "spec.template.spec.initContainers.0.readinessProbe",
            {"httpGet": {"path": "/readyz", "port": 9787}},
        ),
        ("app_drains_first", "spec.template.spec.containers.0.lifecycle", {}),
        ("app_drains_first", "spec.template.spec.containers.0.lifecycle.preStop.httpGet.path", "/-/drain"),
    ],
)
def test_a_fault_in_a_sidecar_is_found(policy: str, path: str, value: Any) -> None:
    manifests = kustomize(K8S / "examples" / "stripe-sidecar")
    check = next(p for p in POLICIES if p.__name__ == policy)
    assert check(change(manifests, "Deployment", path, value)) != []


def test_every_policy_has_a_fault_that_it_finds() -> None:
    assert {p.__name__ for p in POLICIES} == {f[0] for f in FAULTS} | {"app_drains_first"}


# --- what the components do


def test_a_native_sidecar_starts_before_everything_of_the_app(tmp_path: Path) -> None:
    for workload in (WORKLOAD, stateful()):
        (made,) = with_components(tmp_path / workload["kind"], "sidecar", workload=workload)
        spec = made["spec"]["template"]["spec"]
        assert [c["name"] for c in spec["initContainers"]] == ["webhook-sidecar", "migrate"]
        assert spec["initContainers"][0]["restartPolicy"] == "Always"
        assert [c["name"] for c in spec["containers"]] == ["shop", "more"]
        assert spec["securityContext"]["fsGroup"] == 1234, "the app's own"
        assert made["spec"]["replicas"] == 3


def test_a_workload_without_the_label_is_left_alone(tmp_path: Path) -> None:
    plain = copy.deepcopy(WORKLOAD)
    plain["metadata"]["labels"] = {"app": "shop"}
    assert with_components(tmp_path / "x", "sidecar", "journal-pvc", workload=plain)[-1] == plain


def test_an_app_with_its_own_hook_keeps_it(tmp_path: Path) -> None:
    own = copy.deepcopy(WORKLOAD)
    own["metadata"]["labels"]["webhook-sidecar/app-prestop"] = "own"
    hook = {"preStop": {"exec": {"command": ["/drain"]}}}
    own["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = hook
    (made,) = with_components(tmp_path / "x", "sidecar", workload=own)
    assert made["spec"]["template"]["spec"]["containers"][0]["lifecycle"] == hook


def test_with_a_volume_a_deployment_never_runs_two(tmp_path: Path) -> None:
    made = {m["kind"]: m for m in with_components(tmp_path / "x", "sidecar", "journal-pvc")}
    assert made["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    deployment = made["Deployment"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    journal = next(v for v in deployment["template"]["spec"]["volumes"] if v["name"] == "sidecar-journal")
    assert journal == {"name": "sidecar-journal", "persistentVolumeClaim": {"claimName": "webhook-sidecar-journal"}}


def test_with_a_volume_a_stateful_set_has_one_for_each_pod(tmp_path: Path) -> None:
    made = with_components(tmp_path / "x", "sidecar", "journal-pvc", workload=stateful())
    spec = next(m for m in made if m["kind"] == "StatefulSet")["spec"]
    assert "sidecar-journal" not in {v["name"] for v in spec["template"]["spec"]["volumes"]}
    assert [c["metadata"]["name"] for c in spec["volumeClaimTemplates"]] == ["sidecar-journal"]


def test_services_policies_and_monitors_select_the_pods_that_there_are() -> None:
    for manifests in (kustomize(K8S / "overlays" / "production"), render_helm(*EVERYTHING)):
        pods = [p["metadata"]["labels"] for m in manifests if containers(m) and (p := pod_of(m)) and m["kind"] != "Pod"]
        for m in manifests:
            spec = m.get("spec", {})
            selector = {
                "Service": lambda s: s["selector"],
                "NetworkPolicy": lambda s: s["podSelector"]["matchLabels"],
                "PodDisruptionBudget": lambda s: s["selector"]["matchLabels"],
                "PodMonitor": lambda s: s["selector"]["matchLabels"],
                "StatefulSet": lambda s: s["selector"]["matchLabels"],
            }.get(m["kind"])
            if selector is not None:
                wanted = selector(spec)
                assert any(wanted.items() <= labels.items() for labels in pods), m["metadata"]["name"]


def test_the_drain_job_uses_what_the_gateway_uses() -> None:
    """The same configuration, secrets and place of the journal; and the claim's name is one that the StatefulSet makes."""
    base = next(m for m in kustomize(K8S / "base") if m["kind"] == "StatefulSet")
    (job,) = kustomize(K8S / "drain")
    ours, theirs = containers(base)[0], containers(job)[0]
    assert ours["volumeMounts"] == theirs["volumeMounts"]
    volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
    for volume in base["spec"]["template"]["spec"]["volumes"]:
        assert volumes[volume["name"]] == volume
    claim = volumes["journal"]["persistentVolumeClaim"]["claimName"]
    template = base["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert claim.startswith(f"{template}-{base['metadata']['name']}-")


def test_the_rules_in_the_cluster_are_the_rules() -> None:
    groups = [
        g
        for name in ("rules.yaml", "alerts.yaml")
        for g in yaml.safe_load((K8S.parent / "prometheus" / name).read_text())["groups"]
    ]
    for manifests in (kustomize(K8S / "overlays" / "production"), render_helm(*EVERYTHING)):
        rule = next(m for m in manifests if m["kind"] == "PrometheusRule")
        assert rule["spec"]["groups"] == groups


def test_the_dashboard_in_the_cluster_is_the_dashboard() -> None:
    text = (K8S.parent / "grafana" / "webhook-sidecar.json").read_text()
    for manifests in (kustomize(K8S / "overlays" / "production"), render_helm(*EVERYTHING)):
        found = [m for m in manifests if m["kind"] == "ConfigMap" and "webhook-sidecar.json" in m["data"]]
        assert [yaml.safe_load(m["data"]["webhook-sidecar.json"]) for m in found] == [yaml.safe_load(text)]
        assert found[0]["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_every_component_has_a_word_about_itself() -> None:
    for kustomization in (K8S / "components").glob("*/kustomization.yaml"):
        assert kustomization.read_text().startswith("# "), kustomization
    assert CHART.is_dir()
