"""Signals at unlucky moments. That they stop and reload is shown where stopping and reloading are."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support.daemon import Daemon
from tests.support.senders import github

CONFIG = """
[sources.code]
path = "/code"
verify = "github"
secrets = [{ value = "s" }]
destinations = ["app"]
[destinations.app]
url = "http://127.0.0.1:9/"
"""
#: Each change of a signal's handler takes so long that a signal finds its way between two of them.
SLOW = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=rt_sigaction", "-e")
SLOWLY = "inject=rt_sigaction:delay_exit=30000:delay_enter=30000"


def traceable() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not traceable(), reason="strace is missing or may not trace here: sh scripts/install_test_tools.sh")
def test_reloads_until_the_very_end_change_nothing_about_the_end(tmp_path):
    """Exit 0 and nothing but lines of the log, however late a SIGHUP comes."""
    daemon = Daemon(tmp_path, CONFIG, command=(*SLOW, SLOWLY, sys.executable, "-m", "sidecar"))
    with daemon:
        assert daemon.post("/code", b"{}", github(b"{}", "s"))[0] == 200
        process = daemon.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        sent, until_s = 0, time.monotonic() + 30
        while process.poll() is None and time.monotonic() < until_s:
            process.send_signal(signal.SIGHUP)
            sent += 1
            time.sleep(0.001)
        assert process.poll() == 0, daemon.tail()
        assert sent > 50
    for line in daemon.log.read_text().splitlines():
        assert json.loads(line)["level"] in ("info", "warn", "warning"), line
