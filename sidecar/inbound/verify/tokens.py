"""[P] JSON Web Tokens in a header: signed claims, of which one may be the hash of the body.

The algorithm is fixed by the source; what the token says about it is only compared. Times are judged here and not by
the library, which would ask the clock itself. Needs the extra ``crypto``.

Source: RFC 7515, RFC 7519, RFC 8725 (best current practices).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from typing import Any, Final

import jwt
import msgspec

from sidecar.inbound.verify.keys import Keys
from sidecar.inbound.verify.options import JwtOptions
from sidecar.inbound.verify.request import Accepted, Fetch, Headers, Rejected, Request, Secret, Verdict
from sidecar.inbound.verify.signed import header_names, lower
from sidecar.inbound.verify.verdicts import (
    MALFORMED,
    MISSING,
    NO_URL,
    UNCOVERED_BODY,
    UNSUPPORTED,
    first_value,
    no_match,
    present_name,
)
from sidecar.model import RejectReason

__all__ = ["JwtVerifier"]

MAX_TOKEN_BYTES: Final = 8192
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_KID: Final = re.compile(r"[A-Za-z0-9._:=-]{1,128}")
_SKEW_MS: Final = 60_000
_FAR: Final = 1 << 40  # seconds; beyond any calendar


class _SharedSecret(jwt.algorithms.HMACAlgorithm):
    """Takes the secret that the provider gave out, however short: its length is not ours to choose."""

    def check_key_length(self, key: bytes) -> str | None:
        """No complaint."""
        del key
        return None


_engine = jwt.PyJWS()
for _name, _hash in (
    ("HS256", _SharedSecret.SHA256),
    ("HS384", _SharedSecret.SHA384),
    ("HS512", _SharedSecret.SHA512),
):
    _engine.unregister_algorithm(_name)
    _engine.register_algorithm(_name, _SharedSecret(_hash))
_EXPIRED: Final = Rejected(RejectReason.STALE_TIMESTAMP, "the token has expired")
_EARLY: Final = Rejected(RejectReason.FUTURE_TIMESTAMP, "the token is not valid yet")
_UNKNOWN_KEY: Final = Rejected(RejectReason.UNKNOWN_KEY)

PublicKeys = dict[str, tuple[Any, float | None]]
"""Key id -> key, and the second from which it no longer counts."""


class _Token(msgspec.Struct, frozen=True):
    """A token that has the right form: its text, and the key id that its head names."""

    text: bytes
    kid: str


class JwtVerifier:
    """Judges tokens; see ``JwtOptions``."""

    needs_body = True
    unverified = False
    covered = None

    def __init__(self, options: JwtOptions) -> None:
        if options.jwks_url and not options.jwks_url.startswith("https://"):
            raise ValueError("jwks_url: https only")
        if options.key_api and not options.key_api.startswith("https://"):
            raise ValueError("key_api: https only")
        self._options = options
        self._names = header_names(options.header)
        self._lower = lower(self._names)
        self._shared = options.algorithm.startswith("HS")
        if self._shared and (options.jwks_url or options.key_api):
            raise ValueError("algorithm: a shared secret is not published; expected RS256 or ES256 with jwks_url")
        self.reads = self.masked = frozenset(self._lower)
        self.needs_url = options.needs_audience and not options.audience
        self.can_sign = self._shared
        self.tolerance_ms = int(options.max_age * 1000) or None
        self.fetches = (
            (Fetch(options.jwks_url, options.jwks_url),) if options.jwks_url else () if options.key_api else None
        )
        self._public: Keys[PublicKeys] = Keys(_public_keys)

    # --- judging

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """Refuse what has not the form of a token; see ``Verifier``."""
        del secrets, now_ms
        token = self._token(request)
        return token if isinstance(token, Rejected) else None

    def verify(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """Check the signature with every secret, then what it covers; see ``Verifier``."""
        token = self._token(request)
        if isinstance(token, Rejected):
            return token
        if self._shared:
            return self._with_secrets(token, request, secrets, now_ms)
        given = [s for s in secrets if s.value[:1] == b"{"]
        if given:
            return self._with_secrets(token, request, given, now_ms)
        return self._with_fetched(token, request, secrets, now_ms)

    def _with_secrets(self, token: _Token, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        retired, unknown = False, not self._shared
        for secret in secrets:
            key = secret.value if self._shared else self._named(self._public.of(secret.value), token.kid, now_ms)
            unknown = unknown and key is None
            claims = self._claims(token, key) if key else None
            if claims is None:
                continue
            if secret.active(now_ms):
                return self._judge(claims, request, now_ms) or Accepted(secret.id)
            retired = True
        return _UNKNOWN_KEY if unknown and secrets else no_match(secrets, retired, now_ms)

    def _with_fetched(self, token: _Token, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        wanted = self._fetch(token.kid, secrets, now_ms)
        if isinstance(wanted, Rejected):
            return wanted
        fetched = (request.keys or {}).get(wanted.key)
        if fetched is None:
            return Rejected(RejectReason.KEY_UNAVAILABLE, fetch=wanted)
        key = self._named(self._public.of(fetched.data), token.kid, now_ms)
        if key is None:
            return Rejected(RejectReason.UNKNOWN_KEY, fetch=msgspec.structs.replace(wanted, newer=True))
        claims = self._claims(token, key)
        if claims is None:
            return Rejected(RejectReason.WRONG_SECRET)
        return self._judge(claims, request, now_ms) or Accepted("network")

    def _fetch(self, kid: str, secrets: Sequence[Secret], now_ms: int) -> Fetch | Rejected:
        options = self._options
        if options.jwks_url:
            return Fetch(options.jwks_url, options.jwks_url)
        active = [s for s in secrets if s.active(now_ms)]
        if not options.key_api or not active:
            return no_match(secrets, retired=False, now_ms=now_ms)
        if not _KID.fullmatch(kid):
            return _UNKNOWN_KEY
        client_id, _, secret = active[0].value.decode("utf-8", "replace").partition(":")
        asked = {"client_id": client_id, "secret": secret, "key_id": kid}
        return Fetch(f"{options.key_api}#{kid}", options.key_api, json.dumps(asked).encode())

    @staticmethod
    def _named(keys: PublicKeys | str, kid: str, now_ms: int) -> Any:
        """The key of this id; without an id the only one there is."""
        if isinstance(keys, str):
            return None
        if not kid and len(keys) == 1:
            kid = next(iter(keys))
        key, until_s = keys.get(kid, (None, None))
        return None if until_s is not None and until_s * 1000 <= now_ms else key

    def _claims(self, token: _Token, key: Any) -> dict[str, Any] | None:
        try:
            found = _engine.decode_complete(token.text, key, algorithms=[self._options.algorithm])
            claims = json.loads(found["payload"])
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return claims if isinstance(claims, dict) else None

    def _judge(self, claims: dict[str, Any], request: Request, now_ms: int) -> Rejected | None:
        return (
            self._wrong_claim(claims, request) or self._wrong_time(claims, now_ms) or self._wrong_body(claims, request)
        )

    def _wrong_claim(self, claims: dict[str, Any], request: Request) -> Rejected | None:
        options = self._options
        if options.issuers and claims.get("iss") not in options.issuers:
            return Rejected(RejectReason.WRONG_CLAIM, "iss")
        if options.audience or options.needs_audience:
            given = claims.get("aud")
            named = given if isinstance(given, list) else [given]
            url = (request.url or b"").decode("utf-8", "replace")
            wanted = {options.audience} if options.audience else {url, url.partition("?")[0]}
            if not any(name in wanted for name in named if isinstance(name, str)):
                return Rejected(RejectReason.WRONG_CLAIM, "aud")
        if options.email and (claims.get("email") != options.email or claims.get("email_verified") is not True):
            return Rejected(RejectReason.WRONG_CLAIM, "email")
        return None

    def _wrong_time(self, claims: dict[str, Any], now_ms: int) -> Rejected | None:
        options = self._options
        times: dict[str, float] = {}
        for name in ("exp", "nbf", "iat"):
            value = claims.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FAR:
                return Rejected(RejectReason.MALFORMED_TIMESTAMP, name)
            times[name] = value * 1000
        if "exp" in times and times["exp"] <= now_ms:
            return _EXPIRED
        if options.needs_expiry and "exp" not in times:
            return Rejected(RejectReason.WRONG_CLAIM, "exp")
        if times.get("nbf", 0) > now_ms + _SKEW_MS:
            return _EARLY
        if options.max_age:
            if "iat" not in times:
                return Rejected(RejectReason.WRONG_CLAIM, "iat")
            age_s = (now_ms - times["iat"]) / 1000
            if age_s > options.max_age:
                return Rejected(RejectReason.STALE_TIMESTAMP, f"{age_s:.0f} s old, at most {options.max_age:.0f} s")
            if -age_s > options.max_age:
                return Rejected(RejectReason.FUTURE_TIMESTAMP, f"{-age_s:.0f} s ahead, at most {options.max_age:.0f} s")
        return None

    def _wrong_body(self, claims: dict[str, Any], request: Request) -> Rejected | None:
        if not self._options.body_claim:
            return None
        told = claims.get(self._options.body_claim)
        digest = hashlib.sha256(request.body).hexdigest()
        if isinstance(told, str) and hmac.compare_digest(told.lower().encode("utf-8", "replace"), digest.encode()):
            return None
        return UNCOVERED_BODY

    # --- reading the head

    def _token(self, request: Request) -> _Token | Rejected:
        if self.needs_url and request.url is None:
            return NO_URL
        value = first_value(request, self._lower)
        if not value:
            return MISSING
        prefix = self._options.prefix.encode()
        text = value[len(prefix) :]
        if len(value) > MAX_TOKEN_BYTES or value[: len(prefix)].lower() != prefix.lower() or not _TOKEN.fullmatch(text):
            return MALFORMED
        try:
            head = json.loads(_b64decode(text.partition(b".")[0]))
        except (ValueError, RecursionError):
            return MALFORMED
        if not isinstance(head, dict) or "crit" in head:
            return MALFORMED
        if head.get("alg") != self._options.algorithm:
            return UNSUPPORTED
        kid = head.get("kid", "")
        return _Token(text, kid) if isinstance(kid, str) else MALFORMED

    # --- signing

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """Make a token as the provider would; only where the secret is shared."""
        options = self._options
        if not self._shared:
            return []
        claims: dict[str, Any] = {}
        if options.issuers:
            claims["iss"] = options.issuers[0]
        if options.audience or options.needs_audience:
            claims["aud"] = options.audience or (request.url or b"").decode("utf-8", "replace")
        if options.email:
            claims |= {"email": options.email, "email_verified": True}
        if options.max_age or options.needs_expiry:
            claims["iat"] = now_ms // 1000
        if options.needs_expiry:
            claims["exp"] = now_ms // 1000 + 300
        if options.body_claim:
            claims[options.body_claim] = hashlib.sha256(request.body).hexdigest()
        token = _engine.encode(json.dumps(claims, separators=(",", ":")).encode(), secret.value, options.algorithm)
        return [(present_name(request, self._names), options.prefix.encode() + token.encode())]

    def secret_problem(self, value: bytes) -> str:
        """See ``Verifier``."""
        if self._shared:
            try:
                _engine.encode(b"{}", value, self._options.algorithm)
            except jwt.PyJWTError:
                return "looks like a key pair, not like a shared secret" if value else "is empty"
            return "" if value else "is empty"
        if self._options.key_api and value[:1] != b"{":
            return "" if b":" in value[1:] else 'is neither a JWKS document nor "client_id:secret"'
        keys = self._public.of(value)
        return keys if isinstance(keys, str) else ""


def _b64decode(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)


def _public_keys(document: bytes) -> PublicKeys | str:
    """Read a JWKS document, or one key as Plaid sends it. Source: RFC 7517, 5."""
    try:
        found = json.loads(document)
        rows = found["keys"] if "keys" in found else [found["key"]]
        keys: PublicKeys = {}
        for row in rows:
            if row.get("kty") not in ("RSA", "EC"):
                continue  # a document may hold kinds of keys that we do not know
            until = row.get("expired_at")
            key = jwt.PyJWK(row, algorithm={"RSA": "RS256", "EC": "ES256"}[row["kty"]])
            keys[str(row.get("kid", ""))] = (key.key, float(until) if isinstance(until, int | float) else None)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "is not a JWKS document"
    return keys or "has no usable key"
