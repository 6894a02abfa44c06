"""``/`` of the admin listener: what is to be had here, for a person who follows the link that ``run`` shows."""

from __future__ import annotations

__all__ = ["FRONT"]

#: Says nothing that a stranger could not know; the token stands in the link behind ``#``, which no browser sends.
FRONT = """\
This is the admin listener of webhook-sidecar. A console is not part of it yet.

Without a token:
  /metrics                      for Prometheus
  /livez  /readyz  /startupz    probes; ?verbose lists their checks

With the token, which is `admin.token` of the configuration, or what follows #token= in the link that
`webhook-sidecar run` shows on a terminal:
  /api/v1/status                how everything is doing
  /api/v1/events                what came, and what became of it
  /api/v1/dead-letters          what could not be delivered

  curl -H 'Authorization: Bearer TOKEN' http://HOST:PORT/api/v1/status

On this machine the commands need no token: webhook-sidecar status, tail, events ls, dlq ls.
"""
