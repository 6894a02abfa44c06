"""The image: small, locked up, built by the Dockerfile as it is; the daemon in it takes a webhook and delivers it."""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar import __version__
from tests.support.daemon import eventually, free_port
from tests.support.images import Container, Image, build
from tests.support.senders import fresh_id, github
from tests.support.sink import Sink

pytestmark = pytest.mark.privileged

SECRET = "image-test"
MAX_COMPRESSED_BYTES = 60_000_000
CONFIG = """
[server]
listen = "127.0.0.1:{port}"
[admin]
listen = "127.0.0.1:{admin}"
socket = "/tmp/admin.sock"
[drain]
accept_for = "0s"
[journal]
path = "/var/lib/webhook-sidecar/journal"
[dead_letters]
path = "/var/lib/webhook-sidecar/dead-letters"
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ file = "/etc/webhook-sidecar/secret" }}]
destinations = ["app"]
[destinations.app]
url = "{url}/in"
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with build() as image:
        yield image


class World:
    """A configuration and a volume for containers of the image."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.port = free_port()
        self.config, self.data = folder / "config", folder / "data"
        self.config.mkdir()
        self.data.mkdir()
        text = CONFIG.format(port=self.port, admin=free_port(), url=backend)
        (self.config / "config.toml").write_text(text)
        (self.config / "secret").write_text(SECRET)
        os.chmod(self.config / "secret", 0o440)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65532, 65532)
            if path.is_dir():
                os.chmod(path, 0o755)

    def post(self, body: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request("POST", "/github", body, github(body, SECRET, fresh_id()))
            return connection.getresponse().status
        finally:
            connection.close()


def alive(container: Container) -> bool:
    return (
        container.execute("webhook-sidecar", "healthcheck", "--config", "/etc/webhook-sidecar/config.toml").returncode
        == 0
    )


def test_it_is_at_most_60_mb_to_pull(image: Image) -> None:
    size = image.compressed_bytes()
    print(f"compressed: {size:,} bytes")
    assert 10_000_000 < size <= MAX_COMPRESSED_BYTES


def test_it_says_what_it_is(image: Image) -> None:
    labels = {k.rpartition(".")[2]: v for k, v in image.config["Labels"].items() if k.startswith("org.opencontainers")}
    assert labels["title"] == "webhook-sidecar"
    assert labels["version"] == __version__
    assert labels["revision"] == "0123abc"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["created"] == "2026-01-01T00:00:00Z"
    assert labels["source"]


def test_it_runs_as_a_number_and_is_asked_for_its_health(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    assert image.config["Healthcheck"]["Test"][:3] == ["CMD", "webhook-sidecar", "healthcheck"]
    assert image.config["StopSignal"] == "SIGTERM"
    assert image.config["Entrypoint"] == ["webhook-sidecar"]


def test_it_has_nothing_to_build_with(image: Image) -> None:
    names = {
        p.name
        for folder in ("usr/bin", "usr/local/bin", "opt/webhook-sidecar/bin")
        for p in (image.root / folder).glob("*")
    }
    assert not names & {"gcc", "cc", "make", "ld", "pip", "pip3", "git", "curl", "wget"}
    assert not list((image.root / "opt").rglob("pip"))
    assert "webhook-sidecar" in names


def test_everything_of_ours_is_compiled(image: Image) -> None:
    """On a read-only root each start would compile it again."""
    (package,) = (image.root / "opt/webhook-sidecar/lib").glob("python3*/site-packages/sidecar")
    sources = {p.stem for p in (package / "journal").glob("*.py")}
    compiled = {p.name.partition(".")[0] for p in (package / "journal" / "__pycache__").glob("*.pyc")}
    assert sources == compiled


def test_buildah_runs_it_too(image: Image) -> None:
    assert image.run("webhook-sidecar", "version").startswith(f"webhook-sidecar {__version__}")


def test_it_takes_a_webhook_and_delivers_it_as_process_1_on_a_read_only_root(image: Image, tmp_path: Path) -> None:
    with Sink() as sink:
        world = World(tmp_path, sink.url)
        with Container(image, world.config, world.data) as container:
            eventually(lambda: alive(container), 60, "alive")
            assert world.post(b'{"hello": "image"}') == 200
            eventually(lambda: [r.body for r in sink.requests] == [b'{"hello": "image"}'], 30, "delivered")
            status = Path(f"/proc/{container.pid}/status").read_text()
            assert re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE), "it is process 1"
            assert re.search(r"^Uid:\t65532\t65532", status, re.MULTILINE)
            assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
            assert container.execute("touch", "/opt/x").returncode != 0, "the root is read-only"
            assert container.execute("webhook-sidecar", "status").returncode == 0, "found without --config"
            assert container.stop() == 0, container.log()
            assert "stopped" in container.log()


def test_what_is_owed_survives_the_container(image: Image, tmp_path: Path) -> None:
    """Killed with a backlog; a new container on the same volume delivers it."""
    port = free_port()
    world = World(tmp_path, f"http://127.0.0.1:{port}")
    with Container(image, world.config, world.data) as container:
        eventually(lambda: alive(container), 60, "alive")
        assert [world.post(f'{{"n": {n}}}'.encode()) for n in range(5)] == [200] * 5
    with Sink(port=port) as sink, Container(image, world.config, world.data) as container:
        eventually(lambda: len({r.body for r in sink.requests}) == 5, 60, "delivered by the next one")
        assert container.execute("webhook-sidecar", "audit").returncode == 0
        assert container.stop() == 0


def test_a_bad_configuration_ends_it_with_78(image: Image, tmp_path: Path) -> None:
    world = World(tmp_path, "http://127.0.0.1:1")
    (world.config / "config.toml").write_text("[server]\nlissten = 1\n")
    with Container(image, world.config, world.data) as container:
        assert container._outer is not None
        assert container._outer.wait(60) == 78
        assert 'did you mean "listen"' in container.log()
