"""The listener's certificate: a pair or an error, and a new one for those who come next."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from sidecar.config.settings import TlsFiles
from sidecar.daemon.tls import answer_with, tls_context
from tests.support.backends import Certificates, make_certificates


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def files(made: Certificates, cert: str, key: str) -> TlsFiles:
    folder = Path(made.ca).parent
    return TlsFiles(cert=str(folder / f"{cert}.pem"), key=str(folder / f"{key}.key"))


def shake_hands(server: ssl.SSLContext, made: Certificates, name: str) -> ssl.SSLObject:
    """A handshake without sockets; the client's side of it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_context = ssl.create_default_context(cafile=made.ca)
    client_context.set_alpn_protocols(["h2", "http/1.1"])
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client


def test_a_certificate_with_the_key_of_another_is_an_error(made: Certificates) -> None:
    """Half a renewal: the one file is new, the other is not yet."""
    with pytest.raises(ssl.SSLError):
        tls_context(files(made, "elsewhere", "good"))
    with pytest.raises(OSError, match="No such file"):
        tls_context(files(made, "missing", "good"))


def test_it_speaks_http_1_1_and_nothing_older_than_tls_1_2(made: Certificates) -> None:
    context = tls_context(files(made, "good", "good"))
    client = shake_hands(context, made, "localhost")
    assert client.selected_alpn_protocol() == "http/1.1"
    assert client.version() in ("TLSv1.2", "TLSv1.3")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_who_comes_next_gets_the_new_certificate(made: Certificates) -> None:
    """Again and again: the last one counts."""
    listening = tls_context(files(made, "good", "good"))
    shake_hands(listening, made, "localhost")
    answer_with(listening, tls_context(files(made, "elsewhere", "elsewhere")))
    shake_hands(listening, made, "example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(listening, made, "localhost")
    answer_with(listening, tls_context(files(made, "good", "good")))
    shake_hands(listening, made, "localhost")
