"""[P] Who asked, by which scheme and host: from a proxy's word where the proxy is trusted, else from the connection."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

__all__ = ["Forwarded", "Network", "ProxyTrust", "PublicUrl", "parse_public_url"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_PEERS = 4096
_MAX_CHAIN_BYTES = 1024
_MAX_HOST_BYTES = 255
_AUTHORITY = re.compile(rb"[A-Za-z0-9._~%\[\]:-]{1,255}")


class Forwarded(msgspec.Struct, frozen=True, gc=False):
    """Values of X-Forwarded-For, -Proto and -Host as backends get them."""

    chain: bytes
    proto: bytes
    host: bytes


class PublicUrl(msgspec.Struct, frozen=True):
    """What senders see: everything before the path that reaches us."""

    base: bytes
    proto: bytes
    host: bytes


def parse_public_url(text: bytes) -> PublicUrl:
    """Take a configured public URL apart; a path in it is what a proxy cuts off before us.

    Raises:
        ValueError: When it is no http or https URL with a host, or has a query or a fragment.
    """
    proto, _, rest = text.partition(b"://")
    host, _, _ = rest.partition(b"/")
    if proto not in (b"http", b"https") or not _AUTHORITY.fullmatch(host) or b"?" in rest or b"#" in rest:
        raise ValueError("expected an http or https URL, e.g. https://hooks.example.com")
    return PublicUrl(text.rstrip(b"/"), proto, host)


class ProxyTrust:
    """Decides whose X-Forwarded headers are believed. A peer on our Unix socket is on this machine by permission."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self._peers: dict[str, tuple[bool, bytes]] = {}
        self._plain: dict[tuple[str, bool, bytes], Forwarded] = {}  # what was said of requests that name no proxy

    def read(self, peer: str, secure: bool, headers: Mapping[bytes, bytes], chain: Iterable[bytes] = ()) -> Forwarded:
        """Say who asked.

        Args:
            peer: Address of the connection, or ``unix``.
            secure: Whether it came by TLS on our own listener.
            headers: Lower-case name to first value.
            chain: All values of X-Forwarded-For, when there are several.
        """
        host = headers.get(b"host", b"")
        plain = (
            len(host) <= _MAX_HOST_BYTES
            and b"x-forwarded-for" not in headers
            and b"x-forwarded-proto" not in headers
            and b"x-forwarded-host" not in headers
        )
        if plain:
            said = self._plain.get((peer, secure, host))
            if said is not None:
                return said
        found = self._read(peer, secure, host, headers, chain)
        if plain:
            if len(self._plain) >= _MAX_PEERS:
                self._plain.clear()  # somebody makes hosts up
            self._plain[(peer, secure, host)] = found
        return found

    def _read(
        self, peer: str, secure: bool, host: bytes, headers: Mapping[bytes, bytes], chain: Iterable[bytes]
    ) -> Forwarded:
        known = self._peers.get(peer)
        if known is None:
            if len(self._peers) >= _MAX_PEERS:
                self._peers.clear()
            known = self._peers[peer] = self._look_at(peer)
        trusted, address = known
        proto = b"https" if secure else b"http"
        if not trusted:
            return Forwarded(address, proto, host)
        said = b", ".join(chain) or headers.get(b"x-forwarded-for", b"")
        if said.isascii() and 0 < len(said) <= _MAX_CHAIN_BYTES:
            address = said + b", " + address if address else said
        said = headers.get(b"x-forwarded-proto", b"").partition(b",")[0].strip().lower()
        if said in (b"http", b"https"):
            proto = said
        said = headers.get(b"x-forwarded-host", b"").partition(b",")[0].strip()
        if _AUTHORITY.fullmatch(said):
            host = said
        return Forwarded(address, proto, host)

    def _look_at(self, peer: str) -> tuple[bool, bytes]:
        if peer == "unix":
            return (True, b"")
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return (False, b"")
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # a dual-stack listener shows IPv4 peers like this
        trusted = any(address.version == network.version and address in network for network in self._networks)
        return (trusted, str(address).encode())
