"""[P] How a digest is written in a header: hex, base64 or base64url, and only in one way each."""

from __future__ import annotations

import binascii
import re
from typing import Final

from sidecar.inbound.verify.options import Algorithm, Encoding

__all__ = ["TAIL", "decode_digest", "digest_pattern", "encode_digest"]

_DIGEST_BYTES: Final = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
# By padding characters: the last character carries spare bits. Only zeros there are canonical, so that no second
# spelling of a signature passes.
TAIL: Final = {0: "", 1: "[AEIMQUYcgkosw048]", 2: "[AQgw]"}
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")


def digest_pattern(encoding: Encoding, algorithm: Algorithm) -> re.Pattern[bytes]:
    """The exact form of a digest: right length, right alphabet, nothing round it.

    Hex is taken in either case, base64 only with its padding, base64url with it or without.
    """
    size = _DIGEST_BYTES[algorithm]
    if encoding == "hex":
        return re.compile(b"[0-9a-fA-F]{%d}" % (2 * size))
    padding = -size % 3
    tail = TAIL[padding]
    whole = (size * 8 + 5) // 6 - (1 if tail else 0)
    alphabet, end = ("A-Za-z0-9+/", "") if encoding == "base64" else ("A-Za-z0-9_-", "?")
    return re.compile(f"[{alphabet}]{{{whole}}}{tail}(?:={{{padding}}}){end}".encode())


def decode_digest(encoding: Encoding, text: bytes) -> bytes:
    """Decode what ``digest_pattern`` matched."""
    if encoding == "hex":
        return binascii.unhexlify(text)
    if encoding == "base64url":
        text = text.translate(_FROM_URL)
        text += b"=" * (-len(text) % 4)
    return binascii.a2b_base64(text, strict_mode=True)


def encode_digest(encoding: Encoding, mac: bytes) -> bytes:
    """Write a digest as a provider would."""
    if encoding == "hex":
        return mac.hex().encode()
    text = binascii.b2a_base64(mac, newline=False)
    return text if encoding == "base64" else text.translate(_TO_URL).rstrip(b"=")
