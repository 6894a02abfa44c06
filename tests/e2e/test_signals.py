"""Signals at unlucky moments. That they stop and reload is shown where stopping and reloading are."""

from __future__ import annotations

import json
import signal
import sys
import time

from tests.support.daemon import Daemon, eventually
from tests.support.senders import github
from tests.support.tracing import needs_strace

CONFIG = """
[sources.code]
path = "/code"
verify = "github"
secrets = [{ value = "s" }]
destinations = ["app"]
[destinations.app]
url = "http://127.0.0.1:9/"
"""
TRACED = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e")
#: Each change of a signal's handler takes so long that a signal finds its way between two of them.
SLOWLY_DEAF = (*TRACED, "trace=rt_sigaction", "-e", "inject=rt_sigaction:delay_exit=30000:delay_enter=30000")
#: Taking the journal's lock, which is before any handler is there, takes half a second.
SLOWLY_STARTED = (*TRACED, "trace=flock", "-e", "inject=flock:delay_enter=500000")
PLAIN = (sys.executable, "-m", "sidecar")


def only_said_what_is_in_order(daemon: Daemon) -> None:
    for line in daemon.log.read_text().splitlines():
        assert json.loads(line)["level"] in ("info", "warn", "warning"), line


@needs_strace
def test_reloads_while_a_journal_is_opened_change_nothing_about_the_start(tmp_path):
    """It becomes ready, takes a webhook and stops in order, however early a SIGHUP comes."""
    daemon = Daemon(tmp_path, CONFIG, command=(*SLOWLY_STARTED, *PLAIN))
    daemon.launch()
    try:
        process = daemon.process
        assert process is not None
        eventually((tmp_path / "journal" / "journal.lock").exists, what="it began to open the journal")
        sent, until_s = 0, time.monotonic() + 30
        while process.poll() is None and not daemon.logged("ready") and time.monotonic() < until_s:
            process.send_signal(signal.SIGHUP)
            sent += 1
            time.sleep(0.005)
        assert process.poll() is None, daemon.tail()
        assert sent > 10
        daemon.wait_ready()
        assert daemon.post("/code", b"{}", github(b"{}", "s"))[0] == 200
        assert daemon.stop() == 0
        only_said_what_is_in_order(daemon)
    finally:
        daemon.end()


@needs_strace
def test_reloads_until_the_very_end_change_nothing_about_the_end(tmp_path):
    """Exit 0 and nothing but lines of the log, however late a SIGHUP comes."""
    daemon = Daemon(tmp_path, CONFIG, command=(*SLOWLY_DEAF, *PLAIN))
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
    only_said_what_is_in_order(daemon)
