"""What the sample apps share: their command line, and a file where each request they saw becomes a JSON line."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Check = Callable[[bytes, Mapping[str, str]], str]
"""(raw body, headers by lower-case name) -> "" when the SDK accepts, else what it said."""


class Recorder:
    """Appends what an app saw; one write a line, so that a reader never sees half of one."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def saw(self, body: bytes, headers: Mapping[str, str], refusal: str, **more: object) -> None:
        """Write one line.

        Args:
            body: As the app's framework gave it, raw.
            headers: By lower-case name.
            refusal: What the SDK said; "" when it accepted.
            **more: What else the framework found out.
        """
        row = {
            "at_ms": time.time_ns() // 1_000_000,
            "accepted": not refusal,
            "refusal": refusal,
            "body_sha256": hashlib.sha256(body).hexdigest(),
            "headers": {name.lower(): value for name, value in headers.items()},
            **more,
        }
        os.write(self._fd, json.dumps(row).encode() + b"\n")


def arguments() -> argparse.Namespace:
    """Read ``--port``, ``--secret`` and ``--seen`` as every sample app takes them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--seen", required=True, help="file for the JSON lines")
    return parser.parse_args()


def ready(port: int) -> None:
    """Say on stdout that connections are taken from now on."""
    print(f"ready {port}", flush=True)


def serve(options: argparse.Namespace, check: Check) -> None:
    """Run a plain HTTP server that answers 200 when ``check`` accepts and 400 when it does not."""
    recorder = Recorder(options.seen)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            refusal = check(body, headers)
            recorder.saw(body, headers, refusal)
            self.send_response(400 if refusal else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the file tells all."""

    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    ready(server.server_port)
    server.serve_forever()
