"""[P] What single parts need of the settings."""

from __future__ import annotations

from sidecar.admin.gateway import AdminOptions, DestinationInfo, SourceInfo
from sidecar.config.settings import Settings
from sidecar.inbound.verify import Fetch

__all__ = ["admin_options", "destinations", "fetches", "names", "routes", "sources", "token"]


def names(settings: Settings) -> tuple[list[str], list[str]]:
    """Names of the sources and of the destinations, for the journal."""
    return [s.name for s in settings.sources], [d.name for d in settings.destinations]


def fetches(settings: Settings) -> list[Fetch]:
    """What the sources surely need from the network, for the key store."""
    return [fetch for source in settings.sources for fetch in source.verifier.fetches or ()]


def routes(settings: Settings) -> dict[str, list[str]]:
    """Destination to the sources whose events it gets, for the dispatcher."""
    return {d.name: [s.name for s in settings.sources if d.name in s.destinations] for d in settings.destinations}


def token(settings: Settings) -> str | None:
    """The admin token as the admin listener compares it; None = a fresh one at each start."""
    value = settings.admin.token
    return value.decode("utf-8", "surrogateescape") if value is not None else None


def admin_options(settings: Settings) -> AdminOptions:
    """Where the admin plane listens and who may ask."""
    return AdminOptions(listen=settings.admin.listen, socket=settings.admin.socket, token=token(settings))


def sources(settings: Settings) -> list[SourceInfo]:
    """The sources as people see them."""
    return [
        SourceInfo(
            name=s.name,
            path=s.path.decode("ascii", "replace"),
            preset=s.preset,
            scheme=_scheme(settings, s.name),
            methods=tuple(sorted(m.decode() for m in s.methods)),
            destinations=s.destinations,
            max_body=s.max_body,
        )
        for s in settings.sources
    ]


def _scheme(settings: Settings, name: str) -> str:
    verify = settings.config.sources[name].verify
    return verify if isinstance(verify, str) else str(verify.get("preset", verify.get("scheme", "")))


def destinations(settings: Settings) -> list[DestinationInfo]:
    """The destinations as people see them."""
    return [DestinationInfo(name=d.name, kind=d.kind, url=d.http.url) for d in settings.destinations]
