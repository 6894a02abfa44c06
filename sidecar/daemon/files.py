"""How many file descriptors a configuration can need, and to be allowed that many."""

from __future__ import annotations

import resource

from sidecar.config.settings import Settings
from sidecar.errors import ConfigError

__all__ = ["demand", "needed"]

RESERVE = 128  # for everything else: journal, dead letters, admin plane, logs


def needed(settings: Settings) -> int:
    """Descriptors at most: every connection taken, every destination busy."""
    deliveries = sum(d.http.concurrency for d in settings.destinations)
    return settings.server.options.max_connections + deliveries + RESERVE


def demand(settings: Settings) -> None:
    """Raise our limit of open files as far as needed.

    Raises:
        ConfigError: The hard limit does not allow it: connections would be cut at some unlucky moment.
    """
    count = needed(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise ConfigError(
            f"RLIMIT_NOFILE is {hard}, but server.max_connections and every destination's concurrency need {count}",
            f"raise the limit (ulimit -Hn {count}), or lower server.max_connections",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
