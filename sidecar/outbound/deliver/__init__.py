"""How one try reaches a backend: a kind of destination per wire, all behind one small protocol.

``kind.py`` says what a kind offers. The kind for HTTP/1.1, outside in: ``pool.py`` has the connections to a backend,
``dial.py`` opens them, ``http.py`` speaks on one, ``headers.py`` and ``url.py`` decide what is said. To add a kind: a module with its options and its
class, one line in ``KINDS``, one line in the contract suite.
"""

from __future__ import annotations

from sidecar.outbound.deliver.http import HttpOptions
from sidecar.outbound.deliver.kind import Destination, Done, Failure, Handle, Result
from sidecar.outbound.deliver.pool import HttpDestination

__all__ = ["KINDS", "Destination", "Done", "Failure", "Handle", "HttpDestination", "HttpOptions", "Result"]

KINDS: dict[str, type[HttpDestination]] = {"http": HttpDestination}
"""Name in the configuration to class; called as ``KINDS[kind](name, options, clock)``."""
