"""The daemon whose reloads fail at the last thing that can: a backend cannot be made, or meets a bug, where its URL says so.

``RELOAD_BUG=pieces`` is the deliberate bug: it takes over each part as it comes to it, so a failure leaves half of the new
configuration in force.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from sidecar.__main__ import main
from sidecar.config.settings import Settings
from sidecar.daemon import Daemon
from sidecar.outbound.dispatch import DestinationOptions, Dispatcher

honest_prepare, honest_apply = Dispatcher.prepare, Daemon._apply


def prepare(self: Dispatcher, destinations: Sequence[DestinationOptions]) -> Any:
    """As where a file that was there when the configuration was judged has gone."""
    if any("/cannot-be-made" in options.http.url for options in destinations):
        raise FileNotFoundError(2, "No such file or directory")
    if any("/meets-a-bug" in options.http.url for options in destinations):
        raise KeyError("a bug")
    return honest_prepare(self, destinations)


async def apply(self: Daemon, new: Settings) -> None:
    self.receiver.configure(new.sources, new.server.trusted_proxies)
    await honest_apply(self, new)


Dispatcher.prepare = prepare
if os.environ.get("RELOAD_BUG") == "pieces":
    Daemon._apply = apply
if __name__ == "__main__":
    sys.exit(main())
