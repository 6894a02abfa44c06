"""The chart: values that make no sense are refused, and the others do what they say."""

from __future__ import annotations

import pytest

from tests.support.manifests import CHART, MISSING, containers, helm, pod_of, render_helm

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def stateful_set(*arguments: str):
    return next(m for m in render_helm(*arguments) if m["kind"] == "StatefulSet")


def test_the_linter_has_nothing_to_say() -> None:
    outcome = helm("lint", "--strict", str(CHART))
    assert outcome.returncode == 0, outcome.stdout
    assert "[WARNING]" not in outcome.stdout
    assert "[ERROR]" not in outcome.stdout


@pytest.mark.parametrize(
    "value",
    [
        "replicaCount=2", "replicas=two", "image.tag=latest", "image.digest=sha256:abc", "persistence.size=5",
        "persistence.accessMode=ReadWriteMany", "persistence.size=5Gi,persistence.sizes=1", "service.type=ExternalName",
        "existingSecret=", "config=", "httpRoute.enabled=true", "ingress.enabled=true", "httpRoute.paths[0]=hooks",
        "podMonitor.interval=soon", "prometheusRule.runbookBase=wiki", "terminationGracePeriodSeconds=5",
        "podLabels.a.b=c",
        "networkPolicy.backendPorts=",
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(value: str) -> None:
    outcome = helm("template", "hooks", str(CHART), "--set", value)
    assert outcome.returncode != 0
    assert "values don't meet the specifications of the schema" in outcome.stderr


def test_a_changed_configuration_rolls_only_where_reload_is_off() -> None:
    assert "annotations" not in stateful_set()["spec"]["template"]["metadata"]
    first = stateful_set("--set=reload=false")["spec"]["template"]["metadata"]["annotations"]
    other = stateful_set("--set=reload=false", "--set=config=[server]")["spec"]["template"]["metadata"]["annotations"]
    assert first["checksum/config"] != other["checksum/config"]


def test_the_version_of_the_chart_is_the_image_unless_somebody_says_otherwise() -> None:
    from sidecar import __version__

    assert containers(stateful_set())[0]["image"] == f"example.org/webhook-sidecar:{__version__}"
    assert containers(stateful_set("--set=image.tag=9.9"))[0]["image"] == "example.org/webhook-sidecar:9.9"
    digest = "sha256:" + "a" * 64
    assert containers(stateful_set(f"--set=image.digest={digest}"))[0]["image"].endswith(f"@{digest}")


def test_helm_test_sends_to_the_service() -> None:
    manifests = render_helm("--set=service.port=8080")
    (pod,) = [m for m in manifests if m["kind"] == "Pod"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    services = {m["metadata"]["name"]: m["spec"]["ports"][0]["port"] for m in manifests if m["kind"] == "Service"}
    env = {e["name"]: e["value"] for e in containers(pod)[0]["env"]}
    name, _, port = env["WEBHOOK_SIDECAR__SERVER__LISTEN"].rpartition(":")
    assert services[name] == int(port)
    # No Service takes it for a gateway.
    for service in (m for m in manifests if m["kind"] == "Service"):
        assert not service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_extras_reach_the_pod() -> None:
    spec = pod_of(
        stateful_set(
            "--set=extraEnv[0].name=X,extraEnv[0].value=y,nodeSelector.disk=ssd,priorityClassName=high,podLabels.a=b",
            "--set=extraVolumes[0].name=ca,extraVolumes[0].configMap.name=ca",
            "--set=extraVolumeMounts[0].name=ca,extraVolumeMounts[0].mountPath=/ca",
        )
    )
    container = spec["spec"]["containers"][0]
    assert container["env"] == [{"name": "X", "value": "y"}]
    assert container["volumeMounts"][-1] == {"name": "ca", "mountPath": "/ca"}
    assert spec["spec"]["volumes"][-1]["name"] == "ca"
    assert spec["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert spec["metadata"]["labels"]["a"] == "b"


def test_the_runbooks_place_is_a_value() -> None:
    manifests = render_helm("--set=prometheusRule.enabled=true,prometheusRule.runbookBase=https://wiki.test")
    (rule,) = [m for m in manifests if m["kind"] == "PrometheusRule"]
    urls = [r["annotations"]["runbook_url"] for g in rule["spec"]["groups"] for r in g["rules"] if "alert" in r]
    assert urls
    assert all(u.startswith("https://wiki.test/docs/runbooks/") for u in urls)


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        ((), "http://hooks-webhook-sidecar.webhooks:80"),
        (
            ("--set=httpRoute.enabled=true,httpRoute.parentRefs[0].name=p,httpRoute.hostnames[0]=hooks.test",),
            "https://hooks.test/webhooks/github",
        ),
        (("--set=ingress.enabled=true,ingress.hosts[0]=in.test",), "https://in.test/webhooks/github"),
    ],
)
def test_the_notes_name_the_place_to_point_a_provider_at(arguments: tuple[str, ...], url: str) -> None:
    dry = ("install", "hooks", str(CHART), "--namespace", "webhooks", "--dry-run=client", *arguments)
    outcome = helm(*dry)
    assert outcome.returncode == 0, outcome.stderr
    assert url in outcome.stdout.partition("NOTES:")[2]
