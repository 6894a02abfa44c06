"""Asks the running daemon through its admin socket, with the standard library only."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from sidecar.errors import DaemonUnreachable, NotFoundError, SidecarError, UsageError

__all__ = ["Client", "connect", "segment"]

_TIMEOUT_S = 30.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """One daemon's API over its Unix socket; a connection for each call."""

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path

    def get(self, path: str, params: Mapping[str, object] | None = None) -> Any:
        """Ask for one JSON value.

        Args:
            path: ``/api/v1/...``.
            params: Empty values are left out.

        Raises:
            DaemonUnreachable: Nobody answers.
            SidecarError: The daemon refuses; its words, and the exit code that goes with the status.
        """
        return json.loads(self.read(path, params))

    def read(self, path: str, params: Mapping[str, object] | None = None) -> bytes:
        """Ask for a whole body as it is; raises as ``get``."""
        connection, response = self._ask("GET", path + _query(params), None)
        try:
            return self._read(response)
        finally:
            connection.close()

    def post(self, path: str, body: object) -> Any:
        """Command something that answers with one JSON value; raises as ``get``."""
        connection, response = self._ask("POST", path, body)
        try:
            return json.loads(self._read(response))
        finally:
            connection.close()

    def rows(
        self, method: str, path: str, body: object = None, params: Mapping[str, object] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Read a stream of JSON lines until it ends; raises as ``get``, and when the stream breaks off."""
        connection, response = self._ask(method, path + _query(params), body, timeout_s=None)
        try:
            for line in _lines(response):
                row = json.loads(line)
                if row.get("type") == "error":
                    raise SidecarError(row["message"])
                yield row
        finally:
            connection.close()

    def status_of(self, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
        """Ask a probe: (status, text); raises DaemonUnreachable."""
        connection, response = self._open("GET", path, None, timeout_s)
        try:
            return response.status, response.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def _ask(
        self, method: str, path: str, body: object, timeout_s: float | None = _TIMEOUT_S
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection, response = self._open(method, path, body, timeout_s)
        if response.status >= 400:
            try:
                raise _refusal(response.status, self._read(response))
            finally:
                connection.close()
        return connection, response

    def _open(
        self, method: str, path: str, body: object, timeout_s: float | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = _UnixConnection(self.socket_path, timeout_s)
        headers = {"Webhook-Sidecar-Request": "1"} if method == "POST" else {}
        data = json.dumps(body).encode() if method == "POST" else None
        try:
            connection.request(method, path, data, headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise DaemonUnreachable(*_why(self.socket_path, e)) from None

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as e:
            raise DaemonUnreachable(*_why(self.socket_path, e)) from None


def segment(name: str) -> str:
    """Write what somebody named as one segment of a path; bytes that are no UTF-8 stay what they are."""
    return quote(name, safe="", errors="surrogateescape")


def _query(params: Mapping[str, object] | None) -> str:
    given = {k: v for k, v in (params or {}).items() if v not in ("", None, 0)}
    return "?" + urlencode(given, errors="surrogateescape") if given else ""


def connect(config_path: str | None) -> Client:
    """Find the daemon of a configuration; reads its ``admin.socket`` and never a secret.

    Raises:
        ConfigError: There is no configuration, or it is not TOML.
    """
    from sidecar.config.load import admin_socket  # noqa: PLC0415 - not needed by --help

    return Client(admin_socket(config_path, os.environ))


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Split a stream into lines, leaving empty ones out; raises DaemonUnreachable when it breaks off.

    Not by ``readline``: that takes a chunked stream that ends between two chunks for a whole one.
    """
    rest = b""
    while True:
        try:
            data = response.read1(65536)
        except (http.client.HTTPException, OSError):
            raise DaemonUnreachable("the daemon went away in the middle of its answer") from None
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from (line for line in lines if line.strip())


def _why(path: str, error: Exception) -> tuple[str, str]:
    start = "start it with: webhook-sidecar run"
    if isinstance(error, FileNotFoundError):
        return f"no daemon is running: there is no socket {path}", start
    if isinstance(error, ConnectionRefusedError):
        return f"no daemon is running: nobody listens on {path}", start
    if isinstance(error, PermissionError):
        return f"the daemon's socket {path} belongs to another user", "run this as the daemon's user, or with sudo"
    if isinstance(error, TimeoutError):
        return f"the daemon does not answer on {path}", "webhook-sidecar healthcheck; see its log"
    return f"the daemon cannot be reached on {path}: {error}", start


def _refusal(status: int, body: bytes) -> SidecarError:
    try:
        told = json.loads(body)
        message = told["error"]["message"] if "error" in told else "; ".join(told["problems"])
    except (ValueError, KeyError, TypeError):
        message = f"the daemon answered {status}"
    if status == 404:
        return NotFoundError(message)
    if status in {400, 409}:
        return UsageError(message)
    if status == 503:
        return DaemonUnreachable(f"the daemon is not ready: {message}")
    return SidecarError(message)
