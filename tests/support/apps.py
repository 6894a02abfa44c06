"""Stock SDKs in real apps, each a process of its own behind the daemon, and a clock that moves for all of them."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.support.daemon import free_port

__all__ = ["APPS", "App", "AppKind", "MovingClock"]

_FOLDER = Path(__file__).resolve().parents[1] / "e2e" / "apps"
_EXPRESS = _FOLDER / "express"


@dataclass(frozen=True)
class AppKind:
    """One sample app.

    Attributes:
        name: For test ids.
        preset: What the daemon verifies with, and signs late deliveries with.
        secret: Shared by provider, daemon and app.
        path: Where the app expects its webhooks.
        command: How it is started, without its options.
        unavailable: Why it cannot run here; "" when it can.
    """

    name: str
    preset: str
    secret: str
    path: str
    command: tuple[str, ...]
    unavailable: Callable[[], str] = field(default=lambda: "")


def _express_is_missing() -> str:
    if shutil.which("node") is None:
        return "the Express app needs Node.js and npm: install nodejs and npm, then run scripts/install_test_tools.sh"
    if not (_EXPRESS / "node_modules" / "express").is_dir():
        return "the Express app needs its packages: run scripts/install_test_tools.sh"
    return ""


APPS: dict[str, AppKind] = {
    kind.name: kind
    for kind in (
        AppKind(
            "django-stripe",
            "stripe",
            "whsec_django_and_the_daemon",
            "/webhooks/stripe",
            (sys.executable, str(_FOLDER / "django_stripe.py")),
        ),
        AppKind(
            "express-stripe",
            "stripe",
            "whsec_express_and_the_daemon",
            "/webhooks/stripe",
            ("node", str(_EXPRESS / "app.mjs")),
            _express_is_missing,
        ),
        AppKind(
            "slack",
            "slack",
            "8f742231b10e8888abcd99yyyzzz85a5",
            "/webhooks/slack",
            (sys.executable, str(_FOLDER / "slack_app.py")),
        ),
        AppKind(
            "standardwebhooks",
            "standard-webhooks",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "/webhooks/standard",
            (sys.executable, str(_FOLDER / "standardwebhooks_app.py")),
        ),
    )
}


class MovingClock:
    """The wall clock of every process that is started with ``env``; moved by hand, while they run.

    libfaketime shifts what they see; the monotonic clocks stay true, so timeouts and waits keep their length.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.offset_s = 0
        self.move(0)

    @staticmethod
    def unavailable() -> str:
        """Why clocks cannot be moved here; "" when they can."""
        return "" if _libfaketime() else "moving clocks needs libfaketime: install faketime (Debian, Homebrew)"

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment to live by this clock."""
        return {
            "LD_PRELOAD": _libfaketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def move(self, seconds: int) -> None:
        """Let the processes see this many seconds more than they do now."""
        self.offset_s += seconds
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{self.offset_s:+d}")
        fresh.rename(self._file)  # nobody reads half a number

    def now_s(self) -> int:
        """What a process that lives by this clock takes for the time, in seconds since the epoch."""
        return int(time.time()) + self.offset_s


def _libfaketime() -> str:
    for pattern in ("*/faketime/libfaketimeMT.so.1", "faketime/libfaketimeMT.so.1"):
        for root in ("/usr/lib", "/usr/lib64", "/usr/local/lib"):
            for found in Path(root).glob(pattern):
                return str(found)
    return ""


class App:
    """One running sample app. Usable as a context manager; may be stopped and started again."""

    def __init__(self, kind: AppKind, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.port = free_port()
        self._env = {**os.environ, **(env or {})}
        # A FIFO and not a plain file: the test sleeps in select until the app has seen something.
        self._seen = folder / f"{kind.name}.seen"
        os.mkfifo(self._seen, 0o600)
        self._fd = os.open(self._seen, os.O_RDWR | os.O_NONBLOCK)
        self._buffer = b""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where the daemon reaches it, with the source's own path."""
        return f"http://127.0.0.1:{self.port}{{path}}"

    def start(self, timeout_s: float = 20.0) -> None:
        """Start it and wait until it says that it takes connections."""
        command = [
            *self.kind.command,
            "--port",
            str(self.port),
            "--secret",
            self.kind.secret,
            "--seen",
            str(self._seen),
        ]
        self._process = subprocess.Popen(command, env=self._env, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline() if ready else ""
        if line != f"ready {self.port}\n":
            self.stop()
            raise AssertionError(f"the app {self.kind.name} did not start; it said {line!r}")

    def stop(self) -> None:
        """End it, by its process id; what it was writing is still read. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def next_row(self, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait for the next request that the app has seen, and give what it wrote about it."""
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._fd], [], [], timeout_s)
            if not ready:
                raise AssertionError(f"the app {self.kind.name} saw nothing more within {timeout_s:g} s")
            self._buffer += os.read(self._fd, 65536)
        line, self._buffer = self._buffer.split(b"\n", 1)
        row: dict[str, Any] = json.loads(line)
        return row
