"""[P] The nouns of verification: what is judged, with which secrets, and the verdict.

Everything a scheme may look at is in ``Request``: raw bytes as they came, never decoded, never parsed. A verdict
is a value with a named reason; nothing in this package raises because of what a sender sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from sidecar.model import RejectReason

__all__ = [
    "Accepted",
    "Fetch",
    "Fetched",
    "Headers",
    "Rejected",
    "Request",
    "Secret",
    "Verdict",
    "Verifier",
    "active_secrets",
]

Headers = list[tuple[bytes, bytes]]


class Secret(msgspec.Struct, frozen=True):
    """One secret of a source, as the provider's page shows it; its repr never shows the value.

    Attributes:
        id: Name for people: metric label ``key_id`` and log field; never derived from the value.
        value: The text as bytes; a scheme's ``secret_encoding`` makes the key out of it.
        not_before_ms: First moment (wall clock) at which it counts; None = always has.
        not_after_ms: First moment at which it no longer counts; None = always will.
    """

    id: str
    value: bytes
    not_before_ms: int | None = None
    not_after_ms: int | None = None

    def __repr__(self) -> str:
        return f"Secret(id={self.id!r})"

    __str__ = __repr__

    def active(self, now_ms: int) -> bool:
        """Whether it counts at this moment."""
        return (self.not_before_ms is None or self.not_before_ms <= now_ms) and (
            self.not_after_ms is None or now_ms < self.not_after_ms
        )


def active_secrets(secrets: Sequence[Secret], now_ms: int) -> list[Secret]:
    """Those that count now, newest first: by the latest ``not_before``, else in the order given."""
    return sorted((s for s in secrets if s.active(now_ms)), key=lambda s: -(s.not_before_ms or 0))


class Fetch(msgspec.Struct, frozen=True):
    """Something on the network that a scheme needs to judge; ``verify`` never gets it itself.

    Attributes:
        key: Where it stands in ``Request.keys``.
        url: https only; the scheme has checked that its host is one of the provider's.
        post: Sent as JSON where it is not empty. May have a secret in it.
        newer: What is there already lacks what the request names: only a newer one helps.
        chain: It is a chain of certificates for this name, and an authority that the machine trusts vouches for it.
    """

    key: str
    url: str
    post: bytes = b""
    newer: bool = False
    chain: str = ""

    def __repr__(self) -> str:
        return f"Fetch(url={self.url!r})"


class Fetched(msgspec.Struct, frozen=True):
    """A document from the network.

    Attributes:
        data: As it came.
        at_ms: When, on the wall clock.
    """

    data: bytes
    at_ms: int


class Request(msgspec.Struct):
    """What a verifier may look at.

    Attributes:
        method: As received.
        path: Raw path, without the query.
        query: Raw query, without "?".
        headers: Lower-case name to the first value received.
        body: Exactly as received; empty while only the head is there.
        url: The public URL that the sender used, for schemes that sign it.
        keys: What was fetched from the network, by ``Fetch.key``; only for schemes that ask for it.
        parsed: What ``precheck`` read from the head, kept for ``verify``. Belongs to the verifier: copy a request
            with other headers without it.
        repeated: Names of the headers that came more than once: one that the request itself says is signed is doubtful.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes = b""
    url: bytes | None = None
    keys: Mapping[str, Fetched] | None = None
    parsed: object = None
    repeated: frozenset[bytes] = frozenset()


class Accepted(msgspec.Struct, frozen=True):
    """The request is what the holder of the secret ``key_id`` sent; empty when the scheme proves nothing."""

    key_id: str


class Rejected(msgspec.Struct, frozen=True):
    """The request is refused.

    Attributes:
        reason: Metric label and log field; the sender is never told.
        detail: Fixed text or numbers for people; never a value from the request or a secret.
        fetch: What may turn the verdict once it is in ``Request.keys``.
    """

    reason: RejectReason
    detail: str = ""
    fetch: Fetch | None = None


Verdict = Accepted | Rejected


class Verifier(Protocol):
    """One source's scheme with everything prepared. Holds no secrets: they are handed in, so rotation is a swap."""

    @property
    def reads(self) -> frozenset[bytes]:
        """Lower-case names of the headers it looks at; a repeated one is refused before verification."""
        ...

    @property
    def masked(self) -> frozenset[bytes]:
        """Lower-case names of those that carry a secret themselves, for every display."""
        ...

    @property
    def tolerance_ms(self) -> int | None:
        """How old a signed timestamp may be; None when there is none that ``sign`` could renew."""
        ...

    @property
    def needs_url(self) -> bool:
        """Whether the signature covers the public URL."""
        ...

    @property
    def needs_body(self) -> bool:
        """Whether the verdict waits for the body."""
        ...

    @property
    def can_sign(self) -> bool:
        """Whether ``sign`` can make what ``verify`` accepts."""
        ...

    @property
    def fetches(self) -> tuple[Fetch, ...] | None:
        """None when it never needs anything from the network; else what it surely will."""
        ...

    @property
    def unverified(self) -> bool:
        """Whether it accepts everything and proves nothing."""
        ...

    @property
    def covered(self) -> Callable[[Request], bytes | None] | None:
        """Gives what the signature covers of an accepted body that can be written in several ways (None: its bytes).

        None where there is only one way: the very bytes are signed.
        """
        ...

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """Refuse what the head alone decides; None means that the body is worth reading."""
        ...

    def verify(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """Judge the whole request at this moment (wall clock, milliseconds)."""
        ...

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """The headers to set so that ``verify`` accepts; empty when it cannot be done."""
        ...

    def secret_problem(self, value: bytes) -> str:
        """What is wrong with a secret for this scheme, for the operator; empty when nothing is."""
        ...
