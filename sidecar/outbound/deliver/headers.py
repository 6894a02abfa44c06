"""[P] The request head that a backend gets: which headers pass, which are ours.

A head has three parts, made as rarely as possible: what belongs to the event (``forward_block``, shared by all its
destinations and tries), what belongs to the destination (``Template``), and what belongs to this one try
(``build_head`` puts them together). Nothing here decides whether or when to send.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Iterable, Sequence

import msgspec

from sidecar.model import Delivery, Event
from sidecar.outbound.deliver.url import Target, request_target

__all__ = ["Template", "build_head", "check_header", "compile_template", "forward_block"]

Header = tuple[bytes, bytes]

# Hop-by-hop by RFC 9110, 7.6.1 and RFC 2616, 13.5.1; framing, which we write ourselves; and what only speaks about
# the sender's own connection to us.
_PER_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade http2-settings host content-length expect accept-encoding".split()
)
# What poses as a proxy's word about the sender. Ours is added; anybody can write the rest.
_PROXY_WORDS = frozenset(b"forwarded x-real-ip x-original-url x-rewrite-url".split())
_PROXY_PREFIX = b"x-forwarded-"
_OWN_PREFIX = b"webhook-sidecar-"

_NAME = re.compile(rb"[A-Za-z0-9-]+")  # backends fold "_" and "-" together, so other token characters stay out
_LINE_BREAKS = re.compile(rb"[\r\n\0]")
_PLAIN_CONNECTION = (b"keep-alive", b"close")  # what nearly every Connection header says: no name of a header
_METHODS = frozenset((b"POST", b"PUT", b"PATCH", b"GET", b"HEAD", b"DELETE", b"OPTIONS"))
_BODILESS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"))  # no Content-Length: 0 for these
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_KEY_START = b"Idempotency-Key: "
_OURS = b"Webhook-Sidecar-Event-Id: %b\r\nWebhook-Sidecar-Source: %b\r\nWebhook-Sidecar-Received-At: %b.%03dZ\r\n"
_ATTEMPTS = tuple(b"Webhook-Sidecar-Attempt: %d\r\n" % n for n in range(33))


class Template(msgspec.Struct, frozen=True):
    """What is the same in every head of one destination.

    Attributes:
        target: Where the request goes.
        line_end: From behind the request target to the end of the Host header.
        key_end: Rest of the Idempotency-Key's line behind the event id.
        own: The destination's own headers as they are sent.
        own_names: Their names in lower case.
    """

    target: Target
    line_end: bytes
    key_end: bytes
    own: bytes
    own_names: frozenset[bytes]


def compile_template(target: Target, name: str, host: str | None, headers: Iterable[Header]) -> Template:
    """Prepare a destination.

    Args:
        target: Its URL.
        name: Its name, part of the Idempotency-Key.
        host: Value of the Host header; None = the URL's.
        headers: Its own headers; they replace same-named ones of the event and of ours.

    Raises:
        ValueError: a name or value cannot stand in a request, or is not for a configuration to say.
    """
    headers = list(headers)
    for header in headers:
        check_header(*header)
    authority = target.authority if host is None else host.encode()
    if re.fullmatch(rb"[\x21-\x7e]+", authority) is None:
        raise ValueError("expected a host of visible ASCII characters")
    own_names = frozenset(header.lower() for header, _ in headers)
    return Template(
        target,
        b" HTTP/1.1\r\nHost: %b\r\n" % authority,
        b"-%b\r\n" % name.encode(),
        b"".join(b"%b: %b\r\n" % header for header in headers),
        own_names,
    )


def check_header(name: bytes, value: bytes) -> None:
    """Make sure that a header of the configuration can be sent.

    Raises:
        ValueError: with what was expected; never the value, which may be a secret.
    """
    if _TOKEN.fullmatch(name) is None:
        raise ValueError("expected a header name of letters, digits and -")
    lower = name.lower()
    if lower in _PER_HOP or lower.startswith(_OWN_PREFIX):
        hint = "; for Host there is the setting host" if lower == b"host" else ""
        raise ValueError(f"expected a header that is not written by webhook-sidecar itself{hint}")
    if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value) is not None or value != value.strip(b" \t"):
        raise ValueError("expected a header value without control characters and without spaces around it")


class _LineStarts(dict[bytes, bytes | None]):
    """Header name to ``Name: ``; b"" for one that is dropped, None for Connection. Names are few, so remembered."""

    def __missing__(self, name: bytes) -> bytes | None:
        if len(self) >= 2048:
            self.clear()  # somebody makes names up
        lower = name.lower()
        start: bytes | None
        if lower == b"connection":
            start = None
        elif (
            _NAME.fullmatch(name) is None
            or lower in _PER_HOP
            or lower in _PROXY_WORDS
            or lower.startswith((_PROXY_PREFIX, _OWN_PREFIX))
        ):
            start = b""
        elif lower == b"idempotency-key":
            start = _KEY_START  # in one spelling, so that it is found again without a search for all of them
        else:
            start = name + b": "
        self[name] = start
        return start


_LINE_STARTS = _LineStarts()


@functools.lru_cache(maxsize=16)
def _second(epoch_s: int) -> bytes:
    return dt.datetime.fromtimestamp(epoch_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _named_in_connection(headers: Sequence[Header]) -> frozenset[bytes]:
    """Collect, in lower case, what Connection headers name as meant for one hop only."""
    return frozenset(
        token.strip(b" \t").lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    )


def _sendable(value: bytes) -> bool:
    """Whether a value is UTF-8 and stays on its line (one from an edited file may not)."""
    if _LINE_BREAKS.search(value) is not None:
        return False
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def forward_block(event: Event) -> bytes:
    """Build the header lines that every try at every destination shares, and keep them on the event.

    The sender's end-to-end headers in order, case and repeats as received, then ours. Dropped: hop-by-hop headers
    and whatever ``Connection`` names, framing, Host, Expect, Accept-Encoding, the words of proxies, names outside
    ``[A-Za-z0-9-]``, our own prefix, values that are not UTF-8.

    Returns:
        Lines that end in CRLF; behind them, where the sender gave no Idempotency-Key, the beginning of one, which
        the destination ends with its own name. The cache makes repeated calls free.

    Source: RFC 9110, 7.6.1 (Connection).
    """
    cached = event.forward_head
    if cached is not None:
        return cached
    lines: list[bytes] = []
    starts = _LINE_STARTS
    names_others = False
    for name, value in event.headers:
        start = starts[name]
        if start:
            lines.append(start + value)
        elif start is None and value.lower() not in _PLAIN_CONNECTION:
            names_others = True
    theirs = len(lines)
    if event.forwarded_for:
        lines.append(b"X-Forwarded-For: " + event.forwarded_for)
    if event.forwarded_proto:
        lines.append(b"X-Forwarded-Proto: " + event.forwarded_proto)
    if event.forwarded_host:
        lines.append(b"X-Forwarded-Host: " + event.forwarded_host)
    lines.append(b"")
    block = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if (
        names_others
        or not block.isascii()
        or block.count(b"\n") != breaks
        or block.count(b"\r") != breaks
        or b"\0" in block
    ):
        # The slow and careful way, for the few events that need it.
        named = _named_in_connection(event.headers)
        passed = [line for line in lines[:theirs] if line.partition(b":")[0].lower() not in named] + lines[theirs:]
        block = b"\r\n".join(line for line in passed if _sendable(line))
    seconds, ms = divmod(event.received_at_ms, 1000)
    event_id = event.id.encode()
    keyed = block.startswith(_KEY_START) or b"\n" + _KEY_START in block
    block += _OURS % (event_id, event.source.encode(), _second(seconds), ms)
    if not keyed:
        block += _KEY_START + event_id
    event.forward_head = block
    return block


@functools.lru_cache(maxsize=64)
def _lines_of(names: frozenset[bytes]) -> re.Pattern[bytes]:
    """Match every line of a block, the open one at its end too, whose header has one of these lower-case names."""
    return re.compile(rb"(?im)^(?:%b):[^\n]*(?:\n|\Z)" % b"|".join(re.escape(name) for name in sorted(names)))


def build_head(template: Template, delivery: Delivery, resigned: Sequence[Header] = ()) -> bytes:
    """Build the whole request head of one try.

    Args:
        template: The destination's.
        delivery: The event and which try this is: number ``attempts + 1`` of round ``round``.
        resigned: Fresh signature headers; they replace same-named ones of the event, never the destination's own.

    Returns:
        Request line and headers with the empty line that ends them.
    """
    event = delivery.event
    block = event.forward_head
    if block is None:
        block = forward_block(event)
    number = delivery.attempts + 1
    extra = template.own
    dropped = template.own_names
    if resigned:
        fresh = [
            header
            for header in resigned
            if header[0].lower() not in dropped and _LINE_STARTS[header[0]] and _sendable(header[1])
        ]
        extra += b"".join(b"%b: %b\r\n" % header for header in fresh) + b"Webhook-Sidecar-Resigned: true\r\n"
        dropped = dropped.union(name.lower() for name, _ in fresh)
    if dropped:
        block = _lines_of(dropped).sub(b"", block)
    body = event.body
    method = event.method
    if method not in _METHODS and _TOKEN.fullmatch(method) is None:
        method = b"POST"  # only an edited file can hold such a thing; it must not write lines of its own
    parts = [method, b" ", request_target(template.target, event.path, event.query), template.line_end]
    if body or method not in _BODILESS:
        parts.append(b"Content-Length: %d\r\n" % len(body))
    parts.append(block)
    if not block.endswith(b"\n"):
        parts.append(template.key_end)
    parts.append(_ATTEMPTS[number] if number < len(_ATTEMPTS) else b"Webhook-Sidecar-Attempt: %d\r\n" % number)
    if delivery.round:
        parts.append(b"Webhook-Sidecar-Replay: %d\r\n" % delivery.round)
    parts += (extra, b"\r\n")
    return b"".join(parts)
