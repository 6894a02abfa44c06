"""``send``: a webhook as its provider would send it, signed with the source's own secret."""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import ssl
from typing import Any

import click

from sidecar.cli.options import config_option, json_option
from sidecar.cli.output import emit, say
from sidecar.errors import ConfigError, DaemonUnreachable, NotFoundError, SidecarError

__all__ = ["send"]

_MASK = "****"
_LONG_AGO_MS = 3_600_000


@click.command("send")
@click.option("--source", metavar="SOURCE", required=True, help="Name of a configured source.")
@click.option("--file", "path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True),
              help="The body, byte for byte; - reads stdin. [default: the preset's sample]")  # fmt: skip
@click.option(
    "--count", default=1, show_default=True, type=click.IntRange(1), help="So many, each with an id of its own."
)
@click.option("--duplicate", is_flag=True, help="Send each twice: the second one is a duplicate.")
@click.option("--stale", is_flag=True, help="With a timestamp of an hour ago: expects 401 where it is signed.")
@click.option("--bad-signature", is_flag=True, help="With a wrong signature: expects 401.")
@click.option("--header", "-H", "extra", multiple=True, metavar="NAME:VALUE", help="A further header; repeatable.")
@json_option
@config_option
def send(
    config_path: str | None,
    *,
    source: str,
    path: str | None,
    count: int,
    duplicate: bool,
    stale: bool,
    bad_signature: bool,
    extra: tuple[str, ...],
    as_json: bool,
) -> None:
    """Sign like the provider of a source and post to the running daemon; shows what was sent and what came back.

    Exit 1 when an answer is not the expected one: 2xx, or 401 with --bad-signature or --stale.
    """
    more = [_header(h) for h in extra]
    body = None
    if path is not None:
        with click.open_file(path, "rb") as f:
            body = f.read()
    sender = _Sender(config_path, source, more, stale=stale, bad_signature=bad_signature)
    unexpected = 0
    for _ in range(count):
        unique_id = secrets.token_hex(12)
        for _ in range(2 if duplicate else 1):
            result = sender.send(unique_id, body)
            unexpected += not result["expected"]
            emit(result) if as_json else _show(result)
    if unexpected:
        answers = "answer was" if unexpected == 1 else "answers were"
        raise SidecarError(
            f"{unexpected:,} {answers} not as expected", "the log, and status, have the reason of a refusal"
        )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not (colon and name and name.isascii() and name.isprintable()) or any(mark in value for mark in "\r\n\0"):
        raise click.UsageError(f'--header: got "{text}"; expected NAME:VALUE in one line, the name in ASCII')
    return name, value


def _show(result: dict[str, Any]) -> None:
    say(f"--> {result['method']} {result['path']}  {result['body_bytes']:,} bytes")
    for name, value in result["sent"]:
        say(f"    {name}: {value}")
    say(f"<-- {result['status']} {result['answer']}{'  (replayed)' if result['replayed'] else ''}")
    if result["event_id"]:
        say(f"    event {result['event_id']}")


class _Sender:
    """One source's way of sending."""

    def __init__(
        self, config_path: str | None, source: str, extra: list[tuple[str, str]], *, stale: bool, bad_signature: bool
    ) -> None:
        from sidecar.clock import Clock  # noqa: PLC0415 - not needed by --help
        from sidecar.config.load import load_settings  # noqa: PLC0415
        from sidecar.inbound.handshake_book import HandshakeBook  # noqa: PLC0415
        from sidecar.inbound.verify import PRESETS, active_secrets  # noqa: PLC0415

        settings = load_settings(config_path, env=os.environ)
        found = {s.name: s for s in settings.sources}
        if source not in found:
            raise NotFoundError(f'no source "{source}"', f"there are: {', '.join(sorted(found))}")
        self._source = found[source]
        self._preset = PRESETS.get(self._source.preset)
        self._server = settings.server
        self._clock = Clock()
        self._extra = extra
        self._stale = stale
        self._bad = bad_signature
        learned = HandshakeBook(settings.journal.path, self._clock).secrets(source)
        active = active_secrets((*self._source.secrets, *learned), self._clock.wall_ms())
        verifier = self._source.verifier
        if verifier.unverified and (stale or bad_signature):
            raise click.UsageError(f"source {source} is not verified: there is nothing to get wrong.")
        if not verifier.unverified and not verifier.can_sign:
            raise ConfigError(
                f"source {source}: its scheme is made by the provider's private key; nobody else can sign"
            )
        if not active and not verifier.unverified:
            raise ConfigError(f"source {source} has no active secret", "webhook-sidecar check")
        self._secret = active[0] if active else None

    def send(self, unique_id: str, body: bytes | None) -> dict[str, Any]:
        """Send one request."""
        from sidecar.inbound.verify import Secret, sample_body, signed_body  # noqa: PLC0415
        from sidecar.inbound.verify.bespoke import KeyedVerifier  # noqa: PLC0415

        if body is None:
            body = (
                sample_body(self._preset, unique_id, self._now_ms())
                if self._preset is not None
                else b'{"id":"%s"}' % unique_id.encode()
            )
        if self._secret is not None:
            body = signed_body(self._source.verifier, body, self._secret, self._now_ms())
            if self._bad and isinstance(self._source.verifier, KeyedVerifier):
                body = signed_body(self._source.verifier, body, Secret("wrong", b"00" * 32), self._now_ms())
        method = "POST" if b"POST" in self._source.methods else min(self._source.methods).decode()
        path = self._source.path.decode("latin-1")
        headers = self._headers(unique_id, body, method)
        connection = self._connect()
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name.decode("latin-1"), value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            answer = response.read(65_536)
        except (OSError, http.client.HTTPException) as e:
            raise DaemonUnreachable(f"{self._server.listen} does not answer: {e}", "webhook-sidecar run") from None
        finally:
            connection.close()
        refused = self._bad or (self._stale and self._is_refused(method, headers, body))
        masked = self._source.verifier.masked
        return {
            "method": method,
            "path": path,
            "body_bytes": len(body),
            "sent": [[n.decode("latin-1"), _MASK if n.lower() in masked else v.decode("latin-1")] for n, v in headers],
            "status": response.status,
            "answer": answer[:1024].decode("utf-8", "backslashreplace").strip(),
            "event_id": response.headers.get("Webhook-Sidecar-Event-Id"),
            "replayed": response.headers.get("Idempotent-Replayed") == "true",
            "expected": response.status == 401 if refused else 200 <= response.status < 300,
        }

    def _is_refused(self, method: str, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Whether the source itself refuses what is sent: where no time is signed, an old one changes nothing."""
        from sidecar.inbound.verify import Rejected, Request  # noqa: PLC0415

        source = self._source
        lower = {name.lower(): value for name, value in headers}
        request = Request(method.encode(), source.path, b"", lower, body, self._url())
        secrets = (self._secret,) if self._secret is not None else ()
        return isinstance(source.verifier.verify(request, secrets, self._clock.wall_ms()), Rejected)

    def _url(self) -> bytes | None:
        source = self._source
        return source.public_url + source.path if source.public_url is not None else None

    def _now_ms(self) -> int:
        """The moment to sign at."""
        now_ms = self._clock.wall_ms()
        return now_ms - max(_LONG_AGO_MS, 2 * (self._source.verifier.tolerance_ms or 0)) if self._stale else now_ms

    def _headers(self, unique_id: str, body: bytes, method: str) -> list[tuple[bytes, bytes]]:
        from sidecar.inbound.verify import Secret, sign_request  # noqa: PLC0415

        source, now_ms = self._source, self._now_ms()

        def signed(secret: Secret, over: bytes) -> list[tuple[bytes, bytes]]:
            return sign_request(
                source.verifier, secret, over, now_ms,
                preset=self._preset, unique_id=unique_id, extra=self._extra, method=method, path=source.path, url=self._url(),
            )  # fmt: skip

        secret = self._secret or Secret("none", b"")
        headers = signed(secret, body)
        if not self._bad:
            return headers
        other = signed(secret, body + b" ")  # right in form, for other bytes
        return other if other != headers else signed(Secret("wrong", secrets.token_hex(24).encode()), body)

    def _connect(self) -> http.client.HTTPConnection:
        listen = self._server.listen
        if listen.startswith("unix:"):
            return _UnixConnection(listen.removeprefix("unix:"))
        host, _, port = listen.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104
        if self._server.tls is None:
            return http.client.HTTPConnection(host, int(port), timeout=30)
        context = ssl.create_default_context(cafile=self._server.tls.cert)
        context.verify_flags |= (
            ssl.VERIFY_X509_PARTIAL_CHAIN
        )  # it is ours, whoever signed it: nothing above it is needed
        context.check_hostname = False  # the certificate is for the public name; we dial the listener beside us
        return http.client.HTTPSConnection(host, int(port), timeout=30, context=context)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
