"""The admin listeners: aiohttp's low-level server on a TCP socket and on a Unix socket, with our own gate in front.

The order is fixed: connection cap, framing and size limits (aiohttp's C parser, then ours), path, Host,
cross-site, token, method, header, body. Errors are fixed JSON; nothing a client sends is echoed or logged.
This is the only module that imports aiohttp.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import http_parser, web
from aiohttp.http import HttpVersion10, HttpVersion11

from sidecar.admin.api import PREFIX, Api
from sidecar.admin.auth import REQUEST_HEADER, Gate, host_name, is_address
from sidecar.admin.front import FRONT
from sidecar.admin.gateway import AdminOptions, Gateway
from sidecar.admin.probes import Probes
from sidecar.admin.protocol import CappedServer
from sidecar.admin.reply import ApiError, Call, Reply, Stream, json_reply, text_reply
from sidecar.errors import SidecarError
from sidecar.listening import Door
from sidecar.log import get_logger, safe_text

__all__ = ["AdminServer"]

_BACKLOG = 64
_MAX_BODY = 256 << 10
_MAX_HEADER_BYTES = 16 << 10
_BODY_S = 10.0
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Server": "webhook-sidecar",  # and not which versions of what it is made of
}
_PROBES = {"/livez", "/readyz", "/startupz"}

_log = get_logger("admin")


class AdminServer:
    """Both sites. ``start`` once, ``close`` once or more."""

    def __init__(self, gateway: Gateway, options: AdminOptions) -> None:
        """Prepare; nothing is bound yet.

        Raises:
            SidecarError: aiohttp has no C parser here; the other one accepts what it should not.
        """
        if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
            raise SidecarError(
                "aiohttp was installed without its C parser", "install a wheel of aiohttp for this platform"
            )
        self._gateway = gateway
        self._options = options
        self._probes = Probes(gateway)
        self._api = Api(gateway)
        self._gate = self._new_gate(options.token)
        self._sites: list[tuple[Door, CappedServer]] = []
        self.addresses: list[str] = []

    # --- life

    @property
    def token(self) -> str:
        """What API and reload need over TCP. A secret."""
        return self._gate.token

    @property
    def front_url(self) -> str:
        """The front page with the token behind ``#``, which no browser sends anywhere; to be shown once, on a terminal."""
        tcp = next((a for a in self.addresses if not a.startswith("unix:")), "")
        host, _, port = tcp.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - to be dialled, not bound
        return f"http://{host}:{port}/#token={self.token}" if tcp else ""

    def alive(self) -> bool:
        """Whether ``/livez`` would say so."""
        return not any(self._probes.live().values())

    def configure(self, token: str | None) -> bool:
        """Take over a changed token; None keeps the one in force if that was made here, else makes a fresh one.

        Returns:
            Whether a fresh one was made, which somebody has to be told.
        """
        if token == self._options.token:
            return False
        self._options = msgspec.structs.replace(self._options, token=token)
        self._gate = self._new_gate(token)
        return token is None

    def _new_gate(self, token: str | None) -> Gate:
        own = host_name(self._options.listen)
        hosts = {*self._options.hosts, own} - {"", "::", "0.0.0.0"}  # noqa: S104 - taken out, not bound
        return Gate(token, hosts, self._gateway.clock.monotonic_s)

    async def start(self) -> None:
        """Bind both sites.

        Raises:
            SidecarError: An address or the socket's path cannot be bound.
        """
        if self._options.socket:
            await self._open(f"unix:{self._options.socket}", trusted=True)
        if self._options.listen:
            await self._open(self._options.listen, trusted=False)

    async def _open(self, listen: str, *, trusted: bool) -> None:
        server = self._web_server(trusted=trusted)
        door = Door(listen, server, backlog=_BACKLOG, mode=0o600 if trusted else 0o660)
        self._sites.append((door, server))
        await door.open()
        self.addresses.append(door.address)

    async def look(self) -> None:
        """See that both sites still accept; to be called twice a second."""
        for door, _ in self._sites:
            await door.look()

    async def close(self, timeout_s: float = 2.0) -> None:
        """Close the sites; answers under way get so long. Safe to call twice."""
        self._api.stop()
        sites, self._sites = self._sites, []
        for door, _ in sites:
            door.close()
        for _, server in sites:
            server.pre_shutdown()
            await server.shutdown(timeout_s)

    def _web_server(self, *, trusted: bool) -> CappedServer:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._handle(request, trusted=trusted)

        return CappedServer(handle, self._options.max_connections)

    # --- one request

    async def _handle(self, request: web.BaseRequest, *, trusted: bool) -> web.StreamResponse:
        try:
            answer = await self._answer(request, trusted=trusted)
            if isinstance(answer, Stream):
                return await _send_stream(request, answer)
        except ApiError as e:
            answer = e.reply()
        except SidecarError as e:
            answer = json_reply({"error": {"code": "failed", "message": safe_text(e.message)}}, 500)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as e:  # noqa: BLE001 - the top of a request; its text might quote what a client sent
            _log.limited("bug", "error", "admin request failed on a bug", error=type(e).__name__)
            answer = json_reply({"error": {"code": "internal_error", "message": "see the log"}}, 500)
        response = web.Response(status=answer.status, body=b"" if request.method == "HEAD" else answer.body)
        response.headers.update(_SECURITY_HEADERS | {"Content-Type": answer.content_type} | dict(answer.headers))
        if answer.status in {400, 408, 413, 417, 421, 431, 505} or not request._payload.is_eof():  # noqa: SLF001
            response.force_close()
            request._protocol._lingering_time = 0.0  # noqa: SLF001 - what is left of the body is not waited for
        return response

    async def _answer(self, request: web.BaseRequest, *, trusted: bool) -> Reply | Stream:
        path, method, headers = self._framing(request), request.method, request.headers
        if path in _PROBES or path == "/metrics":
            _only(method, "GET", "HEAD")
            call = _call(request, path, b"", trusted=trusted)
            return await self._probes.metrics(call) if path == "/metrics" else self._probes.probe(path[1:], call)
        if path == "/-/drain":
            _only(method, "GET", "POST")
            if not trusted:
                self._refuse_pages(request, is_address(request.headers.get("Host", "")))
            return await self._probes.drain(_call(request, path, b"", trusted=trusted))
        if path == "/":
            _only(method, "GET", "HEAD")
            if not trusted:
                self._refuse_pages(request)
            return text_reply(FRONT)
        allowed = ("POST",) if path == "/-/reload" else self._api.allowed(path) if path.startswith(PREFIX) else ()
        if not allowed and not path.startswith(PREFIX):
            raise ApiError(404, "not_found", "no such page")
        if not trusted:
            self._let_in(request)
        if not allowed:
            raise ApiError(404, "not_found", "no such endpoint")
        _only(method, *allowed)
        if method == "POST" and REQUEST_HEADER not in headers:
            raise ApiError(403, "forbidden", f"the header {REQUEST_HEADER} is required")
        call = _call(request, path, await _body(request), trusted=trusted)
        return await self._reload() if path == "/-/reload" else await self._api.answer(call)

    def _framing(self, request: web.BaseRequest) -> str:
        """Refuse what aiohttp lets through and we do not; give the raw path."""
        if request._message.version not in {HttpVersion10, HttpVersion11}:  # noqa: SLF001 - the property would be kept
            request._version = HttpVersion11  # noqa: SLF001 - the answer's own version is made from it
            raise ApiError(505, "http_version", "HTTP/1.1 is spoken here")
        headers = request.headers
        if sum(len(n) + len(v) + 4 for n, v in request.raw_headers) > _MAX_HEADER_BYTES:
            raise ApiError(431, "headers_too_large", "at most 16 KiB of headers")
        coding = headers.getall("Transfer-Encoding", [])
        if coding and (coding != ["chunked"] or request.version == HttpVersion10):
            raise ApiError(400, "bad_framing", "only Transfer-Encoding: chunked, and only in HTTP/1.1")
        if len(headers.getall("Host", [])) > 1:
            raise ApiError(400, "bad_host", "more than one Host header")
        if headers.get("Expect", "100-continue").lower() != "100-continue":
            raise ApiError(417, "expectation_failed", "only 100-continue")
        if (request.content_length or 0) > _MAX_BODY:
            raise ApiError(413, "body_too_large", "at most 256 KiB")
        target = request.raw_path
        if not target.startswith("/"):
            raise ApiError(421, "misdirected", "an absolute target is for another server")
        return target.partition("?")[0]

    def _refuse_pages(self, request: web.BaseRequest, named: bool = False) -> None:
        """Refuse what a page in somebody's browser may have sent: under a name that is not ours, or from another site.

        Args:
            request: One that came over TCP.
            named: Its Host is fine already.
        """
        transport = request.transport
        local = transport.get_extra_info("sockname") if transport is not None else None
        ours = self._gate.is_our_host
        if not named and isinstance(local, tuple) and not ours(request.headers.get("Host"), str(local[0])):
            raise ApiError(421, "misdirected", "this Host is not served here")
        if not self._gate.is_same_site(request.headers):
            raise ApiError(403, "cross_site", "requests from other sites are refused")

    def _let_in(self, request: web.BaseRequest) -> None:
        """Ask what is asked over TCP: our Host, our site, the token."""
        self._refuse_pages(request)
        transport = request.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        address = str(peer[0]) if isinstance(peer, tuple) and peer else "unix"
        if (wait_s := self._gate.wait_s(address)) > 0:
            retry = (("Retry-After", str(int(wait_s) + 1)),)
            raise ApiError(429, "too_many_requests", "too many wrong tokens from this address", retry)
        if not self._gate.knows(request.headers.get("Authorization"), address):
            _log.limited("token", "warning", "admin request without the token", peer=address)
            raise ApiError(401, "unauthorized", "the admin token is required", (("WWW-Authenticate", "Bearer"),))

    async def _reload(self) -> Reply:
        result = await self._gateway.reload()
        return json_reply(msgspec.structs.asdict(result), 200 if result.ok else 422)


def _only(method: str, *allowed: str) -> None:
    if method not in allowed:
        listed = ", ".join(allowed)
        raise ApiError(405, "method_not_allowed", f"only {listed}", (("Allow", listed),))


def _call(request: web.BaseRequest, path: str, body: bytes, *, trusted: bool) -> Call:
    try:
        pairs = parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise ApiError(400, "bad_request", "at most 32 parameters") from None
    headers: Mapping[str, str] = request.headers
    return Call(request.method, path, dict(pairs), headers, body, trusted)


async def _body(request: web.BaseRequest) -> bytes:
    """Read the body whole, within its size and time."""
    if not request.can_read_body:
        return b""
    if "Expect" in request.headers:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_S):
            async for part in request.content.iter_any():
                size += len(part)
                if size > _MAX_BODY:
                    raise ApiError(413, "body_too_large", "at most 256 KiB")
                parts.append(part)
    except TimeoutError:
        raise ApiError(408, "timeout", "the body took too long") from None
    except web.RequestPayloadError:
        raise ApiError(400, "bad_framing", "the body is not framed as it says") from None
    return b"".join(parts)


def _line(row: bytes | dict[str, Any] | None) -> bytes:
    if isinstance(row, bytes):
        return row
    return b"\n" if row is None else msgspec.json.encode(row) + b"\n"


async def _send_stream(request: web.BaseRequest, stream: Stream) -> web.StreamResponse:
    response = web.StreamResponse(headers=_SECURITY_HEADERS | {"Content-Type": "application/x-ndjson"})
    rows: Any = stream.rows
    try:
        await response.prepare(request)
        async for row in rows:
            await response.write(_line(row))
        await response.write_eof()
    except ConnectionError:
        pass  # the reader has gone; what is committed stays
    except SidecarError as e:
        await _end_with_error(response, safe_text(e.message))
    except Exception as e:  # noqa: BLE001 - as in _handle, whose answer would be a second one in the middle of this
        _log.limited("bug", "error", "admin request failed on a bug", error=type(e).__name__)
        await _end_with_error(response, "a bug: see the log")
    finally:
        await rows.aclose()
    return response


async def _end_with_error(response: web.StreamResponse, message: str) -> None:
    """Say in a line of a stream, whose head is out, why it ends here."""
    with contextlib.suppress(ConnectionError):
        await response.write(msgspec.json.encode({"type": "error", "message": message}) + b"\n")
        await response.write_eof()
