"""[P] One configured inbound path, with everything prepared that a request needs of it."""

from __future__ import annotations

import msgspec

from sidecar.inbound.application import Head
from sidecar.inbound.dedup import DedupOptions, key_headers
from sidecar.inbound.forwarded import Forwarded, parse_public_url
from sidecar.inbound.verify import Handshake, HandshakeTerms, Secret, Verifier
from sidecar.model import ACK_DEFAULT, AckTemplate

__all__ = ["Source", "SourceOptions"]


class SourceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One configured inbound path.

    Attributes:
        name: Label in metrics, logs and events.
        path: Raw path, matched exactly and before any decoding.
        verifier: Its scheme, prepared.
        destinations: Where its events go; fixed for an event at acceptance.
        secrets: All that are configured, also those that are not active yet or no longer.
        methods: Allowed ones, upper case; a handshake's own are allowed besides.
        max_body: Bytes.
        dedup: What makes two requests the same event.
        ack: Answer to an accepted event.
        handshake: The preset's, if it has one.
        handshake_token: What a handshake must bring to be answered; empty = none is set.
        handshake_allow: What a handshake may be about.
        public_url: What senders see in front of the path; None = as the connection or a trusted proxy says.
        content_type: Media type that every request must have; None = any.
        allow_empty: Whether an empty body is an event.
        preset: For people.
    """

    name: str
    path: bytes
    verifier: Verifier
    destinations: tuple[str, ...]
    secrets: tuple[Secret, ...] = ()
    methods: frozenset[bytes] = frozenset({b"POST"})
    max_body: int = 1 << 20
    dedup: DedupOptions = DedupOptions()
    ack: AckTemplate = ACK_DEFAULT
    handshake: Handshake | None = None
    handshake_token: bytes = b""
    handshake_allow: frozenset[str] = frozenset()
    public_url: bytes | None = None
    content_type: bytes | None = None
    allow_empty: bool = True
    preset: str = ""


class Source:
    """A source, prepared.

    Raises:
        ValueError: When the dedup key or the public URL has none of its forms.
    """

    def __init__(self, options: SourceOptions) -> None:
        self.options = options
        self.name = options.name
        self.verifier = options.verifier
        self.secrets = options.secrets
        self.covered = options.verifier.covered
        self.fetches = options.verifier.fetches is not None
        self.handshake = options.handshake
        self.terms = HandshakeTerms(options.verifier, options.handshake_token, options.handshake_allow)
        self.dedup = options.dedup
        shake = options.handshake
        self.tries = frozenset(m.encode() for m in shake.methods) if shake is not None else frozenset[bytes]()
        self.handshake_methods = self.tries - options.methods
        self.allow = b", ".join(sorted(options.methods | self.handshake_methods))
        self.reads = options.verifier.reads.union(key_headers(options.dedup), (b"content-type",))
        self.content_type = None if options.content_type is None else options.content_type.lower()
        self.public = None if options.public_url is None else parse_public_url(options.public_url)

    def takes(self, head: Head) -> bool:
        """Whether a request has the media type that every one must have."""
        if self.content_type is None:
            return True
        return head.lower.get(b"content-type", b"").partition(b";")[0].strip().lower() == self.content_type

    def url(self, forwarded: Forwarded, path: bytes, query: bytes) -> bytes | None:
        """The public URL of a request, where the signature covers it."""
        if not self.verifier.needs_url:
            return None
        base = forwarded.proto + b"://" + forwarded.host if self.public is None else self.public.base
        return base + path + (b"?" + query if query else b"")
