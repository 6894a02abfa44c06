"""Tokens: one algorithm, the claims that the source asks for, times judged at the moment that is handed in."""

import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.options import JwtOptions
from sidecar.inbound.verify.request import Accepted, Fetched, Rejected, Request, Secret
from sidecar.inbound.verify.tokens import JwtVerifier
from sidecar.model import RejectReason

NOW = 1_700_000_000_000
NOW_S = NOW // 1000
TEXT = b"a-shared-secret-of-more-than-32-bytes"
SHARED = Secret("a", TEXT)
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
HASH = hashlib.sha256(b"x").hexdigest()


def jwk(key, kid, **more):
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more}


def jwks(*rows):
    return json.dumps({"keys": list(rows)}).encode()


def token(claims, key=TEXT, algorithm="HS256", kid=None, **head):
    return jwt.encode(claims, key, algorithm, headers={**({"kid": kid} if kid is not None else {}), **head}).encode()


def judge(options, value, secrets=(SHARED,), *, keys=None, body=b"x", url=b"https://h/in?x=1", now=NOW):
    verifier = JwtVerifier(options)
    headers = {} if value is None else {options.header.lower().encode(): options.prefix.encode() + value}
    request = Request(b"POST", b"/in", b"", headers, body, url, keys)
    rejected = verifier.precheck(request, secrets, now)
    verdict = verifier.verify(request, secrets, now)
    assert rejected is None or rejected == verdict
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


HS = JwtOptions(header="T", prefix="", algorithm="HS256")


@pytest.mark.parametrize(
    ("options", "claims", "verdict"),
    [
        ({}, {}, "a"),
        ({}, {"nbf": 0}, "a"),
        ({}, {"exp": (1 << 40) - 1}, "a"),
        ({}, {"exp": 1 << 40}, RejectReason.MALFORMED_TIMESTAMP),
        ({}, {"nbf": NOW_S + 60.001}, RejectReason.FUTURE_TIMESTAMP),
        ({"max_age": 300.0}, {"iat": NOW_S + 300}, "a"),
        ({"body_claim": "h"}, {"h": "\ud800"}, RejectReason.BODY_NOT_COVERED),
        ({"issuers": ("i", "j")}, {"iss": "j"}, "a"),
        ({"issuers": ("i",)}, {"iss": "k"}, RejectReason.WRONG_CLAIM),
        ({"issuers": ("i",)}, {}, RejectReason.WRONG_CLAIM),
        ({"audience": "me"}, {"aud": ["you", "me"]}, "a"),
        ({"audience": "me"}, {"aud": "you"}, RejectReason.WRONG_CLAIM),
        ({"needs_audience": True}, {"aud": "https://h/in"}, "a"),
        ({"needs_audience": True}, {"aud": "https://h/in?x=1"}, "a"),
        ({"needs_audience": True}, {}, RejectReason.WRONG_CLAIM),
        ({"email": "e"}, {"email": "e", "email_verified": True}, "a"),
        ({"email": "e"}, {"email": "e", "email_verified": "true"}, RejectReason.WRONG_CLAIM),
        ({"email": "e"}, {"email": "f", "email_verified": True}, RejectReason.WRONG_CLAIM),
        ({"body_claim": "h"}, {"h": HASH}, "a"),
        ({"body_claim": "h"}, {"h": HASH.upper()}, "a"),
        ({"body_claim": "h"}, {"h": "0" * 64}, RejectReason.BODY_NOT_COVERED),
        ({"body_claim": "h"}, {"h": 5}, RejectReason.BODY_NOT_COVERED),
        ({}, {"exp": NOW_S + 1}, "a"),
        ({}, {"exp": NOW_S}, RejectReason.STALE_TIMESTAMP),
        ({"needs_expiry": True}, {}, RejectReason.WRONG_CLAIM),
        ({}, {"nbf": NOW_S + 60}, "a"),
        ({}, {"nbf": NOW_S + 61}, RejectReason.FUTURE_TIMESTAMP),
        ({"max_age": 300.0}, {"iat": NOW_S - 300}, "a"),
        ({"max_age": 300.0}, {"iat": NOW_S - 300.2}, RejectReason.STALE_TIMESTAMP),
        ({"max_age": 300.0}, {"iat": NOW_S - 301}, RejectReason.STALE_TIMESTAMP),
        ({"max_age": 300.0}, {"iat": NOW_S + 301}, RejectReason.FUTURE_TIMESTAMP),
        ({"max_age": 300.0}, {}, RejectReason.WRONG_CLAIM),
    ],
)
def test_claims_are_judged_one_by_one(options, claims, verdict):
    """Each with its reason."""
    assert judge(JwtOptions(header="T", prefix="", algorithm="HS256", **options), token(claims)) == verdict


@pytest.mark.parametrize(
    ("options", "claims", "detail"),
    [
        ({"issuers": ("i",)}, {}, "iss"),
        ({"audience": "me"}, {}, "aud"),
        ({"email": "e"}, {}, "email"),
        ({"needs_expiry": True}, {}, "exp"),
        ({"max_age": 300.0}, {}, "iat"),
        ({}, {"nbf": "x"}, "nbf"),
        ({"max_age": 300.0}, {"iat": NOW_S - 301}, "301 s old, at most 300 s"),
        ({"max_age": 300.0}, {"iat": NOW_S + 301}, "301 s ahead, at most 300 s"),
    ],
)
def test_the_claim_that_is_wrong_is_named(options, claims, detail):
    """For the operator."""
    verifier = JwtVerifier(JwtOptions(header="T", prefix="", algorithm="HS256", **options))
    made = jwt.PyJWS().encode(json.dumps(claims).encode(), TEXT, "HS256").encode()
    assert verifier.verify(Request(b"POST", b"/", b"", {b"t": made}, b""), (SHARED,), NOW).detail == detail


def test_what_a_token_needs_of_a_request_is_known_beforehand():
    """Its header, which is shown to nobody; the URL only where it is the audience and nothing else is."""
    verifier = JwtVerifier(HS)
    assert (verifier.reads, verifier.masked) == ({b"t"}, {b"t"})
    assert (verifier.needs_body, verifier.unverified, verifier.can_sign, verifier.needs_url) == (
        True,
        False,
        True,
        False,
    )
    assert (verifier.fetches, verifier.tolerance_ms) == (None, None)
    assert verifier.precheck(Request(b"POST", b"/", b"", {}, b""), (SHARED,), NOW).reason is RejectReason.MISSING_HEADER
    assert JwtVerifier(JwtOptions(needs_audience=True)).needs_url
    assert not JwtVerifier(JwtOptions(needs_audience=True, audience="me")).needs_url
    assert not JwtVerifier(PUBLIC).can_sign
    assert JwtVerifier(JwtOptions(max_age=300.0)).tolerance_ms == 300_000


@pytest.mark.parametrize(("size", "verdict"), [(8192, "a"), (8193, RejectReason.MALFORMED_SIGNATURE)])
def test_a_header_of_up_to_8_kib_is_read(size, verdict):
    """Nobody's token is longer."""
    made = token({})
    assert judge(JwtOptions(header="T", prefix="P" * (size - len(made)), algorithm="HS256"), made) == verdict


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_each_shared_algorithm_is_what_its_name_says(algorithm):
    """With every secret, until one is right."""
    options = JwtOptions(header="T", prefix="", algorithm=algorithm)
    secrets = (Secret("o", b"another secret"), Secret("a", TEXT * 2))
    assert judge(options, token({}, TEXT * 2, algorithm), secrets) == "a"


def test_a_secret_may_be_short():
    """Its length is the provider's choice."""
    made = jwt.utils.base64url_encode(b'{"alg":"HS256"}') + b".e30"
    signature = hmac.digest(b"k", made, "sha256")
    assert judge(HS, made + b"." + jwt.utils.base64url_encode(signature), (Secret("a", b"k"),)) == "a"
    assert JwtVerifier(HS).secret_problem(b"k") == ""


def test_what_is_no_utf_8_is_compared_all_the_same():
    """With its replacement, so that nothing raises."""
    options = JwtOptions(header="T", prefix="", algorithm="HS256", needs_audience=True)
    url = b"https://h/\xff"
    assert judge(options, token({"aud": "https://h/\ufffd"}), url=url) == "a"
    ((_, value),) = JwtVerifier(options).sign(Request(b"POST", b"/", b"", {}, b"", url), SHARED, NOW)
    assert judge(options, value, url=url) == "a"
    plaid = JwtVerifier(JwtOptions(header="T", prefix="", algorithm="ES256", key_api="https://p/get"))
    request = Request(b"POST", b"/", b"", {b"t": token({}, EC, "ES256", kid="2")}, b"")
    asked = json.loads(plaid.verify(request, (Secret("c", b"id:\xff"),), NOW).fetch.post)
    assert asked["secret"] == "\ufffd"


@pytest.mark.parametrize("value", ["nan", True, -1, 1 << 50, "1700000000", [1], float("nan"), float("inf")])
def test_strange_times_are_malformed(value):
    """Nothing that is no number passes a comparison."""
    head = jwt.utils.base64url_encode(b'{"alg":"HS256"}')
    body = jwt.utils.base64url_encode(json.dumps({"exp": value}).encode())
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(head + b"." + body, TEXT)
    made = b".".join((head, body, jwt.utils.base64url_encode(signature)))
    assert judge(HS, made) is RejectReason.MALFORMED_TIMESTAMP


def test_only_the_sources_algorithm_counts():
    """Not none, not another hash, and never a public key as a shared secret."""
    none = jwt.utils.base64url_encode(b'{"alg":"none"}') + b".e30."
    assert judge(HS, none) is RejectReason.UNSUPPORTED_VERSION
    assert judge(HS, token({}, TEXT * 2, "HS512")) is RejectReason.UNSUPPORTED_VERSION
    assert judge(HS, token({}, b"another secret of more than 32 bytes")) is RejectReason.WRONG_SECRET
    assert judge(HS, token({}), (Secret("a", TEXT, not_after_ms=1),)) is RejectReason.RETIRED_SECRET
    document = Secret("k", jwks(jwk(RSA, "1")))
    public = JwtOptions(header="T", prefix="", algorithm="RS256")
    confused = token({}, kid="1").rsplit(b".", 1)[0] + b"." + b"A" * 43
    assert judge(public, confused, (document,)) is RejectReason.UNSUPPORTED_VERSION


@pytest.mark.parametrize(
    "value",
    [
        b"abc.def", b"a.b.c", b"e30.e30.", b"!!!!.e30.e30", b"bnVsbA.e30.e30", b"x" * 9000,
        jwt.utils.base64url_encode(b'{"alg":"HS256","crit":["x"]}') + b".e30.e30",
        jwt.utils.base64url_encode(b'{"alg":"HS256","kid":5}') + b".e30.e30",
        b"bm90IGpzb24.e30.e30", b"=.e30.e30", b"e30=.e30.e30", b"e.e.e.e",
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused_before_the_body(value):
    """Whatever it is."""
    assert judge(HS, value) in (RejectReason.MALFORMED_SIGNATURE, RejectReason.UNSUPPORTED_VERSION)


def test_header_and_url_must_be_there():
    """The prefix is compared without regard to case."""
    bearer = JwtOptions(algorithm="HS256")
    assert judge(HS, None) is RejectReason.MISSING_HEADER
    assert judge(JwtOptions(header="T", prefix="BEARER ", algorithm="HS256"), token({})) == "a"
    assert (
        judge(JwtOptions(header="T", algorithm="HS256", needs_audience=True), token({}), url=None) == "missing_header"
    )
    request = Request(b"POST", b"/", b"", {b"authorization": b"bearer " + token({})}, b"")
    assert JwtVerifier(bearer).verify(request, (SHARED,), NOW) == Accepted("a")
    request.headers = {b"authorization": b"Basic " + token({})}
    assert JwtVerifier(bearer).verify(request, (SHARED,), NOW).reason is RejectReason.MALFORMED_SIGNATURE


PUBLIC = JwtOptions(header="T", prefix="", algorithm="RS256")
RS = token({}, RSA, "RS256", kid="1")


def test_public_keys_given_as_a_document_are_found_by_their_id():
    """Without an id the only one counts; one past its time does not."""
    document = Secret("k", jwks({"kty": "oct", "k": "eA"}, jwk(RSA, "1"), jwk(EC, "2")))
    assert judge(PUBLIC, RS, (document,)) == "k"
    assert judge(PUBLIC, token({}, RSA, "RS256", kid="9"), (document,)) is RejectReason.UNKNOWN_KEY
    assert judge(PUBLIC, token({}, RSA, "RS256", kid="2"), (document,)) is RejectReason.WRONG_SECRET
    assert judge(PUBLIC, token({}, RSA, "RS256"), (Secret("k", jwks(jwk(RSA, "1"))),)) == "k"
    old = Secret("k", jwks(jwk(RSA, "1", expired_at=NOW_S)))
    assert judge(PUBLIC, RS, (old,)) is RejectReason.UNKNOWN_KEY
    later = Secret("k", jwks(jwk(RSA, "1", expired_at=NOW_S + 1)))
    assert judge(PUBLIC, RS, (later,)) == "k"
    assert judge(PUBLIC, RS, (Secret("k", document.value, not_after_ms=1),)) is RejectReason.RETIRED_SECRET
    es = JwtOptions(header="T", prefix="", algorithm="ES256")
    assert judge(es, token({}, EC, "ES256", kid="2"), (document,)) == "k"
    nameless = {name: value for name, value in jwk(RSA, "").items() if name != "kid"}
    assert judge(PUBLIC, token({}, RSA, "RS256"), (Secret("k", jwks(nameless, jwk(EC, "2"))),)) == "k"
    assert judge(PUBLIC, token({}, RSA, "RS256"), (document,)) is RejectReason.UNKNOWN_KEY


FETCHING = JwtOptions(header="T", prefix="", algorithm="RS256", jwks_url="https://k/jwks")


def test_a_key_that_must_be_fetched_is_a_verdict_that_says_so():
    """Also when the document that is there lacks it."""
    verifier = JwtVerifier(FETCHING)
    request = Request(b"POST", b"/", b"", {b"t": RS}, b"")
    verdict = verifier.verify(request, (), NOW)
    assert (verdict.reason, verdict.fetch.url, verdict.fetch.newer) == ("key_unavailable", "https://k/jwks", False)
    request.keys = {verdict.fetch.key: Fetched(jwks(jwk(EC, "2")), NOW)}
    verdict = verifier.verify(request, (), NOW)
    assert (verdict.reason, verdict.fetch.newer) == (RejectReason.UNKNOWN_KEY, True)
    request.keys = {verdict.fetch.key: Fetched(jwks(jwk(RSA, "1")), NOW)}
    assert verifier.verify(request, (), NOW) == Accepted("network")
    request.headers = {b"t": RS[:-4] + b"AAAA"}
    assert verifier.verify(request, (), NOW).reason is RejectReason.WRONG_SECRET
    request.keys = {verdict.fetch.key: Fetched(b"junk", NOW)}
    assert verifier.verify(request, (), NOW).reason is RejectReason.UNKNOWN_KEY
    assert [f.url for f in verifier.fetches or ()] == ["https://k/jwks"]


def test_plaids_keys_are_asked_for_one_by_one():
    """With the credentials in the request, which no repr shows; and never for an id that is none."""
    options = JwtOptions(header="T", prefix="", algorithm="ES256", key_api="https://p/get")
    verifier, credentials = JwtVerifier(options), (Secret("c", b"id:secret"),)
    request = Request(b"POST", b"/", b"", {b"t": token({}, EC, "ES256", kid="2")}, b"")
    fetch = verifier.verify(request, credentials, NOW).fetch
    assert json.loads(fetch.post) == {"client_id": "id", "secret": "secret", "key_id": "2"}
    assert "secret" not in repr(fetch)
    request.keys = {fetch.key: Fetched(json.dumps({"key": jwk(EC, "2", expired_at=None)}).encode(), NOW)}
    assert verifier.verify(request, credentials, NOW) == Accepted("network")
    assert verifier.verify(request, (), NOW).reason is RejectReason.NO_ACTIVE_SECRET
    request.headers = {b"t": token({}, EC, "ES256", kid="a b")}
    assert verifier.verify(request, credentials, NOW).reason is RejectReason.UNKNOWN_KEY
    assert verifier.secret_problem(b"id:secret") == ""
    assert "client_id:secret" in verifier.secret_problem(b"junk")
    assert "client_id:secret" in verifier.secret_problem(b":secret"), "an id is never empty"
    assert verifier.secret_problem(b"i:s") == ""
    assert verifier.secret_problem(b'{"a": 1}') == "is not a JWKS document"
    assert verifier.secret_problem(jwks(jwk(EC, "2"))) == ""
    assert verifier.fetches == ()


def test_contradicting_options_are_a_value_error():
    """Plain http, and a shared secret that is published."""
    for wrong in (
        {"jwks_url": "http://k"},
        {"key_api": "http://k", "algorithm": "ES256"},
        {"jwks_url": "https://k", "algorithm": "HS256"},
    ):
        with pytest.raises(ValueError, match=r"https only|shared"):
            JwtVerifier(JwtOptions(**wrong))


def test_shared_secrets_sign_what_is_accepted():
    """With every claim that the source asks for."""
    options = JwtOptions(
        header="T", prefix="", algorithm="HS256", issuers=("i",), needs_audience=True, email="e", body_claim="h",
        max_age=300.0, needs_expiry=True,
    )  # fmt: skip
    request = Request(b"POST", b"/in", b"", {}, b"x", b"https://h/in?x=1")
    ((name, value),) = JwtVerifier(options).sign(request, SHARED, NOW)
    assert (name, judge(options, value)) == (b"T", "a")
    assert jwt.decode(value, options={"verify_signature": False}) == {
        "iss": "i",
        "aud": "https://h/in?x=1",
        "email": "e",
        "email_verified": True,
        "iat": NOW_S,
        "exp": NOW_S + 300,
        "h": HASH,
    }
    for more in ({"max_age": 300.0}, {"needs_expiry": True}, {"audience": "me"}):
        one = JwtOptions(header="T", prefix="", algorithm="HS256", **more)
        ((_, value),) = JwtVerifier(one).sign(request, SHARED, NOW)
        assert judge(one, value) == "a"
    ((_, value),) = JwtVerifier(HS).sign(request, SHARED, NOW)
    assert judge(HS, value) == "a"
    assert JwtVerifier(PUBLIC).sign(request, SHARED, NOW) == []
    assert JwtVerifier(HS).secret_problem(b"") == "is empty"
    assert JwtVerifier(HS).secret_problem(TEXT) == ""
    assert JwtVerifier(HS).secret_problem(jwks(jwk(RSA, "1"))) == "looks like a key pair, not like a shared secret"
    assert JwtVerifier(PUBLIC).secret_problem(b"x") == "is not a JWKS document"
    assert JwtVerifier(PUBLIC).secret_problem(jwks()) == "has no usable key"
    assert JwtVerifier(PUBLIC).secret_problem(jwks(5)) == "is not a JWKS document"


def test_claims_that_are_no_object_are_no_claims():
    """However well they are signed."""
    made = jwt.PyJWS().encode(b"[1]", TEXT, "HS256").encode()
    assert judge(HS, made) is RejectReason.WRONG_SECRET


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_and_never_raise(value):
    """Also with dots in the right places."""
    for text in (value, value.replace(b"\x00", b"."), b"e30." + value):
        request = Request(b"POST", b"/", b"", {b"t": text}, b"")
        assert isinstance(JwtVerifier(HS).verify(request, (SHARED,), NOW), Rejected)
        assert isinstance(JwtVerifier(FETCHING).verify(request, (), NOW), Rejected)
