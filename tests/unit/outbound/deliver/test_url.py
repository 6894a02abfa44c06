"""What a destination's URL means, and which addresses are never dialled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.outbound.deliver.url import Target, denied_reason, is_address, parse_url, request_target


def test_the_parts_of_an_http_url() -> None:
    """Host, port, path and query, each where it is used."""
    assert parse_url("http://orders:8080/hooks?a=b") == Target(
        scheme="http",
        host="orders",
        port=8080,
        authority=b"orders:8080",
        before=b"/hooks",
        after=b"?a=b",
        has_query=True,
    )


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "authority"),
    [
        ("http://app", "http", "app", 80, b"app"),
        ("HTTP://App:80/", "http", "App", 80, b"App"),
        ("https://app/x", "https", "app", 443, b"app"),
        ("https://app:80/x", "https", "app", 80, b"app:80"),
        ("http://my_service.ns.svc:1/", "http", "my_service.ns.svc", 1, b"my_service.ns.svc:1"),
        ("http://127.0.0.1:3000{path}", "http", "127.0.0.1", 3000, b"127.0.0.1:3000"),
        ("http://[::1]:65535/", "http", "::1", 65535, b"[::1]:65535"),
        ("http://[0:0::1]?x", "http", "::1", 80, b"[::1]"),
        ("unix:/run/app.sock", "unix", "", 0, b"localhost"),
    ],
)
def test_whom_to_dial_and_what_to_call_it(url: str, scheme: str, host: str, port: int, authority: bytes) -> None:
    """The default port is not repeated in the Host header; an address is written in its shortest form."""
    target = parse_url(url)
    assert (target.scheme, target.host, target.port, target.authority) == (scheme, host, port, authority)


@pytest.mark.parametrize(
    ("url", "query", "line"),
    [
        ("http://app", b"", b"/"),
        ("http://app", b"a=1", b"/?a=1"),
        ("http://app/", b"a=1", b"/?a=1"),
        ("http://app/in", b"a=1", b"/in?a=1"),
        ("http://app?x", b"a=1", b"/?x"),
        ("http://app/in?x", b"a=1", b"/in?x"),
        ("http://app/in?", b"a=1", b"/in?a=1"),
        ("http://app{path}", b"", b"/hooks/a"),
        ("http://app{path}", b"a=1", b"/hooks/a?a=1"),
        ("http://app/in{path}/out", b"a=1", b"/in/hooks/a/out?a=1"),
        ("http://app/in{path}?x=y", b"a=1", b"/in/hooks/a?x=y"),
        ("unix:/run/app.sock", b"a=1", b"/?a=1"),
        ("unix:/run/app.sock:/in", b"a=1", b"/in?a=1"),
        ("unix:/run/app.sock:{path}", b"", b"/hooks/a"),
        ("http://app/~me", b"", b"/~me"),
    ],
)
def test_what_stands_in_the_request_line(url: str, query: bytes, line: bytes) -> None:
    """The template gets the path; the original query is appended where the URL has none."""
    assert request_target(parse_url(url), b"/hooks/a", query) == line


def test_the_socket_of_a_unix_url() -> None:
    """Everything up to the next colon; as long as the kernel takes it. Other URLs have none."""
    assert parse_url("unix:/run/app-1.sock:/in").socket == "/run/app-1.sock"
    assert len(parse_url("unix:/run/" + "x" * 102).socket) == 107
    assert parse_url("http://app").socket == ""


def test_a_target_has_no_query_and_no_hole_unless_it_says_so() -> None:
    """Then its path is all there is of it, and the event's query is appended."""
    assert request_target(Target(scheme="http", authority=b"app", before=b"/in"), b"/p", b"q") == b"/in?q"


def test_an_edited_event_cannot_write_lines_of_its_own() -> None:
    """Spaces, line ends and bytes beyond ASCII are percent-encoded; a path without a slash gets one."""
    target = parse_url("http://app{path}")
    assert request_target(target, b"/a b\r\nX: y", b"q=\xff\0") == b"/a%20b%0D%0AX:%20y?q=%FF%00"
    assert request_target(target, b"a", b"") == b"/a"


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_request_target_is_always_one_word(path: bytes, query: bytes) -> None:
    """Whatever an event holds: visible ASCII, beginning with a slash."""
    out = request_target(parse_url("http://app{path}"), path, query)
    assert out.startswith(b"/")
    assert all(0x21 <= byte <= 0x7E for byte in out)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "an http, https or unix URL"),
        ("orders:8080", "an http, https or unix URL"),
        ("ftp://app/", "an http, https or unix URL"),
        ("http:app", "an http, https or unix URL"),
        ("http", "an http, https or unix URL"),
        ("http:///path", "host name"),
        ("http://:80/", "host name"),
        ("http://-app/", "host name"),
        ("http://a!b/", "host name"),
        ("http://app:0/", "1 to 65535"),
        ("http://app:/", "1 to 65535"),
        ("http://app:65536/", "1 to 65535"),
        ("http://app:123456/", "1 to 65535"),
        ("http://app:x/", "1 to 65535"),
        ("http://::1/", "brackets"),
        ("http://[::1/", "brackets"),
        ("http://[fe80::1%25eth0]/", "brackets"),
        ("http://[::g]/", "IPv6"),
        ("http://app/#x", "fragment"),
        ("http://app\\@evil/", "\\"),
        ("http://app/a b", "visible ASCII"),
        ("http://app/\n", "visible ASCII"),
        ("http://bücher/", "visible ASCII"),
        ("http://app/{path}{path}", "{path}"),
        ("http://app/{other}", "{path}"),
        ("http://app/{path", "{path}"),
        ("http://app/?a={path}", "{path}"),
        ("http://{path}", "host name"),
        ("http://169.254.169.254/latest", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://[::ffff:169.254.169.254]/", "link-local"),
        ("https://[fd00:ec2::254]/", "cloud metadata"),
        ("unix:run/app.sock", "absolute socket path"),
        ("unix://run/app.sock", "absolute socket path"),
        ("unix:/run/", "absolute socket path"),
        ("unix:", "absolute socket path"),
        ("unix:/run/{path}", "socket's path"),
        ("unix:/run/a{", "socket's path"),
        ("unix:/run/a}", "socket's path"),
        ("unix:/run/" + "x" * 103, "107 bytes"),
        ("unix:/run/app.sock:in", "starts with"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_what_was_expected(url: str, expected: str) -> None:
    """Every refusal says what would have been right."""
    with pytest.raises(ValueError, match=r"^expected ") as refusal:
        parse_url(url)
    assert expected in str(refusal.value)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    """The text of the refusal may be shown anywhere."""
    with pytest.raises(ValueError, match="user:password") as refusal:
        parse_url("https://admin:hunter2@app/")
    assert "hunter2" not in str(refusal.value)


@given(st.text(max_size=30) | st.builds("http://{}".format, st.text(alphabet="ab:/?[]{}@.%1", max_size=20)))
def test_any_text_is_taken_apart_or_refused(url: str) -> None:
    """ValueError is the one exception, and what is accepted can be asked for."""
    try:
        target = parse_url(url)
    except ValueError:
        return
    assert request_target(target, b"/p", b"").startswith(b"/")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("169.254.169.254", "link-local"),
        ("169.254.0.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("febf::1", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2002:a9fe:a9fe::1", "link-local"),
        ("fd00:ec2::254", "cloud metadata"),
        ("fd20:ce::254", "cloud metadata"),
        ("100.100.100.200", "cloud metadata"),
        ("192.0.0.192", "cloud metadata"),
        ("168.63.129.16", "cloud metadata"),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("10.1.2.3", ""),
        ("100.100.100.201", ""),
        ("169.253.255.255", ""),
        ("fec0::1", ""),
        ("fd00:ec3::254", ""),
        ("64:ff9b::7f00:1", ""),
        ("2001:db8::1", ""),
        ("example.com", ""),
        ("", ""),
    ],
)
def test_which_addresses_are_never_dialled(address: str, why: str) -> None:
    """Where clouds hand out keys, also wrapped into IPv6; loopback and private networks are where backends live."""
    assert denied_reason(address) == why


def test_what_counts_as_an_address() -> None:
    """Only the usual forms; the rest is for the resolver, whose answer is judged."""
    assert [is_address(host) for host in ("127.0.0.1", "::1", "2130706433", "0x7f.1", "localhost")] == [
        True, True, False, False, False,
    ]  # fmt: skip
