"""The machine as the benchmark sees it: cores, CPU time and memory of a process, and processes that say when they are up.

CPU is user + sys of a whole process with all its threads, from ``/proc/PID/stat``: on a shared machine it is stable
to about 10 % where rates and latencies swing by a factor of two.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["SERVER_CORE", "LOAD_CORE", "anonymous_mib", "cpu_s", "describe", "exact_cpu_s", "pinned", "started"]

ROOT = Path(__file__).resolve().parents[2]
TICK_S = 1 / os.sysconf("SC_CLK_TCK")

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = _CORES[0]
LOAD_CORE = _CORES[-1]  # the same one on a machine with one core: latencies are worth nothing there


def cpu_s(pid: int) -> tuple[float, float]:
    """User and system CPU seconds of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) * TICK_S, int(fields[12]) * TICK_S


def exact_cpu_s(pid: int) -> float:
    """CPU seconds of a process to the nanosecond, user and system not told apart: for one that hardly does anything."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def anonymous_mib(pid: int) -> float:
    """RssAnon in MiB: what a process really needs; a mapped journal is page cache."""
    found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def pinned(core: int, *command: str) -> list[str]:
    """A command line that keeps a process on one core."""
    return ["taskset", "-c", str(core), *command]


@contextlib.contextmanager
def started(module: str, *arguments: str, core: int) -> Iterator[tuple[str, int]]:
    """Run one of our server modules on a core; its base URL and process id. It prints its port once it listens."""
    command = pinned(core, sys.executable, "-m", f"tests.bench.{module}", *arguments)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"tests.bench.{module} did not start (exit code {process.wait()})")
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def describe() -> dict[str, str | int]:
    """What ran where, for the result's head."""
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(_CORES),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "commit": _output(["git", "rev-parse", "--short", "HEAD"]),
    }


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
