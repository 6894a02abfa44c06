"""Message signatures: components, parameters, digests, and each algorithm."""

import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.messages import MessageVerifier
from sidecar.inbound.verify.options import Rfc9421Options
from sidecar.inbound.verify.request import Accepted, Rejected, Request, Secret
from sidecar.inbound.verify.verdicts import TWICE
from sidecar.model import RejectReason
from tests.support.providers import ED25519, ED25519_PUBLIC, P256, P256_PUBLIC

NOW = 1_700_000_000_000
CREATED = ";created=1700000000"
KEY = b"0123456789abcdef0123456789abcdef"
SECRET = Secret("a", base64.b64encode(KEY))
URL = b"https://H.example:443/in?x=1"
DIGEST = "sha-256=:" + base64.b64encode(hashlib.sha256(b"x").digest()).decode() + ":"
RSA = rsa.generate_private_key(65537, 2048)


def base(lines, params):
    return "".join([*(f"{line}\n" for line in lines), f'"@signature-params": {params}']).encode()


def shared(lines, params):
    return hmac.digest(KEY, base(lines, params), "sha256")


def judge(params, signature, *, options=None, secrets=(SECRET,), body=b"x", url=URL, label="sig", now=NOW, **more):
    headers = {b"content-digest": DIGEST.encode(), b"x-a": b" v "}
    headers |= {b"signature-input": f"{label}={params}".encode()} if params is not None else {}
    headers |= {b"signature": b"sig=:" + base64.b64encode(signature) + b":"} if signature is not None else {}
    headers |= {name.replace("_", "-").lower().encode(): value for name, value in more.items()}
    verifier = MessageVerifier(options or Rfc9421Options())
    request = Request(b"POST", b"/in", b"x=1", headers, body, url)
    rejected = verifier.precheck(request, secrets, now)
    verdict = verifier.verify(request, secrets, now)
    assert rejected is None or isinstance(verdict, Rejected)
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


COVERED = f'"content-digest": {DIGEST}'
PARAMS = f'("content-digest"){CREATED}'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("@method", "POST"),
        ("@target-uri", "https://H.example:443/in?x=1"),
        ("@authority", "h.example"),
        ("@scheme", "https"),
        ("@request-target", "/in?x=1"),
        ("@path", "/in"),
        ("@query", "?x=1"),
        ("x-a", "v"),
    ],
)
def test_each_component_has_its_value(name, value):
    """As RFC 9421, 2.2 says."""
    params = f'("{name}" "content-digest"){CREATED}'
    assert judge(params, shared([f'"{name}": {value}', COVERED], params)) == "a"


@pytest.mark.parametrize(
    ("url", "name", "value"),
    [
        (b"http://H:80/", "@authority", "h"),
        (b"http://h:443/", "@authority", "h:443"),
        (b"https://h:80/", "@authority", "h:80"),
        (b"http://h/", "@scheme", "http"),
        (b"https://h", "@path", "/"),
        (b"https://h", "@query", "?"),
        (b"https://h", "@request-target", "/"),
        (b"https://h?x", "@request-target", "/?x"),
    ],
)
def test_a_component_of_the_url_has_its_value_where_the_url_is_short(url, name, value):
    """The default port of its scheme is left out; an empty path is a slash, no query a question mark."""
    params = f'("{name}" "content-digest"){CREATED}'
    assert judge(params, shared([f'"{name}": {value}', COVERED], params), url=url) == "a"


def test_a_signed_header_comes_once():
    """RFC 9421, 2.1 signs all its lines together; others may come as often as they like."""
    params = f'("x-a" "content-digest"){CREATED}'
    signature = shared(['"x-a": v', COVERED], params)
    headers = {b"content-digest": DIGEST.encode(), b"x-a": b"v", b"signature-input": f"sig={params}".encode()}
    headers[b"signature"] = b"sig=:" + base64.b64encode(signature) + b":"
    for repeated, verdict in ((b"x-b", Accepted("a")), (b"x-a", TWICE)):
        sent = Request(b"POST", b"/in", b"x=1", headers, b"x", URL, repeated=frozenset({repeated}))
        assert MessageVerifier(Rfc9421Options()).verify(sent, (SECRET,), NOW) == verdict


@pytest.mark.parametrize(
    ("name", "reason"),
    [("@status", "unsupported_version"), ("x-none", "missing_header"), ('x-a";sf "@path', "unsupported_version")],
)
def test_components_that_we_do_not_take_are_refused(name, reason):
    """Of answers, missing ones, and those with parameters."""
    assert judge(f'("{name}" "content-digest"){CREATED}', b"x") == reason
    assert judge(f'("@path" "content-digest"){CREATED}', b"x", url=b"junk") is RejectReason.UNSUPPORTED_VERSION
    assert judge(f'("x-a" "x-a" "content-digest"){CREATED}', b"x") is RejectReason.MALFORMED_SIGNATURE


@pytest.mark.parametrize(
    ("params", "options", "verdict"),
    [
        (CREATED, {}, "a"),
        (f'{CREATED};alg="hmac-sha256";keyid="k"', {"keyid": "k"}, "a"),
        (f'{CREATED};alg="ed25519"', {}, RejectReason.UNSUPPORTED_VERSION),
        (f'{CREATED};keyid="j"', {"keyid": "k"}, RejectReason.UNKNOWN_KEY),
        ("", {}, RejectReason.WRONG_CLAIM),
        ("", {"max_age": 0.0}, "a"),
        (";created=1699999700", {}, "a"),
        (";created=1699999699", {}, RejectReason.STALE_TIMESTAMP),
        (";created=1700000300", {}, "a"),
        (";created=1700000301", {}, RejectReason.FUTURE_TIMESTAMP),
        (f"{CREATED};expires=1699999999", {}, RejectReason.STALE_TIMESTAMP),
        (f"{CREATED};expires=1700000000", {}, "a"),
        (";created=?1", {}, RejectReason.MALFORMED_TIMESTAMP),
        (f'{CREATED};expires="x"', {}, RejectReason.MALFORMED_TIMESTAMP),
        (CREATED, {"covered": ("@method",)}, RejectReason.WRONG_CLAIM),
        (CREATED, {"covered": ("content-digest",)}, "a"),
    ],
)
def test_parameters_are_judged(params, options, verdict):
    """Times, algorithm, key id, and what must be covered."""
    text = f'("content-digest"){params}'
    assert judge(text, shared([COVERED], text), options=Rfc9421Options(**options)) == verdict


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        ("", "created"),
        (f'{CREATED};keyid="j"', "keyid"),
        (';created=1699999699;keyid="k"', "301 s old, at most 300 s"),
        (';created=1700000301;keyid="k"', "301 s ahead, at most 300 s"),
    ],
)
def test_the_parameter_that_is_wrong_is_named(params, detail):
    """For the operator."""
    keyid = "k" if "keyid" in params else ""
    headers = {b"signature": b"sig=:eA==:", b"signature-input": f'sig=("content-digest"){params}'.encode()}
    request = Request(b"POST", b"/in", b"", headers, b"x", URL)
    assert MessageVerifier(Rfc9421Options(keyid=keyid)).verify(request, (SECRET,), NOW).detail == detail


def test_what_a_signature_needs_of_a_request_is_known_beforehand():
    """Its three headers and those that must be signed, the URL, and the body."""
    verifier = MessageVerifier(Rfc9421Options(covered=("X-A", "@method")))
    assert verifier.reads == {b"signature", b"signature-input", b"content-digest", b"x-a"}
    assert (verifier.needs_url, verifier.needs_body, verifier.unverified) == (True, True, False)
    assert (verifier.fetches, verifier.masked, verifier.can_sign) == (None, frozenset(), True)
    assert not MessageVerifier(Rfc9421Options(alg="ed25519")).can_sign
    assert (verifier.tolerance_ms, MessageVerifier(Rfc9421Options(max_age=0.0)).tolerance_ms) == (300_000, None)
    early = verifier.precheck(Request(b"POST", b"/in", b"", {}, b"", URL), (SECRET,), NOW)
    assert early is not None
    assert early.reason is RejectReason.MISSING_HEADER


def test_one_query_parameter_may_be_signed():
    """Decoded and encoded again; there once, and under its name."""
    params = f'("@query-param";name="x" "content-digest"){CREATED}'
    for value, written in (("1", "1"), ("a%20b+c%2f", "a%20b%20c%2F"), ("", "")):
        lines = [f'"@query-param";name="x": {written}', COVERED]
        headers = {"signature": base64.b64encode(shared(lines, params))}
        request = Request(
            b"POST",
            b"/in",
            b"y=2&x=" + value.encode(),
            {
                b"content-digest": DIGEST.encode(),
                b"signature-input": f"sig={params}".encode(),
                b"signature": b"sig=:" + headers["signature"] + b":",
            },
            b"x",
            URL,
        )
        assert MessageVerifier(Rfc9421Options()).verify(request, (SECRET,), NOW) == Accepted("a")
        for query in (b"y=2", b"x=1&x=1"):
            request.query = query
            verdict = MessageVerifier(Rfc9421Options()).verify(request, (SECRET,), NOW)
            assert verdict == Rejected(RejectReason.MISSING_HEADER, "a signed component is not there")
    assert judge(f'("@query-param" "content-digest"){CREATED}', b"x") is RejectReason.UNSUPPORTED_VERSION


def test_a_body_counts_only_with_its_digest():
    """Covered and computed again; the unknown hash counts for nothing."""
    bare = f'("x-a"){CREATED}'
    signature = shared(['"x-a": v'], bare)
    assert judge(bare, signature) is RejectReason.BODY_NOT_COVERED
    assert judge(bare, signature, body=b"") == "a"
    assert judge(bare, signature, options=Rfc9421Options(require_content_digest=False)) == "a"
    good = shared([COVERED], PARAMS)
    assert judge(PARAMS, good) == "a"
    assert judge(PARAMS, good, body=b"y") is RejectReason.BODY_NOT_COVERED
    assert judge(PARAMS, good, body=b"") is RejectReason.BODY_NOT_COVERED
    for digest in (b"md5=:eA==:", b"junk", b"sha-256=:eA==:", DIGEST.encode() + b",sha-512=:eA==:"):
        lines = [f'"content-digest": {digest.decode()}']
        assert judge(PARAMS, shared(lines, PARAMS), content_digest=digest) is RejectReason.BODY_NOT_COVERED


def test_labels_must_agree_and_any_right_signature_is_enough():
    """One label for both headers; a wrong one beside a right one does no harm."""
    good = shared([COVERED], PARAMS)
    assert judge(PARAMS, good, label="other") is RejectReason.MISSING_HEADER
    two = PARAMS + f',b=("x-none"){CREATED}'
    assert judge(two, good, Signature=b"sig=:" + base64.b64encode(good) + b":,b=:eA==:") == "a"
    twice = f"{PARAMS},b={PARAMS}"
    assert judge(twice, good, Signature=b"sig=:" + base64.b64encode(good) + b":,b=:eA==:") == "a"
    assert judge(f"{PARAMS},sig={PARAMS}", good, label="unknown") == "a"
    assert judge(PARAMS, b"x") is RejectReason.WRONG_SECRET
    assert judge(PARAMS, good, secrets=(Secret("o", base64.b64encode(b"other")), SECRET)) == "a"
    assert judge(PARAMS, good, secrets=(Secret("b", b"!"),)) is RejectReason.WRONG_SECRET
    assert judge(PARAMS, good, secrets=(Secret("a", SECRET.value, not_after_ms=1),)) is RejectReason.RETIRED_SECRET
    assert judge(None, good) is RejectReason.MISSING_HEADER
    assert judge(PARAMS, None) is RejectReason.MISSING_HEADER
    assert judge(PARAMS, good, url=None) is RejectReason.MISSING_HEADER
    assert judge("junk", good) is RejectReason.MALFORMED_SIGNATURE


def ecdsa(message):
    r, s = decode_dss_signature(P256.sign(message, ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def pss(message):
    return RSA.sign(message, padding.PSS(mgf=padding.MGF1(SHA512()), salt_length=64), SHA512())


RSA_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
ED_PEM = ED25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("alg", "sign", "key"),
    [
        ("ed25519", ED25519.sign, base64.b64encode(ED25519_PUBLIC)),
        ("ed25519", ED25519.sign, ED_PEM),
        ("ecdsa-p256-sha256", ecdsa, P256_PUBLIC),
        ("rsa-pss-sha512", pss, RSA_PEM),
        ("rsa-v1_5-sha256", lambda m: RSA.sign(m, padding.PKCS1v15(), SHA256()), RSA_PEM),
    ],
)
def test_each_algorithm(alg, sign, key):
    """What its private key signed, and nothing else; nobody here can sign with it."""
    options, secret = Rfc9421Options(alg=alg), Secret("p", key)
    good = sign(base([COVERED], PARAMS))
    assert judge(PARAMS, good, options=options, secrets=(secret,)) == "p"
    assert judge(PARAMS, sign(b"other"), options=options, secrets=(secret,)) is RejectReason.WRONG_SECRET
    assert judge(PARAMS, b"short", options=options, secrets=(secret,)) is RejectReason.WRONG_SECRET
    verifier = MessageVerifier(options)
    assert verifier.secret_problem(key) == ""
    assert verifier.secret_problem(b"AAAA")
    assert verifier.secret_problem(b"-----BEGIN JUNK")
    assert verifier.sign(Request(b"POST", b"/", b"", {}, b"", URL), secret, NOW) == []


def test_an_ecdsa_signature_has_one_spelling():
    """64 bytes, though a zero in between would not change its numbers."""
    options, secret = Rfc9421Options(alg="ecdsa-p256-sha256"), Secret("p", P256_PUBLIC)
    good = ecdsa(base([COVERED], PARAMS))
    padded = good[:32] + b"\0" + good[32:]
    assert judge(PARAMS, padded, options=options, secrets=(secret,)) is RejectReason.WRONG_SECRET


def test_the_body_is_not_looked_at_before_it_is_there():
    """The head alone does not refuse it."""
    headers = {
        b"signature": b"sig=:eA==:",
        b"signature-input": f"sig={PARAMS}".encode(),
        b"content-digest": DIGEST.encode(),
    }
    request = Request(b"POST", b"/in", b"", headers, b"", URL)
    assert MessageVerifier(Rfc9421Options()).precheck(request, (SECRET,), NOW) is None


def test_the_shared_key_signs_what_is_accepted():
    """With everything that must be covered; without a component there is no signature."""
    options = Rfc9421Options(covered=("x-a", "@authority"), keyid="k")
    verifier = MessageVerifier(options)
    request = Request(b"POST", b"/in", b"x=1", {b"x-a": b"v"}, b"x", URL)
    headers = {n.lower(): v for n, v in verifier.sign(request, SECRET, NOW)}
    assert headers[b"content-digest"] == DIGEST.encode()
    assert headers[b"signature-input"] == (
        b'sig1=("@method" "@target-uri" "content-digest" "@authority" "x-a");created=1700000000;keyid="k";alg="hmac-sha256"'
    )
    signed = Request(b"POST", b"/in", b"x=1", {**request.headers, **headers}, b"x", URL)
    assert verifier.verify(signed, (SECRET,), NOW) == Accepted("a")
    assert verifier.sign(Request(b"POST", b"/in", b"", {}, b"x", URL), SECRET, NOW) == []
    plain = MessageVerifier(Rfc9421Options())
    made = {n.lower(): v for n, v in plain.sign(request, SECRET, NOW)}
    signed = Request(b"POST", b"/in", b"x=1", {**request.headers, **made}, b"x", URL)
    assert plain.verify(signed, (SECRET,), NOW) == Accepted("a")
    assert verifier.sign(Request(b"POST", b"/in", b"", {b"x-a": b"v"}, b"x", None), SECRET, NOW) == []
    assert (
        MessageVerifier(Rfc9421Options()).sign(Request(b"POST", b"/", b"", {}, b"", URL), Secret("b", b"!"), NOW) == []
    )
    assert verifier.secret_problem(b"") == "is empty"
    assert verifier.secret_problem(b"!") == verifier.secret_problem(SECRET.value + b"~") == "is not base64"
    short = rsa.generate_private_key(65537, 1024).public_key()
    pem = short.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = base64.b64encode(RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert MessageVerifier(Rfc9421Options(alg="rsa-pss-sha512")).secret_problem(der) == ""
    for key in (pem, P256_PUBLIC, der[:8] + b"!" + der[8:]):
        assert "2048 bits" in MessageVerifier(Rfc9421Options(alg="rsa-pss-sha512")).secret_problem(key)
    assert b"x-a" in verifier.reads
    foreign = MessageVerifier(Rfc9421Options(keyid="ключ")).sign(request, SECRET, NOW)
    assert len(foreign) == 3, "a key id that is not Latin-1 does not raise"
    with pytest.raises(ValueError, match="covered"):
        MessageVerifier(Rfc9421Options(covered=("@nothing", "a b")))


@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=40))
def test_arbitrary_bytes_are_refused_and_never_raise(signature, given_input, digest):
    """In all three headers."""
    headers = {b"signature": signature, b"signature-input": given_input, b"content-digest": digest}
    request = Request(b"POST", b"/", b"", headers, b"x", URL)
    assert isinstance(MessageVerifier(Rfc9421Options()).verify(request, (SECRET,), NOW), Rejected)


def test_the_published_ed25519_example_holds():
    """RFC 9421, B.2.6."""
    params = '("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"'
    signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    headers = {
        b"date": b"Tue, 20 Apr 2021 02:07:55 GMT",
        b"content-type": b"application/json",
        b"content-length": b"18",
        b"signature-input": f"sig-b26={params}".encode(),
        b"signature": f"sig-b26=:{signature}:".encode(),
    }
    url = b"https://example.com/foo?param=Value&Pet=dog"
    request = Request(b"POST", b"/foo", b"param=Value&Pet=dog", headers, b'{"hello": "world"}', url)
    verifier = MessageVerifier(Rfc9421Options(alg="ed25519", require_content_digest=False))
    key = Secret("rfc", b"MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
    assert verifier.verify(request, (key,), 1_618_884_475_000) == Accepted("rfc")
    request.method = b"PUT"
    assert verifier.verify(request, (key,), 1_618_884_475_000) == Rejected(RejectReason.WRONG_SECRET)
