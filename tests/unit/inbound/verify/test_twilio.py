"""Twilio: the URL in each spelling, the fields sorted and single, and no body that nothing covers."""

import base64
import hashlib
import hmac

import pytest

from sidecar.inbound.verify.options import TwilioOptions
from sidecar.inbound.verify.request import Accepted, Request, Secret
from sidecar.inbound.verify.twilio import TwilioVerifier
from sidecar.model import RejectReason

SECRET = Secret("a", b"token")
FORM = b"application/x-www-form-urlencoded"
URL = b"https://h.example/in?x=1"


def signature(message, algorithm="sha1"):
    return base64.b64encode(hmac.digest(b"token", message, algorithm))


def judge(body=b"", *, url=URL, signed=None, query=b"x=1", form=True, secrets=(SECRET,), **headers):
    all_headers = {b"content-type": FORM if form else b"application/json"}
    if signed is not None:
        all_headers[b"x-twilio-signature"] = signature(signed) if isinstance(signed, bytes) else signed[0]
    all_headers |= {name.replace("_", "-").encode(): value for name, value in headers.items()}
    request = Request(b"POST", b"/in", query, all_headers, body, url)
    verifier = TwilioVerifier(TwilioOptions())
    verdict = verifier.verify(request, secrets, 0)
    rejected = verifier.precheck(request, secrets, 0)
    assert rejected is None or rejected == verdict
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        (URL, URL),
        (URL, b"https://h.example:443/in?x=1"),
        (b"https://h.example:443/in?x=1", URL),
        (b"http://h.example/in", b"http://h.example:80/in"),
        (b"https://h.example:8443/in", b"https://h.example:8443/in"),
        (b"https://[::1]:8443/in", b"https://[::1]/in"),
        (b"no url", b"no url"),
    ],
)
def test_the_url_counts_with_and_without_its_port(url, signed):
    """Twilio's own back ends do not agree."""
    assert judge(b"b=2&a=1", url=url, signed=signed + b"a1b2") == "a"


def test_fields_are_sorted_decoded_and_single():
    """Repeated ones once, empty ones too."""
    assert judge(b"b=2&a=x+y&b=2&b=1&e=", signed=URL + b"ax y" + b"b1" + b"b2" + b"e") == "a"
    assert judge(b"a=1", signed=URL + b"a2") is RejectReason.WRONG_SECRET
    assert judge(b"&".join([b"a=1"] * 1002), signed=URL) is RejectReason.MALFORMED_BODY


def test_what_is_covered_of_a_form_is_the_same_for_every_spelling():
    """Order, escapes and repeats; of other bodies the very bytes are covered."""
    form = {b"content-type": b"application/x-www-form-urlencoded"}
    verifier = TwilioVerifier(TwilioOptions())

    def covered(body, headers=form):
        return verifier.covered(Request(b"POST", b"/in", b"", headers, body, URL))

    assert {covered(b"b=2&a=1"), covered(b"a=%31&b=2&"), covered(b"a=1&b=2&b=2")} == {b"a1b2"}
    assert covered(b"&".join([b"a=1"] * 1001)) is None
    assert covered(b"{}", {}) is None


def test_another_body_needs_its_hash_in_the_query():
    """What neither fields nor hash cover is refused, also when somebody changes the content type."""
    digest = hashlib.sha256(b"{}").hexdigest().encode()
    assert judge(b"{}", form=False, query=b"bodySHA256=" + digest, signed=URL) == "a"
    assert judge(b"{}", form=False, query=b"bodySHA256=" + digest.upper(), signed=URL) == "a"
    assert judge(b"{ }", form=False, query=b"bodySHA256=" + digest, signed=URL) is RejectReason.BODY_NOT_COVERED
    assert judge(b"{}", form=False, signed=URL) is RejectReason.BODY_NOT_COVERED
    assert judge(b"", form=False, signed=URL) == "a"
    assert judge(b"", form=True, query=b"bodySHA256=" + digest, signed=URL) is RejectReason.BODY_NOT_COVERED
    assert judge(b"{}", form=True, query=b"bodySHA256=" + digest, signed=URL) is RejectReason.WRONG_SECRET


def test_the_settings_header_chooses_from_a_closed_list():
    """SHA-256 with SharedKey; anything else is refused; nothing named is SHA-1."""
    name = "x_twilio_webhooks_signature_settings"
    strong = (signature(URL, "sha256"),)
    assert judge(signed=strong, **{name: b"key=k,algorithm=HMAC_SHA256"}) == "a"
    assert judge(signed=URL, **{name: b"key=k"}) == "a"
    assert judge(signed=URL, **{name: b"algorithm="}) == "a"
    assert judge(signed=URL, **{name: b"key=k,algorithm=HMAC_MD5"}) is RejectReason.UNSUPPORTED_VERSION
    assert judge(signed=URL, **{name: b"algorithm=HMAC_SHA256"}) is RejectReason.MALFORMED_SIGNATURE


def test_what_is_missing_is_named():
    """Header, URL, form, secret."""
    assert judge() is RejectReason.MISSING_HEADER
    assert judge(signed=URL, url=None) is RejectReason.MISSING_HEADER
    assert judge(signed=(b"!",)) is RejectReason.MALFORMED_SIGNATURE
    assert judge(signed=URL, secrets=()) is RejectReason.NO_ACTIVE_SECRET
    assert judge(signed=URL, secrets=(Secret("a", b"token", not_after_ms=0),)) is RejectReason.RETIRED_SECRET


def test_what_the_head_decides_is_refused_before_the_body_is_read():
    """A signature that is missing or none; a body costs nothing until then."""
    verifier = TwilioVerifier(TwilioOptions())
    assert verifier.needs_url
    for headers in ({}, {b"x-twilio-signature": b"!"}):
        assert verifier.precheck(Request(b"POST", b"/in", b"", headers, b"", URL), (SECRET,), 0) is not None
    signed = {b"x-twilio-signature": signature(URL)}
    assert verifier.precheck(Request(b"POST", b"/in", b"", signed, b"", URL), (SECRET,), 0) is None


def test_it_signs_what_it_accepts():
    """Forms, and nothing that could not be verified."""
    verifier = TwilioVerifier(TwilioOptions())
    request = Request(b"POST", b"/in", b"x=1", {b"content-type": FORM}, b"a=1", URL)
    headers = {name.lower(): value for name, value in verifier.sign(request, SECRET, 0)}
    assert verifier.verify(Request(b"POST", b"/in", b"x=1", {**request.headers, **headers}, b"a=1", URL), (SECRET,), 0)
    assert headers == {b"x-twilio-signature": signature(URL + b"a1")}
    assert verifier.sign(Request(b"POST", b"/in", b"", {}, b"a=1", URL), SECRET, 0) == []
    assert verifier.sign(Request(b"POST", b"/in", b"", {}, b"", None), SECRET, 0) == []
    assert verifier.secret_problem(b"") == "is empty"
    assert verifier.secret_problem(b"x") == ""
    assert verifier.sign_body(b"x", SECRET, 0) == b"x"
