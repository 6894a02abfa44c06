"""What senders of webhooks do, written from their own descriptions and not with our code, and a raw connection."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["Answer", "Raw", "at_once", "framed", "fresh_id", "github", "rss_kib", "slack", "standard", "stripe"]

Headers = dict[str, str]


def github(body: bytes, secret: str, delivery: str = "", event: str = "push") -> Headers:
    """Sign as GitHub does."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-GitHub-Event": event, "X-Hub-Signature-256": f"sha256={digest}"}
    if delivery:
        headers["X-GitHub-Delivery"] = delivery
    return headers


def stripe(body: bytes, *secrets: str, at_s: float | None = None) -> Headers:
    """Sign as Stripe does; with several secrets as while one is being rotated."""
    t = int(time.time() if at_s is None else at_s)
    signatures = [hmac.new(s.encode(), f"{t}.".encode() + body, hashlib.sha256).hexdigest() for s in secrets]
    return {"Stripe-Signature": ",".join([f"t={t}", *(f"v1={s}" for s in signatures)])}


def slack(body: bytes, secret: str, at_s: float | None = None) -> Headers:
    """Sign as Slack does."""
    t = int(time.time() if at_s is None else at_s)
    digest = hmac.new(secret.encode(), f"v0:{t}:".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": str(t), "X-Slack-Signature": f"v0={digest}"}


def standard(body: bytes, secret: str, message: str, at_s: float | None = None) -> Headers:
    """Sign as Standard Webhooks says."""
    t = int(time.time() if at_s is None else at_s)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message}.{t}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message,
        "webhook-timestamp": str(t),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def framed(path: str, body: bytes, headers: Headers, *, method: str = "POST") -> bytes:
    """A whole request as bytes."""
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: t\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Answer:
    """One answer as it came in."""

    status: int
    headers: Headers  # lower-case names
    body: bytes

    @property
    def code(self) -> str:
        """Its error code; "" for an answer that is no error."""
        try:
            return str(json.loads(self.body)["error"]["code"])
        except (ValueError, KeyError, TypeError):
            return ""


class Raw:
    """One connection that sends exactly the bytes it is told to.

    Args:
        address: Port on 127.0.0.1, or path of a Unix socket.
        tls: Speak TLS.
    """

    def __init__(self, address: int | str, *, tls: ssl.SSLContext | None = None, timeout_s: float = 15.0) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout_s)
            self.sock.connect(address)
        else:
            self.sock = socket.create_connection(("127.0.0.1", address), timeout_s)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self._read = b""

    def send(self, data: bytes) -> Self:
        """Send bytes; that the other side has closed meanwhile is no error."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)
        return self

    def answer(self) -> Answer:
        """Read one answer; 100 Continue counts as one."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, rest = self._read.partition(b"\r\n\r\n")
        line, *rows = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (row.partition(":") for row in rows)}
        length = int(headers.get("content-length", "0"))
        self._read = rest
        while len(self._read) < length:
            self._more()
        body, self._read = self._read[:length], self._read[length:]
        return Answer(int(line.split(" ")[1]), headers, body)

    def ends(self) -> bool:
        """Wait for the other side to close; whether it said nothing more before."""
        try:
            while data := self.sock.recv(65536):
                self._read += data
        except ConnectionResetError:
            pass
        return self._read == b""

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"closed without an answer; so far: {self._read[:200]!r}")
        self._read += data

    def close(self) -> None:
        """Close."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do all of these at the same moment, each in a thread; their results in order, the first error raised."""
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []

    def run(n: int) -> None:
        try:
            barrier.wait(30)
            results[n] = calls[n]()
        except BaseException as e:  # noqa: BLE001 - raised in the test's own thread
            errors.append(e)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(calls))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return results


def rss_kib(pid: int) -> int:
    """Anonymous memory of a process, in KiB: what it really needs (the journal's map is page cache)."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def wanted_s(times: int) -> float:
    """Seconds for which a thread has run or waited for a core: what it would have used on an idle machine.

    Args:
        times: Its ``/proc/.../schedstat``, opened before, since there may be no descriptor for it later.

    Source: Documentation/scheduler/sched-stats.rst of Linux.
    """
    ran_ns, waited_ns, _ = os.pread(times, 100, 0).split()
    return (int(ran_ns) + int(waited_ns)) / 1e9


def fresh_id() -> str:
    """An id that no other request has."""
    return os.urandom(8).hex()
