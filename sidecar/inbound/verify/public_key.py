"""[P] Public-key signatures over parts of the request: the same template and headers as the keyed hash.

Only the holder of the private key can sign, so nothing here can. Needs the extra ``crypto``.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from sidecar.inbound.verify.digests import TAIL
from sidecar.inbound.verify.keyed_hash import Form, HmacVerifier
from sidecar.inbound.verify.keys import Keys, derive_key
from sidecar.inbound.verify.options import EcdsaOptions, Ed25519Options, Encoding, HmacOptions
from sidecar.inbound.verify.request import Headers, Request, Secret

__all__ = ["EcdsaVerifier", "Ed25519Verifier", "ecdsa_key", "ed25519_key"]

# Integers of up to 33 bytes each make 8 to 72 bytes.
_DER: dict[Encoding, re.Pattern[bytes]] = {
    "hex": re.compile(rb"(?:[0-9a-fA-F]{2}){8,72}"),
    "base64": re.compile(
        f"(?:[A-Za-z0-9+/]{{4}}){{2,24}}(?:[A-Za-z0-9+/]{TAIL[2]}==|[A-Za-z0-9+/]{{2}}{TAIL[1]}=)?".encode()
    ),
    "base64url": re.compile(
        f"(?:[A-Za-z0-9_-]{{4}}){{2,24}}(?:[A-Za-z0-9_-]{TAIL[2]}(?:==)?|[A-Za-z0-9_-]{{2}}{TAIL[1]}=?)?".encode()
    ),
}


class _PublicKeyVerifier(HmacVerifier):
    """Reads the request as the keyed hash does and asks a public key instead of computing a hash."""

    can_sign = False

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """Nobody but the provider can."""
        del request, secret, now_ms
        return []


class Ed25519Verifier(_PublicKeyVerifier):
    """Judges Ed25519; see ``Ed25519Options``. Source: RFC 8032."""

    def __init__(self, options: Ed25519Options) -> None:
        shape = HmacOptions(
            header=options.header,
            algorithm="sha512",  # as long as a signature: 64 bytes
            prefix=options.prefix,
            encoding=options.encoding,
            entries=options.entries,
            signed=options.signed,
            timestamp=options.timestamp,
            secret_encoding=options.secret_encoding,
            secret_prefix=options.secret_prefix,
        )
        super().__init__(shape)
        self._keys: Keys[Any] = Keys(lambda value: ed25519_key(derive_key(shape, value)))

    def _matches(self, key: Ed25519PublicKey, message: bytes, signatures: list[tuple[str, bytes]]) -> bool:
        return any(_verified(key.verify, signature, message) for _, signature in signatures)


class EcdsaVerifier(_PublicKeyVerifier):
    """Judges ECDSA; see ``EcdsaOptions``. Source: FIPS 186-5; the encoding is that of RFC 3279, 2.2.3."""

    def __init__(self, options: EcdsaOptions) -> None:
        super().__init__(
            HmacOptions(
                header=options.header,
                encoding=options.encoding,
                signed=options.signed,
                timestamp=options.timestamp,
            )
        )
        self._forms = [Form("ecdsa", b"", _DER[options.encoding])]
        self._keys: Keys[Any] = Keys(ecdsa_key)

    def _matches(self, key: EllipticCurvePublicKey, message: bytes, signatures: list[tuple[str, bytes]]) -> bool:
        return any(_verified(key.verify, signature, message, ECDSA(SHA256())) for _, signature in signatures)


def _verified(verify: Callable[..., None], *arguments: object) -> bool:
    try:
        verify(*arguments)
    except InvalidSignature:
        return False
    return True


def ed25519_key(raw: bytes | str) -> Ed25519PublicKey | str:
    """Make a key of its 32 bytes; a text says what is wrong."""
    if isinstance(raw, str):
        return raw
    return Ed25519PublicKey.from_public_bytes(raw) if len(raw) == 32 else "is not a public key of 32 bytes"


def ecdsa_key(value: bytes) -> EllipticCurvePublicKey | str:
    """Make a P-256 key of PEM or of base64 DER; a text says what is wrong."""
    try:
        if value.startswith(b"-----"):
            key = load_pem_public_key(value)
        else:
            key = load_der_public_key(binascii.a2b_base64(value, strict_mode=True))
    except (ValueError, UnsupportedAlgorithm):
        return "is not a public key (SPKI in base64, or PEM)"
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        return "is not a public key on the curve P-256"
    return key
