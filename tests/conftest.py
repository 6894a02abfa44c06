"""What every test needs of the process that runs them."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let children hear SIGINT: a shell's ``&`` makes it ignored, they inherit that, and those to be interrupted never end."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
