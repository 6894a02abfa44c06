"""Public keys: what the private key signed is accepted, anything else is refused, and nobody here can sign."""

import base64
from string import ascii_lowercase, ascii_uppercase, digits

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.options import EcdsaOptions, Ed25519Options, EntryOptions, TimestampOptions
from sidecar.inbound.verify.public_key import EcdsaVerifier, Ed25519Verifier, ecdsa_key, ed25519_key
from sidecar.inbound.verify.request import Accepted, Rejected, Request, Secret
from sidecar.model import RejectReason
from tests.support.providers import ED25519, ED25519_PUBLIC, P256, P256_PUBLIC

NOW = 1_700_000_000_000
STAMP = b"1700000000"
HEX = Secret("a", ED25519_PUBLIC.hex().encode())
OTHER = Secret("o", bytes(range(32)).hex().encode())
EDWARDS = Ed25519Verifier(Ed25519Options(header="Sig", timestamp=TimestampOptions(header="Time")))
CURVE = EcdsaVerifier(EcdsaOptions(header="Sig", timestamp=TimestampOptions(header="Time")))


def judge(verifier, signature, body=b"x", secrets=(HEX,), stamp=STAMP):
    headers = {b"sig": signature, b"time": stamp}
    verdict = verifier.verify(Request(b"POST", b"/", b"", headers, body), secrets, NOW)
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


def test_ed25519_over_timestamp_and_body():
    """Any other byte anywhere is refused; all keys are tried."""
    good = ED25519.sign(STAMP + b"x").hex().encode()
    assert judge(EDWARDS, good) == "a"
    assert judge(EDWARDS, good, secrets=(OTHER, HEX)) == "a"
    assert judge(EDWARDS, good.upper()) == "a"
    assert judge(EDWARDS, good, b"y") is RejectReason.WRONG_SECRET
    assert judge(EDWARDS, good, stamp=b"1700000001") is RejectReason.WRONG_SECRET
    assert judge(EDWARDS, good, secrets=(OTHER,)) is RejectReason.WRONG_SECRET
    assert judge(EDWARDS, good, secrets=(Secret("a", HEX.value, not_after_ms=1),)) is RejectReason.RETIRED_SECRET
    assert judge(EDWARDS, good[:-2]) is RejectReason.MALFORMED_SIGNATURE
    assert judge(EDWARDS, good, stamp=b"1") is RejectReason.STALE_TIMESTAMP


def test_ecdsa_over_timestamp_and_body():
    """In DER and base64."""
    secret = Secret("a", P256_PUBLIC)
    good = base64.b64encode(P256.sign(STAMP + b"x", ECDSA(SHA256())))
    assert judge(CURVE, good, secrets=(secret,)) == "a"
    assert judge(CURVE, good, b"y", secrets=(secret,)) is RejectReason.WRONG_SECRET
    assert judge(CURVE, base64.b64encode(b"\x01" * 64), secrets=(secret,)) is RejectReason.WRONG_SECRET
    assert judge(CURVE, b"AAAA", secrets=(secret,)) is RejectReason.MALFORMED_SIGNATURE
    assert judge(CURVE, good, secrets=(Secret("b", b"junk"),)) is RejectReason.WRONG_SECRET


@pytest.mark.parametrize("encoding", ["base64", "base64url"])
def test_an_ecdsa_signature_is_spelled_in_one_way(encoding):
    """The spare bits of the last character are zeros; signatures of 70 and of 71 bytes have four of them and two."""
    verifier = EcdsaVerifier(EcdsaOptions(header="Sig", signed="{body}", encoding=encoding))
    encode = base64.b64encode if encoding == "base64" else base64.urlsafe_b64encode
    alphabet = (ascii_uppercase + ascii_lowercase + digits + ("+/" if encoding == "base64" else "-_")).encode()
    seen = set()
    for _ in range(200):
        signature = P256.sign(b"x", ECDSA(SHA256()))
        good = encode(signature)
        text = good.rstrip(b"=")
        spare = len(good) - len(text)
        if not spare:
            continue
        last = alphabet.index(text[-1:])
        assert judge(verifier, good, secrets=(Secret("a", P256_PUBLIC),)) == "a"
        for other in range(1, 1 << (2 * spare)):
            bad = text[:-1] + alphabet[last + other : last + other + 1] + good[len(text) :]
            assert judge(verifier, bad, secrets=(Secret("a", P256_PUBLIC),)) is RejectReason.MALFORMED_SIGNATURE
        seen.add(spare)
        if seen == {1, 2}:
            break
    assert seen == {1, 2}


def test_one_good_signature_of_several_is_enough():
    """As while a provider changes its key."""
    verifier = Ed25519Verifier(Ed25519Options(header="Sig", signed="{body}", entries=EntryOptions(key="v1")))
    entry = b"v1=%b" % ED25519.sign(b"x").hex().encode()
    wrong = b"v1=%b" % ED25519.sign(b"y").hex().encode()
    assert judge(verifier, b"%b,%b" % (wrong, entry)) == "a"
    assert judge(verifier, b"%b,%b" % (entry, wrong)) == "a"
    assert judge(verifier, b"%b,%b" % (wrong, wrong)) is RejectReason.WRONG_SECRET
    verifier = EcdsaVerifier(EcdsaOptions(header="Sig|Time", signed="{body}"))
    good, other = (base64.b64encode(P256.sign(body, ECDSA(SHA256()))) for body in (b"x", b"y"))
    secrets = (Secret("a", P256_PUBLIC),)
    assert judge(verifier, good, secrets=secrets, stamp=other) == "a"
    assert judge(verifier, other, secrets=secrets, stamp=good) == "a"
    assert judge(verifier, other, secrets=secrets, stamp=other) is RejectReason.WRONG_SECRET


def test_nobody_but_the_provider_signs():
    """Neither can a late delivery be signed afresh."""
    for verifier in (EDWARDS, CURVE):
        assert not verifier.can_sign
        assert verifier.sign(Request(b"POST", b"/", b"", {}, b""), HEX, NOW) == []


def test_keys_are_taken_in_their_own_form_only():
    """And a text says what is wrong with any other."""
    pem = P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert not isinstance(ecdsa_key(pem), str)
    assert ecdsa_key(P256_PUBLIC[:8] + b"!" + P256_PUBLIC[8:]) == "is not a public key (SPKI in base64, or PEM)"
    assert ecdsa_key(b"!") == ecdsa_key(base64.b64encode(b"x")) == "is not a public key (SPKI in base64, or PEM)"
    for key in (generate_private_key(SECP384R1()), rsa.generate_private_key(65537, 2048)):
        der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert ecdsa_key(base64.b64encode(der)) == "is not a public key on the curve P-256"
    assert ed25519_key("is not hex") == "is not hex"
    assert EDWARDS.secret_problem(b"00") == "is not a public key of 32 bytes"
    assert EDWARDS.secret_problem(b"zz") == "is not hex"
    assert EDWARDS.secret_problem(HEX.value) == CURVE.secret_problem(P256_PUBLIC) == ""


@given(st.sampled_from([EDWARDS, CURVE]), st.binary(max_size=200), st.binary(max_size=20))
def test_arbitrary_bytes_are_refused_and_never_raise(verifier, signature, stamp):
    """Signature and timestamp."""
    request = Request(b"POST", b"/", b"", {b"sig": signature, b"time": stamp}, b"x")
    assert isinstance(verifier.verify(request, (HEX, Secret("b", P256_PUBLIC)), NOW), Rejected)


@pytest.mark.parametrize("encoding", ["hex", "base64", "base64url"])
def test_der_may_be_written_in_each_encoding(encoding):
    """As for the keyed hash."""
    signature = P256.sign(b"x", ECDSA(SHA256()))
    text = {
        "hex": signature.hex().encode(),
        "base64": base64.b64encode(signature),
        "base64url": base64.urlsafe_b64encode(signature),
    }[encoding]
    verifier = EcdsaVerifier(EcdsaOptions(header="Sig", encoding=encoding, signed="{body}"))
    assert judge(verifier, text, secrets=(Secret("a", P256_PUBLIC),)) == "a"


@pytest.mark.parametrize("encoding", ["hex", "base64", "base64url"])
@pytest.mark.parametrize("padding", [b"", b"=", b"=="])
def test_a_der_signature_of_any_length_is_refused_and_never_raises(encoding, padding):
    """Also where its length is none that base64 can have."""
    verifier = EcdsaVerifier(EcdsaOptions(header="Sig", encoding=encoding, signed="{body}"))
    secrets = (Secret("a", P256_PUBLIC),)
    for n in range(1, 150):
        assert isinstance(judge(verifier, b"A" * n + padding, secrets=secrets), RejectReason)
