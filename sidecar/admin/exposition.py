"""``/metrics``: what prometheus-client makes of our metrics, kept for a second so that scrapes cost little."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from sidecar.metrics import Metrics

__all__ = ["Exposition"]

_KEEP_S = 1.0
_MAX_FORMS = 8  # an Accept header chooses among a few forms; whoever sends many is not remembered


class Exposition:
    """Renders the metrics in the form that the scraper asks for."""

    def __init__(self, metrics: Metrics, clock_s: Callable[[], float]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(metrics)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._clock_s = clock_s
        self._rendered: dict[str, tuple[float, bytes]] = {}  # content type -> (when, text)

    async def render(self, accept: str, refresh: Callable[[], Awaitable[None]]) -> tuple[bytes, str]:
        """Give the text and its content type.

        Args:
            accept: The scraper's Accept header; OpenMetrics where it asks for it, else the Prometheus text format.
            refresh: Brings gauges up to date that take a look into the journal; not asked when a text is kept.
        """
        encode, content_type = choose_encoder(accept)
        at_s, text = self._rendered.get(content_type, (float("-inf"), b""))
        if self._clock_s() - at_s >= _KEEP_S:
            await refresh()
            text = encode(self._registry)
            if len(self._rendered) >= _MAX_FORMS:
                self._rendered.clear()
            self._rendered[content_type] = (self._clock_s(), text)
        return text, content_type
