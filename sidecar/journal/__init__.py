"""The journal: the only code that knows LMDB. ``Journal`` and the values in ``types`` are public, nothing else is."""

from sidecar.journal.journal import Journal

__all__ = ["Journal"]
