"""Several forms: the head chooses one, and that one decides alone."""

import hashlib

import pytest

from sidecar.inbound.verify.options import AnyOptions, HmacOptions, TimestampOptions
from sidecar.inbound.verify.request import Accepted, Request, Secret
from sidecar.inbound.verify.several import AnyVerifier
from sidecar.model import RejectReason

SECRET = Secret("a", b"key")
NEW = HmacOptions(header="New", signed="{timestamp}{body}", timestamp=TimestampOptions(header="Time"))
OLD = HmacOptions(header="Old", keyed="prefix", require={"Version": "v1"}, signed="{url}{body}", secret_encoding="text")
VERIFIER = AnyVerifier(AnyOptions(forms=(NEW, OLD)))
NOW = 1_700_000_000_000


def judge(headers, body=b"x"):
    request = Request(b"POST", b"/", b"", headers, body, b"u")
    rejected = VERIFIER.precheck(request, (SECRET,), NOW)
    verdict = VERIFIER.verify(request, (SECRET,), NOW)
    assert rejected is None or rejected == verdict
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


def test_the_form_that_is_shown_decides():
    """A failing new signature is not made up for by a right old one."""
    old = {b"old": hashlib.sha256(b"keyux").hexdigest().encode(), b"version": b"v1"}
    new = {n.lower(): v for n, v in VERIFIER.sign(Request(b"POST", b"/", b"", {}, b"x", b"u"), SECRET, NOW)}
    assert judge(new) == judge(old) == "a"
    assert judge({**old, **new, b"new": b"0" * 64}) is RejectReason.WRONG_SECRET
    assert judge({**old, b"version": b"v2"}) is RejectReason.UNSUPPORTED_VERSION
    assert judge({}) is RejectReason.MISSING_HEADER


def test_it_signs_in_the_form_that_is_there():
    """A late delivery keeps its kind of signature; a new one gets the first."""
    old = Request(b"POST", b"/", b"", {b"old": b"0", b"version": b"v1"}, b"x", b"u")
    assert [n for n, _ in VERIFIER.sign(old, SECRET, NOW)] == [b"Version", b"Old"]
    assert [n for n, _ in VERIFIER.sign(Request(b"POST", b"/", b"", {}, b"", b"u"), SECRET, NOW)] == [b"Time", b"New"]


def test_it_reads_what_any_form_reads():
    """And wants a URL when any does."""
    assert VERIFIER.reads == {b"new", b"time", b"old", b"version"}
    assert VERIFIER.needs_url
    assert VERIFIER.tolerance_ms == 300_000
    assert (VERIFIER.needs_body, VERIFIER.can_sign, VERIFIER.unverified) == (True, True, False)
    assert VERIFIER.secret_problem(b"") == "is empty"
    assert VERIFIER.secret_problem(b"x") == ""
    with pytest.raises(ValueError, match="forms"):
        AnyVerifier(AnyOptions(forms=()))


def test_a_head_that_cannot_be_right_is_refused_before_the_body():
    """By the form that it shows."""
    stale = Request(b"POST", b"/", b"", {b"new": b"0" * 64, b"time": b"1"}, b"", b"u")
    refused = VERIFIER.precheck(stale, (SECRET,), NOW)
    assert refused is not None
    assert refused.reason is RejectReason.STALE_TIMESTAMP


def test_what_is_covered_is_what_the_form_that_is_shown_covers():
    """Else a signed form, written in another way, would be a new event behind this scheme and a duplicate without it."""
    form = HmacOptions(header="Form", form_field="payload", encoding="hex")
    several = AnyVerifier(AnyOptions(forms=(NEW, form)))
    assert VERIFIER.covered is None
    assert several.covered is not None

    def covered(header, body):
        kind = {header: b"0" * 64, b"content-type": b"application/x-www-form-urlencoded"}
        return several.covered(Request(b"POST", b"/", b"", kind, body))

    assert covered(b"form", b"payload=a%62") == covered(b"form", b"payload=ab&") == b"ab"
    assert covered(b"new", b"payload=ab") is None
    assert covered(b"other", b"payload=ab") is None
