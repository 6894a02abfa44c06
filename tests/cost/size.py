"""How much there is of it: the wheel, what an installation takes on disk, what a running daemon takes in memory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from tests.bench.machine import anonymous_mib, cpu_s
from tests.cost.turns import daemon_of
from tests.support.daemon import REPOSITORY, eventually, free_port

__all__ = ["idle", "installed_mib", "loaded_modules", "requirements", "wheel_kib"]


def wheel_kib(folder: Path) -> float:
    """Build the wheel and weigh it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=60)
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


def installed_mib() -> float:
    """Bytes of all files of an installation, compiled ones left out: they are made on the way."""
    size = sum(f.stat().st_size for f in (REPOSITORY / "sidecar").rglob("*") if f.is_file() and f.suffix != ".pyc")
    for name in requirements() - {"webhook-sidecar"}:
        for file in metadata.files(name) or ():
            path = Path(str(file.locate()))
            if path.suffix != ".pyc" and path.is_file():
                size += path.stat().st_size
    return size / (1 << 20)


def idle(folder: Path) -> tuple[float, float]:
    """Anonymous memory in MiB of a daemon that has just become ready, and the CPU seconds it took to get there."""
    daemon = daemon_of(folder, f"http://127.0.0.1:{free_port()}/in", [sys.executable, "-m", "sidecar"])
    with daemon:
        return anonymous_mib(daemon.pid), sum(cpu_s(daemon.pid))


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
