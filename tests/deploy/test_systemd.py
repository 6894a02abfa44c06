"""The unit: sound, locked up, and true of the daemon, which needs nothing that it forbids."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar import daemon
from sidecar.errors import ConfigError, JournalError
from tests.support.daemon import REPOSITORY, Daemon, eventually
from tests.support.senders import fresh_id, github
from tests.support.sink import Sink
from tests.support.tracing import needs_strace

FOLDER = REPOSITORY / "deploy" / "systemd"
UNIT = (FOLDER / "webhook-sidecar.service").read_text()
MAX_EXPOSURE = 2.5
SECRET = "systemd-test"
CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ value = "{secret}" }}]
destinations = ["app"]
[destinations.app]
url = "{url}/in"
"""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def settings() -> dict[str, list[str]]:
    """Key -> values of the whole unit."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here."""
    file = tmp_path / "webhook-sidecar.service"
    file.write_text(UNIT.replace("/opt/webhook-sidecar/bin/webhook-sidecar", "/bin/true"))
    return file


@needs_systemd
def test_systemd_takes_it(unit: Path) -> None:
    outcome = analyze("verify", str(unit))
    assert (outcome.returncode, outcome.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=soon"))
    assert analyze("verify", str(unit)).stderr != "", "it takes anything"


@needs_systemd
def test_it_is_locked_up(unit: Path) -> None:
    def exposure() -> float:
        return float(
            re.search(r"exposure level for \S+: ([\d.]+)", analyze("security", "--offline=yes", str(unit)).stdout)[1]
        )

    assert exposure() <= MAX_EXPOSURE
    unit.write_text(
        re.sub(r"^(Protect|Private|Restrict|System|Capability|Dynamic).*\n", "", unit.read_text(), flags=re.MULTILINE)
    )
    assert exposure() > MAX_EXPOSURE, "it takes anything"


def test_it_says_of_the_program_what_is_true() -> None:
    found = settings()
    assert found["ExecStart"] == [
        "/opt/webhook-sidecar/bin/webhook-sidecar run --config /etc/webhook-sidecar/config.toml"
    ]
    never = {int(code) for code in found["RestartPreventExitStatus"][0].split()}
    assert never == {ConfigError.exit_code, JournalError.exit_code}
    assert int(found["TimeoutStopSec"][0]) >= 10 + daemon.STOP_S
    # Signs of life come with the heartbeat, so several must fit.
    assert int(found["WatchdogSec"][0]) / 3 > 2 * daemon.BEAT_S


def test_the_configuration_beside_it_reads_the_credentials_that_it_hands_over(tmp_path: Path) -> None:
    handed = {v.partition(":")[0] for v in settings()["LoadCredential"]}
    text = (FOLDER / "config.toml").read_text()
    assert set(re.findall(r'credential = "([^"]+)"', text)) == handed
    for name in handed:
        (tmp_path / name).write_text("secret\n")
        (tmp_path / name).chmod(0o400)
    outcome = subprocess.run(
        [sys.executable, "-m", "sidecar", "check", "--config", str(FOLDER / "config.toml")],
        env={**os.environ, "CREDENTIALS_DIRECTORY": str(tmp_path)},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    assert "warning" not in (outcome.stdout + outcome.stderr).lower()
    state, runtime = settings()["StateDirectory"][0], settings()["RuntimeDirectory"][0]
    assert f'"/var/lib/{state}/' in text
    assert f'"/run/{runtime}/' in text


# --- the real daemon under a manager of ours


class Manager:
    """What systemd would hear."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(30)

    def next(self, *wanted: str) -> list[str]:
        """Wait for a message that begins with one of these."""
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            if lines[0] in wanted:
                return lines

    def falls_silent(self) -> bool:
        """Read what is still on its way; whether nothing follows."""
        try:
            for _ in range(10):
                self.socket.recv(4096)
        except TimeoutError:
            return True
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


def test_the_daemon_tells_the_manager_of_its_life(tmp_path: Path, manager: Manager) -> None:
    config = CONFIG.format(secret=SECRET, url="http://127.0.0.1:1")
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
    daemon = Daemon(tmp_path, config, env=env)
    daemon.launch()
    try:
        assert manager.next("READY=1", "WATCHDOG=1") == ["READY=1", "STATUS=1 sources, 1 destinations"]
        status, _, _ = daemon.post("/github", b"{}", github(b"{}", SECRET, fresh_id()))
        assert status == 200, "ready means that webhooks are taken"
        manager.next("WATCHDOG=1")
        manager.next("WATCHDOG=1")
        os.kill(daemon.pid, signal.SIGHUP)
        assert manager.next("RELOADING=1", "READY=1")[0] == "RELOADING=1"
        assert manager.next("READY=1")[1] == "STATUS=1 sources, 1 destinations"
        daemon.write("[sources.broken]\n")
        os.kill(daemon.pid, signal.SIGHUP)
        manager.next("RELOADING=1")
        assert "refused" in manager.next("READY=1")[1]
        os.kill(daemon.pid, signal.SIGTERM)
        manager.next("STOPPING=1")
        assert daemon.wait() == 0
    finally:
        daemon.kill()


def test_a_daemon_that_stands_still_gives_no_sign_of_life(tmp_path: Path, manager: Manager) -> None:
    """Stopped, as by a hanging disk: the manager would restart it."""
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    with Daemon(tmp_path, CONFIG.format(secret=SECRET, url="http://127.0.0.1:1"), env=env) as daemon:
        manager.next("WATCHDOG=1")
        os.kill(daemon.pid, signal.SIGSTOP)
        manager.socket.settimeout(2.0)  # more than three periods
        assert manager.falls_silent()
        os.kill(daemon.pid, signal.SIGCONT)
        manager.socket.settimeout(30)
        manager.next("WATCHDOG=1")


@needs_systemd
@needs_strace
def test_the_daemon_makes_no_system_call_that_the_unit_forbids(tmp_path: Path) -> None:
    """Traced through start, a webhook, a delivery, a dead letter and the stop; also which families of sockets it opens."""
    trace = tmp_path / "trace"
    command = ("strace", "-f", "-qq", "-o", str(trace), sys.executable, "-m", "sidecar")
    with Sink(lambda r: 400 if b"die" in r.body else 200) as sink:
        daemon = Daemon(tmp_path, CONFIG.format(secret=SECRET, url=sink.url), command=command)
        daemon.launch()
        try:
            daemon.wait_ready(60)
            for body in (b"live", b"die"):
                assert daemon.post("/github", body, github(body, SECRET, fresh_id()))[0] == 200
            eventually(lambda: daemon.api("dead-letters")["dead_letters"], 60)
            (child,) = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGTERM)
            assert daemon.wait(60) == 0
        finally:
            daemon.kill()
    calls = re.findall(r"^\d+ +(\w+)\((.*)$", trace.read_text(errors="replace"), re.MULTILINE)
    # strace itself starts the program: its execve is the manager's, before the filter.
    used = {name for name, _ in calls}
    assert {"fsync", "fdatasync"} & used, "the trace has what a journal does"
    assert used - allowed() == set()
    families = {m[1] for name, rest in calls if name == "socket" and (m := re.match(r"(AF_\w+)", rest))}
    assert families <= set(settings()["RestrictAddressFamilies"][0].split())
    both = [rest for name, rest in calls if name in {"mmap", "mprotect"} and "PROT_WRITE|PROT_EXEC" in rest]
    assert both == [], "MemoryDenyWriteExecute"


def allowed() -> set[str]:
    """What the unit's filter lets through: its groups, resolved."""
    groups: dict[str, set[str]] = {}
    name = ""
    for line in analyze("syscall-filter").stdout.splitlines():
        if line.startswith("@"):
            name = line.split()[0]
            groups[name] = set()
        elif line.startswith("    ") and name and not line.strip().startswith("#"):
            groups[name].add(line.strip())

    def resolve(group: str) -> set[str]:
        members = groups[group]
        return {m for m in members if not m.startswith("@")} | {
            c for m in members if m.startswith("@") for c in resolve(m)
        }

    calls: set[str] = set()
    for value in settings()["SystemCallFilter"]:
        named = {c for g in value.removeprefix("~").split() for c in resolve(g)}
        calls = calls - named if value.startswith("~") else calls | named
    assert "read" in calls
    assert "reboot" not in calls
    return calls | {"rseq"}  # every libc makes it, and the manager adds what it needs to start a program
