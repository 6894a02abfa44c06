"""How much there is of it: the wheel, an installation on disk, a daemon in memory, and how often one wakes for nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from tests.bench.machine import anonymous_mib, cpu_s
from tests.cost.costs import COSTS
from tests.cost.turns import daemon_of
from tests.support.daemon import REPOSITORY, Daemon, eventually, free_port

__all__ = ["awakenings", "idle", "installed_mib", "loaded_modules", "requirements", "wheel_kib"]

_SETTLED_S, _WINDOWS, _WINDOW_S = 1.0, 4, 2.0  # 9 s in all: a sender that says nothing is closed after 10


def wheel_kib(folder: Path, source: Path = REPOSITORY) -> float:
    """Build the wheel and weigh it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=60)
    (wheel,) = folder.glob("*.whl")
    return wheel.stat().st_size / 1024


def requirements() -> set[str]:
    """Names of all distributions that an installation without extras brings in, itself included."""
    found: set[str] = set()
    wanted = ["webhook-sidecar"]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another platform or version
            continue
        found.add(name)
        for need in needs:
            bare = re.match(r"[\w.-]+", need)
            if "extra ==" not in need and bare is not None:
                wanted.append(re.sub(r"[-_.]+", "-", bare[0]).lower())
    return found


def installed_mib(*more: str) -> float:
    """MiB of all files of an installation and of more distributions, compiled ones left out: they are made on the way."""
    size = sum(f.stat().st_size for f in (REPOSITORY / "sidecar").rglob("*") if f.is_file() and f.suffix != ".pyc")
    for name in requirements() - {"webhook-sidecar"} | {*more}:
        for file in metadata.files(name) or ():
            path = Path(str(file.locate()))
            if path.suffix != ".pyc" and path.is_file():
                size += path.stat().st_size
    return size / (1 << 20)


def idle(folder: Path, env: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Anonymous memory in MiB of a daemon that has just become ready, and the CPU seconds it took to get there."""
    with _idle_daemon(folder, env) as daemon:
        return anonymous_mib(daemon.pid), sum(cpu_s(daemon.pid))


def awakenings(folder: Path, *, connected: bool = False) -> float:
    """How often a second the threads of a daemon wake while nothing happens, with a sender connected that says nothing or not.

    The least of some windows, as soon as one is fine: where the machine is busy, a timer rings a little early and has to be
    waited for once more.
    """
    fine = COSTS["awakenings, idle"].most
    with _idle_daemon(folder) as daemon, contextlib.ExitStack() as stack:
        if connected:
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
        time.sleep(_SETTLED_S)
        rates = []
        for _ in range(_WINDOWS):
            before, begin_s = _switches(daemon.pid), time.monotonic()
            time.sleep(_WINDOW_S)
            rates.append((_switches(daemon.pid) - before) / (time.monotonic() - begin_s))
            if rates[-1] <= fine:
                break
        return min(rates)


def _idle_daemon(folder: Path, env: Mapping[str, str] | None = None) -> Daemon:
    command = [sys.executable, "-m", "sidecar"]
    return daemon_of(folder, f"http://127.0.0.1:{free_port()}/in", command, dict(env or {}))


def _switches(pid: int) -> int:
    """How often the threads of a process went to sleep by themselves."""
    tasks = [task / "status" for task in Path(f"/proc/{pid}/task").iterdir()]
    found = [re.search(r"^voluntary_ctxt_switches:\s+(\d+)", task.read_text(), re.MULTILINE) for task in tasks]
    return sum(int(n[1]) for n in found if n is not None)


def loaded_modules(folder: Path, env: Mapping[str, str] | None = None) -> set[str]:
    """Every module that a daemon with one source and one destination has loaded once it is ready.

    Args:
        folder: For the daemon.
        env: Added to its environment.
    """
    path = folder / "modules"
    command = [sys.executable, "-m", "tests.cost.modules"]
    with daemon_of(
        folder, f"http://127.0.0.1:{free_port()}/in", command, {"MODULES": str(path), **(env or {})}
    ) as daemon:
        os.kill(daemon.pid, signal.SIGUSR1)
        eventually(path.exists, 30, "the modules")
    return set(json.loads(path.read_text()))
