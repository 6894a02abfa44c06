"""The daemon with a deliberate bug about its end; the harness of drains must catch it."""

from __future__ import annotations

import os
import sys

from sidecar.__main__ import main
from sidecar.daemon import Daemon
from sidecar.inbound.server import Listener
from sidecar.journal import Journal


def no_join() -> None:
    """It is gone before the writer is through."""

    async def aclose(self):
        os._exit(0)

    Journal.aclose = aclose


def cut() -> None:
    """It closes connections instead of answering."""

    async def drain(self, timeout_s):
        await self.close()

    Listener.drain = drain


def still_ready() -> None:
    """Nobody learns that it drains."""
    Daemon.draining = property(lambda self: False, lambda self, value: None)


if __name__ == "__main__":
    {"no_join": no_join, "cut": cut, "still_ready": still_ready}[sys.argv.pop(1)]()
    sys.exit(main())
