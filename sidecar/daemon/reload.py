"""A reload: the configuration is read again and put in force, or nothing is changed; whoever asks hears which."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable

from sidecar import log
from sidecar.admin.gateway import ReloadResult
from sidecar.clock import Clock
from sidecar.config.load import InvalidConfig, load_settings
from sidecar.config.settings import Settings, restart_needed
from sidecar.config.watch import Watcher
from sidecar.errors import ConfigError, SidecarError
from sidecar.metrics import Metrics
from sidecar.notify import Notifier

__all__ = ["Reload", "doing"]

_log = log.get_logger("daemon")


class Reload:
    """How one daemon's configuration is read again.

    Args:
        config_path: The file; None = looked for in the usual places.
        in_force: The settings that count until then.
        apply: Puts new settings in force as a whole, or raises and has changed nothing.
        watcher: Told which files count from now on.
        notifier: Told that we are reloading, and how it ended.
        metrics: Where to count.
        clock: The machine's clocks.
    """

    def __init__(
        self,
        config_path: str | None,
        in_force: Callable[[], Settings],
        apply: Callable[[Settings], Awaitable[None]],
        watcher: Watcher,
        notifier: Notifier,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._config_path = config_path
        self._in_force = in_force
        self._apply = apply
        self._watcher = watcher
        self._notifier = notifier
        self._metrics = metrics
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> ReloadResult:
        """Read and apply; one after another where several ask."""
        async with self._one_at_a_time:
            old = self._in_force()
            self._notifier.reloading(self._clock.monotonic_s())
            try:
                new = await asyncio.to_thread(load_settings, self._config_path, env=os.environ)
                later = restart_needed(old, new)
                await self._apply(new)
            except (ConfigError, SidecarError, ssl.SSLError, ValueError, OSError) as e:
                return self._refused(e)
            except Exception:  # a bug: whoever asked meets it, but nobody may wait for the end of the reload
                self._metrics.reload_ok.set(0)
                self._notifier.ready("a reload failed on a bug: see the log")
                raise
            self._watcher.watch(new.watched)
            self.note()
            _log.info("reloaded", sources=len(new.sources), destinations=len(new.destinations))
            for key in later:
                _log.warning("this change needs a restart", key=key)
            self._notifier.ready(doing(new))
            return ReloadResult(ok=True, restart_needed=tuple(later))

    def _refused(self, error: Exception) -> ReloadResult:
        problems = error.problems if isinstance(error, ConfigError) else ()
        said, hint = (error.message, error.hint) if isinstance(error, SidecarError) else (str(error), "")
        self._metrics.reload_ok.set(0)
        if isinstance(error, InvalidConfig):
            self._watcher.watch_also(error.watched)
        _log.error(
            "reload refused: the old configuration stays in force",
            problems=len(problems),
            error=said,
            hint=hint or None,
        )
        for problem in problems:
            _log.error("configuration problem", problem=problem.splitlines()[0])
        self._notifier.ready("a changed configuration was refused: the old one stays in force")
        return ReloadResult(ok=False, problems=problems or (str(error),))

    def note(self) -> None:
        """Count that a configuration was taken over now."""
        self._metrics.reload_ok.set(1)
        self._metrics.reload_time.set(self._clock.wall_ms() / 1000)


def doing(settings: Settings) -> str:
    """What we do, for people who look at the service manager."""
    return f"{len(settings.sources)} sources, {len(settings.destinations)} destinations"
