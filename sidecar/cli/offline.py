"""Where no daemon runs: opens the journal under its lock, for as long as one command takes.

Reads only ``journal`` and ``dead_letters`` of the configuration, never a secret, so that it works on a
volume that is all there is left.
"""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sidecar.admin.views import secret_headers
from sidecar.clock import Clock
from sidecar.config.files import Files, read_regular
from sidecar.config.load import find_config, masked_headers
from sidecar.config.placeholders import fill, override
from sidecar.config.problems import Problems
from sidecar.config.units import parse_size
from sidecar.errors import ConfigError, DaemonUnreachable, JournalLocked
from sidecar.journal import Journal
from sidecar.journal.types import JournalOptions
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters

__all__ = ["OfflineBooks", "Places", "places", "with_books"]

T = TypeVar("T")


class Places:
    """Where things are on disk."""

    def __init__(self, journal: JournalOptions, dead_letters: DeadLetterOptions) -> None:
        self.journal = journal
        self.dead_letters = dead_letters


def places(config_path: str | None) -> Places:
    """Read where the journal and the dead letters are; looks at nothing else.

    Raises:
        ConfigError: There is no configuration, or it is not TOML.
    """
    name = find_config(config_path, os.environ)
    try:
        content, _ = read_regular(name)
        data = tomllib.loads(content.decode())
    except (OSError, ValueError) as e:
        raise ConfigError(f"{name}: cannot be read: {e}", "webhook-sidecar check") from None
    filled = fill(data, os.environ, Problems()).data
    override(filled, os.environ)
    files = Files(os.path.dirname(os.path.abspath(name)))
    journal, letters = _section(filled, "journal"), _section(filled, "dead_letters")
    defaults, letter_defaults = JournalOptions(), DeadLetterOptions()
    return Places(
        JournalOptions(
            path=files.absolute(str(journal.get("path", defaults.path))),
            max_size_bytes=parse_size(str(journal.get("max_size", ""))) or defaults.max_size_bytes,
            unsafe_fs=journal.get("unsafe_fs") is True,
        ),
        DeadLetterOptions(path=files.absolute(str(letters.get("path", letter_defaults.path)))),
    )


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


class OfflineBooks:
    """Implements ``admin.gateway.Books`` on a journal that no daemon uses."""

    def __init__(self, config_path: str | None, journal: Journal, dead_letters: DeadLetters) -> None:
        self.journal = journal
        self.dead_letters = dead_letters
        self.clock = Clock()
        self._config_path = config_path
        self._masked: dict[str, frozenset[bytes]] | None = None

    def masked_headers(self, source: str) -> frozenset[bytes]:
        """Lower-case names of headers that carry this source's secret."""
        if self._masked is None:
            try:
                self._masked = masked_headers(self._config_path, os.environ)
            except ConfigError:
                self._masked = {}  # names of headers that say "token" or "secret" are masked anyway
        return secret_headers(self._masked, source)

    def refused_since(self, since_ms: int, source: str = "") -> dict[str, int]:
        """Nobody counted."""
        del since_ms, source
        return {}


def with_books(config_path: str | None, use: Callable[[OfflineBooks], Awaitable[T]]) -> T:
    """Open the journal read-only, use it, close it.

    Raises:
        DaemonUnreachable: A process has the journal open: the daemon, whose socket does not answer.
        JournalError: It cannot be used.
        ConfigError: There is no configuration.
    """
    where = places(config_path)

    async def run() -> T:
        try:
            journal = Journal.open(where.journal, Clock(), read_only=True)
        except JournalLocked as e:
            raise DaemonUnreachable(
                f"a process has the journal open, but no daemon answers on the admin socket ({e.message})",
                "is admin.socket in this configuration the running daemon's?",
            ) from None
        try:
            journal.start(asyncio.get_running_loop())
            letters = DeadLetters(where.dead_letters, journal.mac_key)
            letters.refresh()
            return await use(OfflineBooks(config_path, journal, letters))
        finally:
            journal.close()

    return asyncio.run(run())
