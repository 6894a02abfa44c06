"""[P] AWS SNS and PayPal: RSA signatures by a certificate whose address the message itself names.

That address is an attacker's to choose, so it must be exactly one of the provider's, over https. A certificate in the
source's secrets is used instead of the one that is named. Needs the extra ``crypto``.
"""

from __future__ import annotations

import binascii
import datetime as dt
import re
import zlib
from collections.abc import Sequence
from typing import ClassVar, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from sidecar.inbound.verify.jsonfield import read_document
from sidecar.inbound.verify.keys import Keys
from sidecar.inbound.verify.options import PaypalOptions, SnsOptions, TimestampOptions
from sidecar.inbound.verify.request import Accepted, Fetch, Headers, Rejected, Request, Secret, Verdict
from sidecar.inbound.verify.timestamp import AgeLimit
from sidecar.inbound.verify.verdicts import MALFORMED, MALFORMED_BODY, MISSING, MISSING_FIELD, UNSUPPORTED, no_match
from sidecar.model import RejectReason

__all__ = ["PaypalVerifier", "SnsVerifier"]

# sns.s3-eu-west-1.amazonaws.com is no region's SNS but somebody's bucket called "sns" at S3.
_SNS_HOST: Final = r"https://sns\.(?!s3-)[a-z0-9-]{3,32}\.amazonaws\.com(?:\.cn)?"
SNS_CERTIFICATE: Final = re.compile(_SNS_HOST + r"(?:/[A-Za-z0-9_-]{1,128}){1,4}(?:\.[A-Za-z0-9_-]{1,32}){0,3}\.pem")
SNS_SUBSCRIBE: Final = re.compile(_SNS_HOST + r"/\?[A-Za-z0-9%&=:._~-]{1,2000}")
PAYPAL_CERTIFICATE: Final = re.compile(r"https://(?:[a-z0-9-]{1,40}\.){1,3}paypal\.com/[A-Za-z0-9/._-]{1,200}")
_MAX_SIGNATURE: Final = 1400
_FORBIDDEN: Final = Rejected(RejectReason.FORBIDDEN_KEY_SOURCE)
_NOT_RSA: Final = "is not a certificate with an RSA key of 2048 bits or more"


class _Signed:
    """What a message claims: bytes, their signature, how it was made, where the certificate is, for which name."""

    __slots__ = ("algorithm", "chain", "message", "signature", "url")

    def __init__(self, message: bytes, signature: bytes, algorithm: HashAlgorithm, url: str, chain: str = "") -> None:
        self.message = message
        self.signature = signature
        self.algorithm = algorithm
        self.url = url
        self.chain = chain


class _CertificateVerifier:
    """What both share: pinned or fetched certificates, and what can be done with them."""

    masked: frozenset[bytes] = frozenset()
    tolerance_ms: int | None = None
    needs_url = False
    needs_body = True
    can_sign = False
    unverified = False
    covered = None
    fetches: tuple[Fetch, ...] | None = ()

    def __init__(self) -> None:
        self._keys: Keys[x509.Certificate] = Keys(_certificate)

    def judge(self, signed: _Signed, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """Check the signature with the pinned certificates, else with the one that the message names."""
        if not secrets:
            fetched = (request.keys or {}).get(signed.url)
            if fetched is None:
                wanted = Fetch(signed.url, signed.url, chain=signed.chain)
                return Rejected(RejectReason.KEY_UNAVAILABLE, fetch=wanted)
            holds = self._holds(self._keys.of(fetched.data), signed, now_ms)
            return Accepted("network") if holds else Rejected(RejectReason.WRONG_SECRET)
        retired = False
        for secret in secrets:
            if self._holds(self._keys.of(secret.value), signed, None):
                if secret.active(now_ms):
                    return Accepted(secret.id)
                retired = True
        return no_match(secrets, retired, now_ms)

    @staticmethod
    def _holds(certificate: x509.Certificate | str, signed: _Signed, now_ms: int | None) -> bool:
        """Whether it made the signature; a fetched one also counts only in its own time, a pinned one always."""
        if isinstance(certificate, str):
            return False
        if now_ms is not None:
            now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                return False
        key = certificate.public_key()
        assert isinstance(key, RSAPublicKey)  # by _certificate
        try:
            key.verify(signed.signature, signed.message, PKCS1v15(), signed.algorithm)
        except InvalidSignature:
            return False
        return True

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """Nobody but the provider can."""
        del request, secret, now_ms
        return []

    def secret_problem(self, value: bytes) -> str:
        """See ``Verifier``."""
        key = self._keys.of(value)
        return key if isinstance(key, str) else ""


def _certificate(pem: bytes) -> x509.Certificate | str:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except ValueError:
        return "is not a certificate (PEM)"
    except UnsupportedAlgorithm:
        return _NOT_RSA
    return certificate if isinstance(key, RSAPublicKey) and key.key_size >= 2048 else _NOT_RSA


def _signature(text: object) -> bytes | None:
    if not isinstance(text, str) or len(text) > _MAX_SIGNATURE:
        return None
    try:
        return binascii.a2b_base64(text, strict_mode=True) or None
    except (binascii.Error, ValueError):
        return None


class SnsVerifier(_CertificateVerifier):
    """Judges messages of SNS; see ``SnsOptions``.

    Source: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
    """

    reads: frozenset[bytes] = frozenset()
    _plain = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
    _subscription = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    _fields: ClassVar[dict[str, tuple[str, ...]]] = {
        "Notification": _plain,
        "SubscriptionConfirmation": _subscription,
        "UnsubscribeConfirmation": _subscription,
    }
    _hashes: ClassVar[dict[str, HashAlgorithm]] = {"1": SHA1(), "2": SHA256()}  # noqa: S303 - what version 1 means

    def __init__(self, options: SnsOptions) -> None:
        super().__init__()
        self.topics = frozenset(options.topics)
        self._age = AgeLimit(TimestampOptions(unit="rfc3339", tolerance=options.max_age))

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """Everything is in the body."""
        del request, secrets, now_ms
        return None

    def verify(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """See ``Verifier``."""
        body = read_document(request.body)
        if not isinstance(body, dict):
            return MALFORMED_BODY
        names = self._fields.get(str(body.get("Type")))
        if names is None:
            return MALFORMED_BODY
        values = {name: body[name] for name in names if body.get(name) is not None}
        required = set(names) - {"Subject"}
        if not required <= set(values) or not all(isinstance(value, str) for value in values.values()):
            return MALFORMED_BODY
        algorithm = self._hashes.get(str(body.get("SignatureVersion")))
        if algorithm is None:
            return UNSUPPORTED
        if body.get("Signature") is None:
            return MISSING_FIELD
        signature = _signature(body["Signature"])
        if signature is None:
            return MALFORMED
        url = body.get("SigningCertURL")
        if not isinstance(url, str) or not SNS_CERTIFICATE.fullmatch(url):
            return _FORBIDDEN
        if self.topics and values["TopicArn"] not in self.topics:
            return Rejected(RejectReason.WRONG_CLAIM, "TopicArn")
        stale = self._age.check(values["Timestamp"].encode(), now_ms)
        if stale is not None:
            return stale
        message = "".join(f"{name}\n{values[name]}\n" for name in names if name in values)
        signed = _Signed(message.encode(), signature, algorithm, url)
        return self.judge(signed, request, secrets, now_ms)

    def confirmation(self, topic: object, url: object) -> str:
        """The address that confirms a subscription, where the topic is ours and the address is one of SNS's."""
        if topic not in self.topics or not isinstance(url, str) or not SNS_SUBSCRIBE.fullmatch(url):
            return ""
        return url


class PaypalVerifier(_CertificateVerifier):
    """Judges PayPal's webhooks; see ``PaypalOptions``. Source: https://developer.paypal.com/api/rest/webhooks/rest/."""

    _headers = (
        b"paypal-transmission-id",
        b"paypal-transmission-time",
        b"paypal-transmission-sig",
        b"paypal-cert-url",
        b"paypal-auth-algo",
    )
    reads = frozenset(_headers)

    def __init__(self, options: PaypalOptions) -> None:
        super().__init__()
        self._webhook_id = options.webhook_id.encode()
        age = TimestampOptions(unit="rfc3339", tolerance=options.max_age)
        self._age = AgeLimit(age) if options.max_age else None
        self.tolerance_ms = self._age.past_ms if self._age is not None else None

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """Refuse what the head decides; see ``Verifier``."""
        del secrets
        found = self._read(request, now_ms)
        return found if isinstance(found, Rejected) else None

    def verify(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """See ``Verifier``."""
        found = self._read(request, now_ms)
        return found if isinstance(found, Rejected) else self.judge(found, request, secrets, now_ms)

    def _read(self, request: Request, now_ms: int) -> _Signed | Rejected:
        values = [request.headers.get(name, b"") for name in self._headers]
        if not all(values):
            return MISSING
        transmission, time, text, raw_url, algorithm = values
        if algorithm != b"SHA256withRSA":
            return UNSUPPORTED
        url = raw_url.decode("latin-1")
        if not PAYPAL_CERTIFICATE.fullmatch(url) or "/.." in url:
            return _FORBIDDEN
        signature = _signature(text.decode("latin-1"))
        if signature is None:
            return MALFORMED
        stale = self._age.check(time, now_ms) if self._age is not None else None
        if stale is not None:
            return stale
        checksum = b"%d" % zlib.crc32(request.body)
        message = b"|".join((transmission, time, self._webhook_id, checksum))
        sandbox = "sandbox." if url.split("/")[2].endswith(".sandbox.paypal.com") else ""
        return _Signed(message, signature, SHA256(), url, f"messageverificationcerts.{sandbox}paypal.com")
