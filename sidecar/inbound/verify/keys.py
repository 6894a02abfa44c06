"""[P] From the text of a secret to the key of the hash.

The same looking text means different keys at different providers (``whsec_`` is part of the key at Stripe and is
decoded at Standard Webhooks); a wrong guess is the most frequent integration bug, so it is always an option.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from sidecar.inbound.verify.options import SecretEncoding

__all__ = ["Keys", "KeyOptions", "derive_key"]

K = TypeVar("K")


class KeyOptions(Protocol):
    """The options of a scheme that say how a secret becomes a key."""

    @property
    def secret_encoding(self) -> SecretEncoding:
        """How the rest is written."""
        ...

    @property
    def secret_prefix(self) -> str:
        """Cut off where it is there."""
        ...

    @property
    def secret_unprefixed(self) -> SecretEncoding | None:
        """How a secret without the prefix is written."""
        ...


class Keys(Generic[K]):
    """Remembers the keys of the secrets in use; a text instead of a key says what is wrong with the secret."""

    def __init__(self, derive: Callable[[bytes], K | str]) -> None:
        self._derive = derive
        self._known: dict[bytes, K | str] = {}

    def of(self, value: bytes) -> K | str:
        """The key of a secret, made once."""
        key = self._known.get(value)
        if key is None:
            if len(self._known) >= 64:  # only reloads bring new ones
                self._known.clear()
            key = self._known[value] = self._derive(value)
        return key


def derive_key(options: KeyOptions, value: bytes) -> bytes | str:
    """Make the key of a secret.

    Returns:
        The key; or, for the operator, what is wrong with the secret (never quoting it).
    """
    prefix = options.secret_prefix.encode()
    encoding = options.secret_encoding
    if value.startswith(prefix):
        value = value[len(prefix) :]
    elif options.secret_unprefixed is not None:
        encoding = options.secret_unprefixed
    try:
        if encoding == "hex":
            value = binascii.unhexlify(value)
        elif encoding == "base64":
            bare = value.rstrip(b"=")  # the padding is optional
            value = binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        return f"is not {encoding}" + (f" after {options.secret_prefix!r}" if prefix else "")
    return value or "is empty"
