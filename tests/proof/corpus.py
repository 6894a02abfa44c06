"""[P] Raw requests, made from tables of what may stand where, each with the answers it must get.

The answers come from the rules of RFC 9110 and RFC 9112 and from the limits in ``docs``, not from running our code.
``scripts/generate.py`` stores them as data.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["Case", "cases", "load", "short", "text"]

TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
HOST = b"Host: t\r\n"
CL = b"Content-Length: 2\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
SHORT_BYTES = 1000
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"


class Case(NamedTuple):
    """One request, or several on one connection.

    Attributes:
        name: What is odd about it.
        raw: What the client sends.
        statuses: Of the answers, in order.
        code: Error code of the last answer; "" when it is none.
        bodies: What is accepted, in order.
    """

    name: str
    raw: bytes
    statuses: tuple[int, ...]
    code: str = ""
    bodies: tuple[bytes, ...] = ()


def _ok(name: str, raw: bytes, *bodies: bytes) -> Case:
    return Case(name, raw, (200,) * len(bodies), "", bodies)


def _bad(name: str, raw: bytes, code: str = "bad_framing", status: int = 400) -> Case:
    return Case(name, raw, (status,), code)


def _post(*headers: bytes, body: bytes = b"\r\n{}", line: bytes = b"POST /hook HTTP/1.1", host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + b"".join(headers) + body


def _lengths() -> Iterator[Case]:
    for value in (b"2", b"  2", b"2  ", b"\t2", b"2\t"):
        yield _ok(f"length {value!r}", _post(b"Content-Length:" + value + b"\r\n"), b"{}")
    wrong = (
        b"",
        b"+2",
        b"-2",
        b"--2",
        b"2,2",
        b"2, 2",
        b"2 2",
        b"2;",
        b"2.",
        b"2.0",
        b".2",
        b"2e0",
        b"0x2",
        b"0b10",
        b"0o2",
        b"2_",
        b"0_2",
        b"02",
        b"002",
        b"2h",
        b"two",
        b'"2"',
        b"'2'",
        b"(2)",
        b"2\\",
        b"2/1",
        b"1+1",
        b"\xb2",
        b"\xd9\xa2",
        b"\xef\xbc\x92",
        b"nan",
        b"inf",
        b"null",
        b"true",
        b"18446744073709551616",
        b"18446744073709551618",
        b"9223372036854775810",
        b"99999999999999999999999999",
        b"2=2",
        b"%32",
    )
    for value in wrong:
        yield _bad(f"length {value!r}", _post(b"Content-Length: " + value + b"\r\n"))
    for name in (b"content-length", b"CONTENT-LENGTH", b"cONTENT-lENGTH"):
        yield _ok(f"{name!r}", _post(name + b": 2\r\n"), b"{}")
        yield _bad(f"{name!r} after Content-Length", _post(CL, name + b": 2\r\n"))
        yield _bad(f"{name!r}, another length", _post(CL, name + b": 3\r\n"))
        yield _bad(f"{name!r} beside chunked", _post(TE, name + b": 2\r\n", body=b"\r\n" + CHUNKS))
        yield _bad(f"{name!r} before chunked", _post(name + b": 2\r\n", TE, body=b"\r\n" + CHUNKS))


def _codings() -> Iterator[Case]:
    for value in (b"chunked", b"Chunked", b"CHUNKED", b"cHuNkEd", b" chunked", b"chunked "):
        yield _ok(f"coding {value!r}", _post(b"Transfer-Encoding:" + value + b"\r\n", body=b"\r\n" + CHUNKS), b"{}")
    wrong = (
        b"\tchunked\t",  # allowed, but nobody writes it: any doubt is refused
        b"",
        b"chunk",
        b"chunkedd",
        b"xchunked",
        b"x-chunked",
        b"chunked-x",
        b"chunked,",
        b",chunked",
        b",,chunked",
        b"chunked,,",
        b"chunked, ",
        b"chunked;",
        b"chunked;q=1",
        b"chunked; a=b",
        b"chunked chunked",
        b"chunked,chunked",
        b"chunked, identity",
        b"identity, chunked",
        b"identity",
        b"gzip",
        b"deflate",
        b"compress",
        b"br",
        b"chunked, gzip",
        b"chunked,deflate",
        b'"chunked"',
        b"'chunked'",
        b"(chunked)",
        b"chun ked",
        b"chu\xadnked",
        b"chunked\xa0",
        b"\xa0chunked",
        b"chunke\xc4\x91",
        b"\xef\xbb\xbfchunked",
        b"chunked=1",
        b"1",
        b"*",
        b"chunked\\",
        b"/chunked",
        b"trailers",
        b"c",
        b"chunked:chunked",
        b"{chunked}",
    )
    for value in wrong:
        yield _bad(f"coding {value!r}", _post(b"Transfer-Encoding: " + value + b"\r\n", body=b"\r\n" + CHUNKS))
        yield _bad(f"coding {value!r} with a length", _post(CL, b"Transfer-Encoding: " + value + b"\r\n"))
    for value in (b"gzip, chunked", b"br,chunked", b"deflate ,\tchunked", b"compress, gzip, chunked"):
        yield _bad(
            f"coding {value!r}",
            _post(b"Transfer-Encoding: " + value + b"\r\n", body=b"\r\n" + CHUNKS),
            "unsupported_transfer_coding",
            501,
        )
    for second in (b"chunked", b"identity", b"gzip", b"", b"x"):
        yield _bad(
            f"a second coding {second!r}", _post(TE, b"Transfer-Encoding: " + second + b"\r\n", body=b"\r\n" + CHUNKS)
        )
        yield _bad(
            f"a first coding {second!r}", _post(b"Transfer-Encoding: " + second + b"\r\n", TE, body=b"\r\n" + CHUNKS)
        )
    for name in (
        b"Transfer_Encoding",
        b"TransferEncoding",
        b"X-Transfer-Encoding",
        b"Transfer-Encodin",
        b"Transfer-Encodings",
        b"Transfer--Encoding",
    ):
        yield _ok(f"{name!r} is another header", _post(CL, name + b": chunked\r\n"), b"{}")
    for before, after in ((b"", b" "), (b"", b"\t"), (b"", b"  ")):
        yield _bad(
            f"coding, name with {after!r} behind",
            _post(before + b"Transfer-Encoding" + after + b": chunked\r\n", body=b"\r\n" + CHUNKS),
        )
        yield _bad(
            f"coding, name with {after!r} behind, and a length",
            _post(CL, b"Transfer-Encoding" + after + b": chunked\r\n"),
        )
        yield _bad(f"length, name with {after!r} behind", _post(b"Content-Length" + after + b": 2\r\n"))
    for fold in (b"\r\n ", b"\r\n\t", b"\r\n  \t"):
        yield _bad(
            f"coding folded with {fold!r}", _post(b"Transfer-Encoding:" + fold + b"chunked\r\n", body=b"\r\n" + CHUNKS)
        )
        yield _bad(
            f"coding in a fold {fold!r} of another header",
            _post(b"X: a" + fold + b"Transfer-Encoding: chunked\r\n", CL),
        )


def _chunks() -> Iterator[Case]:
    def sized(line: bytes) -> bytes:
        return _post(TE, body=b"\r\n" + line + b"\r\n{}\r\n0\r\n\r\n")

    for line in (b"2", b"02", b"0002", b"2;a", b"2;a=b", b'2;a="b"', b"2;a;b;c", b"2;a=b;c=d"):
        yield _ok(f"chunk size {line!r}", sized(line), b"{}")
    wrong = (
        b"2;",
        b"",
        b" 2",
        b"2 ",
        b"\t2",
        b"2\t",
        b"+2",
        b"-2",
        b"0x2",
        b"0X2",
        b"2h",
        b"2.0",
        b"2,",
        b"2,2",
        b"2_",
        b"_2",
        b"0_2",
        b"g",
        b'"2"',
        b"\xb2",
        b"\xd9\xa2",
        b"10000000000000002",
        b"fffffffffffffffff2",
        b"00000000000000000002",
        b"2 ;a",
        b"2\x00",
        b"2;\x00",
        b"2;\x0b",
        b"2;a\rb",
        b"\r2",
        b"$2",
        b"2$",
    )
    for line in wrong:
        yield _bad(f"chunk size {line!r}", sized(line))
    for end in (b"", b"\n", b"\r", b"\r\r\n", b"\n\r", b"x\r\n", b" \r\n", b"\x00\r\n", b"}\r\n"):
        yield _bad(f"chunk ended by {end!r}", _post(TE, body=b"\r\n2\r\n{}" + end + b"0\r\n\r\n"))
    for line in (
        b"T",
        b"T : x",
        b" T: x",
        b": x",
        b"T\x00: x",
        b"T(: x",
        b"T: a\x00",
        b"T: a\x01",
        b"T: a\rb",
        b"Content-Length: 2",
        b"Transfer-Encoding: chunked",
    ):
        yield _bad(f"trailer {line!r}", _post(TE, body=b"\r\n2\r\n{}\r\n0\r\n" + line + b"\r\n\r\n"))
    for line in (b"T: x", b"T:", b"Host: evil", b"X-Signature: forged", b"Connection: close"):
        yield _ok(f"trailer {line!r}", _post(TE, body=b"\r\n2\r\n{}\r\n0\r\n" + line + b"\r\n\r\n"), b"{}")
    for sizes in ((1, 1), (1, 0x10), (0xA, 0xB), (0x3E8,), (1,) * 100):
        body = b"".join(b"%x\r\n%b\r\n" % (n, b"y" * n) for n in sizes) + b"0\r\n\r\n"
        yield _ok(f"chunks of {sizes[:5]}", _post(TE, body=b"\r\n" + body), b"y" * sum(sizes))


def _bytes() -> Iterator[Case]:
    for byte in [*range(0x20), 0x7F]:
        if byte in b"\t\n\r":
            continue
        one = bytes([byte])
        yield _bad(f"byte {byte:#04x} in a value", _post(b"X: a" + one + b"b\r\n", CL), "bad_header")
        yield _bad(f"byte {byte:#04x} in a name", _post(b"X" + one + b"Y: a\r\n", CL), "bad_header")
        yield _bad(f"byte {byte:#04x} in the target", _post(CL, line=b"POST /ho" + one + b"ok HTTP/1.1"), "bad_request")
    for byte in b'"(),/;<=>?@[\\]{}':
        yield _bad(f"{chr(byte)!r} in a name", _post(b"X" + bytes([byte]) + b"Y: a\r\n", CL), "bad_header")
    for byte in (0x80, 0xA0, 0xC3, 0xFF):
        yield _bad(f"byte {byte:#04x} in a name", _post(b"X" + bytes([byte]) + b": a\r\n", CL), "bad_header")
        yield _ok(f"byte {byte:#04x} in a value", _post(b"X: " + bytes([byte]) + b"\r\n", CL), b"{}")
        yield _bad(
            f"byte {byte:#04x} in the target", _post(CL, line=b"POST /" + bytes([byte]) + b" HTTP/1.1"), "bad_request"
        )
    for byte in b"!#$%&'*+-.^_`|~09AZaz":
        yield _ok(f"{chr(byte)!r} in a name", _post(b"X" + bytes([byte]) + b"Y: a\r\n", CL), b"{}")
    yield _bad("bare CR in a value", _post(b"X: a\rb\r\n", CL), "bad_header")
    for end in (b"\n", b"\r\r\n", b"\n\r"):
        code = "bad_header" if end == b"\r\r\n" else "bad_framing"
        yield _bad(f"header ended by {end!r}", _post(b"X: a" + end, CL), code)


def _lines() -> Iterator[Case]:
    for version in (b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/9.9", b"HTTP/0.9", b"HTTP/0.0"):
        yield _bad(f"version {version!r}", _post(CL, line=b"POST /hook " + version), "http_version", 505)
    for version in (
        b"HTTP/1.10",
        b"HTTP/11",
        b"HTTP/1",
        b"HTTP/1.",
        b"HTTP/.1",
        b"HTTP/01.1",
        b"HTTP/1.01",
        b"HTTP/1 .1",
        b"HTTP/+1.1",
        b"HTTP/-1.1",
        b"http/1.1",
        b"HTTPS/1.1",
        b"HTTP1.1",
        b"HTTP//1.1",
        b"HTTP/1.1x",
        b"HTTP/x.y",
        b"ICE/1.0",
        b"RTSP/1.0",
        b"HTTP/1.1 ",
        b"HTTP/1.1\t",
        b"HTTP\\1.1",
    ):
        yield _bad(f"version {version!r}", _post(CL, line=b"POST /hook " + version), "bad_request")
    for method in (
        b"post",
        b"Post",
        b"POSt",
        b"POSTT",
        b"POS",
        b"POST1",
        b"P-OST",
        b"BREW",
        b"PROPFINDX",
        b"\xd0\x9fOST",
        b"PO ST",
        b"(POST)",
    ):
        yield _bad(f"method {method!r}", _post(CL, line=method + b" /hook HTTP/1.1"), "bad_request")
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"PUT"):
        yield Case(
            f"method {method!r}",
            _post(b"\r\n", body=b"", line=method + b" /hook HTTP/1.1"),
            (405,),
            "method_not_allowed" if method != b"HEAD" else "",
        )
    for target in (
        b"/a/../hook",
        b"/./hook",
        b"/hook/.",
        b"/hook/..",
        b"/%68ook",
        b"/hook%20",
        b"/hook%2f",
        b"/hook%5c",
        b"/hook%00",
        b"/hook%",
        b"/hook%g1",
        b"/hook;a=b",
        b"//hook",
        b"/hook//",
        b"/hook/",
        b"/Hook",
        b"/hook.",
        b"/hook~",
        b"/hook,",
        b"/hook:80",
        b"/hook@t",
        b"/hook=",
        b"/hook&a=b",
        b"/hook!",
        b"/x",
        b"/",
    ):
        yield Case(
            f"target {target!r}",
            _post(b"Content-Length: 0\r\n", body=b"\r\n", line=b"POST " + target + b" HTTP/1.1"),
            (404,),
            "not_found",
        )
    for target in (
        b"/hook?",
        b"/hook?a",
        b"/hook?a=b&c=d",
        b"/hook?%00",
        b"/hook??",
        b"/hook?/../x",
        b"/hook?http://evil/",
        b"http://t/hook",
        b"HTTP://t/hook",
        b"http://T/hook",
    ):
        yield _ok(f"target {target!r}", _post(CL, line=b"POST " + target + b" HTTP/1.1"), b"{}")
    for target in (
        b"*",
        b"hook",
        b"t:80",
        b"ftp://t/hook",
        b"file:///hook",
        b"javascript:x",
        b"/hook#",
        b"/hook#a",
        b"?a",
        b"#",
        b"",
        b"http:/t/hook",
        b"://t/hook",
    ):
        yield _bad(f"target {target!r}", _post(CL, line=b"POST " + target + b" HTTP/1.1"), "bad_request")
    for authority in (
        b"evil",
        b"t:81",
        b"t.evil",
        b"evil@t",
        b"t@evil",
        b"127.0.0.1",
        b"[::1]",
        b"xt",
        b"t.",
        b"evil:80",
    ):
        yield _bad(
            f"authority {authority!r}",
            _post(CL, line=b"POST http://" + authority + b"/hook HTTP/1.1"),
            "misdirected",
            421,
        )


def _hosts() -> Iterator[Case]:
    for host in (
        b"t",
        b"t:80",
        b"T",
        b"a.b.c",
        b"127.0.0.1",
        b"127.0.0.1:8787",
        b"[::1]",
        b"[::1]:8787",
        b"xn--bcher-kva.example",
        b"a_b",
        b"a,b",
        b"a;b",
        b"  t  ",
    ):
        yield _ok(f"host {host!r}", _post(CL, host=b"Host: " + host + b"\r\n"), b"{}")
    for host in (
        b"",
        b" ",
        b"a b",
        b"a, b",
        b"a/b",
        b"/",
        b"a@b",
        b"http://t",
        b"a\\b",
        b"a?b",
        b"a#b",
        b"<a>",
        b'"a"',
        b"\xc3\xb6",
    ):
        yield _bad(f"host {host!r}", _post(CL, host=b"Host: " + host + b"\r\n"), "bad_host")
    for second in (b"Host: t\r\n", b"host: t\r\n", b"HOST: evil\r\n", b"Host:\r\n"):
        yield _bad(f"second host {second!r}", _post(second, CL), "bad_host")
    yield _bad("no host", _post(CL, host=b""), "bad_host")


def _sizes() -> Iterator[Case]:
    for n in (0, 1, 2, 999, 1000):
        yield _ok(f"{n} bytes", _post(b"Content-Length: %d\r\n" % n, body=b"\r\n" + b"y" * n), b"y" * n)
        if n:
            chunk = b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (n, b"y" * n)
            yield _ok(f"a chunk of {n} bytes", _post(TE, body=chunk), b"y" * n)
    for n in (1001, 5000, 1 << 31, 1 << 40, 1 << 50):
        yield _bad(f"a length of {n}", _post(b"Content-Length: %d\r\n" % n), "body_too_large", 413)
        yield _bad(f"a chunk of {n}", _post(TE, body=b"\r\n%x\r\ny" % n), "body_too_large", 413)
    for size in (1, 10, 500):
        chunk = b"%x\r\n%b\r\n" % (size, b"y" * size)
        yield _bad(
            f"1,001 bytes in chunks of {size}",
            _post(TE, body=b"\r\n" + chunk * (1001 // size + 1)),
            "body_too_large",
            413,
        )
    for size in (7000, 8000):
        yield _ok(f"a header of {size} bytes", _post(b"X: " + b"y" * size + b"\r\n", CL), b"{}")
        yield _ok(f"a query of {size} bytes", _post(CL, line=b"POST /hook?" + b"y" * size + b" HTTP/1.1"), b"{}")
    for size in (8200, 9000, 20_000):
        line = b"X: " + b"y" * size + b"\r\n"
        yield _bad(f"a header of {size} bytes", _post(line, CL), "headers_too_large", 431)
        yield _bad(f"a name of {size} bytes", _post(b"Y" * size + b": x\r\n", CL), "headers_too_large", 431)
        target = b"POST /hook?" + b"y" * size + b" HTTP/1.1"
        yield _bad(f"a target of {size} bytes", _post(CL, line=target), "target_too_long", 414)
    for count in (100, 126):
        yield _ok(f"{count} more headers", _post(*(b"X%d: y\r\n" % n for n in range(count)), CL), b"{}")
    for count in (127, 500, 1000):
        many = _post(*(b"X%d: y\r\n" % n for n in range(count)), CL)
        yield _bad(f"{count} more headers", many, "headers_too_large", 431)
    for count in (2, 3):
        long = [b"X%d: " % n + b"y" * 7000 + b"\r\n" for n in range(count)]
        name = f"{count} headers of 7,000 bytes"
        yield (
            _bad(name, _post(*long, CL), "headers_too_large", 431) if count > 2 else _ok(name, _post(*long, CL), b"{}")
        )


def _encodings() -> Iterator[Case]:
    packed = gzip.compress(b"{}" * 50, mtime=0)
    bodies = (
        packed,
        packed[:-4],
        zlib.compress(b"{}"),
        '{"a":"\u20ac"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"\x00\xff" * 20,
    )
    for body in bodies:
        length = b"Content-Length: %d\r\n" % len(body)
        for coding in (b"gzip", b"deflate", b"br", b"zstd", b"identity", b"nonsense", b"gzip, gzip"):
            line = b"Content-Encoding: " + coding + b"\r\n"
            yield _ok(f"{coding!r} and {len(body)} bytes, {body[:4]!r}", _post(line, length, body=b"\r\n" + body), body)
    for kind in (
        b"application/json",
        b"text/plain; charset=utf-7",
        b"multipart/form-data; boundary=x",
        b"",
        b"\xff",
        b'a/b; c="d',
    ):
        yield _ok(f"content type {kind!r}", _post(b"Content-Type: " + kind + b"\r\n", CL), b"{}")
    for line in (
        b"Upgrade: websocket",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQ",
        b"Connection: upgrade, http2-settings",
    ):
        yield _ok(f"{line!r} is ignored", _post(line + b"\r\n", CL), b"{}")
    for value in (b"200-ok", b"100-continued", b"x"):
        yield _bad(f"expectation {value!r}", _post(b"Expect: " + value + b"\r\n", CL), "expectation_failed", 417)
    yield _bad("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_request")


def _halves() -> Iterator[Case]:
    """What a slow or broken client leaves unfinished: nothing of it is accepted, and what came before it is."""
    one = _post(CL)
    wholes = (
        ("a head", _post(CL, body=b"")),
        ("a body", _post(b"Content-Length: 50\r\n", body=b"\r\n" + b"y" * 40)),
        ("a chunk", _post(TE, body=b"\r\n20\r\nyyyyyyyy")),
        ("the last chunk", _post(TE, body=b"\r\n2\r\n{}\r\n0\r\n")),
        ("a trailer", _post(TE, body=b"\r\n2\r\n{}\r\n0\r\nT: x\r\n")),
    )
    for name, raw in wholes:
        for at in sorted({len(raw) // 4, len(raw) // 2, len(raw) - 3, len(raw)}):
            yield Case(f"{name}, to byte {at}", raw[:at], ())
            yield Case(f"{name}, to byte {at}, behind a whole one", one + raw[:at], (200,), "", (b"{}",))


def _several() -> Iterator[Case]:
    one, other = _post(CL), _post(TE, body=b"\r\n" + CHUNKS)
    yield _ok("two with lengths", one + one, b"{}", b"{}")
    yield _ok("chunked, then with a length", other + one, b"{}", b"{}")
    yield _ok("a length, then chunked", one + other, b"{}", b"{}")
    yield _ok("a request hidden in a body", _post(b"Content-Length: %d\r\n" % len(one), body=b"\r\n" + one), one)
    yield _ok("a request hidden in a chunk", _post(TE, body=b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(one), one)), one)
    for tail in (b"X", b"\r\n", b"\n", b" ", b"{}", b"0\r\n\r\n", b"\x00", b"GPOST / HTTP/1.1\r\n\r\n"):
        yield Case(f"{tail!r} behind a request", one + tail + b"\r\n\r\n", (200, 400), "bad_framing", (b"{}",))
        yield Case(
            f"{tail!r} behind a chunked request", other + tail + b"\r\n\r\n", (200, 400), "bad_framing", (b"{}",)
        )
    smuggled = (
        CL + TE,
        TE + CL,
        CL + b"Content-Length: 40\r\n",
        b"Transfer-Encoding: xchunked\r\n" + CL,
        b"Transfer-Encoding : chunked\r\n" + CL,
        b"X: a\nTransfer-Encoding: chunked\r\n" + CL,
    )
    for lines in smuggled:
        for body in (CHUNKS + one, b"0\r\n\r\n" + one, b"{}" + one):
            yield _bad(f"smuggling with {lines!r} and {body[:6]!r}", _post(lines, body=b"\r\n" + body))
            yield Case(
                f"the same second, {lines!r} and {body[:6]!r}",
                one + _post(lines, body=b"\r\n" + body),
                (200, 400),
                "bad_framing",
                (b"{}",),
            )


def cases() -> list[Case]:
    """All of them, each name and each input once."""
    families: Iterable[Iterator[Case]] = (
        _lengths(),
        _codings(),
        _chunks(),
        _bytes(),
        _lines(),
        _hosts(),
        _several(),
        _sizes(),
        _encodings(),
        _halves(),
    )
    found: dict[bytes, Case] = {}
    for family in families:
        for case in family:
            found.setdefault(case.raw, case)
    return list(found.values())


def short() -> list[bytes]:
    """Those inputs that a search may change thousands of times a second."""
    return [case.raw for case in cases() if len(case.raw) < SHORT_BYTES]


def text() -> str:
    """The corpus as a file: a case a line, bytes as the characters of the same number."""
    rows = (
        [c.name, c.raw.decode("latin-1"), c.statuses, c.code, [b.decode("latin-1") for b in c.bodies]] for c in cases()
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


def load(lines: Iterable[str]) -> list[Case]:
    """Read such a file."""
    rows = (json.loads(line) for line in lines)
    return [
        Case(n, raw.encode("latin-1"), tuple(s), code, tuple(b.encode("latin-1") for b in bodies))
        for n, raw, s, code, bodies in rows
    ]
