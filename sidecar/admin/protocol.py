"""aiohttp's connection handling with our limits: a cap on connections, short lines, fixed answers to garbage.

aiohttp logs a traceback for each malformed request and echoes its bytes; here it is one rate-limited line
and a fixed body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from sidecar.log import get_logger

__all__ = ["CappedServer"]

_LINE_BYTES = 4096
_HEADERS = 32
_KEEPALIVE_S = 15.0  # also the time for a whole request head

_log = get_logger("admin")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class CappedServer(web.Server):
    """Makes a protocol for each connection; at the cap the one that has been idle longest goes."""

    def __init__(self, handler: Handler, max_connections: int) -> None:
        super().__init__(handler)
        self._max_connections = max_connections

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        return _Protocol(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=_KEEPALIVE_S,
            access_log=None,  # type: ignore[arg-type]  # its annotation forgets None, its documentation does not
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
            max_headers=_HEADERS,
            auto_decompress=False,
            lingering_time=2.0,
        )

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection in, and let another go where there are too many."""
        super().connection_made(handler, transport)
        if len(self._connections) > self._max_connections:
            idle = next((c for c in self._connections if not c._request_in_progress), handler)  # noqa: SLF001
            _log.limited("cap", "warning", "too many admin connections", cap=self._max_connections)
            idle.force_close()


class _Protocol(RequestHandler):
    """Answers garbage without a traceback and without an echo."""

    __slots__ = ()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        del args  # aiohttp's own words, with the client's bytes in them
        error = kw.get("exc_info")
        _log.limited("garbage", "warning", "malformed admin request", error=type(error).__name__)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        del message
        self.log_exception(exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer is already on its way")
        code = b"bad_request" if status < 500 else b"internal_error"
        response = web.Response(
            status=status,
            body=b'{"error":{"code":"' + code + b'","message":"the request could not be read"}}\n',
            content_type="application/json",
        )
        response.force_close()
        return response
