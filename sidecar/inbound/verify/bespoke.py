"""[P] What the schemes of single providers share: a keyed hash whose message and signature they find themselves."""

from __future__ import annotations

import abc
import hmac
from collections.abc import Sequence

import msgspec

from sidecar.inbound.verify.keys import Keys
from sidecar.inbound.verify.request import Accepted, Fetch, Headers, Rejected, Request, Secret, Verdict
from sidecar.inbound.verify.verdicts import no_match

__all__ = ["Claimed", "KeyedVerifier"]


class Claimed(msgspec.Struct, frozen=True):
    """What a request claims: that each of these messages has this signature, all with one secret.

    Attributes:
        algorithm: Of the hash.
        pairs: Spellings of a message, and its decoded signature.
    """

    algorithm: str
    pairs: list[tuple[tuple[bytes, ...], bytes]]


class KeyedVerifier(abc.ABC):
    """Reads a request with ``claimed`` and tries every secret."""

    reads: frozenset[bytes] = frozenset()
    masked: frozenset[bytes] = frozenset()
    tolerance_ms: int | None = None
    needs_url = False
    needs_body = True
    can_sign = True
    unverified = False
    fetches: tuple[Fetch, ...] | None = None

    def __init__(self, keys: Keys[bytes]) -> None:
        self._keys = keys

    @abc.abstractmethod
    def claimed(self, request: Request, now_ms: int) -> list[Claimed] | Rejected:
        """Read the request: claims of which one must hold; never raises."""

    @abc.abstractmethod
    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """See ``Verifier``."""

    @abc.abstractmethod
    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """See ``Verifier``."""

    def sign_body(self, body: bytes, secret: Secret, now_ms: int) -> bytes:
        """The body with a signature in it, for providers that put it there; for ``send`` only."""
        del secret, now_ms
        return body

    def covered(self, request: Request) -> bytes | None:
        """What the signature covers of an accepted body: the same for every way to write it. None = its very bytes."""
        del request
        return None

    def verify(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """Every message must have its signature; see ``Verifier``."""
        claimed = self.claimed(request, now_ms)
        if isinstance(claimed, Rejected):
            return claimed
        retired = False
        for secret in secrets:
            key = self._keys.of(secret.value)
            if isinstance(key, str) or not any(_holds(key, claim) for claim in claimed):
                continue
            if secret.active(now_ms):
                return Accepted(secret.id)
            retired = True
        return no_match(secrets, retired, now_ms)

    def secret_problem(self, value: bytes) -> str:
        """See ``Verifier``."""
        key = self._keys.of(value)
        return key if isinstance(key, str) else ""


def _holds(key: bytes, claimed: Claimed) -> bool:
    for messages, signature in claimed.pairs:
        macs = [hmac.digest(key, message, claimed.algorithm) for message in messages]
        if not any(hmac.compare_digest(mac, signature) for mac in macs):
            return False
    return True
