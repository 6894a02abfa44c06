"""Who may ask: Host allow-list, cross-site check, token. Knows no HTTP library; the server calls it.

Over the Unix socket the file mode decides and none of this is asked. Over TCP a browser may be on the
other side, sent by any page, so a request for the API must name one of our own hosts (DNS
rebinding), must not come from another site, and must carry the token, which no page can guess.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from urllib.parse import urlsplit

__all__ = ["REQUEST_HEADER", "Failures", "Gate", "host_name", "is_address"]

#: A mutation must carry this header, with any value: a form or an image of a foreign page cannot set it.
REQUEST_HEADER = "Webhook-Sidecar-Request"

_BURST = 10
_REFILL_S = 3.0  # one more guess every so many seconds
_PEERS = 1024


def host_name(host: str) -> str:
    """Take the lower-case name or address out of a Host header; "" when it is not one.

    Args:
        host: ``name``, ``name:port``, ``1.2.3.4:port`` or ``[::1]:port``.
    """
    try:
        parts = urlsplit("//" + host)
        port = parts.port  # raises on a port that is none
    except ValueError:
        return ""
    name = parts.hostname or ""
    rebuilt = f"[{name}]" if ":" in name else name
    if port is not None:
        rebuilt += f":{host.rpartition(':')[2]}"
    # Userinfo, a path, spaces: whatever does not come out as it went in is no Host header of ours.
    return name if rebuilt == host.lower() else ""


def is_address(host: str) -> bool:
    """Whether a Host header is an address and no name, which is what a kubelet sends and no page of a rebound name can."""
    try:
        ipaddress.ip_address(host_name(host))
    except ValueError:
        return False
    return True


class Failures:
    """Counts wrong tokens by address, so that nobody can try many: 10 at once, then one every 3 s."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._peers: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> (guesses left, as of)

    def wait_s(self, peer: str) -> float:
        """Seconds until this address may try again; 0.0 when it may now."""
        left = self._left(peer)
        return 0.0 if left >= 1.0 else (1.0 - left) * _REFILL_S

    def count(self, peer: str) -> None:
        """A wrong token came from this address."""
        key = _network(peer)
        self._peers[key] = (self._left(peer) - 1.0, self._clock_s())
        self._peers.move_to_end(key)
        if len(self._peers) > _PEERS:
            self._peers.popitem(last=False)

    def _left(self, peer: str) -> float:
        left, as_of = self._peers.get(_network(peer), (float(_BURST), 0.0))
        return min(float(_BURST), left + (self._clock_s() - as_of) / _REFILL_S)


def _network(peer: str) -> str:
    """One IPv6 host owns at least a /64, so addresses inside it count as one."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


class Gate:
    """Decides about requests that came over TCP for the API or a reload."""

    def __init__(self, token: str | None, hosts: Collection[str], clock_s: Callable[[], float]) -> None:
        """Make a gate.

        Args:
            token: The configured token; None makes a fresh one.
            hosts: Names a Host header may carry besides the loopback ones, lower case, without port.
            clock_s: A monotonic clock.
        """
        self.token = token or secrets.token_urlsafe(32)
        self._digest = _digest(self.token)
        self._hosts = frozenset({"localhost", "127.0.0.1", "::1", *hosts})
        self._failures = Failures(clock_s)

    def __repr__(self) -> str:
        return "Gate()"

    def is_our_host(self, host: str | None, local_address: str) -> bool:
        """Say whether a Host header names us.

        Args:
            host: The header as received; None when there was none.
            local_address: The address of ours that the connection reached. A literal of it is fine: an
                attacker who rebinds DNS always comes with a name.
        """
        name = host_name(host) if host is not None else ""
        return bool(name) and (name in self._hosts or name == _plain(local_address))

    def is_same_site(self, headers: Mapping[str, str]) -> bool:
        """Say whether a browser sent this from our own page, or no browser did.

        Source: Fetch Metadata Request Headers (W3C), RFC 6454 (Origin).
        """
        if headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            return False
        origin = headers.get("Origin")
        if origin is None:
            return True
        scheme, _, rest = origin.partition("://")
        return scheme in {"http", "https"} and rest.lower() == headers.get("Host", "").lower()

    def wait_s(self, peer: str) -> float:
        """Seconds until this address may try a token again; 0.0 when it may now."""
        return self._failures.wait_s(peer)

    def knows(self, authorization: str | None, peer: str) -> bool:
        """Say whether an Authorization header carries the token; a wrong one counts against its address.

        Ensures: the time taken does not depend on where the token differs, nor on its length.
        """
        kind, _, given = (authorization or "").partition(" ")
        right = hmac.compare_digest(_digest(given.strip()), self._digest)
        if right and kind.lower() == "bearer":
            return True
        if authorization is not None:  # asking without a token is no guess
            self._failures.count(peer)
        return False


def _digest(token: str) -> bytes:
    """Digest a token of any bytes: those that are no UTF-8 come as lone surrogates, here as from the HTTP library."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _plain(address: str) -> str:
    """An address as it stands in a Host header: no zone, no IPv4-mapped prefix."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if parsed.version == 6 else None
    return str(mapped or parsed)
