"""The daemon with a deliberate bug about failed commits; the fault sweep must catch it."""

from __future__ import annotations

import sys

import lmdb

from sidecar.__main__ import main
from sidecar.journal.batch import Batch
from sidecar.journal.writer import Writer
from sidecar.model import Refusal


def swallow() -> None:
    """A batch whose commit failed is answered as if it were stored."""
    honest = Writer._write

    def write(self, batch):
        try:
            honest(self, batch)
        except lmdb.Error:
            batch.applied = batch.applied or [True] * len(batch.settlements)
            self._post(batch)

    Writer._write = write


def go_on() -> None:
    """A batch whose commit failed is refused, and the next one is tried as if nothing had been."""
    honest = Writer._write

    def write(self, batch):
        try:
            honest(self, batch)
        except lmdb.Error:
            self._settlements.extendleft(reversed(batch.settlements))
            self._post(Batch([], [], [], replies=[(a.done, Refusal.STORAGE_ERROR) for a in batch.arrivals]))

    Writer._write = write


if __name__ == "__main__":
    {"swallow": swallow, "go_on": go_on}[sys.argv.pop(1)]()
    sys.exit(main())
