"""It stays small: the wheel, an installation, a daemon's memory and start, and what it loads."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from tests.cost.costs import excess
from tests.cost.size import awakenings, idle, installed_mib, loaded_modules, requirements, wheel_kib
from tests.support.daemon import REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc: Linux only")

# What `run` may load beside the standard library. A package that is not here has no business in a running daemon.
THIRD_PARTY = {
    "aiohappyeyeballs", "aiohttp", "aiosignal", "attr", "click", "frozenlist", "httptools", "idna", "lmdb", "msgpack",
    "msgspec", "multidict", "prometheus_client", "propcache", "typing_extensions", "uvloop", "yarl",
}  # fmt: skip
# Not ours: the machinery of installed packages and of compiled modules.
MACHINERY = {"__main__", "_distutils_hack", "cython_runtime", "tests", "coverage"}
# Of the standard library: big, slow to load, and for other kinds of programs.
HEAVY = {
    "curses", "distutils", "doctest", "ensurepip", "idlelib", "lib2to3", "multiprocessing", "pdb", "pydoc",
    "sqlite3", "tkinter", "turtle", "unittest", "venv", "xml", "xmlrpc",
}  # fmt: skip
# Of ours: what other commands need.
OTHER_COMMANDS = {
    "sidecar.cli.audit", "sidecar.cli.bulk", "sidecar.cli.client", "sidecar.cli.dlq", "sidecar.cli.doctor", "sidecar.cli.echo",
    "sidecar.cli.events", "sidecar.cli.journal", "sidecar.cli.send", "sidecar.cli.status", "sidecar.cli.verify",
    "sidecar.config.describe", "sidecar.config.documents", "sidecar.inbound.verify.vectors", "sidecar.journal.upkeep",
    "lmdb.verify", "lmdb.tool",
}  # fmt: skip


def test_the_wheel_stays_small(tmp_path):
    assert not excess("wheel", wheel_kib(tmp_path))


def test_a_picture_too_many_in_the_wheel_is_noticed(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE", "sidecar"):
        here = REPOSITORY / name
        (shutil.copytree if here.is_dir() else shutil.copy)(here, tmp_path / name)
    (tmp_path / "sidecar" / "logo.png").write_bytes(os.urandom(100_000))
    assert excess("wheel", wheel_kib(tmp_path / "dist", tmp_path))


def test_an_installation_stays_small():
    assert {"aiohttp", "uvloop", "yarl"} <= requirements(), "the dependencies are not all found"
    assert "django" not in requirements()
    assert not excess("installed, with all it needs", installed_mib(), sorted(requirements()))


def test_a_large_dependency_more_is_noticed():
    assert excess("installed, with all it needs", installed_mib("django"))


def test_a_daemon_starts_cheaply_and_stays_small(tmp_path):
    """CPU, not the time on a clock: that one is in the benchmark, where nobody else should be at work."""
    memory_mib, start_cpu_s = idle(tmp_path)
    assert not excess("anonymous memory, idle", memory_mib)
    assert not excess("CPU from exec to ready", start_cpu_s)


def test_what_it_allocates_and_computes_at_its_start_is_noticed(tmp_path):
    """The control: an interpreter that keeps 10 MiB and is busy for a second before anything else."""
    busy = "import time\nkept = bytearray(b'x' * (10 << 20))\nwhile time.process_time() < 1:\n    pass\n"
    (tmp_path / "sitecustomize.py").write_text(busy)
    memory_mib, start_cpu_s = idle(tmp_path, {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"})
    assert excess("anonymous memory, idle", memory_mib)
    assert excess("CPU from exec to ready", start_cpu_s)


def test_an_idle_daemon_sleeps(tmp_path):
    assert not excess("awakenings, idle", awakenings(tmp_path))


def test_one_clock_more_that_ticks_is_noticed(tmp_path):
    """The control: a connection has to be looked at four times a second."""
    assert excess("awakenings, idle", awakenings(tmp_path, connected=True))


def test_run_loads_only_what_it_uses(tmp_path):
    loaded = loaded_modules(tmp_path)
    tops = {name.partition(".")[0] for name in loaded}
    assert "aiohttp" in tops, "that is no daemon"
    foreign = {t for t in tops - sys.stdlib_module_names - MACHINERY if not t.startswith(("_", "sidecar"))}
    assert foreign - THIRD_PARTY == set()
    assert tops & HEAVY == set()
    assert loaded & OTHER_COMMANDS == set()
    ours = {name for name in loaded if name.partition(".")[0] not in MACHINERY}
    assert not excess("modules loaded by run", len(ours))


def test_a_package_too_many_is_noticed(tmp_path):
    """The control: an interpreter that loads Django and sqlite3 at start."""
    (tmp_path / "sitecustomize.py").write_text("import django, sqlite3\n")
    loaded = loaded_modules(tmp_path, {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"})
    tops = {name.partition(".")[0] for name in loaded}
    assert "django" in tops - THIRD_PARTY
    assert "sqlite3" in tops & HEAVY
