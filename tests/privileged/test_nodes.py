"""Nodes: each with a network, mounts and a boot of its own. A volume moves from one that is lost to another."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from sidecar import daemon as product
from tests.support.daemon import REPOSITORY, Daemon, eventually, free_port
from tests.support.kubelet import end_pod
from tests.support.senders import fresh_id, github
from tests.support.sink import Sink

pytestmark = pytest.mark.privileged

SECRET = "node-test"
CONFIG = """
[server]
listen = "[::]:8787"
[admin]
listen = "[::]:9787"
socket = "{folder}/admin.sock"
[drain]
accept_for = "0s"
[journal]
path = "{volume}/journal"
[dead_letters]
path = "{volume}/dead-letters"
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ value = "{secret}" }}]
destinations = ["app"]
[destinations.app]
url = "http://{backend}/in"
[destinations.app.retry]
base = "3s"
jitter = 0
"""


class Network:
    """A namespace joined to the machine's own by a pair of interfaces; the addresses are for documentation (RFC 5737)."""

    def __init__(self, number: int) -> None:
        tag = secrets.token_hex(3)
        self.name, self._here, self._there = f"pod-{tag}", f"h{tag}", f"p{tag}"
        self.host, self.pod = f"192.0.2.{4 * number + 1}", f"192.0.2.{4 * number + 2}"

    def __enter__(self) -> Self:
        ip("netns", "add", self.name)
        ip("link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self.name)
        ip("addr", "add", f"{self.host}/30", "dev", self._here)
        ip("link", "set", self._here, "up")
        ip("-n", self.name, "addr", "add", f"{self.pod}/30", "dev", self._there)
        ip("-n", self.name, "link", "set", self._there, "up")
        ip("-n", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *exc: object) -> None:
        ip("netns", "del", self.name)  # its interfaces go with it


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


class Node:
    """A daemon in a namespace, on a machine that booted another time."""

    def __init__(self, folder: Path, volume: Path, network: Network, backend: str) -> None:
        folder.mkdir()
        self._network = network
        (folder / "boot_id").write_text("-".join(secrets.token_hex(n) for n in (4, 2, 2, 2, 6)) + "\n")
        (folder / "config.toml").write_text(CONFIG.format(folder=folder, volume=volume, secret=SECRET, backend=backend))
        start = (
            f"mount --bind {folder}/boot_id /proc/sys/kernel/random/boot_id && "
            f"exec {sys.executable} -m sidecar run --config {folder}/config.toml"
        )
        self._command = ["ip", "netns", "exec", network.name, "unshare", "--mount", "sh", "-c", start]
        self.folder = folder

    def __enter__(self) -> Self:
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(self._command, env=env, stdout=log, stderr=log)
        eventually(self._is_ready, 60, "the node's daemon")
        return self

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return self._ask(9787, "GET", "/readyz")[0] == 200  # as the kubelet: by the Pod's address
        except OSError:
            return False

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def _ask(self, port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._network.pod, port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("Webhook-Sidecar-Event-Id", "")
        finally:
            connection.close()

    def send(self, delivery: str) -> str:
        """One webhook, by the Pod's address; its event id."""
        status, event_id = self._ask(8787, "POST", "/github", b"{}", **github(b"{}", SECRET, delivery))
        assert status == 200
        return event_id


@pytest.fixture
def networks() -> Iterator[tuple[Network, Network]]:
    with Network(1) as first, Network(2) as second:
        yield first, second


class HostSink(Sink):
    """A backend on every address of the machine, so that Pods reach it."""

    address = "0.0.0.0"


def test_a_volume_moves_from_a_lost_node_to_another(tmp_path: Path, networks: tuple[Network, Network]) -> None:
    """With its backlog, its retries and what it knows of repeats; the other node's clocks began at another time."""
    volume = tmp_path / "volume"
    volume.mkdir()
    port = free_port()
    first_network, second_network = networks
    with Node(tmp_path / "first", volume, first_network, f"{first_network.host}:{port}") as first:
        ids = {first.send(fresh_id()) for _ in range(20)}
        repeat = fresh_id()
        known = first.send(repeat)
        assert first._ask(8787, "GET", "/metrics")[0] == 404, "metrics are on the other port"
    with (
        HostSink(port=port) as sink,
        Node(tmp_path / "second", volume, second_network, f"{second_network.host}:{port}") as second,
    ):
        assert second.send(repeat) == known, "still known as a repeat"
        eventually(lambda: ids | {known} <= set(sink.ids()), 60, "everything at the app")


def test_a_second_node_is_refused_while_the_first_one_lives(tmp_path: Path, networks: tuple[Network, Network]) -> None:
    """Where a volume is attached twice after all: the lock is the last line."""
    volume = tmp_path / "volume"
    volume.mkdir()
    with Node(tmp_path / "first", volume, networks[0], "192.0.2.1:1") as first:
        other = Node(tmp_path / "second", volume, networks[1], "192.0.2.1:1")
        outcome = subprocess.run(
            other._command,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert outcome.returncode == 74
        assert b"in use" in outcome.stderr
        first.send(fresh_id())


def test_a_stop_with_a_backend_that_hangs_is_within_the_grace(tmp_path: Path) -> None:
    """The longest there is: webhooks for accept_for, then deliveries that never end, given up after their time."""
    config = f"""
[drain]
accept_for = "10s"
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ value = "{SECRET}" }}]
destinations = ["app"]
[destinations.app]
url = "http://127.0.0.1:{{port}}/in"
timeout = "120s"
"""
    with Sink(delay_s=120) as hangs, Daemon(tmp_path, config.replace("{port}", str(hangs.port))) as daemon:
        for _ in range(20):
            status, _, _ = daemon.post("/github", b"{}", github(b"{}", SECRET, fresh_id()))
            assert status == 200
        eventually(lambda: daemon.lane()["in_flight"] > 0, 30)
        began_s = time.monotonic()
        took_s = end_pod(daemon)
        print(f"the longest stop took {took_s:.1f} s of 60")
        assert time.monotonic() - began_s < 10 + product.STOP_S + 10
        assert daemon.logged("stopped")[0]["left_pending"] == 20
