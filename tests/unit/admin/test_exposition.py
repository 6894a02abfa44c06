"""``/metrics`` as text."""

from __future__ import annotations

from sidecar.admin.exposition import Exposition
from sidecar.metrics import Metrics


async def test_a_text_is_kept_for_a_second_for_each_form():
    now, refreshed = 0.0, 0
    metrics = Metrics()

    async def refresh() -> None:
        nonlocal refreshed
        refreshed += 1

    exposition = Exposition(metrics, lambda: now)
    first, kind = await exposition.render("", refresh)
    metrics.received_bytes.inc(by=5)
    assert await exposition.render("", refresh) == (first, kind)
    now = 1.0
    second, _ = await exposition.render("", refresh)
    assert b"webhook_sidecar_received_bytes_total 5.0" in second
    assert refreshed == 2


async def test_forms_that_nobody_asks_for_twice_are_not_collected():
    async def refresh() -> None: ...

    exposition = Exposition(Metrics(), lambda: 0.0)
    for n in range(30):
        await exposition.render(f"application/openmetrics-text; version=1.{n}.0", refresh)
    assert len(exposition._rendered) <= 8
