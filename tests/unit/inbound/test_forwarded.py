"""A proxy's word counts where the proxy is trusted; from everybody else it is replaced."""

import ipaddress

import pytest

from sidecar.inbound.forwarded import Forwarded, ProxyTrust, parse_public_url

TRUST = ProxyTrust([ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fd00::/8")])
SAID = {
    b"host": b"10.0.0.1:8787",
    b"x-forwarded-for": b"203.0.113.7",
    b"x-forwarded-proto": b"https",
    b"x-forwarded-host": b"hooks.example.com",
}


def test_a_stranger_is_not_believed():
    """All three are replaced by what the connection shows."""
    assert TRUST.read("198.51.100.1", False, SAID) == Forwarded(b"198.51.100.1", b"http", b"10.0.0.1:8787")
    assert TRUST.read("198.51.100.1", True, {}) == Forwarded(b"198.51.100.1", b"https", b"")
    assert TRUST.read("2001:db8::1", False, SAID).chain == b"2001:db8::1"


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::ffff:127.0.0.1", "fd00::1", "fd00::1%eth0"])
def test_a_trusted_proxy_is_believed_and_appended(peer):
    """IPv4 peers of a dual-stack listener are IPv4 peers."""
    shown = peer.removeprefix("::ffff:").partition("%")[0].encode()
    assert TRUST.read(peer, False, SAID) == Forwarded(b"203.0.113.7, " + shown, b"https", b"hooks.example.com")


def test_a_trusted_proxy_that_says_nothing_is_the_peer():
    """Then connection and Host count."""
    assert TRUST.read("127.0.0.1", True, {b"host": b"h"}) == Forwarded(b"127.0.0.1", b"https", b"h")


def test_a_unix_socket_is_trusted_and_has_no_address():
    """Its permissions say who may connect."""
    assert TRUST.read("unix", False, SAID) == Forwarded(b"203.0.113.7", b"https", b"hooks.example.com")
    assert TRUST.read("unix", False, {}).chain == b""


def test_a_chain_of_several_lines_is_joined():
    """In order, with the peer at its end."""
    read = TRUST.read("127.0.0.1", False, SAID, [b"1.1.1.1", b"2.2.2.2, 3.3.3.3"])
    assert read.chain == b"1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1"


@pytest.mark.parametrize("size", [1, 1024])
def test_a_chain_of_up_to_1024_bytes_is_taken(size):
    """However short."""
    chain = b"1" * size
    assert TRUST.read("127.0.0.1", False, {b"x-forwarded-for": chain}).chain == chain + b", 127.0.0.1"


def test_a_trusted_proxy_may_say_that_the_sender_came_in_the_clear():
    """Though it comes by TLS itself."""
    assert TRUST.read("127.0.0.1", True, {b"x-forwarded-proto": b"http"}).proto == b"http"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-forwarded-for", b"\xff"),
        (b"x-forwarded-for", b"1" * 1025),
        (b"x-forwarded-proto", b"gopher"),
        (b"x-forwarded-proto", b"https\xff"),
        (b"x-forwarded-host", b"a b"),
        (b"x-forwarded-host", b"evil/path"),
        (b"x-forwarded-host", b"user@host"),
        (b"x-forwarded-host", b"x" * 256),
        (b"x-forwarded-host", b""),
    ],
)
def test_junk_from_a_trusted_proxy_is_ignored(name, value):
    """The connection's own word stands for that one."""
    read = TRUST.read("127.0.0.1", False, {**SAID, name: value})
    own = {"for": b"127.0.0.1", "proto": b"http", "host": b"10.0.0.1:8787"}
    got = {"for": read.chain, "proto": read.proto, "host": read.host}
    field = name.decode().rpartition("-")[2]
    assert got[field] == own[field]


def test_the_first_of_several_proxies_speaks_for_proto_and_host():
    """It is the one that the sender talked to."""
    read = TRUST.read("127.0.0.1", False, {b"x-forwarded-proto": b"HTTPS, http", b"x-forwarded-host": b"a.example, b"})
    assert (read.proto, read.host) == (b"https", b"a.example")


def test_an_address_that_is_none_is_not_trusted():
    """Whatever a transport may report."""
    assert TRUST.read("what?", False, SAID) == Forwarded(b"", b"http", b"10.0.0.1:8787")


def test_peers_are_remembered_within_bounds():
    """A scan from many addresses does not grow the memory."""
    trust = ProxyTrust([])
    kept = set()
    for n in range(5000):
        trust.read(f"10.0.{n >> 8}.{n & 255}", False, {})
        kept.add(len(trust._peers))
    assert max(kept) == 4096


def test_what_requests_without_a_proxy_get_is_remembered_within_bounds():
    """By peer, TLS and host, so that none gets another's; hosts that somebody makes up do not pile up."""
    trust = ProxyTrust([])
    seen = {
        repr(trust.read(peer, secure, {b"host": host}))
        for _ in range(2)
        for peer in ("10.0.0.1", "10.0.0.2")
        for secure in (False, True)
        for host in (b"a", b"b")
    }
    assert len(seen) == 8
    kept = set()
    for n in range(5000):
        trust.read("10.0.0.1", False, {b"host": b"%d" % n})
        kept.add(len(trust._plain))
    assert max(kept) == 4096
    for size in (255, 256):
        trust.read("10.0.0.1", False, {b"host": b"x" * size})
    assert max(len(host) for _, _, host in trust._plain) == 255


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-forwarded-for", b"203.0.113.7"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"hooks.example.com"),
    ],
)
def test_what_is_remembered_is_for_requests_that_name_no_proxy(name, value):
    """A proxy's word is for the one request that has it; the next one by the same connection has its own."""
    trust = ProxyTrust([ipaddress.ip_network("127.0.0.0/8")])
    named = trust.read("127.0.0.1", False, {b"host": b"h", name: value})
    plain = trust.read("127.0.0.1", False, {b"host": b"h"})
    assert plain == Forwarded(b"127.0.0.1", b"http", b"h")
    assert trust.read("127.0.0.1", False, {b"host": b"h"}) is plain, "not worked out again"
    assert trust.read("127.0.0.1", False, {b"host": b"h", name: value}) == named != plain


def test_a_public_url_is_taken_apart():
    """With a path, which a proxy cuts off before us."""
    url = parse_public_url(b"https://hooks.example.com/in/")
    assert (url.base, url.proto, url.host) == (b"https://hooks.example.com/in", b"https", b"hooks.example.com")
    assert parse_public_url(b"http://[::1]:8787").host == b"[::1]:8787"
    assert parse_public_url(b"http://h/~").base == b"http://h/~"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hooks.example.com",
        b"ftp://h",
        b"https://",
        b"https://u@h",
        b"https://h/?x",
        b"https://h#x",
        b"https://h/#x",
    ],
)
def test_what_is_no_public_url_is_a_value_error(text):
    """Found when a source is prepared."""
    with pytest.raises(ValueError):
        parse_public_url(text)
