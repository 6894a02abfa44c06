"""Deliberate bugs that several harnesses must catch: each is called in the daemon's process before it starts."""

from __future__ import annotations

from sidecar.journal import Journal
from sidecar.journal.types import Appended

__all__ = ["early_ack"]


def early_ack() -> None:
    """An ack before the commit."""
    whole = Journal.append

    def append(self, event, claim, ack, done):
        whole(self, event, claim, ack, lambda answer: None)
        done(Appended(event))

    Journal.append = append
