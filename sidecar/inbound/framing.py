"""[P] The gate: whether the raw bytes of a request head can be read in one way only.

``connection`` asks it before and after llhttp has tokenised the same bytes; it never trusts llhttp's
reading and never repairs. Whatever is in doubt is refused by name. Chunked bodies: ``chunked``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sidecar.model import Refusal

__all__ = [
    "CHUNKED",
    "HEAD",
    "HEADERS_LIMIT",
    "HEAD_LIMIT",
    "LINE_LIMIT",
    "PADDED_HEAD",
    "body_length",
    "first_values",
    "has_host",
    "has_odd_target",
    "is_simple_request",
    "keeps_alive",
    "oversize",
    "split_target",
    "unread_head",
]

LINE_LIMIT = 8 * 1024  # bytes of one header line, or of the target
HEAD_LIMIT = 16 * 1024  # bytes of the whole head, its blank line included
HEADERS_LIMIT = 128
CHUNKED = -1  # what body_length says for a chunked body

_METHODS = (b"POST", b"PUT", b"PATCH", b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")

# Possessive repeats ("++", "*+") never step back, so the time is linear in the head whatever is in it.
_NAME = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # RFC 9110, 5.6.2 (token)
_VALUE = rb"[ -~\x80-\xff\t]*+"  # RFC 9110, 5.5: visible, obs-text, space, tab
_METHOD = b"|".join(_METHODS)
_TARGET = rb"[!-\"$-~]++"  # printable ASCII but "#": a fragment is never sent

HEAD = re.compile(rb"(%b) (%b) HTTP/1\.([01])\r\n(?:%b:%b(?<![ \t])\r\n)*+\r\n" % (_METHOD, _TARGET, _NAME, _VALUE))
"""A whole head in the only spelling that is taken: groups method, target, minor version.

Source: RFC 9112, 3 (request line), 5 (fields; no space before the colon, no folding), 2.2 (no bare LF or CR).
"""

PADDED_HEAD = re.compile(HEAD.pattern.replace(rb"(?<![ \t])", b""))
"""The same, with white space allowed behind the values; rare, and cheaper to look for when ``HEAD`` has failed."""

_REQUEST_LINE = re.compile(rb"(?:%b) %b HTTP/([0-9])\.([0-9])" % (_METHOD, _TARGET))
_SIMPLE_LINE = re.compile(rb"(?:%b) %b" % (_METHOD, _TARGET))
_BEGINNING = re.compile(
    rb"(?:%b) |(?:%b)\Z" % (_METHOD, b"|".join(m[:i] for m in _METHODS for i in range(1, len(m) + 1)))
)
_FIELD = re.compile(rb"(%b):%b" % (_NAME, _VALUE))
_SPACED_NAME = re.compile(rb"%b[ \t]+:" % _NAME)
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{0,5}+)?")  # RFC 9110, 7.2
_ABSOLUTE = re.compile(rb"https?://([^/?]++)([^?]*+)(?:\?(.*+))?", re.IGNORECASE)
# Codings of the registry that we know and do not undo (RFC 9112, 7): told apart from nonsense.
_CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"br", b"zstd"})


def unread_head(data: bytes, *, first: bool = True) -> Refusal | None:
    """Say what is wrong with bytes that ``HEAD`` does not match.

    Args:
        data: From the first byte of the head on; may go on behind it.
        first: Whether these are the connection's first bytes; behind a message what is no request line at all
            counts as surplus of that message.

    Returns:
        None when nothing is wrong so far: the rest of the head is to come.
    """
    end = data.find(b"\r\n\r\n")
    complete = end >= 0
    head = data[: end + 2] if complete else data
    if not _BEGINNING.match(head):
        return Refusal.BAD_REQUEST if first and head[:1] not in {b"\r", b"\n"} else Refusal.BAD_FRAMING
    if head.count(b"\n") != head.count(b"\r\n"):
        return Refusal.BAD_FRAMING
    limit = oversize(head + b"\r\n" if complete else head)
    if limit is not None:
        return limit
    line, met, fields = head.partition(b"\r\n")
    if met:
        fault = _line_fault(line)
        if fault is not None:
            return fault
    if not complete:
        return None
    return _field_fault(fields)


def _line_fault(line: bytes) -> Refusal | None:
    m = _REQUEST_LINE.fullmatch(line)
    if m is None:
        return Refusal.HTTP_VERSION if is_simple_request(line) else Refusal.BAD_REQUEST
    return None if m[1] == b"1" and m[2] in {b"0", b"1"} else Refusal.HTTP_VERSION


def _field_fault(fields: bytes) -> Refusal:
    for line in fields.split(b"\r\n")[:-1]:
        if not _FIELD.fullmatch(line):
            if line[:1] in {b" ", b"\t"} or _SPACED_NAME.match(line):
                return Refusal.BAD_FRAMING
            return Refusal.BAD_HEADER
    return Refusal.BAD_FRAMING  # not reached while HEAD and these rules agree; a doubt if they do not


def is_simple_request(data: bytes) -> bool:
    """Whether the first line is an HTTP/0.9 request: such a client reads any answer as a document, so it gets none."""
    return _SIMPLE_LINE.fullmatch(data.partition(b"\r\n")[0]) is not None


def oversize(head: bytes) -> Refusal | None:
    """Measure a head, complete or not, against the limits on lines and total.

    It begins with a method and a space. The number of headers is not counted here.
    """
    line, _, fields = head.partition(b"\r\n")
    if len(line) > LINE_LIMIT and len(line.split(b" ", 2)[1]) > LINE_LIMIT:
        return Refusal.TARGET_TOO_LONG
    if len(head) > HEAD_LIMIT:
        return Refusal.HEADERS_TOO_LARGE
    # A last "\r" may be the first half of the line's end.
    if len(fields) > LINE_LIMIT and any(len(f) > LINE_LIMIT for f in fields.removesuffix(b"\r").split(b"\r\n")):
        return Refusal.HEADERS_TOO_LARGE
    return None


def first_values(headers: Iterable[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], frozenset[bytes]]:
    """Map lower-case names to their first values, and name those that came more than once."""
    lower: dict[bytes, bytes] = {}
    repeated = set()
    for name, value in headers:
        key = name.lower()
        if key in lower:
            repeated.add(key)
        else:
            lower[key] = value
    return lower, frozenset(repeated)


def body_length(lower: Mapping[bytes, bytes], repeated: frozenset[bytes], minor: bytes) -> int | Refusal:
    """Decide how long the body is, if there is only one way to read that.

    Args:
        lower: Lower-case header names to first values.
        repeated: Names that came more than once.
        minor: Minor version, ``b"0"`` or ``b"1"``.

    Returns:
        Bytes, 0 or more; ``CHUNKED``; or why it is refused.

    Source: RFC 9112, 6.1 and 6.3, read strictly: both headers, any repetition and any list are refused.
    """
    coding = lower.get(b"transfer-encoding")
    length = lower.get(b"content-length")
    if coding is None:
        if length is None:
            return 0
        # Digits only, below 2**63, and no leading zero, which may mean octal to somebody.
        if not length.isdigit() or len(length) > 18 or (length[0] == 48 and len(length) > 1):
            return Refusal.BAD_FRAMING
        return Refusal.BAD_FRAMING if b"content-length" in repeated else int(length)
    if length is not None or minor == b"0" or b"transfer-encoding" in repeated:
        return Refusal.BAD_FRAMING
    if coding.lower() == b"chunked":
        return CHUNKED
    *others, last = [part.strip(b" \t") for part in coding.lower().split(b",")]
    if last == b"chunked" and others and all(other in _CODINGS for other in others):
        return Refusal.UNSUPPORTED_TRANSFER_CODING
    return Refusal.BAD_FRAMING


def has_host(lower: Mapping[bytes, bytes], repeated: frozenset[bytes], minor: bytes) -> bool:
    """Whether there is exactly one well-formed Host; only HTTP/1.0 may leave it out.

    Source: RFC 9112, 3.2.
    """
    host = lower.get(b"host")
    if host is None:
        return minor == b"0"
    return _HOST.fullmatch(host) is not None and b"host" not in repeated


def keeps_alive(lower: Mapping[bytes, bytes], repeated: frozenset[bytes]) -> bool:
    """Whether an HTTP/1.1 sender may go on using the connection."""
    value = lower.get(b"connection")
    if value is not None and (
        b"connection" in repeated or b"close" in [token.strip(b" \t") for token in value.lower().split(b",")]
    ):
        return False
    return b"proxy-connection" not in lower


def has_odd_target(method: bytes, target: bytes) -> bool:
    """Whether a target that does not begin with "/" is of no form that the method, not CONNECT, allows.

    Source: RFC 9112, 3.2.
    """
    if target == b"*":
        return method != b"OPTIONS"
    return _ABSOLUTE.fullmatch(target) is None


def split_target(target: bytes, host: bytes | None, authorities: frozenset[bytes]) -> tuple[bytes, bytes] | Refusal:
    """Take a target that does not begin with "/" apart into raw path and raw query.

    Args:
        target: As received; ``has_odd_target`` had nothing against it.
        host: Value of Host.
        authorities: Lower-case ``host[:port]`` that are ours; empty = whatever Host says.

    Source: RFC 9112, 3.2.2 (absolute-form; its authority is to equal Host), 3.2.4 (asterisk-form).
    """
    m = _ABSOLUTE.fullmatch(target)
    if m is None:
        return target, b""
    authority, path, query = m.groups(b"")
    authority = authority.lower()
    if authority != (host or b"").lower() or (authorities and authority not in authorities):
        return Refusal.MISDIRECTED
    return path or b"/", query
