"""The daemon with a deliberate bug: it acknowledges before the commit. The crash test must catch it."""

from __future__ import annotations

import sys

from sidecar.__main__ import main
from sidecar.journal import Journal
from sidecar.journal.types import Appended
from sidecar.model import Refusal

honest = Journal.append


def append(self, event, claim, ack, done):
    refused = []

    def later(answer):
        if isinstance(answer, Refusal):
            refused.append(answer)

    honest(self, event, claim, ack, later)
    done(Appended(event))


Journal.append = append
if __name__ == "__main__":
    sys.exit(main())
