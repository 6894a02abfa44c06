"""The admin plane: looks in from the side and never stands between a webhook and its ack.

``server`` (aiohttp: one TCP site, one Unix socket) -> ``auth`` (who may) -> ``probes`` and ``api`` (what is
asked) -> ``queries`` and ``commands`` (the answer) -> ``views`` (how it is shown, with secrets masked).
Everything reaches the rest of the daemon through ``gateway.Gateway``. Only ``server`` imports aiohttp, so
that the command line can use the other modules cheaply when no daemon runs.
"""
