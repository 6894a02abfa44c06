"""[P] The schemes: how a request proves that the holder of a secret sent it.

``compile_scheme`` turns options into a verifier with everything prepared, since it runs for every request. Rules
that hold for all: raw bytes, constant-time comparison, every listed signature against every secret, and every
malformed value a named ``Rejected``, never an exception.

Source: the providers' own descriptions; see ``presets``.
"""

from __future__ import annotations

import abc
import binascii
import hmac
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from sidecar.inbound.verify.keyed_hash import HmacVerifier
from sidecar.inbound.verify.options import BasicOptions, NoneOptions, SchemeOptions, TokenOptions
from sidecar.inbound.verify.request import Accepted, Fetch, Headers, Rejected, Request, Secret, Verdict, Verifier
from sidecar.inbound.verify.signed import header_names, lower
from sidecar.inbound.verify.verdicts import MALFORMED, MAX_ENTRY_BYTES, MISSING, first_value, no_match, present_name

__all__ = ["SCHEMES", "MissingExtra", "compile_scheme"]


class _Presented(abc.ABC):
    """What token and basic share: the head shows the secret itself, so it decides everything."""

    tolerance_ms: int | None = None
    needs_url = False
    needs_body = False
    can_sign = True
    unverified = False
    covered = None
    fetches: tuple[Fetch, ...] | None = None

    def __init__(self, header: str) -> None:
        self._names = header_names(header)
        self._lower = lower(self._names)
        self.reads = self.masked = frozenset(self._lower)

    @abc.abstractmethod
    def shown(self, request: Request) -> bytes | Rejected:
        """The secret that the request shows."""

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """Judge everything; see ``Verifier``."""
        verdict = self.verify(request, secrets, now_ms)
        return verdict if isinstance(verdict, Rejected) else None

    def verify(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """Compare with every secret; see ``Verifier``."""
        shown = self.shown(request)
        if isinstance(shown, Rejected):
            return shown
        retired = False
        for secret in secrets:
            if secret.value and hmac.compare_digest(shown, secret.value):
                if secret.active(now_ms):
                    return Accepted(secret.id)
                retired = True
        return no_match(secrets, retired, now_ms)


class TokenVerifier(_Presented):
    """Judges a header that equals the secret; see ``TokenOptions``."""

    def __init__(self, options: TokenOptions) -> None:
        super().__init__(options.header)
        self._prefix = options.prefix.encode()

    def shown(self, request: Request) -> bytes | Rejected:
        """The header's value without the prefix."""
        value = first_value(request, self._lower)
        if not value:
            return MISSING
        if len(value) > MAX_ENTRY_BYTES or not value.startswith(self._prefix):
            return MALFORMED
        return value[len(self._prefix) :]

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """Show the token."""
        del now_ms
        return [(present_name(request, self._names), self._prefix + secret.value)]

    def secret_problem(self, value: bytes) -> str:
        """See ``Verifier``."""
        if not value:
            return "is empty"
        return "" if value.isascii() and value.decode().isprintable() else "has characters that no header carries"


class BasicVerifier(_Presented):
    """Judges HTTP Basic credentials; see ``BasicOptions``. Source: RFC 7617."""

    def __init__(self, options: BasicOptions) -> None:
        del options
        super().__init__("Authorization")

    def shown(self, request: Request) -> bytes | Rejected:
        """The ``user:password`` of the header; equal as a whole is equal in both, a user has no colon."""
        value = first_value(request, self._lower)
        if not value:
            return MISSING
        if len(value) > MAX_ENTRY_BYTES or value[:6].lower() != b"basic ":
            return MALFORMED
        try:
            return binascii.a2b_base64(value[6:], strict_mode=True)
        except binascii.Error:
            return MALFORMED

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """Show the credentials."""
        del request, now_ms
        return [(b"Authorization", b"Basic " + binascii.b2a_base64(secret.value, newline=False))]

    def secret_problem(self, value: bytes) -> str:
        """See ``Verifier``."""
        return "" if b":" in value[1:] else 'is not of the form "user:password"'


class NoneVerifier:
    """Believes everybody; see ``NoneOptions``."""

    reads: frozenset[bytes] = frozenset()
    masked: frozenset[bytes] = frozenset()
    tolerance_ms: int | None = None
    needs_url = False
    needs_body = False
    can_sign = False
    unverified = True
    covered = None
    fetches: tuple[Fetch, ...] | None = None

    def __init__(self, options: NoneOptions) -> None:
        if not options.allow_unverified:
            raise ValueError("allow_unverified: must be true, so that nobody chooses this by accident")

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """Refuse nothing."""
        del request, secrets, now_ms
        return None

    def verify(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """Accept, proving nothing."""
        del request, secrets, now_ms
        return Accepted("")

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """There is nothing to sign."""
        del request, secret, now_ms
        return []

    def secret_problem(self, value: bytes) -> str:
        """See ``Verifier``."""
        del value
        return ""


def _lazy(module: str, name: str) -> Callable[[Any], Verifier]:
    """Import a scheme's module when the first such source is compiled: most daemons need none of them."""

    def make(options: Any) -> Verifier:
        try:
            found = importlib.import_module(f"sidecar.inbound.verify.{module}")
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"scheme: needs the package {error.name}: pip install 'webhook-sidecar[crypto]'"
            ) from error
        verifier: Verifier = getattr(found, name)(options)
        return verifier

    return make


class MissingExtra(ValueError):
    """A scheme needs packages that are not installed."""


#: Scheme name in the configuration -> what makes the verifier of its options. The only registry of schemes.
SCHEMES: dict[str, Callable[[Any], Verifier]] = {
    "hmac": HmacVerifier,
    "any": _lazy("several", "AnyVerifier"),
    "token": TokenVerifier,
    "basic": BasicVerifier,
    "ed25519": _lazy("public_key", "Ed25519Verifier"),
    "ecdsa": _lazy("public_key", "EcdsaVerifier"),
    "jwt": _lazy("tokens", "JwtVerifier"),
    "rfc9421": _lazy("messages", "MessageVerifier"),
    "twilio": _lazy("twilio", "TwilioVerifier"),
    "adyen": _lazy("body_signed", "AdyenVerifier"),
    "mailgun": _lazy("body_signed", "MailgunVerifier"),
    "braintree": _lazy("body_signed", "BraintreeVerifier"),
    "sns": _lazy("certificates", "SnsVerifier"),
    "paypal": _lazy("certificates", "PaypalVerifier"),
    "none": NoneVerifier,
}


def compile_scheme(options: SchemeOptions) -> Verifier:
    """Prepare a verifier.

    Raises:
        ValueError: When the options contradict each other; the text begins with the option's key. ``MissingExtra``
            when a package is not installed.
    """
    tag = type(options).__struct_config__.tag
    return SCHEMES[str(tag)](options)
