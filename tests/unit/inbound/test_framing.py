"""The gate: one reading or none."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound import framing
from sidecar.inbound.framing import CHUNKED
from sidecar.inbound.witness import Witness
from sidecar.model import Refusal

LINE = b"POST /hook HTTP/1.1\r\n"
NONE: frozenset[bytes] = frozenset()
R = Refusal


def reads(head: bytes) -> bool:
    return (framing.HEAD.fullmatch(head) or framing.PADDED_HEAD.fullmatch(head)) is not None


# --- the head as bytes


def test_a_head_is_taken_apart() -> None:
    """Method, target and minor version; the match ends behind the empty line."""
    m = framing.HEAD.match(LINE + b"Host: t\r\nX: a b\tc\xff\r\nY:\r\n\r\nbody")
    assert m is not None
    assert m.groups() == (b"POST", b"/hook", b"1")
    assert m.end() == len(LINE) + 26


def test_padding_behind_values_is_seen() -> None:
    """Such a head is read, but not by the pattern that leaves values as they are."""
    for padding in (b" ", b"\t", b" \t "):
        head = LINE + b"X: a" + padding + b"\r\n\r\n"
        assert framing.HEAD.match(head) is None
        assert framing.PADDED_HEAD.fullmatch(head)


@pytest.mark.parametrize("byte", [*range(9), *range(10, 32), 127])
def test_no_control_character_passes_in_a_value(byte: int) -> None:
    """Nothing below a space but the tab, and no DEL."""
    assert not reads(LINE + b"X: a" + bytes([byte]) + b"b\r\n\r\n")


@pytest.mark.parametrize("byte", [*range(33), *b'"(),/:;<=>?@[\\]{}', *range(127, 256)])
def test_only_token_characters_pass_in_a_name(byte: int) -> None:
    """RFC 9110, 5.6.2; a colon ends the name, so here it stands for an empty one."""
    assert not reads(LINE + bytes([byte]) + b"X: a\r\n\r\n") or byte == ord(":")
    assert byte == ord(":") or not reads(LINE + b"X" + bytes([byte]) + b": a\r\n\r\n")
    assert not reads(LINE + b": a\r\n\r\n")


@pytest.mark.parametrize("byte", [*range(33), 35, *range(127, 256)])
def test_only_printable_ascii_passes_in_a_target(byte: int) -> None:
    """And no fragment."""
    assert not reads(b"POST /a" + bytes([byte]) + b"b HTTP/1.1\r\n\r\n")


@given(st.binary(max_size=120))
def test_whatever_passes_the_gate_passes_llhttp_alike(noise: bytes) -> None:
    """Both readers see the same headers and the same end; the gate is never the more generous one."""
    head = LINE + b"X: " + noise + b"\r\n\r\n"
    m = framing.HEAD.match(head) or framing.PADDED_HEAD.match(head)
    if m is None or m.end() != len(head):
        return
    headers = Witness().head(head)
    assert headers is not None
    assert headers[0][1].rstrip(b" \t") == head[len(LINE) :].split(b"\r\n")[0].partition(b":")[2].strip(b" \t")
    assert len(headers) == head.count(b"\r\n") - 2


@given(
    st.lists(
        st.sampled_from([b"A", b"a:", b":", b" ", b"\t", b"\r\n", b"\r", b"\n", b"x", b"\x00", b"\xff"]), max_size=30
    )
)
def test_gate_and_diagnosis_agree(pieces: list[bytes]) -> None:
    """What the gate takes has no fault; a complete head that it does not take has one."""
    head = LINE + b"".join(pieces) + b"\r\n\r\n"
    head = head[: head.index(b"\r\n\r\n") + 4]
    assert isinstance(framing.unread_head(head), Refusal)
    if reads(head):
        assert framing.unread_head(head) is R.BAD_FRAMING  # all single rules passed: only the last doubt is left


def test_time_is_linear_in_the_head() -> None:
    """Hostile heads of 200 kB are refused in well under a second."""
    for raw in (
        LINE + b"a: b\r\n" * 33_000,
        LINE + b"a: " + b" " * 200_000 + b"\x00\r\n\r\n",
        LINE + b"a" * 200_000,
        b"POST " + b"/" * 200_000,
        LINE + b"a: \t" * 50_000 + b"\r\n\x00\r\n\r\n",
    ):
        began = time.perf_counter()
        assert not reads(raw)
        assert isinstance(framing.unread_head(raw), Refusal)
        assert time.perf_counter() - began < 0.5


# --- what is wrong with it


@pytest.mark.parametrize(
    ("raw", "first", "fault"),
    [
        (b"P", True, None),
        (b"POST", True, None),
        (b"POST ", False, None),
        (b"POST /hook HTTP/1.1", True, None),
        (LINE[:-1], True, None),
        (LINE, True, None),
        (LINE + b"X: a\r\nBad Name", True, None),
        (b"", True, R.BAD_REQUEST),
        (b"POSTX", True, R.BAD_REQUEST),
        (b"post ", True, R.BAD_REQUEST),
        (b"\x16\x03\x01", True, R.BAD_REQUEST),
        (b"\x16\x03\x01", False, R.BAD_FRAMING),
        (b"\r\n", True, R.BAD_FRAMING),
        (b"\n", True, R.BAD_FRAMING),
        (b"XX", False, R.BAD_FRAMING),
        (b"POST /hook HTTP/1.1\n", True, R.BAD_FRAMING),
        (b"POST /hook HTTP/1.0\r\n", True, None),
        (b"POST /hook HTTP/2.0\r\n", True, R.HTTP_VERSION),
        (b"POST /hook HTTP/2.1\r\n", True, R.HTTP_VERSION),
        (LINE + b"\tX: a\r\n\r\n", True, R.BAD_FRAMING),
        (b"POST /hook HTTP/1.9\r\n", True, R.HTTP_VERSION),
        (b"POST /hook HTTP/0.9\r\n", True, R.HTTP_VERSION),
        (b"POST /hook\r\n", True, R.HTTP_VERSION),
        (b"POST /hook HTTP/x\r\n", True, R.BAD_REQUEST),
        (LINE + b" X: a\r\n\r\n", True, R.BAD_FRAMING),
        (LINE + b"X : a\r\n\r\n", True, R.BAD_FRAMING),
        (LINE + b"X\r\n\r\n", True, R.BAD_HEADER),
        (LINE + b"Host: t\r\n\r\n", True, R.BAD_FRAMING),
        (b"POST /" + b"x" * 8192, True, R.TARGET_TOO_LONG),
        (LINE + b"X: " + b"y" * 8190, True, R.HEADERS_TOO_LARGE),
        (LINE + (b"X: " + b"y" * 4000 + b"\r\n") * 5, True, R.HEADERS_TOO_LARGE),
    ],
)
def test_faults(raw: bytes, first: bool, fault: Refusal | None) -> None:
    """Each by its own name, and None as long as the rest may still be well-formed."""
    assert framing.unread_head(raw, first=first) is fault


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (b"POST /" + b"x" * 8191 + b" HTTP/1.1\r\n", None),
        (b"POST /" + b"x" * 8192 + b" HTTP/1.1\r\n", R.TARGET_TOO_LONG),
        (LINE + b"X" * 8192 + b"\r\n", None),
        (LINE + b"X" * 8192 + b"\r", None),
        (LINE + b"X" * 8193 + b"\r\n", R.HEADERS_TOO_LARGE),
        (LINE + b"X" * (16384 - 21), R.HEADERS_TOO_LARGE),
        (LINE + b"X" * 8176 + b"\r\n" + b"X" * 8183 + b"\r\n", None),
        (LINE + b"X" * 8176 + b"\r\n" + b"X" * 8184 + b"\r\n", R.HEADERS_TOO_LARGE),
        (LINE + (b"X" * 8000 + b"\r\n") * 2, None),
        (LINE + (b"X" * 8000 + b"\r\n") * 2 + b"X" * 360, R.HEADERS_TOO_LARGE),
    ],
)
def test_sizes(head: bytes, fault: Refusal | None) -> None:
    """8 KiB for a line or the target, 16 KiB for all."""
    assert framing.oversize(head) is fault


def test_simple_requests() -> None:
    """A line without a version is HTTP/0.9; anything else is not."""
    assert framing.is_simple_request(b"GET /x\r\nrest")
    assert not framing.is_simple_request(b"GET /x HTTP/1.1\r\n")
    assert not framing.is_simple_request(b"FOO /x\r\n")


@pytest.mark.parametrize("method", b"POST PUT PATCH GET HEAD DELETE OPTIONS TRACE CONNECT".split())
def test_a_request_of_any_registered_method_is_read(method: bytes) -> None:
    """Which ones a source takes is decided later; a beginning of one is waited for."""
    assert framing.HEAD.fullmatch(method + b" /hook HTTP/1.1\r\n\r\n")
    assert framing.unread_head(method) is None
    assert not framing.HEAD.match(method + b"~ /hook HTTP/1.1\r\n\r\n")


def test_the_limits_are_as_they_are_said() -> None:
    """And no number of bytes can be taken for a chunked body."""
    assert (framing.LINE_LIMIT, framing.HEAD_LIMIT, framing.HEADERS_LIMIT) == (8_192, 16_384, 128)
    assert framing.CHUNKED < 0


def test_a_complete_head_may_have_exactly_16_kib() -> None:
    """Its empty line counts; what is wrong with it comes after its size, and bytes behind it do not count."""
    wrong = LINE + b"X" * 8176 + b"\r\n" + b"Y" * 8181 + b"\r\n\r\n"
    assert len(wrong) == framing.HEAD_LIMIT
    assert framing.unread_head(wrong + b"behind") is R.BAD_HEADER
    assert framing.unread_head(b"POST  /hook" + wrong[10:] + b"behind") is R.HEADERS_TOO_LARGE


def test_bytes_are_the_first_of_a_connection_unless_somebody_says_otherwise() -> None:
    assert framing.unread_head(b"\x16\x03\x01") is R.BAD_REQUEST


# --- headers


def test_first_values_win_and_repeats_are_named() -> None:
    """Names compare without case."""
    assert framing.first_values([(b"A", b"1"), (b"b", b"2"), (b"a", b"3")]) == (
        {b"a": b"1", b"b": b"2"},
        frozenset({b"a"}),
    )


@pytest.mark.parametrize(
    ("length", "coding", "repeated", "minor", "result"),
    [
        (None, None, "", b"1", 0),
        (b"0", None, "", b"1", 0),
        (b"10", None, "", b"0", 10),
        (b"9" * 18, None, "", b"1", 10**18 - 1),
        (b"9" * 19, None, "", b"1", R.BAD_FRAMING),
        (b"00", None, "", b"1", R.BAD_FRAMING),
        (b"", None, "", b"1", R.BAD_FRAMING),
        (b"1a", None, "", b"1", R.BAD_FRAMING),
        (b"1", None, "content-length", b"1", R.BAD_FRAMING),
        (None, b"chunked", "", b"1", CHUNKED),
        (None, b"cHuNkEd", "", b"1", CHUNKED),
        (None, b"chunked", "", b"0", R.BAD_FRAMING),
        (b"1", b"chunked", "", b"1", R.BAD_FRAMING),
        (None, b"chunked", "transfer-encoding", b"1", R.BAD_FRAMING),
        (None, b"gzip, chunked", "", b"1", R.UNSUPPORTED_TRANSFER_CODING),
        (None, b"gzip ,br,\tchunked", "", b"1", R.UNSUPPORTED_TRANSFER_CODING),
        *(
            (None, coding + b", chunked", "", b"1", R.UNSUPPORTED_TRANSFER_CODING)
            for coding in (b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"br", b"zstd")
        ),
        (None, b"rot13, chunked", "", b"1", R.BAD_FRAMING),
        (None, b"rot13, gzip, chunked", "", b"1", R.BAD_FRAMING),
        (None, b"~gzip, chunked", "", b"1", R.BAD_FRAMING),
        (None, b"chunked, gzip", "", b"1", R.BAD_FRAMING),
        (None, b"", "", b"1", R.BAD_FRAMING),
    ],
)
def test_body_length(
    length: bytes | None, coding: bytes | None, repeated: str, minor: bytes, result: int | Refusal
) -> None:
    """A number, chunked, or a doubt."""
    lower = {
        name: value
        for name, value in ((b"content-length", length), (b"transfer-encoding", coding))
        if value is not None
    }
    assert framing.body_length(lower, frozenset({repeated.encode()}), minor) == result


@pytest.mark.parametrize("host", [b"a", b"a.b:80", b"1.2.3.4", b"[::1]", b"[::1]:80", b"a_b", b"a:", b"xn--a.example."])
def test_hosts(host: bytes) -> None:
    """Names and addresses, with or without a port."""
    assert framing.has_host({b"host": host}, NONE, b"1")


@pytest.mark.parametrize(
    "host", [b"", b"a b", b"a/b", b"a@b", b"a:b", b"a:123456", b"[::1", b"::1", b"a,b:c", b"\xff", b"a\tb"]
)
def test_malformed_hosts(host: bytes) -> None:
    """Whatever is no uri-host with an optional port."""
    assert not framing.has_host({b"host": host}, NONE, b"1")


def test_host_is_there_once() -> None:
    """Only HTTP/1.0 may leave it out."""
    assert not framing.has_host({}, NONE, b"1")
    assert framing.has_host({}, NONE, b"0")
    assert not framing.has_host({b"host": b"a"}, frozenset({b"host"}), b"1")


@pytest.mark.parametrize(
    ("lower", "repeated", "keeps"),
    [
        ({}, NONE, True),
        ({b"connection": b"keep-alive"}, NONE, True),
        ({b"connection": b"x-close, closed"}, NONE, True),
        ({b"connection": b"close~"}, NONE, True),
        ({b"connection": b"close"}, NONE, False),
        ({b"connection": b"te ,\tClose"}, NONE, False),
        ({b"connection": b"keep-alive"}, frozenset({b"connection"}), False),
        ({b"proxy-connection": b"keep-alive"}, NONE, False),
    ],
)
def test_keeps_alive(lower: dict[bytes, bytes], repeated: frozenset[bytes], keeps: bool) -> None:
    """Unless anything speaks against it."""
    assert framing.keeps_alive(lower, repeated) is keeps


# --- targets


@pytest.mark.parametrize(
    ("method", "target", "odd"),
    [
        (b"OPTIONS", b"*", False),
        (b"POST", b"*", True),
        (b"OPTIONS", b"*x", True),
        (b"POST", b"http://a", False),
        (b"POST", b"HTTPS://a/b?c", False),
        (b"POST", b"http:///b", True),
        (b"POST", b"ftp://a/b", True),
        (b"POST", b"a:80", True),
        (b"POST", b"hook", True),
    ],
)
def test_odd_targets(method: bytes, target: bytes, odd: bool) -> None:
    """Of the forms without a leading slash only two are for us."""
    assert framing.has_odd_target(method, target) is odd


@pytest.mark.parametrize(
    ("target", "host", "ours", "result"),
    [
        (b"*", b"a", (), (b"*", b"")),
        (b"http://a", b"a", (), (b"/", b"")),
        (b"http://a?q", b"a", (), (b"/", b"q")),
        (b"http://A/b?c?d", b"a", (), (b"/b", b"c?d")),
        (b"http://a//b", b"A", (), (b"//b", b"")),
        (b"http://b/", b"a", (), R.MISDIRECTED),
        (b"http://a/", None, (), R.MISDIRECTED),
        (b"http://~/", None, (), R.MISDIRECTED),
        (b"http://a/x", b"a", (b"a",), (b"/x", b"")),
        (b"http://a/x", b"a", (b"b",), R.MISDIRECTED),
        (b"http://b/x", b"a", (b"b",), R.MISDIRECTED),
    ],
)
def test_split_target(
    target: bytes, host: bytes | None, ours: tuple[bytes, ...], result: tuple[bytes, bytes] | Refusal
) -> None:
    """Absolute-form names us and agrees with Host, or it is misdirected."""
    assert framing.split_target(target, host, frozenset(ours)) == result
