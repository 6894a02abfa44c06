"""A start costs the same however much is pending: measured in CPU time, which a busy machine does not change much."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.fill import fill_backlog
from tests.bench.machine import exact_cpu_s
from tests.support.daemon import REPOSITORY, Daemon, free_port

SCANNING = (sys.executable, str(REPOSITORY / "tests" / "support" / "scanning.py"))
HONEST = (sys.executable, "-m", "sidecar")
FEW, MANY = 100, 200_000
MORE_S = 0.4  # CPU time that a start may differ from another by; reading MANY events takes several times that
CONFIG = """
[sources.code]
path = "/github"
verify = "github"
secrets = [{{ value = "start" }}]
destinations = ["app"]

[destinations.app]
url = "http://127.0.0.1:{port}"
"""


def start_cpu_s(folder: Path, command: Sequence[str], pending: int) -> float:
    """CPU seconds until it is ready with so many deliveries pending."""
    folder.mkdir()
    fill_backlog(folder / "journal", pending, 256)
    config = CONFIG.format(port=free_port()) + '[journal]\npath = "journal"\nmax_size = "64GiB"\n'
    with Daemon(folder, config, command=command) as daemon:
        used_s = exact_cpu_s(daemon.pid)
        assert daemon.pending() == pending
    return used_s


def more_cpu_s(folder: Path, command: Sequence[str]) -> float:
    """How much more CPU time a start needs with MANY pending than with FEW."""
    return start_cpu_s(folder / "many", command, MANY) - start_cpu_s(folder / "few", command, FEW)


def test_a_start_costs_the_same_however_much_is_pending(tmp_path):
    assert more_cpu_s(tmp_path, HONEST) < MORE_S


def test_a_start_that_reads_everything_is_caught(tmp_path):
    assert more_cpu_s(tmp_path, SCANNING) > MORE_S
