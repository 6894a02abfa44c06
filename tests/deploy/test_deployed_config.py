"""What the manifests say of the program is true of the program: its configuration, paths, ports, arguments and times."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from sidecar import daemon
from sidecar.admin.probes import DRAIN_HEADER
from sidecar.cli.app import cli
from sidecar.config.units import parse_duration, parse_size
from tests.support.daemon import REPOSITORY, eventually, free_port
from tests.support.manifests import K8S, MISSING, containers, kustomize, pod_of, render_helm
from tests.support.policies import PORTS

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

Manifest = dict[str, Any]


def helm_with_a_way_in() -> list[Manifest]:
    return render_helm("--set=httpRoute.enabled=true,httpRoute.parentRefs[0].name=public")


SETS = {
    "base": lambda: kustomize(K8S / "base"),
    "overlays/production": lambda: kustomize(K8S / "overlays" / "production"),
    "examples/stripe-sidecar": lambda: kustomize(K8S / "examples" / "stripe-sidecar"),
    "helm": helm_with_a_way_in,
}
every_set = pytest.mark.parametrize("name", SETS)


def config_of(manifests: list[Manifest]) -> str:
    (text,) = [m["data"]["config.toml"] for m in manifests if m["kind"] == "ConfigMap" and "config.toml" in m["data"]]
    return str(text)


def workload_of(manifests: list[Manifest]) -> Manifest:
    return next(m for m in manifests if m["kind"] in {"Deployment", "StatefulSet"} and containers(m))


def moved(config: str, folder: Path) -> tuple[Path, dict[str, int]]:
    """The same configuration with its places below ``folder``, its secrets made, and free ports."""
    ports = {"8787": free_port(), "9787": free_port()}
    text = config.replace("/run/secrets/webhook-sidecar", str(folder / "secrets"))
    text = text.replace("/var/lib/webhook-sidecar", str(folder / "data")).replace(
        "/tmp/admin.sock", str(folder / "sock")
    )
    for port, free in ports.items():
        text = text.replace(f'"[::]:{port}"', f'"[::]:{free}"')
    (folder / "secrets").mkdir()
    for name in re.findall(rf"{re.escape(str(folder))}/secrets/([\w-]+)", text):
        (folder / "secrets" / name).write_text("whsec_c2VjcmV0LW9mLXRoZS10ZXN0LWxvbmc=")
        (folder / "secrets" / name).chmod(0o440)
    (folder / "config.toml").write_text(text)
    return folder / "config.toml", {name: ports[str(port)] for name, port in PORTS.items()}


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments],
        env={**os.environ, **env}, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@every_set
def test_the_configuration_passes_the_check_without_a_warning(name: str, tmp_path: Path) -> None:
    config, _ = moved(config_of(SETS[name]()), tmp_path)
    outcome = run("check", "--config", str(config))
    assert outcome.returncode == 0, outcome.stderr
    assert "warning" not in (outcome.stdout + outcome.stderr).lower(), outcome.stdout + outcome.stderr


@every_set
def test_the_program_takes_webhooks_with_that_configuration(name: str, tmp_path: Path) -> None:
    """And ``send`` from elsewhere, which is what helm test does, finds it by the variable."""
    text = config_of(SETS[name]())
    config, ports = moved(text, tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "run", "--config", str(config)],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: run("healthcheck", "--config", str(config)).returncode == 0, 30, "alive")
        source = next(iter(tomllib.loads(text)["sources"]))
        address = {"WEBHOOK_SIDECAR__SERVER__LISTEN": f"localhost:{ports['webhooks']}"}
        outcome = run("send", "--source", source, "--config", str(config), **address)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        assert "<-- 200" in outcome.stdout
    finally:
        process.send_signal(signal.SIGINT)  # a person at a terminal: nobody propagates endpoints
        process.wait(30)


@every_set
def test_ports_places_and_secrets_fit_the_pod(name: str) -> None:
    manifests = SETS[name]()
    config = tomllib.loads(config_of(manifests))
    container = containers(workload_of(manifests))[0]
    assert config["server"]["listen"] == f"[::]:{PORTS['webhooks']}"
    assert config["admin"]["listen"] == f"[::]:{PORTS['sidecar-admin']}"
    assert config["admin"]["token"], "the admin listener is open to the Pod's network"
    written = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
    for place in (config["admin"]["socket"], config["journal"]["path"], config["dead_letters"]["path"]):
        assert any(place.startswith(f"{mount}/") for mount in written), place
    for read in re.findall(r'file = "([^"]+)"', config_of(manifests)):
        assert read.startswith("/run/secrets/webhook-sidecar/")


@every_set
def test_journal_and_dead_letters_leave_a_fifth_of_the_volume(name: str) -> None:
    manifests = SETS[name]()
    config = tomllib.loads(config_of(manifests))
    used = sum(parse_size(config[part]["max_size"]) or 0 for part in ("journal", "dead_letters"))
    workload = workload_of(manifests)
    (mounted,) = [
        m["name"] for m in containers(workload)[0]["volumeMounts"] if m["mountPath"] == "/var/lib/webhook-sidecar"
    ]
    claims = {c["metadata"]["name"]: c["spec"] for c in workload["spec"].get("volumeClaimTemplates", [])}
    if mounted in claims:
        size = claims[mounted]["resources"]["requests"]["storage"]
        assert not config["journal"].get("ephemeral", False)
    else:
        pod = pod_of(workload)
        assert pod is not None
        (volume,) = [v for v in pod["spec"]["volumes"] if v["name"] == mounted]
        size = volume["emptyDir"]["sizeLimit"]
        assert config["journal"]["ephemeral"], "it dies with the Pod, so it must say so"
    assert used <= 0.8 * (parse_size(f"{size}B") or 0)


@every_set
def test_every_route_leads_to_a_source(name: str) -> None:
    manifests = SETS[name]()
    paths = {s["path"] for s in tomllib.loads(config_of(manifests))["sources"].values()}
    for route in (m for m in manifests if m["kind"] == "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            assert {m["path"]["value"] for m in rule["matches"]} <= paths


def test_the_ingress_leads_to_a_source() -> None:
    (rule,) = yaml.safe_load((K8S / "components" / "ingress" / "ingress.yaml").read_text())["spec"]["rules"]
    paths = {s["path"] for s in tomllib.loads(config_of(kustomize(K8S / "base")))["sources"].values()}
    assert {p["path"] for p in rule["http"]["paths"]} <= paths


@pytest.mark.parametrize("folder", ["overlays/dev", "examples/stripe-sidecar"])
def test_the_generated_secrets_are_those_that_are_read(folder: str) -> None:
    manifests = kustomize(K8S / folder)
    (secret,) = [m for m in manifests if m["kind"] == "Secret"]
    read = set(re.findall(r"/run/secrets/webhook-sidecar/([\w-]+)", config_of(manifests)))
    assert secret["data"].keys() == read


def test_every_argument_is_one_of_the_command_line() -> None:
    everything = [*kustomize(K8S / "overlays" / "production"), *kustomize(K8S / "drain"), *render_helm()]
    seen = set()
    for container in (c for m in everything for c in containers(m)):
        command: click.Command = cli
        words = list(container["args"])
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words[0])
            assert found is not None, container["args"]
            command, words = found, words[1:]
        command.make_context("webhook-sidecar", words)
        seen.add(container["args"][0])
    assert seen == {"run", "journal", "send"}


def test_the_hook_is_what_the_program_answers() -> None:
    """The header's name, and that the paths of probes and hook exist, come from the program itself."""
    from sidecar.admin import server

    text = (K8S / "base" / "statefulset.yaml").read_text() + (
        K8S / "components/sidecar/app-drains-first.yaml"
    ).read_text()
    assert set(re.findall(r"name: ([\w-]+), value", text)) == {DRAIN_HEADER}
    assert set(re.findall(r"path: (/\w+z)", text)) == server._PROBES
    assert "/-/drain" in (REPOSITORY / "sidecar" / "admin" / "server.py").read_text()


@every_set
def test_the_grace_covers_the_stop(name: str) -> None:
    """What the app's drain may take, what we go on accepting, and what we take at most to end."""
    manifests = SETS[name]()
    config = tomllib.loads(config_of(manifests))
    pod = pod_of(workload_of(manifests))
    assert pod is not None
    hook = pod["spec"]["containers"][0].get("lifecycle", {}).get("preStop", {}).get("httpGet", {}).get("path", "")
    wait = re.search(r"wait=(\d+)s", hook)
    accept_for_s = parse_duration(config.get("drain", {}).get("accept_for", "10s")) or 0
    slowest_s = 10  # the default timeout of a destination
    need_s = (int(wait[1]) if wait else 0) + accept_for_s + daemon.STOP_S
    assert pod["spec"]["terminationGracePeriodSeconds"] >= need_s + slowest_s / 2
