"""Gets one document over https: no redirects, no cookies, no proxy from the environment, small and soon or not at all."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp

from sidecar.inbound.keystore import FetchFailed
from sidecar.inbound.verify import Fetch

__all__ = ["Fetcher"]

MAX_BYTES = 64 * 1024
TIMEOUT = aiohttp.ClientTimeout(total=4.0, connect=3.0, sock_read=3.0)


class Fetcher:
    """The only client that goes out to a provider; makes its session when it is first needed.

    Args:
        connector: Makes the connector; tests bring their own names and certificates.
    """

    def __init__(self, connector: aiohttp.BaseConnector | None = None) -> None:
        self._connector = connector
        self._session: aiohttp.ClientSession | None = None

    async def load(self, fetch: Fetch) -> bytes:
        """Get the document that a scheme names.

        Raises:
            FetchFailed: In every case but a complete 200 of at most ``MAX_BYTES``.
        """
        data = await self.get(fetch.url, fetch.post)
        if fetch.chain:
            await asyncio.to_thread(check_chain, data, fetch.chain)
        return data

    async def get(self, url: str, post: bytes = b"") -> bytes:
        """Ask one address; raises as ``load``."""
        if not url.startswith("https://"):
            raise FetchFailed("not https")
        session = self._open()
        headers = {"Accept-Encoding": "identity", "User-Agent": "webhook-sidecar"}
        if post:
            headers["Content-Type"] = "application/json"
        try:
            async with session.request(
                "POST" if post else "GET", url, data=post or None, headers=headers, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise FetchFailed(f"status {response.status}")
                data = b""
                async for chunk in response.content.iter_chunked(16_384):
                    data += chunk
                    if len(data) > MAX_BYTES:
                        raise FetchFailed(f"more than {MAX_BYTES} bytes")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise FetchFailed(type(error).__name__) from None
        return data

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector or aiohttp.TCPConnector(limit=4, ssl=ssl.create_default_context()),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=TIMEOUT,
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def check_chain(pem: bytes, name: str) -> None:
    """Check that a chain of certificates (the leaf first) leads from a name to an authority that this machine trusts.

    Raises:
        FetchFailed: It does not.
    """
    from cryptography import x509  # noqa: PLC0415 - only sources that need it have it
    from cryptography.x509.verification import PolicyBuilder, Store, VerificationError  # noqa: PLC0415

    roots = ssl.create_default_context().get_ca_certs(binary_form=True)
    if not roots:
        raise FetchFailed("this machine has no file of authorities; set SSL_CERT_FILE")
    try:
        leaf, *others = x509.load_pem_x509_certificates(pem)
        store = Store([x509.load_der_x509_certificate(root) for root in roots])
        PolicyBuilder().store(store).build_server_verifier(x509.DNSName(name)).verify(leaf, others)
    except (ValueError, VerificationError) as error:
        raise FetchFailed(f"its chain is not trusted: {type(error).__name__}") from None
