"""[P] Verification: is this request what the provider sent, and is it fresh?

A source's options become a verifier once (``compile_scheme``); for each request it is asked twice: ``precheck`` with
the head alone, ``verify`` with the body. A preset is a provider's options as data; a handshake is a provider's way
to try a URL. To add a provider: one entry in ``presets``. To add a scheme: one class and one line in ``SCHEMES``.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.inbound.verify.handshakes import HANDSHAKES, Handshake, HandshakeAnswer, HandshakeTerms
from sidecar.inbound.verify.options import (
    AnyOptions,
    BasicOptions,
    EcdsaOptions,
    Ed25519Options,
    EntryOptions,
    HmacOptions,
    JwtOptions,
    NoneOptions,
    PaypalOptions,
    Rfc9421Options,
    SchemeOptions,
    SnsOptions,
    TimestampOptions,
    TokenOptions,
)
from sidecar.inbound.verify.presets import PRESETS, Preset
from sidecar.inbound.verify.request import (
    Accepted,
    Fetch,
    Fetched,
    Headers,
    Rejected,
    Request,
    Secret,
    Verdict,
    Verifier,
    active_secrets,
)
from sidecar.inbound.verify.schemes import SCHEMES, MissingExtra, compile_scheme
from sidecar.inbound.verify.send import sample_body, sign_request, signed_body

__all__ = [
    "HANDSHAKES",
    "PRESETS",
    "SCHEMES",
    "Accepted",
    "AnyOptions",
    "BasicOptions",
    "EcdsaOptions",
    "Ed25519Options",
    "EntryOptions",
    "Fetch",
    "Fetched",
    "Handshake",
    "HandshakeAnswer",
    "HandshakeTerms",
    "Headers",
    "HmacOptions",
    "JwtOptions",
    "MissingExtra",
    "NoneOptions",
    "PaypalOptions",
    "Preset",
    "Rejected",
    "Request",
    "Rfc9421Options",
    "SchemeOptions",
    "Secret",
    "SnsOptions",
    "TimestampOptions",
    "TokenOptions",
    "Verdict",
    "Verifier",
    "active_secrets",
    "compile_scheme",
    "sample_body",
    "sign",
    "sign_request",
    "signed_body",
    "verify",
]


def verify(options: SchemeOptions, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
    """Judge one request; for a stream of them keep the verifier of ``compile_scheme``.

    Raises:
        ValueError: When the options contradict each other.
    """
    return compile_scheme(options).verify(request, secrets, now_ms)


def sign(options: SchemeOptions, request: Request, secret: Secret, now_ms: int) -> Headers:
    """Sign one request as the provider would; see ``Verifier.sign``.

    Raises:
        ValueError: When the options contradict each other.
    """
    return compile_scheme(options).sign(request, secret, now_ms)
