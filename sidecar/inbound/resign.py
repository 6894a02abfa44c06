"""Signing a late delivery afresh, so that a backend that checks the time takes it."""

from __future__ import annotations

from sidecar.inbound.forwarded import Forwarded
from sidecar.inbound.sources import Sources
from sidecar.inbound.verify import Headers, Request, active_secrets
from sidecar.model import Event

__all__ = ["Resigner"]


class Resigner:
    """Signs with the secrets of the sources that are in force when the attempt starts."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def resign(self, event: Event, now_ms: int) -> Headers | None:
        """Sign an event for a delivery that would otherwise be refused as too old.

        Args:
            event: As the journal has it; it is not changed.
            now_ms: Wall clock, when the attempt starts.

        Returns:
            Headers that replace those of the same name. None when the original ones still do or nothing can be done:
            within half the tolerance, not verified, no timestamp that we could renew, the source is gone or has no
            active secret.
        """
        source = self._sources.by_name.get(event.source)
        if source is None or not event.verified:
            return None
        verifier = source.verifier
        tolerance_ms = verifier.tolerance_ms
        if tolerance_ms is None or not verifier.can_sign or (now_ms - event.received_at_ms) * 2 <= tolerance_ms:
            return None
        secrets = active_secrets(source.secrets, now_ms)
        if not secrets:
            return None
        headers: dict[bytes, bytes] = {}
        for name, value in event.headers:
            headers.setdefault(name.lower(), value)
        forwarded = Forwarded(b"", event.forwarded_proto, event.forwarded_host)
        url = source.url(forwarded, event.path, event.query)
        request = Request(event.method, event.path, event.query, headers, event.body, url)
        return verifier.sign(request, secrets[0], now_ms) or None
