"""Keys from the network over real TLS: fetched when needed, answered from cache, 503 when they cannot be had."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.certificates import make_certificate
from tests.support.daemon import Daemon, eventually

KEYS = {kid: rsa.generate_private_key(65537, 2048) for kid in ("one", "two")}


def jwks(*kids: str) -> bytes:
    rows = [json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEYS[k].public_key())) | {"kid": k} for k in kids]
    return json.dumps({"keys": rows}).encode()


def bearer(kid: str, sign_with: str = "") -> dict[str, str]:
    claims = {"iss": "me", "iat": int(time.time()), "exp": int(time.time()) + 300}
    token = jwt.encode(claims, KEYS[sign_with or kid], "RS256", headers={"kid": kid})
    return {"Authorization": f"Bearer {token}"}


class KeyServer:
    """Publishes keys over https, and counts who asks."""

    def __init__(self, folder: Path) -> None:
        certificate, key = make_certificate(folder, "localhost")
        self.ca = certificate
        self.status, self.body, self.asked, self.headers = 200, jwks("one"), 0, {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.headers = dict(self.headers)
                self.send_response(outer.status)
                if outer.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_port}/jwks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyServer]:
    server = KeyServer(tmp_path)
    yield server
    server.server.shutdown()
    server.server.server_close()


def config(keys: KeyServer) -> str:
    return f"""
[sources.jwt]
path = "/jwt"
verify = {{ scheme = "jwt", issuers = ["me"], jwks_url = "{keys.url}" }}
destinations = ["app"]
[destinations.app]
url = "http://127.0.0.1:9/"
"""


def test_published_keys_are_fetched_cached_and_survive_their_server(tmp_path: Path, keys: KeyServer) -> None:
    """Once for many requests; an outage of the server is not noticed; an unknown key asks no second time at once."""
    with Daemon(tmp_path, config(keys), env={"SSL_CERT_FILE": str(keys.ca)}) as daemon:
        for _ in range(5):
            assert daemon.post("/jwt", b"{}", bearer("one"))[0] == 200
        assert keys.asked == 1
        assert keys.headers["Accept-Encoding"] == "identity"
        keys.status = 500
        assert daemon.post("/jwt", b"{}", bearer("one"))[0] == 200
        for _ in range(5):
            assert daemon.post("/jwt", b"{}", bearer("two"))[0] == 401
        assert daemon.post("/jwt", b"{}", bearer("one", sign_with="two"))[0] == 401
        assert keys.asked == 1, "strangers' key ids within a minute of a fetch cause none"
        failures = {
            labels["reason"]: value
            for labels, value in daemon.scrape().rows("verification_failures_total")
            if labels["source"] == "jwt" and value
        }
        assert failures == {"unknown_key": 5, "wrong_secret": 1}


@pytest.mark.parametrize("trouble", ["status", "redirect", "size", "certificate"])
def test_keys_that_cannot_be_had_are_503_and_not_401(tmp_path: Path, keys: KeyServer, trouble: str) -> None:
    """Whatever it is that keeps us from them; nothing is accepted and nothing followed."""
    env = {"SSL_CERT_FILE": str(keys.ca)}
    if trouble == "status":
        keys.status = 404
    elif trouble == "redirect":
        keys.status = 302
    elif trouble == "size":
        keys.body = jwks("one") + b" " * 70_000
    else:
        other = tmp_path / "other"
        other.mkdir()
        env = {"SSL_CERT_FILE": str(make_certificate(other, "localhost")[0])}
    with Daemon(tmp_path, config(keys), env=env) as daemon:
        status, headers, body = daemon.post("/jwt", b"{}", bearer("one"))
        assert (status, json.loads(body)["error"]["code"]) == (503, "keys_unavailable")
        assert headers["retry-after"] == "5"
        asked = keys.asked
        for _ in range(10):
            assert daemon.post("/jwt", b"{}", bearer("one"))[0] == 503
        assert keys.asked == asked, "a failure is not tried again at once"
        assert eventually(lambda: daemon.logged("a key could not be fetched"))
        assert daemon.last_seq == 0
