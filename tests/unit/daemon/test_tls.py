"""The listener's TLS: which files make a context, and how another certificate takes over without touching it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from sidecar.config.settings import TlsFiles
from sidecar.daemon.tls import answer_with, tls_context
from tests.support.certificates import make_certificate


def pair(folder: Path, host: str) -> TlsFiles:
    """A certificate for this name, and its key."""
    folder.mkdir()
    cert, key = make_certificate(folder, host)
    return TlsFiles(str(cert), str(key))


class Connection:
    """One connection between a listener and a client that trusts only one certificate, without sockets."""

    def __init__(self, listening: ssl.SSLContext, trusted: TlsFiles, host: str, *, named: bool = True) -> None:
        client = ssl.create_default_context(cafile=trusted.cert)
        client.set_alpn_protocols(["h2", "http/1.1"])
        client.check_hostname = named
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(back, there, server_hostname=host if named else None)
        self.server = listening.wrap_bio(there, back, server_side=True)
        waiting = [self.client, self.server]
        for _ in range(10):
            for end in list(waiting):
                try:
                    end.do_handshake()
                    waiting.remove(end)
                except ssl.SSLWantReadError:
                    pass
            if not waiting:
                return
        raise AssertionError("the handshake does not end")

    def echo(self, data: bytes) -> bytes:
        """Send it to the listener; what arrives there."""
        self.client.write(data)
        return self.server.read(len(data))


def test_a_pair_is_served_as_http_1_1_and_not_below_tls_1_2(tmp_path):
    files = pair(tmp_path / "a", "a.example")
    context = tls_context(files)
    connection = Connection(context, files, "a.example")
    assert connection.client.selected_alpn_protocol() == "http/1.1"
    assert connection.echo(b"hello") == b"hello"
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_files_that_are_no_pair_are_refused(tmp_path):
    a, b = pair(tmp_path / "a", "a.example"), pair(tmp_path / "b", "b.example")
    text = tmp_path / "text"
    text.write_text("no certificate")
    for cert, key in ((a.cert, b.key), (b.cert, a.key), (str(text), a.key), (a.cert, str(text))):
        with pytest.raises(ssl.SSLError):
            tls_context(TlsFiles(cert, key))
    for cert, key in ((a.cert, "/no/such/file"), ("/no/such/file", a.key)):
        with pytest.raises(FileNotFoundError):
            tls_context(TlsFiles(cert, key))


@pytest.mark.parametrize("named", [True, False], ids=["by name", "without a name"])
def test_new_connections_get_the_certificate_that_took_over_and_old_ones_go_on(tmp_path, named):
    a, b, c = (pair(tmp_path / name, f"{name}.example") for name in "abc")
    listening = tls_context(a)
    old = Connection(listening, a, "a.example", named=named)
    for files, host in ((b, "b.example"), (c, "c.example")):
        answer_with(listening, tls_context(files))
        connection = Connection(listening, files, host, named=named)
        assert connection.echo(b"new") == b"new"
        assert connection.client.selected_alpn_protocol() == "http/1.1"
        with pytest.raises(ssl.SSLCertVerificationError):
            Connection(listening, a, "a.example", named=named)
        assert old.echo(b"old") == b"old"
