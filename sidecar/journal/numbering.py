"""Numbers of sources, destinations and ack templates, which rows hold instead of names.

The names are one row of ``meta``; here is the way back, from a name to its number. A number is given once and never
taken away. Names are added before the threads run, or inside the writer's transactions.
"""

from __future__ import annotations

from collections.abc import Iterable

import lmdb

from sidecar.journal import meta
from sidecar.journal.environment import Environment
from sidecar.model import AckTemplate

__all__ = ["Numbers"]


class Numbers:
    """The numbers that were given so far.

    Attributes:
        sources: Name to number.
        destinations: Name to number.
        changed: Whether a name was added that no commit has stored yet.
    """

    def __init__(self, environment: Environment) -> None:
        self._names = environment.names
        self._meta = environment.db[b"meta"]
        self._acks = {ack: i for i, ack in enumerate(self._names.acks)}
        self.sources = {name: i for i, name in enumerate(self._names.sources)}
        self.destinations = {name: i for i, name in enumerate(self._names.destinations)}
        self.changed = False

    def add(self, sources: Iterable[str], destinations: Iterable[str]) -> None:
        """Give numbers to names that have none."""
        for known, numbers, wanted in (
            (self._names.sources, self.sources, sources),
            (self._names.destinations, self.destinations, destinations),
        ):
            for name in wanted:
                if name not in numbers:
                    known.append(name)
                    numbers[name] = len(known) - 1
                    self.changed = True

    def ack(self, template: AckTemplate) -> int:
        """The number of an answer, a new one where it is used for the first time."""
        number = self._acks.get(template)
        if number is None:
            number = len(self._names.acks)
            self._names.acks.append(template)
            self._acks[template] = number
            self.changed = True
        return number

    def write(self, txn: lmdb.Transaction) -> None:
        """Store all names; ``changed`` is for the caller to clear once the transaction has committed."""
        txn.put(b"names", meta.pack(self._names), db=self._meta)
