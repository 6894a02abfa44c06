"""Every row of hostile input that concerns the listener: raw bytes in, the answer and the state of the connection out.

Each row runs against a real listener over TCP, and once more byte by byte against the protocol object: what a request
gets must not depend on how it was cut into packets.
"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from sidecar.clock import Clock
from sidecar.inbound.application import ServerOptions
from sidecar.inbound.connection import Connection
from sidecar.inbound.server import Listener
from sidecar.inbound.shared import Shared
from sidecar.metrics import Metrics
from tests.support.raw_http import Desk, Peer, chunked, post
from tests.support.wire import Wire

LINE = b"POST /hook HTTP/1.1\r\n"
HOST = b"Host: t\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
CL2 = b"Content-Length: 2\r\n"
END = b"\r\n{}"
CHUNKS = b"\r\n2\r\n{}\r\n0\r\n\r\n"
MAX_BODY = 1000


class Row(NamedTuple):
    """One case.

    Attributes:
        name: What is odd about the bytes.
        raw: What the client sends.
        answers: Status and error code of each answer, in order.
        closed: Whether the server then closes; otherwise a further request must be answered.
        bodies: What the application was handed.
        whole: The rule needs all bytes at once, so the row is not repeated byte by byte.
    """

    name: str
    raw: bytes
    answers: tuple[tuple[int, str], ...]
    closed: bool
    bodies: tuple[bytes, ...] = ()
    whole: bool = False


def head(*lines: bytes, line: bytes = LINE, host: bytes = HOST) -> bytes:
    return line + host + b"".join(lines)


def bad(name: str, raw: bytes, code: str = "bad_framing", status: int = 400, *, whole: bool = False) -> Row:
    return Row(name, raw, ((status, code),), closed=True, whole=whole)


def good(name: str, raw: bytes, *bodies: bytes, closed: bool = False) -> Row:
    return Row(name, raw, ((200, ""),) * len(bodies), closed, bodies)


def missing(name: str, target: bytes) -> Row:
    raw = b"POST " + target + b" HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n"
    return Row(name, raw, ((404, "not_found"),), closed=False)


def te(value: bytes, name: bytes = b"Transfer-Encoding") -> bytes:
    return head(name + b": " + value + b"\r\n") + CHUNKS


def cl(value: bytes) -> bytes:
    return head(b"Content-Length:" + value + b"\r\n") + END


def after_te(tail: bytes) -> bytes:
    return head(TE) + b"\r\n" + tail


# fmt: off
ROWS = [
    # --- what must pass
    good("plain POST", post(), b"{}"),
    good("no body, length 0", post(b""), b""),
    good("no Content-Length at all", head() + b"\r\n", b""),
    good("white space round values", head(b"X: \t a \t \r\n", b"Content-Length:  2 \r\n") + END, b"{}"),
    good("empty header values", head(b"X:\r\n", b"Y: \r\n", CL2) + END, b"{}"),
    good("two pipelined", post(b"1") + post(b"2"), b"1", b"2"),
    good("twenty pipelined", post() * 20, *[b"{}"] * 20),
    good("chunked", chunked(b"ab", b"cde"), b"abcde"),
    good("chunked, empty", chunked(), b""),
    good("chunked, then another", chunked(b"ab") + post(b"cd"), b"ab", b"cd"),
    good("Chunked in capitals", te(b"CHUNKED"), b"{}"),
    good("hexadecimal chunk size in either case", after_te(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), b"0123456789" * 2),
    good("leading zeros of a chunk size", after_te(b"002\r\n{}\r\n000\r\n\r\n"), b"{}"),
    good("chunk extensions", after_te(b'2;a;b=c;d="e;f"\r\n{}\r\n0;x=y\r\n\r\n'), b"{}"),
    good("trailers", chunked(b"{}", trailers=b"Digest: x\r\nHost: evil\r\n"), b"{}"),
    good("non-UTF-8 header value", head(b"X: caf\xe9\xff\r\n", CL2) + END, b"{}"),
    good("tab inside a value", head(b"X: a\tb\r\n", CL2) + END, b"{}"),
    good("all token characters in a name", head(b"!#$%&'*+-.^_`|~09Az: x\r\n", CL2) + END, b"{}"),
    good("an ordinary header twice", head(b"X: 1\r\n", b"X: 2\r\n", CL2) + END, b"{}"),
    good("underscore twin of a header", head(b"Content_Length: 999\r\n", CL2) + END, b"{}"),
    good("query", b"POST /hook?a=/../b HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n", b""),
    good("gzip as content coding", post(b"\x1f\x8b\x08\x00", extra=b"Content-Encoding: gzip\r\n"), b"\x1f\x8b\x08\x00"),
    good("Upgrade: websocket", post(extra=b"Connection: upgrade\r\nUpgrade: websocket\r\n"), b"{}"),
    good("Upgrade: h2c", post(extra=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"), b"{}"),
    good("Upgrade, chunked, and another", chunked(b"ab", extra=b"Connection: upgrade\r\nUpgrade: x\r\n") + post(), b"ab", b"{}"),
    good("Connection: close", post(extra=b"Connection: close\r\n"), b"{}", closed=True),
    good("Connection: keep-alive, Close", post(extra=b"Connection: keep-alive, Close\r\n"), b"{}", closed=True),
    good("Connection twice", post(extra=b"Connection: keep-alive\r\nConnection: close\r\n"), b"{}", closed=True),
    good("Proxy-Connection", post(extra=b"Proxy-Connection: keep-alive\r\n"), b"{}", closed=True),
    good("HTTP/1.0", head(CL2, line=b"POST /hook HTTP/1.0\r\n") + END, b"{}", closed=True),
    good("HTTP/1.0 without Host", head(CL2, line=b"POST /hook HTTP/1.0\r\n", host=b"") + END, b"{}", closed=True),
    good("HTTP/1.0 keep-alive", head(CL2, b"Connection: keep-alive\r\n", line=b"POST /hook HTTP/1.0\r\n") + END, b"{}", closed=True),
    good("Host with port", head(CL2, host=b"Host: a.example:8787\r\n") + END, b"{}"),
    good("Host, IPv6", head(CL2, host=b"Host: [::1]:8787\r\n") + END, b"{}"),
    good("absolute-form of our own", b"POST http://T/hook?x HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n", b""),
    good("128 headers", head(*[b"X%d: y\r\n" % i for i in range(126)], CL2) + END, b"{}"),
    good("header line of 8 KiB", head(b"X: " + b"y" * 8189 + b"\r\n", CL2) + END, b"{}"),
    good("target of 8 KiB", b"POST /hook?" + b"q" * 8186 + b" HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n", b""),
    good("head of 16 KiB", (h := head(CL2, b"A: " + b"a" * 8180 + b"\r\n", b"B: ")) + b"b" * (16384 - len(h) - 4) + b"\r\n" + END, b"{}"),
    good("body at the limit", post(b"x" * MAX_BODY), b"x" * MAX_BODY),
    good("chunked body at the limit", chunked(b"x" * 600, b"y" * 400), b"x" * 600 + b"y" * 400),
    good("many chunks", chunked(*[b"x"] * 900), b"x" * 900),
    # --- framing
    bad("Content-Length and Transfer-Encoding", head(CL2, TE) + CHUNKS),
    bad("Transfer-Encoding and Content-Length", head(TE, CL2) + CHUNKS),
    bad("Content-Length twice, equal", head(CL2, CL2) + END),
    bad("Content-Length twice, different", head(CL2, b"Content-Length: 3\r\n") + END),
    bad("Content-Length twice in two cases", head(CL2, b"content-length: 2\r\n") + END),
    *(
        bad(f"Content-Length:{value!r}", cl(value))
        for value in (
            b" +2", b" -1", b" 2, 2", b" 2,2", b" 0x2", b" 2.0", b" 1e0", b" 1_0", b" ", b"", b" 02", b" 2 2", b" two",
            b" \xb2", b" 99999999999999999999", b" 18446744073709551618", b" 9223372036854775808",
        )
    ),
    bad("Transfer-Encoding twice", head(TE, TE) + CHUNKS),
    bad("Transfer-Encoding twice, identity", head(TE, b"Transfer-Encoding: identity\r\n") + CHUNKS),
    *(
        bad(f"Transfer-Encoding: {value!r}", te(value))
        for value in (
            b"xchunked", b"chunked, identity", b"identity", b"chunked, chunked", b"identity, chunked", b"chunked;q=1",
            b"chunked,", b",chunked", b"chu nked", b"gzip", b"chunked, gzip", b'"chunked"', b"", b"\xffchunked",
        )
    ),
    bad("Transfer-Encoding with a control character", te(b"\x0bchunked"), "bad_header"),
    bad("Transfer-Encoding: gzip, chunked", te(b"gzip, chunked"), "unsupported_transfer_coding", 501),
    bad("Transfer-Encoding: br,chunked", te(b"br,chunked"), "unsupported_transfer_coding", 501),
    bad("gzip, chunked with Content-Length", head(CL2, b"Transfer-Encoding: gzip, chunked\r\n") + CHUNKS),
    bad("Transfer-Encoding on HTTP/1.0", head(TE, line=b"POST /hook HTTP/1.0\r\n") + CHUNKS),
    bad("space before the colon of Transfer-Encoding", te(b"chunked", b"Transfer-Encoding ")),
    bad("tab before the colon of Content-Length", head(b"Content-Length\t: 2\r\n") + END),
    bad("obs-fold", head(b"X: a\r\n b\r\n", CL2) + END),
    bad("obs-fold with a tab", head(b"X: a\r\n\tb\r\n", CL2) + END),
    bad("obs-fold of Transfer-Encoding", head(b"Transfer-Encoding:\r\n chunked\r\n") + CHUNKS),
    bad("white space before the first header", LINE + b" Host: t\r\n\r\n"),
    bad("bare LF everywhere", b"POST /hook HTTP/1.1\nHost: t\nContent-Length: 2\n\n{}"),
    bad("bare LF behind the request line", b"POST /hook HTTP/1.1\nHost: t\r\n\r\n"),
    bad("bare LF between headers", head(b"X: a\nY: b\r\n", CL2) + END),
    bad("bare LF for the empty line", head(CL2)[:-2] + b"\n\r\n{}"),
    bad("header hidden behind a bare LF", head(b"X: a\nTransfer-Encoding: chunked\r\n", CL2) + END),
    bad("chunk size 0x2", after_te(b"0x2\r\n{}\r\n0\r\n\r\n")),
    bad("chunk size with a sign", after_te(b"+2\r\n{}\r\n0\r\n\r\n")),
    bad("chunk size with an underscore", after_te(b"0_2\r\n{}\r\n0\r\n\r\n")),
    bad("negative chunk size", after_te(b"-1\r\n{}\r\n0\r\n\r\n")),
    bad("empty chunk size", after_te(b"\r\n{}\r\n0\r\n\r\n")),
    bad("chunk size with a space before it", after_te(b" 2\r\n{}\r\n0\r\n\r\n")),
    bad("chunk size with a space behind it", after_te(b"2 \r\n{}\r\n0\r\n\r\n")),
    bad("chunk size of 16 digits", after_te(b"0000000000000002\r\n{}\r\n0\r\n\r\n")),
    bad("overflowing chunk size", after_te(b"10000000000000002\r\n{}\r\n0\r\n\r\n")),
    bad("chunk size that is not hexadecimal", after_te(b"g\r\n{}\r\n0\r\n\r\n")),
    bad("bare LF behind a chunk size", after_te(b"2\n{}\r\n0\r\n\r\n")),
    bad("bare LF in a chunk extension", after_te(b"2;a\nb\r\n{}\r\n0\r\n\r\n")),
    bad("bare CR in a chunk extension", after_te(b"2;a\rb\r\n{}\r\n0\r\n\r\n")),
    bad("NUL in a chunk extension", after_te(b"2;a=\x00\r\n{}\r\n0\r\n\r\n")),
    bad("chunk longer than announced", after_te(b"2\r\n{}x\r\n0\r\n\r\n")),
    bad("chunk without its CRLF", after_te(b"2\r\n{}0\r\n\r\n")),
    bad("chunk that ends in LF", after_te(b"2\r\n{}\n0\r\n\r\n")),
    bad("chunk that ends in CR and something else", after_te(b"2\r\n{}\rx0\r\n\r\n")),
    bad("bare LF behind the last chunk", after_te(b"2\r\n{}\r\n0\n\r\n")),
    bad("bare LF behind a trailer", after_te(b"2\r\n{}\r\n0\r\nT: x\n\r\n")),
    bad("trailer without a colon", after_te(b"2\r\n{}\r\n0\r\nT\r\n\r\n")),
    bad("trailer with a space before its colon", after_te(b"2\r\n{}\r\n0\r\nT : x\r\n\r\n")),
    bad("Content-Length as a trailer", chunked(b"{}", trailers=b"Content-Length: 9\r\n")),
    bad("folded trailer", after_te(b"2\r\n{}\r\n0\r\nT: x\r\n y\r\n\r\n")),
    bad("chunk extensions over 4 KiB", after_te(b"2;" + b"a" * 4200 + b"\r\n{}\r\n0\r\n\r\n"), "headers_too_large", 431),
    bad("many small chunk extensions", after_te(b"1;" + b"a" * 30 + b"\r\nx\r\n") + (b"1;" + b"a" * 30 + b"\r\nx\r\n") * 140, "headers_too_large", 431),
    bad("trailers over 4 KiB", chunked(b"{}", trailers=b"T: x\r\n" * 700), "headers_too_large", 431),
    bad("endless trailer line", after_te(b"2\r\n{}\r\n0\r\nT: " + b"x" * 5000), "headers_too_large", 431),
    Row("bytes behind the message", post() + b"XX", ((200, ""), (400, "bad_framing")), closed=True, bodies=(b"{}",)),
    Row("unknown method behind the message", post() + b"BREW / HTTP/1.1\r\n\r\n", ((200, ""), (400, "bad_framing")), closed=True, bodies=(b"{}",)),
    Row("rubbish behind the message", post() + b"{}\r\n\r\n", ((200, ""), (400, "bad_framing")), closed=True, bodies=(b"{}",)),
    Row("CRLF behind the message", post() + b"\r\n", ((200, ""), (400, "bad_framing")), closed=True, bodies=(b"{}",)),
    Row("body longer than its length", post()[:-2] + b"{}0123 / \x00", ((200, ""), (400, "bad_framing")), closed=True, bodies=(b"{}",)),
    bad("bytes behind the last request", post(extra=b"Connection: close\r\n") + b"XX", whole=True),
    bad("a request behind the last request", post(extra=b"Connection: close\r\n") + post(), whole=True),
    bad("bytes behind the last chunked request", chunked(b"{}", extra=b"Connection: close\r\n") + b"0\r\n", whole=True),
    bad("empty line before the request", b"\r\n" + post()),
    bad("LF before the request", b"\n" + post()),
    Row("malformed behind a good one", post() + head(CL2, CL2) + END, ((200, ""), (400, "bad_framing")), closed=True, bodies=(b"{}",)),
    # --- host
    bad("no Host", LINE + CL2 + END, "bad_host"),
    bad("two Hosts", head(HOST, CL2) + END, "bad_host"),
    bad("two different Hosts", head(b"host: evil\r\n", CL2) + END, "bad_host"),
    bad("empty Host", head(CL2, host=b"Host:\r\n") + END, "bad_host"),
    bad("Host with user information", head(CL2, host=b"Host: a@b\r\n") + END, "bad_host"),
    bad("Host with a path", head(CL2, host=b"Host: a/b\r\n") + END, "bad_host"),
    bad("Host with a space", head(CL2, host=b"Host: a b\r\n") + END, "bad_host"),
    bad("Host list", head(CL2, host=b"Host: a, b:x\r\n") + END, "bad_host"),
    bad("two Hosts on HTTP/1.0", head(HOST, CL2, line=b"POST /hook HTTP/1.0\r\n") + END, "bad_host"),
    # --- version
    bad("HTTP/2.0", head(CL2, line=b"POST /hook HTTP/2.0\r\n") + END, "http_version", 505),
    bad("HTTP/1.2", head(CL2, line=b"POST /hook HTTP/1.2\r\n") + END, "http_version", 505),
    bad("HTTP/3.0", head(CL2, line=b"POST /hook HTTP/3.0\r\n") + END, "http_version", 505),
    bad("HTTP/0.9, spelled out", head(CL2, line=b"POST /hook HTTP/0.9\r\n") + END, "http_version", 505),
    Row("HTTP/0.9", b"GET /hook\r\n", (), closed=True),
    Row("HTTP/0.9 POST", b"POST /hook\r\n\r\n", (), closed=True),
    Row("HTTP/0.9 behind a request", post() + b"GET /\r\n", ((200, ""),), closed=True, bodies=(b"{}",)),
    bad("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_request"),
    bad("TLS hello", bytes.fromhex("1603010200010001fc0303") + bytes(64), "bad_request"),
    bad("HTTP/1.10", head(line=b"POST /hook HTTP/1.10\r\n") + b"\r\n", "bad_request"),
    bad("HTTP/01.1", head(line=b"POST /hook HTTP/01.1\r\n") + b"\r\n", "bad_request"),
    bad("HTTP/1,1", head(line=b"POST /hook HTTP/1,1\r\n") + b"\r\n", "bad_request"),
    bad("lower-case http/1.1", head(line=b"POST /hook http/1.1\r\n") + b"\r\n", "bad_request"),
    bad("another protocol", head(line=b"POST /hook RTSP/1.0\r\n") + b"\r\n", "bad_request"),
    # --- request line and method
    bad("unknown method", head(line=b"BREW /hook HTTP/1.1\r\n") + b"\r\n", "bad_request"),
    bad("lower-case method", head(line=b"post /hook HTTP/1.1\r\n") + b"\r\n", "bad_request"),
    bad("method with a digit", head(line=b"P0ST /hook HTTP/1.1\r\n") + b"\r\n", "bad_request"),
    bad("a method of llhttp that is none of HTTP's", head(line=b"SOURCE /hook HTTP/1.1\r\n") + b"\r\n", "bad_request"),
    bad("endless method", b"A" * 40, "bad_request"),
    bad("space before the method", b" " + post(), "bad_request"),
    bad("two spaces in the request line", head(line=b"POST  /hook HTTP/1.1\r\n") + b"\r\n", "bad_request"),
    bad("tab in the request line", head(line=b"POST\t/hook HTTP/1.1\r\n") + b"\r\n", "bad_request"),
    bad("space behind the version", head(line=b"POST /hook HTTP/1.1 \r\n") + b"\r\n", "bad_request"),
    bad("space inside the target", head(line=b"POST /ho ok HTTP/1.1\r\n") + b"\r\n", "bad_request"),
    bad("a JSON text", b'{"a":1}\r\n\r\n', "bad_request"),
    bad("NUL first", b"\x00" * 8, "bad_request"),
    Row("CONNECT", b"CONNECT t:443 HTTP/1.1\r\nHost: t:443\r\n\r\n", ((405, "method_not_allowed"),), closed=True),
    Row("CONNECT with a path", b"CONNECT /hook HTTP/1.1\r\nHost: t\r\n\r\n", ((405, "method_not_allowed"),), closed=True),
    Row("TRACE", b"TRACE /hook HTTP/1.1\r\nHost: t\r\n\r\n", ((405, "method_not_allowed"),), closed=False),
    Row("GET", b"GET /hook HTTP/1.1\r\nHost: t\r\n\r\n", ((405, "method_not_allowed"),), closed=False),
    Row("PUT with a body", b"PUT /hook HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{}", ((405, "method_not_allowed"),), closed=True),
    # --- target
    missing("dot segments", b"/a/../hook"),
    missing("encoded letter", b"/hoo%6b"),
    missing("%2e", b"/%2e/hook"),
    missing("%2f", b"/%2fhook"),
    missing("%00", b"/hook%00"),
    missing("%zz", b"/hook%zz"),
    missing("path parameter", b"/hook;x"),
    missing("two slashes", b"//hook"),
    missing("authority-like path", b"//t/hook"),
    missing("trailing slash", b"/hook/"),
    missing("capitals", b"/HOOK"),
    missing("backslash", b"/\\hook"),
    missing("root", b"/"),
    Row("unknown path with a body", post(path=b"/x"), ((404, "not_found"),), closed=True),
    Row("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n", ((404, "not_found"),), closed=False),
    bad("POST *", b"POST * HTTP/1.1\r\nHost: t\r\n\r\n", "bad_request"),
    bad("authority-form", b"POST t:80 HTTP/1.1\r\nHost: t\r\n\r\n", "bad_request"),
    bad("relative path", b"POST hook HTTP/1.1\r\nHost: t\r\n\r\n", "bad_request"),
    bad("another scheme", b"POST ftp://t/hook HTTP/1.1\r\nHost: t\r\n\r\n", "bad_request"),
    bad("fragment", b"POST /hook#x HTTP/1.1\r\nHost: t\r\n\r\n", "bad_request"),
    bad("raw UTF-8 in the target", b"POST /h\xc3\xb6\xc3\xb6k HTTP/1.1\r\nHost: t\r\n\r\n", "bad_request"),
    bad("NUL in the target", b"POST /hook\x00 HTTP/1.1\r\nHost: t\r\n\r\n", "bad_request"),
    bad("DEL in the target", b"POST /hook\x7f HTTP/1.1\r\nHost: t\r\n\r\n", "bad_request"),
    bad("foreign authority", b"POST http://evil/hook HTTP/1.1\r\nHost: t\r\n\r\n", "misdirected", 421),
    bad("foreign port", b"POST http://t:81/hook HTTP/1.1\r\nHost: t\r\n\r\n", "misdirected", 421),
    bad("user information before our authority", b"POST http://evil@t/hook HTTP/1.1\r\nHost: t\r\n\r\n", "misdirected", 421),
    bad("foreign authority, https", b"POST HTTPS://evil/hook HTTP/1.1\r\nHost: t\r\n\r\n", "misdirected", 421),
    # --- headers
    bad("NUL in a value", head(b"X: a\x00b\r\n", CL2) + END, "bad_header"),
    bad("control character in a value", head(b"X: a\x01b\r\n", CL2) + END, "bad_header"),
    bad("vertical tab in a value", head(b"X: a\x0bb\r\n", CL2) + END, "bad_header"),
    bad("DEL in a value", head(b"X: a\x7fb\r\n", CL2) + END, "bad_header"),
    bad("bare CR in a value", head(b"X: a\rb\r\n", CL2) + END, "bad_header"),
    bad("no colon", head(b"X\r\n", CL2) + END, "bad_header"),
    bad("empty name", head(b": x\r\n", CL2) + END, "bad_header"),
    bad("space inside a name", head(b"X Y: x\r\n", CL2) + END, "bad_header"),
    bad("parenthesis in a name", head(b"X(: x\r\n", CL2) + END, "bad_header"),
    bad("NUL in a name", head(b"X\x00: x\r\n", CL2) + END, "bad_header"),
    bad("UTF-8 in a name", head(b"X\xc3\xb6: x\r\n", CL2) + END, "bad_header"),
    # --- size
    bad("header line of 9,000 bytes", head(b"X: " + b"y" * 9000 + b"\r\n", CL2) + END, "headers_too_large", 431),
    bad("header line one byte over 8 KiB", head(b"X: " + b"y" * 8190 + b"\r\n", CL2) + END, "headers_too_large", 431),
    bad("unfinished header line of 9,000 bytes", head(b"X: " + b"y" * 9000), "headers_too_large", 431),
    bad("129 headers", head(*[b"X%d: y\r\n" % i for i in range(127)], CL2) + END, "headers_too_large", 431),
    bad("200 times the same header", head(*[b"X: y\r\n"] * 200, CL2) + END, "headers_too_large", 431),
    bad("head over 16 KiB", head(*[b"X%d: %b\r\n" % (i, b"y" * 4000) for i in range(5)], CL2) + END, "headers_too_large", 431),
    bad("unfinished head over 16 KiB", head(*[b"X%d: %b\r\n" % (i, b"y" * 4000) for i in range(5)]), "headers_too_large", 431),
    bad("target of 9,000 bytes", b"POST /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: t\r\n\r\n", "target_too_long", 414),
    bad("target one byte over 8 KiB", b"POST /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: t\r\n\r\n", "target_too_long", 414),
    bad("unfinished target of 9,000 bytes", b"POST /" + b"x" * 9000, "target_too_long", 414),
    bad("length over the limit, no body", head(b"Content-Length: 1001\r\n") + b"\r\n", "body_too_large", 413),
    bad("length over the limit, with the body", post(b"x" * 1001), "body_too_large", 413),
    bad("huge length", head(b"Content-Length: 999999999999999999\r\n") + b"\r\n", "body_too_large", 413),
    bad("chunk over the limit, only announced", after_te(b"3e9\r\n"), "body_too_large", 413),
    bad("chunks that pass the limit", after_te(b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\n"), "body_too_large", 413),
    bad("largest chunk size", after_te(b"fffffffffffffff\r\n"), "body_too_large", 413),
    # --- expectations
    Row("Expect: 100-continue with the body", post(extra=b"Expect: 100-continue\r\n"), ((200, ""),), closed=False, bodies=(b"{}",), whole=True),
    Row("Expect: 100-continue", head(CL2, b"Expect: 100-Continue\r\n") + b"\r\n", ((100, ""),), closed=True),
    bad("Expect, length over the limit", head(b"Content-Length: 1001\r\n", b"Expect: 100-continue\r\n") + b"\r\n", "body_too_large", 413),
    bad("Expect, unknown path", head(CL2, b"Expect: 100-continue\r\n", line=b"POST /x HTTP/1.1\r\n") + b"\r\n", "not_found", 404),
    bad("Expect, bad framing", head(CL2, TE, b"Expect: 100-continue\r\n") + b"\r\n"),
    bad("unknown expectation", head(CL2, b"Expect: 200-ok\r\n") + b"\r\n", "expectation_failed", 417),
    bad("two expectations", head(CL2, b"Expect: 100-continue\r\n" * 2) + b"\r\n", "expectation_failed", 417),
    Row("Expect on HTTP/1.0", head(CL2, b"Expect: x\r\n", line=b"POST /hook HTTP/1.0\r\n") + END, ((200, ""),), closed=True, bodies=(b"{}",)),
    # --- bugs
    Row("the application fails on the head", post(path=b"/bug"), ((500, "internal_error"),), closed=True),
    Row("the application fails on the request", post(path=b"/late-bug"), ((500, "internal_error"),), closed=True, bodies=(b"{}",)),
]
# fmt: on


@pytest.fixture
async def desk() -> Desk:
    return Desk(max_body=MAX_BODY)


@pytest.fixture
async def listener(desk: Desk) -> AsyncIterator[Listener]:
    listener = Listener(ServerOptions(), desk, Metrics(), Clock())
    await listener.start("127.0.0.1:0")
    yield listener
    await listener.close()


def test_the_table_has_no_case_twice() -> None:
    """Every name and every input is there once."""
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len({row.raw for row in ROWS}) == len(ROWS) > 120


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_row(row: Row, listener: Listener, desk: Desk) -> None:
    """The bytes get exactly the answers of the table, and the connection ends or goes on as it says."""
    peer = await Peer.open(listener.addresses[0])
    await peer.send(row.raw)
    for status, code in row.answers:
        reply = await peer.reply()
        assert (reply.status, reply.code) == (status, code)
        if status == 405:
            assert reply.headers[b"allow"] == b"POST"
    if row.answers == ((100, ""),):
        peer.reset()
        return
    if row.closed:
        assert await peer.at_end() == b""
        if row.answers and not row.name.startswith("HTTP/0.9 "):
            assert reply.headers[b"connection"] == b"close"
    else:
        await peer.send(post(b"still there"))
        assert (await peer.reply()).status == 200
        assert desk.bodies.pop() == b"still there"
    assert tuple(desk.bodies) == row.bodies
    assert listener.buffered_bytes == 0
    await peer.close()


class SteadyWire(Wire):
    """A wire that nobody has a reason to pause."""

    def pause_reading(self) -> None:
        raise AssertionError("nothing here is worth a pause")


@pytest.mark.parametrize("row", [row for row in ROWS if not row.whole], ids=lambda row: row.name)
async def test_row_byte_by_byte(row: Row, desk: Desk) -> None:
    """The verdict does not depend on how the bytes were cut into packets."""
    shared = Shared(ServerOptions(), desk, Metrics(), Clock(), tick_s=1.0)
    wire = SteadyWire()
    connection = Connection(shared)
    connection.connection_made(wire)
    for i in range(len(row.raw)):
        connection.data_received(row.raw[i : i + 1])
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", wire.sent)]
    assert statuses == [status for status, _ in row.answers]
    for _, code in row.answers:
        assert not code or b'{"error":{"code":"%b"}}' % code.encode() in wire.sent
    assert wire.closed is (row.closed and row.answers != ((100, ""),))
    assert tuple(desk.bodies) == row.bodies
    connection.connection_lost(None)
    assert shared.budget.used == 0
    assert not shared.order


async def test_trailers_never_reach_the_headers(listener: Listener, desk: Desk) -> None:
    """What comes behind a chunked body is dropped, for this request and for the next one."""
    peer = await Peer.open(listener.addresses[0])
    await peer.send(chunked(b"{}", trailers=b"X-Evil: 1\r\n") + post())
    assert [(await peer.reply()).status for _ in range(2)] == [200, 200]
    assert [sorted(head.lower) for head in desk.heads] == [
        [b"host", b"transfer-encoding"],
        [b"content-length", b"host"],
    ]
    await peer.close()


async def test_the_head_is_handed_on_as_received(listener: Listener, desk: Desk) -> None:
    """Order, case and repeats are kept; look-ups are lower-case and see the first value."""
    peer = await Peer.open(listener.addresses[0])
    await peer.send(b"POST /hook?a=%41 HTTP/1.1\r\nhOsT: t\r\nX-A: 1 \r\nx-a:2\r\nContent-Length: 0\r\n\r\n")
    assert (await peer.reply()).status == 200
    (head,) = desk.heads
    assert head.headers == [(b"hOsT", b"t"), (b"X-A", b"1"), (b"x-a", b"2"), (b"Content-Length", b"0")]
    assert head.lower == {b"host": b"t", b"x-a": b"1", b"content-length": b"0"}
    assert head.repeated == {b"x-a"}
    assert (head.method, head.target, head.path, head.query) == (b"POST", b"/hook?a=%41", b"/hook", b"a=%41")
    assert (head.length, head.peer, head.secure) == (0, "127.0.0.1", False)
    await peer.close()


async def test_configured_authorities_decide_about_absolute_form(desk: Desk) -> None:
    """With our names configured, what Host says is not enough."""
    listener = Listener(ServerOptions(authorities=frozenset({b"hooks.example"})), desk, Metrics(), Clock())
    await listener.start("127.0.0.1:0")
    for authority, status in ((b"hooks.example", 200), (b"evil.example", 421)):
        peer = await Peer.open(listener.addresses[0])
        await peer.send(
            b"POST http://%b/hook?q HTTP/1.1\r\nHost: %b\r\nContent-Length: 0\r\n\r\n" % (authority, authority)
        )
        assert (await peer.reply()).status == status
        await peer.close()
    assert [(head.path, head.query) for head in desk.heads] == [(b"/hook", b"q")]
    await listener.close()


@pytest.mark.parametrize("vanish", ["fin", "rst"])
@pytest.mark.parametrize("raw", [head(b"Content-Length: 9\r\n") + END, after_te(b"2\r\n{}\r\n"), head(CL2)])
async def test_a_truncated_request_is_aborted(vanish: str, raw: bytes, listener: Listener, desk: Desk) -> None:
    """Nothing of it reaches the application but the word that it ended."""
    peer = await Peer.open(listener.addresses[0])
    await peer.send(post(b"first") + raw)
    assert (await peer.reply()).status == 200
    if vanish == "fin":
        await peer.close()
    else:
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.reset()
    await desk.until(lambda: bool(desk.aborts))
    assert desk.bodies == [b"first"]
    assert desk.aborts == [None if raw == head(CL2) else 2]
    assert listener.buffered_bytes == 0


async def test_ten_thousand_chunks_are_the_limit(listener: Listener, desk: Desk) -> None:
    """One chunk more is refused, however small they are."""
    desk.max_body = 1 << 20
    for count, status, code in ((10_000, 200, ""), (10_001, 400, "too_many_chunks")):
        peer = await Peer.open(listener.addresses[0])
        await peer.send(after_te(b"1\r\nx\r\n" * count + b"0\r\n\r\n"))
        reply = await peer.reply()
        assert (reply.status, reply.code) == (status, code)
        await peer.close()


async def test_an_early_answer_survives_a_megabyte_of_unread_body(listener: Listener, desk: Desk) -> None:
    """A client that sends all of its body before it reads still gets its 413."""
    peer = await Peer.open(listener.addresses[0])
    await peer.send(head(b"Content-Length: 1048576\r\n") + b"\r\n" + bytes(1 << 20))
    reply = await peer.reply()
    assert (reply.status, reply.code, reply.headers[b"connection"]) == (413, "body_too_large", b"close")
    assert await peer.at_end() == b""
    assert listener.buffered_bytes == 0
    await peer.close()
