"""The real daemon as a process of its own: started, asked, signalled, killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parents[2]
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the admin socket."""

    def __init__(self, path: str, timeout: float = 10) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Scrape:
    """One answer of /metrics, as text and as values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.series: dict[str, list[tuple[dict[str, str], float]]] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                head, _, value = line.rpartition(" ")
                name, _, labels = head.rstrip("}").partition("{")
                self.series.setdefault(name, []).append((dict(_LABEL.findall(labels)), float(value)))

    def value(self, name: str, **labels: str) -> float:
        """The first series with these labels; 0.0 when it is not there."""
        return next((v for found, v in self.rows(name) if labels.items() <= found.items()), 0.0)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all series with these labels."""
        return sum(v for found, v in self.rows(name) if labels.items() <= found.items())

    def rows(self, name: str) -> list[tuple[dict[str, str], float]]:
        """All series of one name (without our prefix) with their labels."""
        return self.series.get(f"webhook_sidecar_{name}", self.series.get(name, []))


class Daemon:
    """One configuration in one folder, and the process that runs it.

    Args:
        folder: Everything lives here: configuration, journal, dead letters, log.
        config: TOML of sources, destinations and whatever else; ``[server]`` and ``[admin]`` are given.
        command: Instead of ``python -m sidecar``.
        env: Added to the environment.
    """

    def __init__(
        self,
        folder: Path,
        config: str,
        *,
        command: Sequence[str] = (sys.executable, "-m", "sidecar"),
        env: Mapping[str, str] | None = None,
        server: str = "",
        admin: str = "",
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.admin_port = free_port()
        self.socket = str(folder / "admin.sock")
        self.config = folder / "config.toml"
        self.log = folder / "log.jsonl"
        self.write(config, server=server, admin=admin)
        self._command = [*command, "run", "--config", str(self.config)]
        self.env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._scraped_s = float("-inf")

    def write(self, config: str, *, server: str = "", admin: str = "") -> None:
        """Write the configuration (also over the one that runs)."""
        text = f"""
[server]
listen = "127.0.0.1:{self.port}"
{server}
[admin]
listen = "127.0.0.1:{self.admin_port}"
socket = "{self.socket}"
{admin}
[log]
format = "json"
"""
        if "[drain]" not in config:
            text += '[drain]\naccept_for = "0s"\n'
        if "[journal]" not in config:
            text += '[journal]\npath = "journal"\n'
        if "[dead_letters]" not in config:
            text += '[dead_letters]\npath = "dead-letters"\n'
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text + config)
        fresh.rename(self.config)

    # --- life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Let it stop at once (that is what two signals mean), so that what was measured in it is written; then kill."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.kill()

    def start(self, timeout_s: float = 20.0) -> None:
        """Start and wait until it takes webhooks."""
        self.launch()
        self.wait_ready(timeout_s)

    def launch(self) -> None:
        """Start, without waiting."""
        self._scraped_s = float("-inf")
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(self._command, cwd=self.folder, env=self.env, stdout=out, stderr=out)

    def wait_ready(self, timeout_s: float = 20.0) -> None:
        """Wait until /startupz says so."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.tail()}")
            try:
                if self.admin("GET", "/startupz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise AssertionError(f"the daemon was not ready after {timeout_s} s:\n{self.tail()}")

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Ask it to stop; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait until it ended by itself; the exit code."""
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    # --- talk to it

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None, *, method: str = "POST"
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a webhook; status, headers (lower case) and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def admin(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout_s: float = 30
    ) -> tuple[int, bytes]:
        """Ask over the admin socket."""
        connection = UnixConnection(self.socket, timeout_s)
        try:
            data = json.dumps(body).encode() if body is not None else None
            given = {"Webhook-Sidecar-Request": "1", "Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def api(self, path: str) -> Any:
        """A GET of the API, decoded."""
        status, body = self.admin("GET", f"/api/v1/{path}")
        assert status == 200, (status, body)
        return json.loads(body)

    def scrape(self) -> Scrape:
        """The metrics as they are now: waits until the text that the daemon keeps for a second is not our last one."""
        time.sleep(max(0.0, self._scraped_s + 1.02 - time.monotonic()))
        status, body = self.admin("GET", "/metrics")
        self._scraped_s = time.monotonic()
        assert status == 200
        return Scrape(body.decode())

    def metric(self, name: str, **labels: str) -> float:
        """One series of /metrics as it is now; 0.0 when it is not there."""
        return self.scrape().value(name, **labels)

    @property
    def last_seq(self) -> int:
        """The number of the newest event in the journal."""
        return int(self.api("status")["journal"]["last_seq"])

    def pending(self, destination: str = "app") -> int:
        """How many deliveries a destination is owed."""
        return int(self.lane(destination)["pending"])

    def lane(self, destination: str = "app") -> dict[str, Any]:
        """How a destination is doing."""
        rows: list[dict[str, Any]] = self.api("status")["destinations"]
        return next(r for r in rows if r["name"] == destination)

    def audit(self) -> dict[str, Any]:
        """Everything counted."""
        found: dict[str, Any] = self.api("audit?full=1")
        return found

    def command(
        self, *arguments: str, timeout_s: float = 60.0, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command of the CLI on this configuration."""
        return subprocess.run(
            [sys.executable, "-m", "sidecar", *arguments],
            cwd=self.folder,
            env={**self.env, "WEBHOOK_SIDECAR_CONFIG": str(self.config)},
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def logged(self, msg: str) -> list[dict[str, Any]]:
        """Log lines with this message."""
        rows = [json.loads(x) for x in self.log.read_text().splitlines() if x.startswith("{")]
        return [r for r in rows if r["msg"] == msg]


def eventually(check: Any, timeout_s: float = 15.0, what: str = "") -> Any:
    """Wait until ``check()`` is true; its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {timeout_s} s: {what or check}")
        time.sleep(0.02)
