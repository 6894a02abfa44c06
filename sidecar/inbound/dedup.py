"""[P] Which bytes identify an event: the key a provider keeps on its retries, and the claim made of it.

Runs after verification only. What cannot be read without doubt is not read: the event is then accepted without a
key (or by its body, where the source says so), since refusing what is correctly signed makes honest senders retry
for days.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, Literal

import msgspec

from sidecar.inbound.verify.jsonfield import parse_pointer, read_field
from sidecar.inbound.verify.signed import header_names, lower
from sidecar.journal.types import Claim

__all__ = ["DedupOptions", "claim", "extract", "key_headers", "key_parts", "printable_key"]

MAX_RATIO: Final = 100
"""How many times larger than received an inflated body may be."""

_PRINTABLE_CHARS: Final = 256
_JSON_STARTS: Final = frozenset({b"{", b"[", b" ", b"\t", b"\r", b"\n"})  # of a document that has fields
_BETWEEN: Final = re.compile(" (?=(?:header|json):)")

_Place = tuple[Literal["header", "json", "all", "body", "none"], tuple[bytes, ...], tuple[str, ...]]


class DedupOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a request the same as an earlier one of its source.

    Attributes:
        key: ``header:NAME`` (``NAME|OTHER``: the first one present), ``json:/pointer``, several of these with blanks
            between (all must be there), ``body`` or ``none``.
        ttl_s: How long a key is remembered, in seconds.
        missing: Without a key: ``accept`` (not deduplicated) or identify by the ``body``.
        redrive_dead: A repeat makes this event's dead deliveries pending again.
        key_signed: The signature covers the key, so the key alone is the identity; else key and body together are,
            and nobody can claim a key for somebody else's event.
    """

    key: str = "none"
    ttl_s: float = 86400.0
    missing: Literal["accept", "body"] = "accept"
    redrive_dead: bool = True
    key_signed: bool = False


@functools.lru_cache(maxsize=1024)
def _place(key: str) -> _Place:
    parts = key_parts(key)
    if len(parts) > 1:
        places = [_place(part) for part in parts]
        return ("all", tuple(name for place in places for name in place[1]), parts)
    kind, _, rest = key.partition(":")
    if kind == "header" and rest:
        return ("header", lower(header_names(rest)), ())
    if kind == "json":
        return ("json", (), parse_pointer(rest))
    if key == "body":
        return ("body", (), ())
    if key == "none":
        return ("none", (), ())
    raise ValueError(f"{key!r} is not header:NAME, json:/pointer, body or none")


def key_parts(key: str) -> tuple[str, ...]:
    """The places that make up a key; most have one."""
    return tuple(_BETWEEN.split(key))


def key_headers(options: DedupOptions) -> tuple[bytes, ...]:
    """Lower-case names of the headers that the key is read from.

    Raises:
        ValueError: When ``options.key`` has none of its forms.
    """
    return _place(options.key)[1]


def extract(
    options: DedupOptions,
    headers: Mapping[bytes, bytes],
    body: bytes,
    *,
    max_inflated: int = 1 << 20,
) -> bytes | None:
    """Read the key of a verified request.

    Args:
        options: The source's.
        headers: Lower-case name to value.
        body: As received; for ``body`` it is the key as it is. One in gzip or deflate is inflated for reading only.
        max_inflated: Bytes an inflated body may have; the source's body limit.

    Returns:
        The raw key; None when there is none: missing, empty, or not readable without doubt.
    """
    kind, names, path = _place(options.key)
    if kind == "header":
        for name in names:
            value = headers.get(name)
            if value:
                return value
        return None
    if kind == "json":
        text = body if body[:1] in _JSON_STARTS else _inflate(body, max_inflated)
        found = None if text is None else read_field(text, path)
        return None if found is None or found == "" else str(found).encode()
    if kind == "all":
        keys = [
            extract(msgspec.structs.replace(options, key=part), headers, body, max_inflated=max_inflated)
            for part in path
        ]
        # Blanks inside are written otherwise, so that no two lists of keys make the same text.
        return None if None in keys else b" ".join(k.replace(b"%", b"%25").replace(b" ", b"%20") for k in keys if k)
    return body if kind == "body" else None


def claim(
    source: str, options: DedupOptions, key: bytes | None, body: bytes, covered: bytes | None = None
) -> Claim | None:
    """Make the claim that the journal stores with the event.

    Args:
        source: Keys of different sources never meet.
        options: The source's.
        key: What ``extract`` found.
        body: As received.
        covered: What the signature covers of a body that can be written in several ways (a form); it stands for the
            body as identity, and for a signed key that could not be read. None = the very bytes are signed.

    Returns:
        None when the event is not deduplicated.
    """
    kind = _place(options.key)[0]
    if kind == "none":
        return None
    if key is None:
        if options.missing != "body" and not (options.key_signed and covered is not None):
            return None
        kind = "body"
    body_digest = blake2b(body, digest_size=16).digest()
    # One letter per kind of identity and everything of fixed length first, so that no two can be read as each other.
    if kind == "body":
        identity = b"b" + (body_digest if covered is None else blake2b(covered, digest_size=16).digest())
    elif options.key_signed:
        identity = b"s" + (key or b"")
    else:
        identity = b"k" + body_digest + (key or b"")
    name = source.encode()
    digest = blake2b(b"%d:%b%b" % (len(name), name, identity), digest_size=16).digest()
    return Claim(digest, body_digest[:4], int(options.ttl_s * 1000), options.redrive_dead)


def printable_key(key: bytes | None) -> str:
    """A key for people: itself where it is printable ASCII of at most 256, else a digest of it; empty for None."""
    if key is None:
        return ""
    if len(key) <= _PRINTABLE_CHARS and key.isascii():
        text = key.decode()
        if text.isprintable():
            return text
    return "blake2b:" + blake2b(key, digest_size=16).hexdigest()


def _inflate(body: bytes, limit: int) -> bytes | None:
    """Undo gzip or deflate, told apart by the first bytes; None for a bomb, garbage, or anything after the end.

    Content-Encoding is not asked: no signature covers it, and whoever may choose how a signed body is read could have
    it read as garbage, and so send it again and again as an event without a key.
    """
    bits = -15
    if body[:2] == b"\x1f\x8b":  # RFC 1952, 2.3.1
        bits = 31
    elif body and body[0] & 0x0F == 8:  # RFC 9110, 8.4.1.2: "deflate" means zlib format; some send the bare stream
        bits = 15
    room = min(limit, MAX_RATIO * len(body))
    engine = zlib.decompressobj(bits)
    try:
        text = engine.decompress(body, room + 1)
    except zlib.error:
        return None
    return text if engine.eof and not engine.unused_data and len(text) <= room else None
