"""What single providers need of the keyed hash: bound headers, form fields, listed headers, second tries."""

import hashlib
import hmac

import pytest

from sidecar.inbound.verify.keyed_hash import HmacVerifier
from sidecar.inbound.verify.options import EntryOptions, HmacOptions, TimestampOptions
from sidecar.inbound.verify.request import Accepted, Request, Secret
from sidecar.model import RejectReason

NOW = 1_700_000_000_000
A, B = Secret("primary", b"one"), Secret("secondary", b"two")


def mac(secret, message):
    return hmac.digest(secret.value, message, "sha256").hex().encode()


def judge(options, headers, body=b"x", *, secrets=(A, B), url=b"https://h/in", query=b""):
    verifier = HmacVerifier(options)
    request = Request(b"POST", b"/in", query, headers, body, url)
    rejected = verifier.precheck(request, secrets, NOW)
    verdict = verifier.verify(request, secrets, NOW)
    assert rejected is None or rejected == verdict
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


BOUND = HmacOptions(header="P|S", secret_headers={"primary": "P", "secondary": "S"})


def test_a_secret_may_be_bound_to_its_header():
    """The primary key does not count in the secondary header; a secret of another name counts in both."""
    right, wrong = mac(A, b"x"), mac(Secret("", b"nobody"), b"x")
    assert judge(BOUND, {b"p": right, b"s": wrong}) == "primary"
    assert judge(BOUND, {b"p": wrong, b"s": mac(B, b"x")}) == "secondary"
    assert judge(BOUND, {b"p": wrong, b"s": right}) is RejectReason.WRONG_SECRET
    assert judge(BOUND, {b"s": right}) is RejectReason.WRONG_SECRET
    assert judge(BOUND, {b"p": wrong, b"s": right}, secrets=(Secret("x", b"one"),)) == "x"
    request = Request(b"POST", b"/", b"", {}, b"x")
    verifier = HmacVerifier(BOUND)
    assert [n for n, _ in verifier.sign(request, B, NOW)] == [b"S"]
    assert [n for n, _ in verifier.sign(request, Secret("x", b"one"), NOW)] == [b"P"]


def test_a_field_of_a_form_may_stand_for_the_body():
    """Only in a form; where it is missing nothing stands for it."""
    options = HmacOptions(header="S", form_field="payload")
    form = {b"content-type": b"application/x-www-form-urlencoded"}
    assert judge(options, {**form, b"s": mac(A, b"{ }")}, b"a=1&payload=%7B+%7D") == "primary"
    assert judge(options, {**form, b"s": mac(A, b"a=1")}, b"a=1") is RejectReason.WRONG_SECRET
    assert judge(options, {b"s": mac(A, b"payload=1")}, b"payload=1") == "primary"


def test_escapes_of_the_url_are_undone_for_a_second_try():
    """As received comes first."""
    options = HmacOptions(header="S", signed="{url}", url_decode=":")
    url = b"https://h/in?a=%3A%20"
    assert judge(options, {b"s": mac(A, url)}, url=url) == "primary"
    assert judge(options, {b"s": mac(A, b"https://h/in?a=:%20")}, url=url) == "primary"
    assert judge(options, {b"s": mac(A, b"https://h/in?a=: ")}, url=url) is RejectReason.WRONG_SECRET
    assert judge(options, {b"s": mac(A, b"https://h/in")}) == "primary"


def test_the_prefixed_hash_is_no_hmac():
    """Secret and message, hashed."""
    options = HmacOptions(header="S", keyed="prefix")
    assert judge(options, {b"s": hashlib.sha256(b"onex").hexdigest().encode()}) == "primary"
    assert judge(options, {b"s": mac(A, b"x")}) is RejectReason.WRONG_SECRET


LISTED = HmacOptions(
    header="S", signed="{headers:List}\n{body}", timestamp=TimestampOptions(header="Time", unit="unix")
)
STAMP = b"1700000000"


def listed(names, message, **more):
    values = {b"list": names, b"time": STAMP, b"s": mac(A, message), b"a": b"1"}
    return values | {name.encode(): value for name, value in more.items()}


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        (listed(b"a,list,time", b"a:1;list:a,list,time;time:1700000000\nx"), "primary"),
        (listed(b"Time, List", b"list:Time, List;time:1700000000\nx"), "primary"),
        (listed(b"a,list", b"a:1;list:a,list\nx"), RejectReason.MISSING_HEADER),
        (listed(b"a,time", b"a:1;time:1700000000\nx"), RejectReason.MISSING_HEADER),
        (listed(b",".join([b"list", b"time", *[b"x"] * 70]), b"x"), RejectReason.MISSING_HEADER),
        (listed(b"", b"\nx"), RejectReason.MISSING_HEADER),
        (listed(b"a,list,time", b"a:1;list:a,list,time;time:1700000000\nx", a=b"2"), RejectReason.WRONG_SECRET),
        (listed(b"list,time", b"x", time=b"1600000000"), RejectReason.STALE_TIMESTAMP),
    ],
)
def test_listed_headers_cover_their_list_and_the_timestamp(headers, verdict):
    """Else somebody could draw their borders elsewhere, or renew the time."""
    assert judge(LISTED, headers) == verdict


def test_listed_headers_are_signed_again_with_a_fresh_time():
    """With the list that the request has, or with one of our own."""
    verifier = HmacVerifier(LISTED)
    old = Request(b"POST", b"/in", b"", {b"list": b"a,list,time", b"time": b"1", b"a": b"1"}, b"x")
    for request in (old, Request(b"POST", b"/in", b"", {}, b"x")):
        signed = {n.lower(): v for n, v in verifier.sign(request, A, NOW)}
        assert judge(LISTED, {**request.headers, **signed}) == "primary"
    assert judge(LISTED, {}) is RejectReason.MISSING_HEADER
    timeless = HmacOptions(header="S", signed="{headers:List}{body}")
    signed = {n.lower(): v for n, v in HmacVerifier(timeless).sign(Request(b"POST", b"/in", b"", {}, b"x"), A, NOW)}
    assert judge(timeless, signed) == "primary"


def test_optional_parts_may_be_missing():
    """Mercado Pago leaves out what is not there."""
    options = HmacOptions(
        header="S",
        entries=EntryOptions(key="v1"),
        signed="{?id:{query:id};}{?r:{header:R};}ts:{timestamp};",
        timestamp=TimestampOptions(entry="ts", unit="unix"),
    )

    def sent(message, stamp=STAMP, **more):
        return {b"s": b"ts=%b,v1=%b" % (stamp, mac(A, message))} | {k.encode(): v for k, v in more.items()}

    assert judge(options, sent(b"ts:1700000000;")) == "primary"
    assert judge(options, sent(b"id:7;r:q;ts:1700000000;", r=b"q"), query=b"id=7") == "primary"
    assert judge(options, sent(b"r:q;ts:1700000000;", r=b"q"), query=b"id=7") is RejectReason.WRONG_SECRET
    assert judge(options, sent(b"ts:1700000000000;", b"1700000000000")) == "primary"
    assert b"r" in HmacVerifier(options).reads


def test_what_was_signed_and_should_have_come_of_it_can_be_told():
    """For the owner: timestamp, signatures as received, and what a secret makes."""
    entry = HmacVerifier(
        HmacOptions(
            header="S",
            entries=EntryOptions(key="v1"),
            signed="{timestamp}.{body}",
            timestamp=TimestampOptions(entry="t"),
        )
    )
    request = Request(b"POST", b"/", b"", {b"s": b"t=5,v1=" + b"0" * 64}, b"x")
    assert entry.timestamp_of(request) == b"5"
    assert entry.shown_signatures(request) == ["s: t=5,v1=" + "0" * 64]
    assert entry.expected(request, A, b"5") == mac(A, b"5.x").decode()
    assert entry.timestamp_of(Request(b"POST", b"/", b"", {b"s": b"junk"}, b"x")) == b""
    header = HmacVerifier(HmacOptions(header="S", signed="{timestamp}", timestamp=TimestampOptions(header="T")))
    assert header.timestamp_of(Request(b"POST", b"/", b"", {b"t": b"9"}, b"x")) == b"9"
    assert header.shown_signatures(Request(b"POST", b"/", b"", {}, b"x")) == []
    decoded = HmacVerifier(HmacOptions(header="S", secret_encoding="hex"))
    assert decoded.expected(request, Secret("a", b"xyz"), b"") == "(the secret is not hex)"
