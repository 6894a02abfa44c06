"""Secrets, settings and private keys with which every preset can be tried, made here and good for nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.inbound.verify import PRESETS, Accepted, Request, Secret, sample_body, sign_request, signed_body
from sidecar.inbound.verify.schemes import compile_scheme
from sidecar.inbound.verify.timestamp import format_timestamp
from sidecar.inbound.verify.vectors import with_params

URL = b"https://hooks.example.com/in/%b"
ED25519 = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"a test key").digest())
ED25519_PUBLIC = ED25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
P256 = generate_private_key(SECP256R1())
P256_PUBLIC = base64.b64encode(P256.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
TEXT = b"a-secret-of-more-than-thirty-two-bytes"
SECRETS: dict[str, bytes] = {
    **dict.fromkeys(
        ("standard-webhooks", "svix", "clerk", "resend", "openai", "gitlab-signing-token"),
        b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ),
    "adyen": b"44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056",
    "adyen-platform": b"44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056",
    "chargebee": b"user:pass:word",
    "postmark": b"user:pass:word",
    "rfc9421": base64.b64encode(TEXT),
    "discord": ED25519_PUBLIC.hex().encode(),
    "telnyx": base64.b64encode(ED25519_PUBLIC),
    "standard-webhooks-ed25519": b"whpk_" + base64.b64encode(ED25519_PUBLIC),
    "sendgrid": P256_PUBLIC,
}
PARAMS: dict[str, dict[str, Any]] = {
    "braintree": {"public_key": "our_public_key"},
    "paypal": {"webhook_id": "1JE4291016473214C"},
    "google-pubsub": {"email": "push@demo.iam.gserviceaccount.com", "audience": "https://hooks.example.com/in/x"},
}
ELSEWHERE = frozenset({"paypal", "aws-sns", "google-pubsub", "plaid"})
"""Their keys come from the network: only recorded requests show them."""


@dataclass
class Made:
    """A request as the provider would send it, and all that it takes to judge it."""

    verifier: Any
    request: Request
    secrets: tuple[Secret, ...]
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""


def secret_of(name: str) -> Secret:
    """The test secret of a preset, under the id that it needs."""
    return Secret({"box": "primary"}.get(name, "1"), SECRETS.get(name, TEXT))


def verifier_of(name: str) -> Any:
    """The preset's verifier with test settings."""
    return compile_scheme(with_params(PRESETS[name].scheme, PARAMS.get(name, {})))


def make(name: str, now_ms: int, unique_id: str = "0001", body: bytes | None = None, query: bytes = b"") -> Made:
    """What ``send`` would send; where only the provider can sign, the test's private key does."""
    preset, verifier, secret = PRESETS[name], verifier_of(name), secret_of(name)
    path = b"/in/" + name.encode()
    url = URL % name.encode() + (b"?" + query if query else b"")
    body = sample_body(preset, unique_id, now_ms) if body is None else body
    body = signed_body(verifier, body, secret, now_ms)
    made = sign_request(
        verifier, secret, body, now_ms, preset=preset, unique_id=unique_id, path=path, query=query, url=url
    )
    headers = {name.lower(): value for name, value in made}
    headers |= private_headers(name, headers, body, now_ms)
    return Made(verifier, Request(b"POST", path, query, headers, body, url), (secret,), headers, body)


def private_headers(name: str, headers: dict[bytes, bytes], body: bytes, now_ms: int) -> dict[bytes, bytes]:
    """Signatures that only a private key makes, written from the providers' own descriptions."""
    stamp = format_timestamp(now_ms, "s")
    if name == "discord":
        return {b"x-signature-timestamp": stamp, b"x-signature-ed25519": ED25519.sign(stamp + body).hex().encode()}
    if name == "telnyx":
        signature = base64.b64encode(ED25519.sign(stamp + b"|" + body))
        return {b"telnyx-timestamp": stamp, b"telnyx-signature-ed25519": signature}
    if name == "standard-webhooks-ed25519":
        signature = base64.b64encode(ED25519.sign(headers[b"webhook-id"] + b"." + stamp + b"." + body))
        return {b"webhook-timestamp": stamp, b"webhook-signature": b"v1a," + signature}
    if name == "sendgrid":
        prefix = b"x-twilio-email-event-webhook-"
        signature = base64.b64encode(P256.sign(stamp + body, ECDSA(SHA256())))
        return {prefix + b"timestamp": stamp, prefix + b"signature": signature}
    return {}


HAND_MS = 1_700_000_000_000
"""When a request that is signed by hand is sent: 2023-11-14T22:13:20Z."""


def by_hand(name: str, headers: dict[str, str], signed: str, form: str) -> tuple[bool, bool]:
    """Sign a request as the provider's page says, with nothing of ours, and judge it.

    Args:
        name: Of the preset.
        headers: As they are sent; MAC stands for the signature.
        signed: What is signed; BODY and URL stand for those of the request.
        form: Encoding and hash of the signature, such as ``hex sha256``.

    Returns:
        Whether the preset accepts it, and whether it does so with one more byte in the body.
    """
    encoding, algorithm = form.split()
    body, url = b'{"id":"1"}', URL % name.encode()
    secret = secret_of(name)
    key = base64.b64decode(secret.value[6:]) if secret.value.startswith(b"whsec_") else secret.value
    mac = hmac.digest(key, signed.replace("BODY", body.decode()).replace("URL", url.decode()).encode(), algorithm)
    text = mac.hex() if encoding == "hex" else base64.b64encode(mac).decode()
    sent = {header.lower().encode(): value.replace("MAC", text).encode() for header, value in headers.items()}
    right, longer = (
        verifier_of(name).verify(Request(b"POST", b"/in/" + name.encode(), b"", sent, b, url), (secret,), HAND_MS)
        for b in (body, body + b"\n")
    )
    return isinstance(right, Accepted), isinstance(longer, Accepted)
