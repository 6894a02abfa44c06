"""[P] From the text of a secret to the key of the hash.

The same looking text means different keys at different providers (``whsec_`` is part of the key at Stripe and is
decoded at Standard Webhooks); a wrong guess is the most frequent integration bug, so it is always an option.
"""

from __future__ import annotations

import binascii

from sidecar.inbound.verify.options import HmacOptions

__all__ = ["derive_key"]


def derive_key(options: HmacOptions, value: bytes) -> bytes | str:
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
