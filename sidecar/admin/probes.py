"""Probes, metrics and drain: asked by kubelet and Prometheus by Pod IP, so without token and Host check.

A probe never looks at a backend: that one is down is what the journal is for, and a startup probe that
waited for it would deadlock the Pod.
"""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.admin.exposition import Exposition
from sidecar.admin.filters import FilterError, parse_duration_s
from sidecar.admin.gateway import Gateway
from sidecar.admin.reply import ApiError, Call, Reply, json_reply, text_reply

__all__ = ["DRAIN_HEADER", "Probes"]

#: Without it any page, or a request forged through another service, could stop us.
DRAIN_HEADER = "Webhook-Sidecar-Drain"

_BEAT_S = 5.0
_STUCK_S = 30.0
_MAX_WAIT_S = 3600.0

Checks = Mapping[str, str]  # name -> what is wrong, "" when nothing is


class Probes:
    """The endpoints of orchestrators and monitoring."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._exposition = Exposition(gateway.metrics, gateway.clock.monotonic_s)

    def live(self) -> Checks:
        """Whether a restart would help: the loop beats, the writer is not stuck."""
        beat_s = self._gateway.loop_beat_ago_s()
        stuck_s = self._gateway.journal.stats().writer_stuck_s if self._gateway.started else 0.0
        return {
            "event-loop": "" if beat_s < _BEAT_S else f"last beat {beat_s:.0f}s ago",
            "journal-writer": "" if stuck_s < _STUCK_S else f"stuck for {stuck_s:.0f}s",
        }

    def ready(self) -> Checks:
        """Whether a webhook could be made durable now, and more of them are wanted."""
        checks = dict(self.started())
        if checks["startup"]:
            return checks
        stats = self._gateway.journal.stats()
        checks["journal"] = "" if stats.accepting else (stats.refusal or "not accepting")
        checks["drain"] = "draining" if self._gateway.draining else ""
        return checks

    def started(self) -> Checks:
        """Whether the journal is open, recovery is done and the listeners are bound."""
        return {"startup": "" if self._gateway.started else "not finished"}

    def probe(self, name: str, call: Call) -> Reply:
        """Answer a probe: ``ok``, or 503 and each check; with ``?verbose`` each check always."""
        checks = {"livez": self.live, "readyz": self.ready, "startupz": self.started}[name]()
        failed = any(checks.values())
        if not failed and "verbose" not in call.params:
            return text_reply("ok")
        lines = [f"[-]{c} failed: {why}" if why else f"[+]{c} ok" for c, why in checks.items()]
        lines.append(f"{name} check {'failed' if failed else 'passed'}\n")
        return text_reply("\n".join(lines), 503 if failed else 200)

    async def metrics(self, call: Call) -> Reply:
        """The metrics, in the form that is asked for."""
        accept = call.headers.get("Accept", "")
        text, content_type = await self._exposition.render(accept, self._refresh)
        return Reply(200, text, content_type)

    async def drain(self, call: Call) -> Reply:
        """Begin (or extend) a drain and wait for deliveries as long as asked."""
        if DRAIN_HEADER not in call.headers:
            raise ApiError(403, "forbidden", f"the header {DRAIN_HEADER} is required")
        try:
            wait_s = parse_duration_s(call.params.get("wait") or "0s")
        except FilterError as e:
            raise ApiError(400, "bad_request", f"wait: {e}") from None
        if wait_s > _MAX_WAIT_S:
            raise ApiError(400, "bad_request", "wait: expected at most 1h")
        if not self._gateway.started:
            raise ApiError(503, "unavailable", "still starting")
        left = await self._gateway.drain(wait_s)
        return json_reply({"draining": self._gateway.draining, "left": left})

    async def _refresh(self) -> None:
        if self._gateway.started:
            await self._gateway.refresh()
