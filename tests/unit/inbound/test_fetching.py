"""One document over https: whole, small and soon, from whom we asked, or not at all."""

import asyncio
import datetime as dt
import ssl

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidecar.inbound import fetching
from sidecar.inbound.fetching import MAX_BYTES, Fetcher, check_chain
from sidecar.inbound.keystore import FetchFailed
from sidecar.inbound.verify import Fetch
from tests.support.certificates import make_certificate

NAME = "messageverificationcerts.paypal.com"


class Server:
    """Answers every request with the same bytes over TLS; remembers what was asked."""

    def __init__(self, folder, answer):
        certificate, key = make_certificate(folder, "localhost")
        self.answer, self.asked = answer, []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.trust = ssl.create_default_context(cafile=str(certificate))

    async def _serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        self.asked.append((head, await reader.readexactly(length)))
        writer.write(self.answer)
        await writer.drain()
        writer.close()

    async def get(self, fetch=None, post=b""):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/x"
        fetcher = Fetcher(aiohttp.TCPConnector(ssl=self.trust))
        try:
            return await fetcher.load(Fetch("k", url, post))
        finally:
            await fetcher.close()
            server.close()


def answer(body=b"doc", status=b"200 OK", more=b""):
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n" % (status, len(body), more) + body


async def test_a_document_comes_as_it_is(tmp_path):
    """Not inflated, without cookies; with something to say it is a POST."""
    server = Server(tmp_path, answer(b"\x1f\x8bzipped", more=b"Content-Encoding: gzip\r\nSet-Cookie: a=b\r\n"))
    assert await server.get() == b"\x1f\x8bzipped"
    assert await server.get(post=b'{"key_id":"1"}') == b"\x1f\x8bzipped"
    (first, _), (second, body) = server.asked
    assert first.startswith(b"GET /x HTTP/1.1\r\n")
    assert b"Accept-Encoding: identity\r\n" in first
    assert second.startswith(b"POST /x ")
    assert body == b'{"key_id":"1"}'
    assert b"Cookie" not in second


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (answer(status=b"404 Not Found"), "status 404"),
        (answer(status=b"302 Found", more=b"Location: https://localhost/\r\n"), "status 302"),
        (answer(b"x" * (MAX_BYTES + 1)), f"more than {MAX_BYTES} bytes"),
        (answer(b"x" * 10)[:-5], "ClientPayloadError"),
        (b"junk\r\n\r\n", "ClientResponseError"),
    ],
)
async def test_anything_but_a_whole_small_200_has_failed(tmp_path, sent, why):
    """With a word that quotes nothing."""
    with pytest.raises(FetchFailed, match=why):
        await Server(tmp_path, sent).get()


async def test_a_stranger_certificate_and_plain_http_have_failed(tmp_path):
    """Before anything is asked."""
    server = Server(tmp_path, answer())
    server.trust = ssl.create_default_context()
    with pytest.raises(FetchFailed, match="Certificate"):
        await server.get()
    assert server.asked == []
    fetcher = Fetcher()
    with pytest.raises(FetchFailed, match="not https"):
        await fetcher.get("http://localhost/")
    await fetcher.close()


async def test_a_chain_is_checked_where_one_is_wanted(monkeypatch):
    """A document that is no chain is none."""
    fetcher = Fetcher()

    async def get(url, post=b""):
        return b"junk"

    monkeypatch.setattr(fetcher, "get", get)
    assert await fetcher.load(Fetch("k", "https://k")) == b"junk"
    with pytest.raises(FetchFailed, match="chain"):
        await fetcher.load(Fetch("k", "https://k", chain=NAME))
    session = Fetcher()._open()
    assert not session.trust_env
    await session.close()


def issue(subject, issuer_name, issuer_key, key, *, ca, names=()):
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )  # fmt: skip
    builder = builder.add_extension(
        x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), critical=True
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, SHA256()).public_bytes(Encoding.PEM)


def test_a_chain_leads_from_the_name_to_a_trusted_authority(tmp_path, monkeypatch):
    """Another name, another authority, and a missing link are refused."""
    root, middle, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root_pem = issue("root", "root", root, root, ca=True)
    middle_pem = issue("middle", "root", root, middle, ca=True)
    leaf_pem = issue("leaf", "middle", middle, leaf, ca=False, names=[NAME])
    (tmp_path / "ca.pem").write_bytes(root_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    check_chain(leaf_pem + middle_pem, NAME)
    with pytest.raises(FetchFailed, match="not trusted"):
        check_chain(leaf_pem + middle_pem, "api.paypal.com")
    with pytest.raises(FetchFailed, match="not trusted"):
        check_chain(leaf_pem, NAME)
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ca.pem").write_bytes(issue("root", "root", other, other, ca=True))
    with pytest.raises(FetchFailed, match="not trusted"):
        check_chain(leaf_pem + middle_pem, NAME)


def test_a_machine_without_authorities_is_told_so(monkeypatch):
    """Instead of refusing every chain without a word."""

    class Nothing:
        def get_ca_certs(self, *, binary_form):
            return []

    monkeypatch.setattr(fetching.ssl, "create_default_context", Nothing)
    with pytest.raises(FetchFailed, match="SSL_CERT_FILE"):
        check_chain(b"", NAME)
