"""[P] The generic engine for keyed hashes: header, form, encoding and signed parts are data.

It is the hot path of verification: all that the options decide is prepared in the constructor, what the head says
is read once, and each secret costs one hash over the message.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from sidecar.inbound.verify.digests import decode_digest, digest_pattern, encode_digest
from sidecar.inbound.verify.form import decode_escapes, is_ambiguous, is_form, only_field
from sidecar.inbound.verify.jsonfield import parse_pointer, read_field
from sidecar.inbound.verify.keys import Keys, derive_key
from sidecar.inbound.verify.options import HmacOptions
from sidecar.inbound.verify.request import Accepted, Fetch, Headers, Rejected, Request, Secret, Verdict
from sidecar.inbound.verify.signed import header_names, listed_names, lower, parse_signed
from sidecar.inbound.verify.timestamp import AgeLimit, format_timestamp
from sidecar.inbound.verify.verdicts import (
    MALFORMED,
    MALFORMED_BODY,
    MAX_ENTRY_BYTES,
    MISSING,
    NO_URL,
    TOO_MANY,
    TWICE,
    UNSUPPORTED,
    first_value,
    no_match,
    present_name,
)
from sidecar.model import RejectReason

__all__ = ["Form", "HmacVerifier"]

MAX_LISTED: Final = 64
"""Names in a header that lists the signed headers."""

_VERSION_LABEL: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_-]{0,15}[=,:]")


class _Parsed(msgspec.Struct, frozen=True, gc=False):
    """What the head of one request says: signatures with their algorithms, and the timestamp as received."""

    signatures: list[tuple[str, bytes]]
    timestamp: bytes


class Form(msgspec.Struct, frozen=True):
    """One way in which a single signature may be written."""

    algorithm: str
    prefix: bytes
    pattern: re.Pattern[bytes]


class HmacVerifier:
    """Judges keyed hashes; see ``HmacOptions``."""

    masked: frozenset[bytes] = frozenset()
    can_sign = True
    unverified = False
    fetches: tuple[Fetch, ...] | None = None

    def __init__(self, options: HmacOptions) -> None:
        self._options = options
        self._names = header_names(options.header, options.max_signatures)
        self._lower = lower(self._names)
        self._signed = parse_signed(options.signed)
        self._forms = [
            Form(
                algorithm,
                options.prefix.replace("{algorithm}", algorithm).encode(),
                digest_pattern(options.encoding, algorithm),
            )
            for algorithm in options.algorithms or (options.algorithm,)
        ]
        self._require = [(lower(header_names(k)), v.encode()) for k, v in options.require.items()]
        self._key_header = lower(header_names(options.key_header)) if options.key_header else ()
        self._bound = {name: lower(header_names(header)) for name, header in options.secret_headers.items()}
        self._form_field = options.form_field.encode()
        self.covered: Callable[[Request], bytes | None] | None = self._form_body if self._form_field else None
        self._digest = _prefixed_digest if options.keyed == "prefix" else hmac.digest
        self._url_decode = frozenset(character.encode() for character in options.url_decode)
        self._as_is = not (self._form_field or self._url_decode)
        self._max = options.max_signatures
        self._keys: Keys[Any] = Keys(lambda value: derive_key(options, value))
        self._set_entries(options)
        self._set_timestamp(options)
        self.reads = frozenset(
            self._lower + self._stamp_lower + self._key_header + tuple(n for names, _ in self._require for n in names)
        ).union(*self._signed.headers, *self._signed.optional, *self._signed.lists)
        self.needs_url = "url" in self._signed.uses
        self.needs_body = True

    def _set_entries(self, options: HmacOptions) -> None:
        entries = options.entries
        if entries is None:
            if options.timestamp is not None and options.timestamp.entry:
                raise ValueError("timestamp.entry: the signature header has no entries")
            self._separator = b""
            return
        if not (entries.key and entries.separator and entries.assign):
            raise ValueError("entries: key, separator and assign are not empty")
        self._key, self._assign = entries.key.encode(), entries.assign.encode()
        self._separator = (entries.separator.strip() or entries.separator).encode()
        self._strip = entries.separator not in (self._separator.decode(), " ")
        self._join = entries.separator.encode()

    def _set_timestamp(self, options: HmacOptions) -> None:
        stamp = options.timestamp
        self._stamp_names: tuple[str, ...] = ()
        self._stamp_entry = b""
        self._stamp_path: tuple[str, ...] = ()
        self._age: AgeLimit | None = None
        self.tolerance_ms: int | None = None
        if stamp is None:
            if "timestamp" in self._signed.uses:
                raise ValueError("signed: {timestamp} needs the option timestamp")
        else:
            if [bool(stamp.header), bool(stamp.entry), bool(stamp.json)].count(True) != 1:
                raise ValueError("timestamp: exactly one of header, entry and json")
            listed = bool(self._signed.lists) and bool(stamp.header)  # then it is looked for in the list
            if not stamp.json and not listed and "timestamp" not in self._signed.uses:
                raise ValueError("signed: a timestamp that is not signed proves nothing; add {timestamp}")
            if stamp.json and "timestamp" in self._signed.uses:
                raise ValueError("signed: a timestamp inside the body is signed with {body}")
            self._age = AgeLimit(stamp)
            if stamp.header:
                self._stamp_names = header_names(stamp.header)
            elif stamp.entry:
                self._stamp_entry = stamp.entry.encode()
            else:
                self._stamp_path = parse_pointer(stamp.json)
            if not stamp.json:
                self.tolerance_ms = self._age.past_ms
        self._stamp_lower = lower(self._stamp_names)

    # --- judging

    def shown(self, request: Request) -> bool:
        """Whether the request has a signature of this form."""
        return any(request.headers.get(name) for name in self._lower)

    def fits(self, request: Request) -> bool:
        """Whether the headers that must have a certain value have it."""
        return all(first_value(request, names) == wanted for names, wanted in self._require)

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """Refuse a missing or malformed signature and a stale timestamp; see ``Verifier``."""
        del secrets  # the head alone does not need them
        parsed = self._parse(request, now_ms)
        if isinstance(parsed, Rejected):
            return parsed
        request.parsed = parsed
        return None

    def verify(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """Try every listed signature with every secret; see ``Verifier``."""
        parsed = request.parsed
        if not isinstance(parsed, _Parsed):
            found = self._parse(request, now_ms)
            if isinstance(found, Rejected):
                return found
            parsed = found
        if self._key_header:
            wanted = first_value(request, self._key_header)
            secrets = [s for s in secrets if s.id.encode() == wanted]
        if self._form_field and self._form_body(request) is None:
            return MALFORMED_BODY
        retired = False
        stamp = parsed.timestamp
        for message in (self._signed.message(request, stamp),) if self._as_is else self.messages(request, stamp):
            for secret in secrets:
                key = self._keys.of(secret.value)
                listed = self._signatures(request, secret, parsed) if self._bound else parsed.signatures
                if isinstance(key, str) or not self._matches(key, message, listed):
                    continue
                if secret.active(now_ms):
                    return self._check_body_age(request, now_ms) or Accepted(secret.id)
                retired = True
        return no_match(secrets, retired, now_ms)

    def messages(self, request: Request, timestamp: bytes) -> list[bytes]:
        """The bytes that may have been signed; more than one where providers differ from their own word."""
        if self._form_field:
            request = msgspec.structs.replace(request, body=self._form_body(request) or b"")
        found = [self._signed.message(request, timestamp)]
        if self._url_decode and request.url is not None:
            decoded = decode_escapes(request.url, self._url_decode)
            if decoded != request.url:
                found.append(self._signed.message(msgspec.structs.replace(request, url=decoded), timestamp))
        return found

    def _form_body(self, request: Request) -> bytes | None:
        """What stands for the body where forms are taken; None for one with more in it, of which nothing is signed."""
        if is_form(request.headers.get(b"content-type", b"")):
            return only_field(request.body, self._form_field)
        return request.body

    def _signatures(self, request: Request, secret: Secret, parsed: _Parsed) -> list[tuple[str, bytes]]:
        bound = self._bound.get(secret.id)
        if bound is None:
            return parsed.signatures
        found = self._parse_values([first_value(request, bound)], b"")
        return [] if isinstance(found, Rejected) else found.signatures

    def _matches(self, key: Any, message: bytes, signatures: list[tuple[str, bytes]]) -> bool:
        algorithm, mac = "", b""
        for wanted, signature in signatures:
            if wanted != algorithm:
                algorithm, mac = wanted, self._digest(key, message, wanted)
            if hmac.compare_digest(mac, signature):
                return True
        return False

    def _check_body_age(self, request: Request, now_ms: int) -> Rejected | None:
        if not self._stamp_path or self._age is None:
            return None
        value = read_field(request.body, self._stamp_path)
        if value is None:
            return Rejected(RejectReason.MALFORMED_BODY)
        return self._age.check(str(value).encode(), now_ms)

    # --- reading the head

    def _parse(self, request: Request, now_ms: int) -> _Parsed | Rejected:
        headers = request.headers
        if self.needs_url and request.url is None:
            return NO_URL
        values = [value for name in self._lower if (value := headers.get(name))]
        if not values:
            return MISSING
        for names in self._signed.headers:
            if not first_value(request, names):
                return MISSING
        for names in self._signed.lists:
            listed = listed_names(first_value(request, names))
            # The list covers itself, so that nobody can draw its borders elsewhere, and the timestamp.
            if (
                names[0] not in listed
                or not all(map(listed.__contains__, self._stamp_lower))
                or len(listed) > MAX_LISTED
            ):
                return MISSING
            if not request.repeated.isdisjoint(listed):
                return TWICE
        if any(is_ambiguous(request.query, name) for name in self._signed.queries):
            return TWICE
        if self._require and not self.fits(request):
            return UNSUPPORTED
        timestamp = b""
        if self._stamp_lower:
            timestamp = first_value(request, self._stamp_lower)
            if not timestamp:
                return MISSING
        parse = self._parse_entries if self._separator else self._parse_values
        parsed = parse(values, timestamp)
        if self._age is not None and not self._stamp_path and isinstance(parsed, _Parsed):
            return self._age.check(parsed.timestamp, now_ms) or parsed
        return parsed

    def _parse_values(self, values: list[bytes], timestamp: bytes) -> _Parsed | Rejected:
        signatures: list[tuple[str, bytes]] = []
        failure = MALFORMED
        for value in values:
            found = self._decode(value)
            if isinstance(found, Rejected):
                failure = found
            else:
                signatures.append(found)
        return _Parsed(signatures, timestamp) if signatures else failure

    def _parse_entries(self, values: list[bytes], timestamp: bytes) -> _Parsed | Rejected:
        signatures: list[tuple[str, bytes]] = []
        failure: Rejected | None = None
        count = 0
        for value in values:
            for raw in value.split(self._separator):
                item = raw.strip(b" ") if self._strip else raw
                if len(item) > MAX_ENTRY_BYTES:
                    return MALFORMED
                label, _, rest = item.partition(self._assign)
                if self._stamp_entry and label == self._stamp_entry:
                    if timestamp:
                        return Rejected(RejectReason.MALFORMED_TIMESTAMP, "two timestamps")
                    timestamp = rest
                    continue
                count += 1
                if count > self._max:
                    return TOO_MANY
                if label != self._key:
                    # An unknown version counts for nothing, and says why only when nothing else is wrong.
                    failure = failure or (UNSUPPORTED if rest else MALFORMED)
                    continue
                found = self._decode(rest)
                if isinstance(found, Rejected):
                    failure = MALFORMED
                else:
                    signatures.append(found)
        if not signatures:
            return failure or MALFORMED
        return _Parsed(signatures, timestamp)

    def _decode(self, value: bytes) -> tuple[str, bytes] | Rejected:
        if len(value) > MAX_ENTRY_BYTES:
            return MALFORMED
        for form in self._forms:
            if value.startswith(form.prefix):
                text = value[len(form.prefix) :]
                if form.pattern.fullmatch(text):
                    return form.algorithm, decode_digest(self._options.encoding, text)
        # Another label where ours should be: sha1= for sha256=, v1= for v0=.
        known = any(form.prefix and value.startswith(form.prefix) for form in self._forms)
        return UNSUPPORTED if not known and _VERSION_LABEL.match(value) else MALFORMED

    # --- explaining

    def timestamp_of(self, request: Request) -> bytes:
        """The timestamp as received; empty when there is none that can be read."""
        values = [value for name in self._lower if (value := request.headers.get(name))]
        stamp = first_value(request, self._stamp_lower)
        if self._stamp_entry:
            parsed = self._parse_entries(values, stamp)
            return parsed.timestamp if isinstance(parsed, _Parsed) else b""
        return stamp

    def missing(self, request: Request) -> list[bytes]:
        """Signed headers that did not arrive (where one of several will do: the first of them), lower-case."""
        return [names[0] for names in self._signed.headers if not first_value(request, names)]

    def shown_signatures(self, request: Request) -> list[str]:
        """The signature headers as received, cut short."""
        return [
            f"{name.decode()}: {value[:200].decode('utf-8', 'backslashreplace')}"
            for name in self._lower
            if (value := request.headers.get(name)) is not None
        ]

    def expected(self, request: Request, secret: Secret, timestamp: bytes) -> str:
        """The signature that a secret makes of the request, in the provider's form."""
        key = self._keys.of(secret.value)
        if isinstance(key, str):
            return f"(the secret {key})"
        form = self._forms[-1]
        mac = self._digest(key, self.messages(request, timestamp)[0], form.algorithm)
        return (form.prefix + encode_digest(self._options.encoding, mac)).decode()

    # --- signing

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """Sign as the provider would; empty when the secret has no key or a signed header is missing."""
        key = self._keys.of(secret.value)
        if isinstance(key, str) or not all(first_value(request, names) for names in self._signed.headers):
            return []
        out: Headers = []
        timestamp = b"" if self._age is None else format_timestamp(now_ms, self._age.unit)
        request, listed = self._with_lists(request, timestamp)
        out += listed
        form = self._forms[-1]  # of a closed list the last, which is the strongest
        mac = self._digest(key, self.messages(request, timestamp)[0], form.algorithm)
        value = form.prefix + encode_digest(self._options.encoding, mac)
        if self._separator:
            value = self._key + self._assign + value
            if self._stamp_entry:
                value = self._stamp_entry + self._assign + timestamp + self._join + value
        if self._stamp_names:
            out.append((present_name(request, self._stamp_names), timestamp))
        if self._key_header:
            out.append((self._options.key_header.split("|")[0].encode(), secret.id.encode()))
        out += [(name.encode(), wanted.encode()) for name, wanted in self._options.require.items()]
        bound = self._options.secret_headers.get(secret.id)
        out.append((bound.encode() if bound else present_name(request, self._names), value))
        return out

    def _with_lists(self, request: Request, timestamp: bytes) -> tuple[Request, Headers]:
        """Say which headers are signed where the request does not yet, and renew the timestamp among them."""
        if not self._signed.lists:
            return request, []
        headers, out = dict(request.headers), []
        if self._stamp_lower:
            headers[self._stamp_lower[0]] = timestamp
        for names in self._signed.lists:
            if not first_value(request, names):
                headers[names[0]] = b",".join(sorted({names[0], *self._stamp_lower}))
                out.append((names[0], headers[names[0]]))
        return msgspec.structs.replace(request, headers=headers), out

    def secret_problem(self, value: bytes) -> str:
        """See ``Verifier``."""
        key = self._keys.of(value)
        return key if isinstance(key, str) else ""


def _prefixed_digest(key: bytes, message: bytes, algorithm: str) -> bytes:
    return hashlib.new(algorithm, key + message).digest()
