"""What the daemon is built from: the lanes' own options, and what only the daemon itself needs.

Frozen, complete, and without a trace of the file's syntax. No repr in here shows a secret.
"""

from __future__ import annotations

import ipaddress

import msgspec

from sidecar.config.files import WatchedFile
from sidecar.config.schema import Config
from sidecar.inbound.application import ServerOptions
from sidecar.inbound.source import SourceOptions
from sidecar.journal.types import JournalOptions
from sidecar.log import LogOptions
from sidecar.outbound.deadletter import DeadLetterOptions
from sidecar.outbound.dispatch import DestinationOptions

__all__ = [
    "AdminSettings",
    "DrainSettings",
    "ServerSettings",
    "Settings",
    "TlsFiles",
    "restart_needed",
]

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class TlsFiles(msgspec.Struct, frozen=True):
    """Absolute paths of the PEM files of our own listener."""

    cert: str
    key: str


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The webhook listener.

    Attributes:
        options: Limits and timeouts.
        listen: ``host:port``, ``[::]:port`` or ``unix:/path``.
        tls: None for plain HTTP.
        trusted_proxies: Whose X-Forwarded-* are believed.
    """

    options: ServerOptions
    listen: str
    tls: TlsFiles | None
    trusted_proxies: tuple[IpNetwork, ...]


class AdminSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The admin listener.

    Attributes:
        listen: ``host:port``, ``[::]:port`` or ``unix:/path``.
        socket: Absolute path of the command line's socket.
        token: None: make a fresh one at each start.
    """

    listen: str
    socket: str
    token: bytes | None

    def __repr__(self) -> str:
        token = "set" if self.token is not None else "none"
        return f"AdminSettings(listen={self.listen!r}, socket={self.socket!r}, token={token})"


class DrainSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times of a drain, in seconds."""

    accept_for_s: float
    lease_s: float


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a configuration file says, ready to be used.

    Attributes:
        path: Absolute path of the file.
        max_buffered_bytes: Bodies on their way out, all destinations together.
        warnings: What works and is probably not meant; one sentence each, without secrets.
        watched: Configuration, secret and TLS files, for polling.
        config: The same in the shape of the file, defaults filled in (for ``config show``). A literal secret is in
            it: hand it to nothing but ``describe.render``.
        origins: For keys set by the environment, the variable's name.
    """

    path: str
    server: ServerSettings
    admin: AdminSettings
    drain: DrainSettings
    journal: JournalOptions
    max_buffered_bytes: int
    dead_letters: DeadLetterOptions
    log: LogOptions
    sources: tuple[SourceOptions, ...]
    destinations: tuple[DestinationOptions, ...]
    warnings: tuple[str, ...]
    watched: tuple[WatchedFile, ...]
    config: Config
    origins: dict[str, str]

    def __repr__(self) -> str:
        sources = ", ".join(s.name for s in self.sources)
        destinations = ", ".join(d.name for d in self.destinations)
        return f"Settings(path={self.path!r}, sources=[{sources}], destinations=[{destinations}])"


def restart_needed(old: Settings, new: Settings) -> list[str]:
    """Name the changed keys that a reload cannot take over: they need a restart.

    Everything else is taken over by the next request, attempt or commit.
    """
    pairs: tuple[tuple[str, object, object], ...] = (
        ("server.listen", old.server.listen, new.server.listen),
        ("server.tls", old.server.tls is None, new.server.tls is None),
        ("server.max_connections", old.server.options.max_connections, new.server.options.max_connections),
        ("server.max_buffered", old.server.options.max_buffered_bytes, new.server.options.max_buffered_bytes),
        ("server.header_timeout", old.server.options.header_timeout_s, new.server.options.header_timeout_s),
        ("server.body_timeout", old.server.options.body_timeout_s, new.server.options.body_timeout_s),
        ("server.keepalive_timeout", old.server.options.keepalive_timeout_s, new.server.options.keepalive_timeout_s),
        ("admin.listen", old.admin.listen, new.admin.listen),
        ("admin.socket", old.admin.socket, new.admin.socket),
        ("journal.path", old.journal.path, new.journal.path),
        ("journal.max_size", old.journal.max_size_bytes, new.journal.max_size_bytes),
        ("journal.retention", old.journal.retention_s, new.journal.retention_s),
        ("journal.unsafe_fs", old.journal.unsafe_fs, new.journal.unsafe_fs),
        ("dead_letters.path", old.dead_letters.path, new.dead_letters.path),
        ("dead_letters.max_size", old.dead_letters.max_size_bytes, new.dead_letters.max_size_bytes),
    )
    return [name for name, before, after in pairs if before != after]
