"""[P] A destination's URL, taken apart once: whom to dial, what to call it, what to ask for.

Stands between the configuration's text and the HTTP destination. Also says which addresses are never dialled.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

import msgspec

__all__ = ["Target", "denied_reason", "is_address", "parse_url", "request_target"]

PLACEHOLDER = "{path}"
_EXPECTED = 'expected an http, https or unix URL, e.g. "http://orders:8080/hooks"'
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SUN_PATH_BYTES = 107  # sockaddr_un on Linux, less its NUL

_AUTHORITY = re.compile(r"(\[(?P<six>[^\]%]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>[0-9]{0,5}))?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_PLAIN = re.compile(r"[\x21-\x7e]*")  # what may stand in a URL at all: visible ASCII
_UNSAFE = re.compile(rb"[^\x21-\x7e]")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DENIED: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), why)
    for network, why in (
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
        ("fd00:ec2::/32", "cloud metadata"),  # AWS: fd00:ec2::254 and its neighbours (DNS, time)
        ("fd20:ce::254/128", "cloud metadata"),  # Google Cloud
        ("100.100.100.200/32", "cloud metadata"),  # Alibaba Cloud
        ("192.0.0.192/32", "cloud metadata"),  # Oracle Cloud
        ("168.63.129.16/32", "cloud metadata"),  # Azure's platform address
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL means for us.

    Attributes:
        scheme: How to reach it.
        host: Name or address to dial, an IPv6 address without brackets; "" for a Unix socket.
        port: 1 to 65535; 0 for a Unix socket.
        socket: Path of the Unix socket; "" for the others.
        authority: What the Host header says unless the destination has its own ``host``.
        before: Request path up to ``{path}``; all of it when there is none.
        after: Request path behind ``{path}``, and the URL's own query with its "?".
        takes_path: Whether ``{path}`` stands between the two.
        has_query: Whether the URL brings its own query; then the original one is not appended.
    """

    scheme: Literal["http", "https", "unix"]
    host: str = ""
    port: int = 0
    socket: str = ""
    authority: bytes
    before: bytes
    after: bytes = b""
    takes_path: bool = False
    has_query: bool = False


def parse_url(url: str) -> Target:
    """Take a destination's URL apart.

    Args:
        url: ``http://host[:port]/path``, ``https://...`` or ``unix:/socket/path[:/request/path]``; ``{path}`` may
            stand once in the request path.

    Raises:
        ValueError: it is not one we can deliver to. The text says what was expected, without the URL itself, which
            may hold a password.
    """
    if _PLAIN.fullmatch(url) is None:
        raise ValueError("expected visible ASCII only; write other characters as %XX, a host name as xn--...")
    if "#" in url:
        raise ValueError("expected no fragment (#...): it is never sent")
    if "\\" in url:
        raise ValueError('expected no "\\" in a URL')
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in ("http", "https", "unix"):
        raise ValueError(_EXPECTED)
    if scheme == "unix":
        return _parse_unix(rest)
    if not rest.startswith("//"):
        raise ValueError(_EXPECTED)
    end = re.search(r"[/?{]", rest[2:])
    cut = len(rest) if end is None else end.start() + 2
    authority, tail = rest[2:cut], rest[cut:]
    if "@" in authority:
        raise ValueError("expected no user:password@ in a URL; give the destination a header Authorization instead")
    found = _AUTHORITY.fullmatch(authority)
    if found is None or (found["port"] is not None and not 0 < int(found["port"] or 0) < 65536):
        raise ValueError("expected host or host:port (1 to 65535) behind //; an IPv6 address stands in [brackets]")
    host = _host(found["six"], found["host"] or "")
    default = _DEFAULT_PORTS[scheme]
    port = int(found["port"] or default)
    shown = f"[{host}]" if found["six"] is not None else host
    before, after, takes_path, has_query = _parse_request(tail)
    return Target(
        scheme="https" if scheme == "https" else "http",
        host=host,
        port=port,
        authority=(shown if port == default else f"{shown}:{port}").encode(),
        before=before,
        after=after,
        takes_path=takes_path,
        has_query=has_query,
    )


def _host(six: str | None, name: str) -> str:
    if six is not None:
        try:
            address = ipaddress.IPv6Address(six)
        except ValueError:
            raise ValueError("expected an IPv6 address in [brackets]") from None
        host = str(address)
    elif _HOST.fullmatch(name) is None:
        raise ValueError("expected a host name or address behind //")
    else:
        host = name
    why = denied_reason(host)
    if why:
        raise ValueError(f"expected a backend; {host} is a {why} address, which is never dialled")
    return host


def _parse_unix(rest: str) -> Target:
    path, _, tail = rest.partition(":")
    if not path.startswith("/") or path.startswith("//") or path.endswith("/"):
        raise ValueError('expected an absolute socket path, e.g. "unix:/run/app.sock:/hooks"')
    if "{" in path or "}" in path:
        raise ValueError("expected no { or } in the socket's path; {path} belongs behind it: unix:/run/app.sock:{path}")
    if len(path) > _SUN_PATH_BYTES:
        raise ValueError(f"expected a socket path of at most {_SUN_PATH_BYTES} bytes")
    before, after, takes_path, has_query = _parse_request(tail)
    return Target(
        scheme="unix",
        socket=path,
        authority=b"localhost",
        before=before,
        after=after,
        takes_path=takes_path,
        has_query=has_query,
    )


def _parse_request(tail: str) -> tuple[bytes, bytes, bool, bool]:
    """Split what follows the host into (before, after, takes_path, has_query)."""
    path, _, query = tail.partition("?")
    before, hole, after = path.partition(PLACEHOLDER)
    if any(brace in part for part in (before, after, query) for brace in "{}"):
        raise ValueError("expected { and } only in one {path}, in front of any query; write others as %7B and %7D")
    if not hole and not before:
        before = "/"
    if before and not before.startswith("/"):
        raise ValueError('expected a request path that starts with "/" or {path}')
    if query:
        after += "?" + query
    return before.encode(), after.encode(), bool(hole), bool(query)


def request_target(target: Target, path: bytes, query: bytes) -> bytes:
    """Build what stands in the request line.

    Args:
        target: The destination's.
        path: The event's raw path.
        query: The event's raw query without "?"; appended where the URL has none.

    Returns:
        Visible ASCII, starting with "/". What an event brought back from an edited file has in it beyond that (a
        space, a line end) is percent-encoded, so that it can never begin a header of its own.
    """
    if target.takes_path:
        out = target.before + path + target.after
        if out[:1] != b"/":
            out = b"/" + out
    else:
        out = target.before + target.after
    if query and not target.has_query:
        out += b"?" + query
    if _UNSAFE.search(out) is not None:
        out = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], out)
    return out


def is_address(host: str) -> bool:
    """Whether a host is an IP address in its usual form, which no resolver needs to be asked about."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def denied_reason(address: str) -> str:
    """Say why an address must not be dialled: it hands out credentials of the machine we run on.

    Args:
        address: An IP address in text form, perhaps with an IPv6 zone; anything else is not judged.

    Returns:
        ``link-local`` or ``cloud metadata``; "" when it may be dialled. An IPv4 address wrapped into IPv6 (mapped,
        NAT64, 6to4) is judged by what it wraps. Loopback and private addresses are where backends live: allowed.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    return next((why for network, why in _DENIED if ip in network), "")
