"""The daemon in a fork of this process: its modules are there already, so that thousands of starts fit an hour.

From ``main`` on it is what ``python -m sidecar run`` is. For processes without threads only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop  # noqa: F401 - the same

import sidecar.cli.run
import sidecar.daemon  # noqa: F401 - this, and all that it imports, is what a fork saves
from sidecar.__main__ import main
from tests.support.daemon import Daemon

__all__ = ["ForkedDaemon", "honest"]

PR_SET_PDEATHSIG = 1


def honest() -> None:
    """No deliberate bug."""


class Child:
    """A child process as ``subprocess.Popen`` shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end.

        Raises:
            TimeoutExpired: It goes on.
        """
        until_s = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until_s:
                raise subprocess.TimeoutExpired("the forked daemon", timeout)
            time.sleep(0.001)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill -9."""
        self.send_signal(signal.SIGKILL)


class ForkedDaemon(Daemon):
    """A daemon that is forked instead of started.

    Attributes:
        bug: Called in each new process first: plants a deliberate bug.
    """

    def __init__(self, folder: Path, config: str, bug: Callable[[], None] = honest, **more: Any) -> None:
        super().__init__(folder, config, **more)
        self.bug = bug

    def launch(self) -> None:
        """Start, without waiting."""
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self.process = Child(pid)  # type: ignore[assignment]
            return
        code = 70
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                return
            out = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.chdir(self.folder)
            self.bug()
            code = main(["run", "--config", str(self.config)])
            sys.stderr.flush()
        except BaseException:  # noqa: BLE001 - told as the end of a process tells it
            traceback.print_exc()
        finally:
            os._exit(code)
