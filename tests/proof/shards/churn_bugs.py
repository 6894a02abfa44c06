"""The daemon with a deliberate bug about what it gives back; the harness of churn must catch it."""

from __future__ import annotations

import os
import sys
import threading

from sidecar.__main__ import main
from sidecar.journal import Journal
from sidecar.outbound.deliver.pool import HttpDestination

EVERY = 20


def held_read() -> None:
    """Somebody reads the journal and forgets to end."""
    honest = Journal.start

    def start(self, *args, **kwargs):
        honest(self, *args, **kwargs)

        def hold() -> None:
            self.held = self._environment.env.begin()

        threading.Thread(target=hold).start()

    Journal.start = start


def leak() -> None:
    """One attempt in some leaves a descriptor open."""
    honest, count = HttpDestination.attempt, iter(range(10**9))

    def attempt(self, *args, **kwargs):
        if next(count) % EVERY == 0:
            os.dup(0)
        return honest(self, *args, **kwargs)

    HttpDestination.attempt = attempt


if __name__ == "__main__":
    {"held_read": held_read, "leak": leak}[sys.argv.pop(1)]()
    sys.exit(main())
