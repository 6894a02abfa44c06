"""The daemon that ends on a bug whose exception quotes all it has in hand; an environment variable names the place.

``leak`` is the deliberate one that the search for secrets has to find: it ends with Python's own traceback.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from sidecar import daemon, log
from sidecar.__main__ import main
from sidecar.journal import writer

BUG = os.environ["CRASH_BUG"]


def quote(what: Any) -> ValueError:
    return ValueError(f"it was {what!r}")


def in_hand(self: daemon.Daemon) -> list[Any]:
    secrets = [bytes(secret.value) for source in self.settings.sources for secret in source.secrets]
    return [secrets, [d.http.headers for d in self.settings.destinations], self.settings.admin.token]


async def start(self: daemon.Daemon, *_: Any) -> None:
    raise quote(in_hand(self))


async def shut_down(self: daemon.Daemon) -> None:
    raise quote(in_hand(self))


honest_transact = writer.Writer._transact


def transact(self: writer.Writer, batch: writer.Batch) -> None:
    if batch.arrivals:
        raise quote([(a.event.headers, a.event.body) for a in batch.arrivals])
    honest_transact(self, batch)


if BUG in ("start", "leak"):
    daemon.Daemon._start = start
elif BUG == "stop":
    daemon.Daemon._shut_down = shut_down
elif BUG == "writer":
    writer.Writer._transact = transact
if BUG == "leak":
    log.bug_text = str
if __name__ == "__main__":
    sys.exit(main())
