"""Webhooks as bytes, signed as GitHub signs: everything but the delivery id is made in advance, so sending costs little.

The delivery id is not covered by GitHub's signature, so one signature serves for any number of distinct events.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os

__all__ = ["PATH", "SECRET", "SENT_AT", "Webhooks", "body_of"]

PATH = "/webhooks/github"
SECRET = "bench"
SENT_AT = b"X-Bench-Sent-At: "  # CLOCK_MONOTONIC in ns; passed on to backends, which tell the way's time from it

_SMALL = 64 << 10  # a larger body is handed to the kernel beside its head, not copied behind it


def body_of(size: int) -> bytes:
    """A JSON body of exactly so many bytes (at least 40)."""
    frame = json.dumps({"action": "opened", "pad": ""})
    return json.dumps({"action": "opened", "pad": "x" * (size - len(frame))}).encode()


class Webhooks:
    """An endless supply of requests.

    Args:
        host: Host header, with port.
        path: Where to.
        size: Bytes of the body.
        signing: ``good``, ``bad`` (a wrong signature of the right form) or ``none``.
        duplicates: Share of requests that repeat the delivery id of the one before, 0.0 to 1.0.
    """

    def __init__(self, host: str, path: str, size: int, *, signing: str = "good", duplicates: float = 0.0) -> None:
        body = body_of(size)
        key = SECRET if signing == "good" else "not the secret"
        digest = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
        signature = "" if signing == "none" else f"X-Hub-Signature-256: sha256={digest}\r\n"
        self._before = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: GitHub-Hookshot/044aadd\r\nAccept: */*\r\n"
            f"Content-Type: application/json\r\nX-GitHub-Event: issues\r\n{signature}X-GitHub-Delivery: {os.urandom(8).hex()}-"
        ).encode()
        self._after = f"\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self._large = [body] if len(body) > _SMALL else []
        if not self._large:
            self._after += body
        self._every = round(1 / duplicates) if duplicates else 0
        self._n = 0

    def next(self, sent_at_ns: int) -> list[bytes]:
        """The next request, in pieces."""
        self._n = n = self._n + 1
        if self._every and n % self._every == 0:
            n -= 1
        head = b"%b%d\r\n%b%d%b" % (self._before, n, SENT_AT, sent_at_ns, self._after)
        return [head, *self._large]
