"""What can be said of the image and of the laptop's set-up without building or starting either."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar import __version__
from tests.support.daemon import REPOSITORY
from tests.support.promtool import MISSING

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
FINAL = DOCKERFILE.rpartition("\nFROM ")[2]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_linter_has_nothing_to_say(tmp_path: Path) -> None:
    hadolint = Path(sys.prefix) / "bin" / "hadolint"
    outcome = subprocess.run([hadolint, "Dockerfile"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN cd /tmp && apt-get install -y gcc\n")
    assert subprocess.run([hadolint, bad], capture_output=True, check=False).returncode != 0, "it takes anything"


def test_the_last_stage_runs_as_a_number_and_with_arguments_as_a_list() -> None:
    assert re.search(r"^USER 65532:65532$", FINAL, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["webhook-sidecar"\]$', FINAL, re.MULTILINE)
    assert re.search(r'^CMD \["run"', FINAL, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in FINAL
    assert "HEALTHCHECK" in FINAL
    assert f"ARG VERSION={__version__}" in FINAL
    assert "pip" not in FINAL


def test_the_build_sees_only_what_it_needs() -> None:
    """A context with secrets or a .git in it ends in a layer one day."""
    lines = [x for x in (REPOSITORY / ".dockerignore").read_text().splitlines() if x and not x.startswith("#")]
    assert lines[0] == "*"
    allowed = {x[1:] for x in lines if x.startswith("!")}
    copied = {w for x in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for w in x.split()}
    assert copied == allowed
    assert all((REPOSITORY / path).exists() for path in allowed)


def test_every_file_that_a_service_mounts_exists() -> None:
    volumes = [v for s in SERVICES.values() for v in s.get("volumes", [])]
    binds = [v.partition(":")[0] for v in volumes if v.startswith("./")]
    assert binds
    assert [b for b in binds if not (REPOSITORY / b).exists()] == []
    named = {v.partition(":")[0] for v in volumes if not v.startswith("./")}
    assert named == set(COMPOSE["volumes"])


def test_images_are_pinned() -> None:
    for name, service in SERVICES.items():
        tag = service["image"].rpartition("/")[2].partition(":")[2]
        assert tag, name
        assert tag != "latest", name
    assert SERVICES["webhook-sidecar"]["image"].endswith(f":{__version__}")


def test_the_sidecar_is_as_locked_up_as_in_a_cluster() -> None:
    service = SERVICES["webhook-sidecar"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= 60


def test_only_webhooks_are_open_to_the_network() -> None:
    published = [p for s in SERVICES.values() for p in s.get("ports", [])]
    assert [p for p in published if not p.startswith("127.0.0.1:")] == ["8787:8787"]


def test_the_configuration_is_good_and_fits_the_services() -> None:
    file = REPOSITORY / "deploy" / "compose" / "sidecar" / "config.toml"
    outcome = subprocess.run(
        [sys.executable, "-m", "sidecar", "check", "--config", str(file)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    config = tomllib.loads(file.read_text())
    host = config["destinations"]["app"]["url"].removeprefix("http://").partition(":")[0]
    assert host in SERVICES
    assert config["journal"]["path"].startswith("/var/lib/webhook-sidecar/")


def test_grafana_finds_dashboard_and_data_source() -> None:
    mounts = dict(v.removesuffix(":ro").split(":") for v in SERVICES["grafana"]["volumes"])
    provisioning = REPOSITORY / next(k for k, v in mounts.items() if v == "/etc/grafana/provisioning")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "webhook-sidecar.yaml").read_text())["providers"]
    assert provider["options"]["path"] in mounts.values()
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    folder, _, name = home.rpartition("/")
    assert (REPOSITORY / next(k for k, v in mounts.items() if v == folder) / name).exists()
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"].removeprefix("http://").partition(":")[0] in SERVICES
    assert source["isDefault"]


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_prometheus_takes_its_configuration() -> None:
    file = REPOSITORY / "deploy" / "prometheus" / "prometheus.yaml"
    outcome = subprocess.run(["promtool", "check", "config", str(file)], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    (target,) = yaml.safe_load(file.read_text())["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.partition(":")[0] in SERVICES
