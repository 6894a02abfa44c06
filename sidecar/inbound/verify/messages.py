"""[P] HTTP Message Signatures. Needs the extra ``crypto``.

A signature protects the body only where it covers ``content-digest`` and that is computed again.

Source: RFC 9421, RFC 9530.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from sidecar.inbound.verify.fields import InnerList, parse_byte_sequences, parse_inner_lists
from sidecar.inbound.verify.form import parse_form
from sidecar.inbound.verify.keys import Keys
from sidecar.inbound.verify.options import Rfc9421Options
from sidecar.inbound.verify.public_key import ecdsa_key, ed25519_key
from sidecar.inbound.verify.request import Accepted, Fetch, Headers, Rejected, Request, Secret, Verdict
from sidecar.inbound.verify.verdicts import MALFORMED, MISSING, NO_URL, TWICE, UNCOVERED_BODY, UNSUPPORTED, no_match
from sidecar.model import RejectReason

__all__ = ["MessageVerifier"]

_HEADERS: Final = (b"signature", b"signature-input", b"content-digest")
_URL: Final = re.compile(r"(https?)://([^/?#]+)([^?#]*)(\?[^#]*)?", re.DOTALL)
_NAMED: Final = re.compile(r';name="([A-Za-z0-9*._%~-]+)"')
_FIELD: Final = re.compile(r"[a-z0-9!#$%&'*+.^`|~-]+")
_DIGESTS: Final = {"sha-256": "sha256", "sha-512": "sha512"}
_MISSING_COMPONENT: Final = Rejected(RejectReason.MISSING_HEADER, "a signed component is not there")


class _Claim:
    """One signature: the base it was made over, and its bytes."""

    __slots__ = ("base", "signature")

    def __init__(self, base: bytes, signature: bytes) -> None:
        self.base = base
        self.signature = signature


class MessageVerifier:
    """Judges message signatures; see ``Rfc9421Options``."""

    masked: frozenset[bytes] = frozenset()
    needs_url = True
    needs_body = True
    unverified = False
    covered = None
    fetches: tuple[Fetch, ...] | None = None

    def __init__(self, options: Rfc9421Options) -> None:
        self._options = options
        covered = [name.lower() for name in options.covered]
        if not all(name in _COMPONENTS or _FIELD.fullmatch(name) for name in covered):
            raise ValueError("covered: names of headers in lower case, or components such as @method")
        self._covered = frozenset(covered)
        self.reads = frozenset(_HEADERS) | {name.encode() for name in covered if not name.startswith("@")}
        self.can_sign = options.alg == "hmac-sha256"
        self.tolerance_ms = int(options.max_age * 1000) or None
        make, self._check = _ALGORITHMS[options.alg]
        self._keys: Keys[Any] = Keys(make)

    # --- judging

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """Refuse what the head decides; see ``Verifier``."""
        del secrets
        claims = self._claims(request, now_ms, with_body=False)
        return claims if isinstance(claims, Rejected) else None

    def verify(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """Try every signature with every secret; see ``Verifier``."""
        claims = self._claims(request, now_ms, with_body=True)
        if isinstance(claims, Rejected):
            return claims
        retired = False
        for secret in secrets:
            key = self._keys.of(secret.value)
            if isinstance(key, str) or not any(self._check(key, c.signature, c.base) for c in claims):
                continue
            if secret.active(now_ms):
                return Accepted(secret.id)
            retired = True
        return no_match(secrets, retired, now_ms)

    def _claims(self, request: Request, now_ms: int, *, with_body: bool) -> list[_Claim] | Rejected:
        """All signatures that are fit to count; else why the last one is not."""
        if request.url is None:
            return NO_URL
        texts = [request.headers.get(name, b"").decode("latin-1") for name in _HEADERS[:2]]
        if not all(texts):
            return MISSING
        signatures, inputs = parse_byte_sequences(texts[0]), parse_inner_lists(texts[1])
        if signatures is None or inputs is None:
            return MALFORMED
        claims: list[_Claim] = []
        failure = MISSING
        for label, member in inputs.items():
            if label not in signatures:
                continue
            base = self._base(member, request, now_ms, with_body=with_body)
            if isinstance(base, Rejected):
                failure = base
            else:
                claims.append(_Claim(base, signatures[label]))
        return claims or failure

    def _base(self, member: InnerList, request: Request, now_ms: int, *, with_body: bool) -> bytes | Rejected:
        wrong = self._wrong_parameters(member, now_ms)
        if wrong is not None:
            return wrong
        names = {name for name, parameters in member.items if not parameters}
        if not self._covered <= names:
            return Rejected(RejectReason.WRONG_CLAIM, "a required component is not signed")
        if with_body:
            covered = "content-digest" in names
            if (covered or (self._options.require_content_digest and request.body)) and not (
                covered and _digest_holds(request)
            ):
                return UNCOVERED_BODY
        lines = []
        for name, parameters in member.items:
            value = _component(name, parameters, request)
            if isinstance(value, Rejected):
                return value
            lines.append(f'"{name}"{parameters}: {value}\n')
        if len(set(member.items)) != len(member.items):
            return MALFORMED
        return "".join([*lines, f'"@signature-params": {member.text}']).encode("latin-1")

    def _wrong_parameters(self, member: InnerList, now_ms: int) -> Rejected | None:
        options, given = self._options, member.parameters
        if given.get("alg", options.alg) != options.alg:
            return UNSUPPORTED
        if options.keyid and given.get("keyid") != options.keyid:
            return Rejected(RejectReason.UNKNOWN_KEY, "keyid")
        created, expires = given.get("created"), given.get("expires")
        for value in (created, expires):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                return Rejected(RejectReason.MALFORMED_TIMESTAMP)
        if isinstance(expires, int) and expires * 1000 < now_ms:
            return Rejected(RejectReason.STALE_TIMESTAMP, "past its expires")
        if not options.max_age:
            return None
        if not isinstance(created, int):
            return Rejected(RejectReason.WRONG_CLAIM, "created")
        age_s = now_ms // 1000 - created
        if age_s > options.max_age:
            return Rejected(RejectReason.STALE_TIMESTAMP, f"{age_s} s old, at most {options.max_age:.0f} s")
        if -age_s > options.max_age:
            return Rejected(RejectReason.FUTURE_TIMESTAMP, f"{-age_s} s ahead, at most {options.max_age:.0f} s")
        return None

    # --- signing

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """Sign method, URL, body and what must be covered; only with a shared key."""
        key = self._keys.of(secret.value)
        if not self.can_sign or isinstance(key, str) or request.url is None:
            return []
        digest = b"sha-256=:%b:" % base64.b64encode(hashlib.sha256(request.body).digest())
        headers = {**request.headers, b"content-digest": digest}
        names = ["@method", "@target-uri", "content-digest"]
        names += sorted(self._covered - set(names))
        lines = ""
        signed = Request(request.method, request.path, request.query, headers, request.body, request.url)
        for name in names:
            value = _component(name, "", signed)
            if isinstance(value, Rejected):
                return []
            lines += f'"{name}": {value}\n'
        listed = " ".join(f'"{name}"' for name in names)
        keyid = f';keyid="{self._options.keyid}"' if self._options.keyid else ""
        text = f'({listed});created={now_ms // 1000}{keyid};alg="{self._options.alg}"'
        base = f'{lines}"@signature-params": {text}'.encode("latin-1", "replace")
        mac = base64.b64encode(hmac.digest(key, base, "sha256"))
        return [
            (b"Content-Digest", digest),
            (b"Signature-Input", b"sig1=" + text.encode()),
            (b"Signature", b"sig1=:%b:" % mac),
        ]

    def secret_problem(self, value: bytes) -> str:
        """See ``Verifier``."""
        key = self._keys.of(value)
        return key if isinstance(key, str) else ""


# --- components: RFC 9421, 2.2


def _from_url(pick: Callable[[re.Match[str]], str]) -> Callable[[Request], str | None]:
    def find(request: Request) -> str | None:
        found = _URL.fullmatch((request.url or b"").decode("latin-1"))
        return None if found is None else pick(found)

    return find


def _authority(url: re.Match[str]) -> str:
    return url[2].lower().removesuffix(":443" if url[1] == "https" else ":80")


_COMPONENTS: Final[dict[str, Callable[[Request], str | None]]] = {
    "@method": lambda request: request.method.decode("latin-1"),
    "@target-uri": lambda request: (request.url or b"").decode("latin-1"),
    "@authority": _from_url(_authority),
    "@scheme": _from_url(lambda url: url[1]),
    "@request-target": _from_url(lambda url: (url[3] or "/") + (url[4] or "")),
    "@path": _from_url(lambda url: url[3] or "/"),
    "@query": _from_url(lambda url: url[4] or "?"),
}


def _component(name: str, parameters: str, request: Request) -> str | Rejected:
    """Value of a component; parameters other than the name of a query parameter are forms that we do not take."""
    if name == "@query-param":
        return _query_parameter(parameters, request)
    if parameters:
        return UNSUPPORTED
    if name.startswith("@"):
        find = _COMPONENTS.get(name)
        value = find(request) if find is not None else None
        return UNSUPPORTED if value is None else value
    if name.encode() in request.repeated:  # RFC 9421, 2.1: all its lines are signed; we have one of them
        return TWICE
    raw = request.headers.get(name.encode())
    return _MISSING_COMPONENT if raw is None else raw.decode("latin-1").strip()


def _query_parameter(parameters: str, request: Request) -> str | Rejected:
    """Value of one query parameter, decoded and encoded again; it must be there once. Source: RFC 9421, 2.2.8."""
    named = _NAMED.fullmatch(parameters)
    if named is None:
        return UNSUPPORTED
    fields = parse_form(request.query) or []
    found = [value for name, value in fields if quote(name, safe="*-._") == named[1]]
    return quote(found[0], safe="*-._") if len(found) == 1 else _MISSING_COMPONENT


def _digest_holds(request: Request) -> bool:
    """Whether Content-Digest names the body's digest, by one hash that we know or more. Source: RFC 9530, 2."""
    digests = parse_byte_sequences(request.headers.get(b"content-digest", b"").decode("latin-1"))
    known = [(_DIGESTS[name], value) for name, value in (digests or {}).items() if name in _DIGESTS]
    return bool(known) and all(
        hmac.compare_digest(hashlib.new(algorithm, request.body).digest(), value) for algorithm, value in known
    )


# --- algorithms: RFC 9421, 3.3


def _shared_key(value: bytes) -> bytes | str:
    bare = value.rstrip(b"=")
    try:
        key = binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        return "is not base64"
    return key or "is empty"


def _load(value: bytes) -> Any:
    """A public key of PEM or base64 DER; None when it is neither."""
    try:
        if value.startswith(b"-----"):
            return load_pem_public_key(value)
        return load_der_public_key(binascii.a2b_base64(value, strict_mode=True))
    except (ValueError, UnsupportedAlgorithm):
        return None


def _edwards_key(value: bytes) -> Ed25519PublicKey | str:
    key = _load(value)
    if isinstance(key, Ed25519PublicKey):
        return key
    raw = _shared_key(value)
    return raw if isinstance(raw, str) else ed25519_key(raw)


def _rsa_key(value: bytes) -> RSAPublicKey | str:
    key = _load(value)
    if not isinstance(key, RSAPublicKey) or key.key_size < 2048:
        return "is not a public RSA key of 2048 bits or more (PEM, or SPKI in base64)"
    return key


def _check_hmac(key: bytes, signature: bytes, base: bytes) -> bool:
    return hmac.compare_digest(hmac.digest(key, base, "sha256"), signature)


def _check_public(verify: Callable[[Any, bytes, bytes], None]) -> Callable[[Any, bytes, bytes], bool]:
    def check(key: Any, signature: bytes, base: bytes) -> bool:
        try:
            verify(key, signature, base)
        except InvalidSignature:
            return False
        return True

    return check


def _verify_ecdsa(key: Any, signature: bytes, base: bytes) -> None:
    if len(signature) != 64:
        raise InvalidSignature
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    key.verify(der, base, ECDSA(SHA256()))


_PSS: Final = PSS(mgf=MGF1(SHA512()), salt_length=64)

_ALGORITHMS: Final[dict[str, tuple[Callable[[bytes], Any], Callable[[Any, bytes, bytes], bool]]]] = {
    "hmac-sha256": (_shared_key, _check_hmac),
    "ed25519": (_edwards_key, _check_public(lambda key, signature, base: key.verify(signature, base))),
    "ecdsa-p256-sha256": (ecdsa_key, _check_public(_verify_ecdsa)),
    "rsa-pss-sha512": (_rsa_key, _check_public(lambda k, s, base: k.verify(s, base, _PSS, SHA512()))),
    "rsa-v1_5-sha256": (_rsa_key, _check_public(lambda k, s, base: k.verify(s, base, PKCS1v15(), SHA256()))),
}
