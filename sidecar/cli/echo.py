"""The echo backend of ``run --with-echo``: prints each webhook it gets and answers 200. For a first try, not for load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from sidecar.admin.views import mask_headers, mask_query
from sidecar.cli.output import say
from sidecar.errors import SidecarError
from sidecar.log import safe_text

__all__ = ["Echo"]

_MAX_HEAD = 64 << 10
_MAX_BODY = 64 << 20
_SHOWN_BODY = 2048
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"


class Echo:
    """A small HTTP/1.1 server on a loopback address."""

    def __init__(
        self, address: str, write: Callable[[str], None] = say, *, masked: Collection[bytes] = frozenset()
    ) -> None:
        """Prepare.

        Args:
            address: ``host:port``.
            write: Gets what is shown.
            masked: Lower-case names of the headers that carry a secret of the configuration.
        """
        self.address = address
        self._write = write
        self._masked = masked
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            SidecarError: The address cannot be bound.
        """
        host, _, port = self.address.rpartition(":")
        try:
            self._server = await asyncio.start_server(
                self._serve, host.strip("[]") or "127.0.0.1", int(port), limit=_MAX_HEAD
            )
        except (OSError, ValueError) as e:
            raise SidecarError(f"--with-echo: cannot listen on {self.address}: {e}", "name another address") from None
        bound = self._server.sockets[0].getsockname()
        self.address = f"{bound[0]}:{bound[1]}"
        self._show(f"echo backend on http://{self.address}")

    def _show(self, text: str) -> None:
        """Write it, if anybody reads; a webhook is answered all the same, else it would come again and again."""
        with contextlib.suppress(OSError, SidecarError):
            self._write(text)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the other side went away, or speaks something else
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        request, *lines = head[:-4].split(b"\r\n")
        pairs = [(n, v.strip()) for n, _, v in (line.partition(b":") for line in lines)]
        headers = {n.lower(): v for n, v in pairs}
        body = await _read_body(reader, headers)
        self._show(_shown(request, pairs, headers, body, self._masked))
        writer.write(_ANSWER)
        await writer.drain()
        return headers.get(b"connection", b"").lower() != b"close"


async def _read_body(reader: asyncio.StreamReader, headers: dict[bytes, bytes]) -> bytes:
    if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
        return await reader.readexactly(min(int(headers.get(b"content-length", b"0")), _MAX_BODY))
    body = b""
    while n := int((await reader.readline()).partition(b";")[0], 16):
        body += await reader.readexactly(min(n, _MAX_BODY - len(body)))
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass
    return body


def _shown(
    request: bytes,
    pairs: list[tuple[bytes, bytes]],
    headers: dict[bytes, bytes],
    body: bytes,
    masked: Collection[bytes],
) -> str:
    method, target, *_ = [*request.split(b" "), b"", b""]
    path, question, query = target.partition(b"?")
    where = safe_text(path.decode("latin-1"), 512) + (f"?{mask_query(query)}" if question else "")
    about = {
        name: headers.get(b"webhook-sidecar-" + name.encode(), b"").decode("latin-1")
        for name in ("event-id", "source", "attempt", "replay", "resigned")
    }
    lines = [f"--> {safe_text(method.decode('latin-1'), 16)} {where}  {len(body):,} bytes"]
    lines.append("    " + "  ".join(f"{n} {safe_text(v, 64)}" for n, v in about.items() if v))
    shown = [(n, v) for n, v in pairs if not n.lower().startswith((b"webhook-sidecar-", b"host", b"content-length"))]
    lines += [f"    {n}: {v[:200]}" for n, v in mask_headers(shown, masked)]
    if body:
        text = body[:_SHOWN_BODY].decode("utf-8", "backslashreplace")
        lines += ["", *(f"    {safe_text(line, _SHOWN_BODY)}" for line in text.splitlines()[:40])]
        if len(body) > _SHOWN_BODY:
            lines.append(f"    ... {len(body) - _SHOWN_BODY:,} more bytes")
    return "\n".join([*lines, ""])
