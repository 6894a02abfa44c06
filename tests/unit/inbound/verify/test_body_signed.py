"""Adyen, Mailgun, Braintree: what is inside the body is read without doubt or not at all."""

import base64
import hashlib
import hmac
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.dedup import DedupOptions, extract
from sidecar.inbound.verify.body_signed import AdyenVerifier, BraintreeVerifier, MailgunVerifier
from sidecar.inbound.verify.options import AdyenOptions, BraintreeOptions, MailgunOptions
from sidecar.inbound.verify.presets import PRESETS
from sidecar.inbound.verify.request import Accepted, Rejected, Request, Secret
from sidecar.model import RejectReason

NOW = 1_700_000_000_000
HEX = Secret("a", b"44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056")
TEXT = Secret("a", b"a key")
ADYEN = AdyenVerifier(AdyenOptions())
MAILGUN = MailgunVerifier(MailgunOptions())
BRAINTREE = BraintreeVerifier(BraintreeOptions(public_key="ours"))
FORM = {b"content-type": b"application/x-www-form-urlencoded"}
ITEM = {
    "pspReference": "p", "originalReference": None, "merchantAccountCode": "m", "merchantReference": "r:\\",
    "amount": {"value": 1130, "currency": "EUR"}, "eventCode": "AUTHORISATION", "success": "true",
}  # fmt: skip


def judge(verifier, body, *secrets, headers=None, now=NOW):
    request = Request(b"POST", b"/", b"", headers or {}, body)
    assert verifier.precheck(request, secrets, now) is None
    assert verifier.sign(request, TEXT, now) == []
    verdict = verifier.verify(request, secrets, now)
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


def adyen(*items):
    body = {"notificationItems": [{"NotificationRequestItem": item} for item in items]}
    return ADYEN.sign_body(json.dumps(body).encode(), HEX, NOW)


def test_every_item_of_adyen_must_be_signed():
    """One that is changed, or has no signature, spoils all."""
    body = adyen(ITEM, {**ITEM, "amount": 5})
    assert judge(ADYEN, body, HEX) == "a"
    assert judge(ADYEN, body.replace(b"1130", b"1131"), HEX) is RejectReason.WRONG_SECRET
    document = json.loads(body)
    del document["notificationItems"][1]["NotificationRequestItem"]["additionalData"]
    assert judge(ADYEN, json.dumps(document).encode(), HEX) is RejectReason.MISSING_SIGNATURE
    document["notificationItems"][1]["NotificationRequestItem"]["additionalData"] = {"hmacSignature": "x"}
    assert judge(ADYEN, json.dumps(document).encode(), HEX) is RejectReason.MALFORMED_SIGNATURE
    document["notificationItems"][1]["NotificationRequestItem"]["additionalData"] = "x"
    assert judge(ADYEN, json.dumps(document).encode(), HEX) is RejectReason.MISSING_SIGNATURE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, b"p::m:r:\\:1130:EUR:AUTHORISATION:true"),
        ({"originalReference": "o", "success": "false"}, b"p:o:m:r:\\:1130:EUR:AUTHORISATION:false"),
        ({"amount": None}, b"p::m:r:\\:::AUTHORISATION:true"),
        ({"amount": {"value": 1.5, "currency": "EUR"}}, b"p::m:r:\\::EUR:AUTHORISATION:true"),
    ],
)
def test_adyen_signs_eight_fields_in_its_order(change, message):
    """With colons between; what is missing, or neither text nor whole number, counts as empty."""
    mac = base64.b64encode(hmac.digest(bytes.fromhex(HEX.value.decode()), message, "sha256")).decode()
    item = {**ITEM, **change, "additionalData": {"hmacSignature": mac}}
    body = json.dumps({"notificationItems": [{"NotificationRequestItem": item}]}).encode()
    assert judge(ADYEN, body, HEX) == "a"


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("null", None), ("1.0", 1.0)])
def test_what_is_no_dedup_key_is_not_signed_by_adyen_either(text, value):
    """A captured notification must not be told apart from itself by writing a text as another kind of value."""
    item = {**ITEM, "success": text}
    body = adyen(item)
    key = DedupOptions(key=PRESETS["adyen"].dedup_key)
    assert (judge(ADYEN, body, HEX), extract(key, {}, body)) == ("a", f"p AUTHORISATION {text}".encode())
    changed = body.replace(f'"success":"{text}"'.encode(), f'"success":{json.dumps(value)}'.encode())
    assert changed != body
    assert judge(ADYEN, changed, HEX) is RejectReason.WRONG_SECRET


def test_a_notification_of_adyen_has_at_most_a_hundred_items():
    """More is none."""
    assert judge(ADYEN, adyen(*[ITEM] * 100), HEX) == "a"
    assert judge(ADYEN, adyen(*[ITEM] * 101), HEX) is RejectReason.MALFORMED_BODY


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"notificationItems":[]}', b'{"notificationItems":{}}', b'{"notificationItems":[1]}',
        b'{"notificationItems":[{"NotificationRequestItem":1}]}',
        b'{"notificationItems":' + json.dumps([{"NotificationRequestItem": {}}] * 101).encode() + b"}",
        b'{"notificationItems":[],"notificationItems":[]}', b"\xff", b'{"a":NaN}', b'{"a":' + b"1" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_notification_of_adyen_is_malformed(body):
    """Also named twice, not UTF-8, or with numbers that no JSON has."""
    assert judge(ADYEN, body, HEX) is RejectReason.MALFORMED_BODY
    assert ADYEN.sign_body(body, HEX, NOW) == body


def test_adyens_key_is_hexadecimal():
    """The text itself is not the key; a secret that is none makes no signature."""
    assert ADYEN.secret_problem(b"xyz") == "is not hex"
    assert ADYEN.secret_problem(HEX.value) == ""
    assert judge(ADYEN, adyen(ITEM), Secret("b", b"xyz"), Secret("c", HEX.value, not_after_ms=1)) == "retired_secret"
    body = json.dumps({"notificationItems": [{"NotificationRequestItem": ITEM}]}).encode()
    assert ADYEN.sign_body(body, Secret("b", b"xyz"), NOW) == body


def mailgun(**more):
    return MAILGUN.sign_body(json.dumps({"signature": {"token": "t"}, "event-data": {}, **more}).encode(), TEXT, NOW)


def test_mailguns_signature_covers_timestamp_and_token():
    """And nothing else, which nobody can help."""
    body = mailgun()
    assert judge(MAILGUN, body, TEXT) == "a"
    assert judge(MAILGUN, body.replace(b'"event-data":{}', b'"event-data":{"x":1}'), TEXT) == "a"
    assert judge(MAILGUN, body.replace(b'"token":"t"', b'"token":"u"'), TEXT) is RejectReason.WRONG_SECRET
    assert judge(MAILGUN, body, TEXT, now=NOW + 901_000) is RejectReason.STALE_TIMESTAMP
    assert judge(MAILGUN, body, TEXT, now=NOW - 901_000) is RejectReason.FUTURE_TIMESTAMP


def test_mailguns_parent_signature_counts_as_well():
    """A sub-account's webhook carries both beside one token; either key is enough."""
    signed = json.loads(mailgun())["signature"]
    for own in ("0" * 64, "", "zz", None):
        part = {**signed, "signature": own, "parent-signature": signed["signature"]}
        assert judge(MAILGUN, json.dumps({"signature": part}).encode(), TEXT) == "a"
    part = {**signed, "parent-signature": "0" * 64}
    assert judge(MAILGUN, json.dumps({"signature": part}).encode(), TEXT) == "a"
    part = {**signed, "token": "made-up", "parent-signature": signed["signature"]}
    assert judge(MAILGUN, json.dumps({"signature": part}).encode(), TEXT) is RejectReason.WRONG_SECRET


@pytest.mark.parametrize(
    "own", [{"token": "made-up"}, {}, 5, {"timestamp": "1700000000", "token": "x", "signature": "0" * 64}]
)
def test_no_other_signature_of_mailgun_vouches_for_the_token(own):
    """The token is the identity of the event: a captured signature beside it must not bring in a fresh one."""
    signed = json.loads(mailgun())["signature"]
    for name in ("parent-signature", "parent", "event-data"):
        assert judge(MAILGUN, json.dumps({"signature": own, name: signed}).encode(), TEXT) != "a"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", RejectReason.MALFORMED_BODY),
        (b"[]", RejectReason.MALFORMED_BODY),
        (b"{}", RejectReason.MISSING_SIGNATURE),
        (b'{"signature":{}}', RejectReason.MISSING_SIGNATURE),
        (b'{"signature":{"timestamp":"1700000000","token":"t"}}', RejectReason.MISSING_SIGNATURE),
        (b'{"signature":{"timestamp":1700000000,"token":"t","signature":"zz"}}', RejectReason.MALFORMED_SIGNATURE),
        (b'{"signature":{"timestamp":"1e9","token":"t","signature":"zz"}}', RejectReason.MALFORMED_TIMESTAMP),
    ],
)
def test_what_mailgun_does_not_send_is_refused(body, reason):
    """By name."""
    assert judge(MAILGUN, body, TEXT) is reason


def test_mailguns_routes_post_forms():
    """Each of the three fields once."""
    made = json.loads(mailgun())["signature"]
    fields = "&".join(f"{k}={v}" for k, v in made.items()).encode()
    assert judge(MAILGUN, fields + b"&recipient=x", TEXT, headers=FORM) == "a"
    assert judge(MAILGUN, fields.replace(b"&signature", b"&parent-signature"), TEXT, headers=FORM) == "a"
    for again in (b"&token=u", b"&timestamp=1", b"&signature=u", b"&parent-signature=u&parent-signature=u"):
        assert judge(MAILGUN, fields + again, TEXT, headers=FORM) is RejectReason.MALFORMED_BODY
    assert judge(MAILGUN, b"&".join([b"a=1"] * 1002), TEXT, headers=FORM) is RejectReason.MALFORMED_BODY


def test_mailgun_signs_its_own_samples_only():
    """A body without a token gets one of its own; what is no object stays."""
    own = MAILGUN.sign_body(b"{}", TEXT, NOW)
    assert judge(MAILGUN, own, TEXT) == "a"
    assert json.loads(own)["signature"]["token"] == hashlib.sha256(b"{}").hexdigest()
    assert json.loads(mailgun())["signature"]["token"] == "t"
    assert MAILGUN.sign_body(b"[]", TEXT, NOW) == b"[]"
    assert MAILGUN.secret_problem(b"") == "is empty"


def test_what_is_covered_is_the_same_for_every_spelling():
    """Of accepted bodies; of another webhook it is something else."""
    form = {**FORM}

    def covered(verifier, body, headers=()):
        return verifier.covered(Request(b"POST", b"/", b"", dict(headers), body))

    assert covered(ADYEN, adyen(ITEM)) == covered(ADYEN, adyen(ITEM).replace(b", ", b",  ")) != covered(ADYEN, adyen())
    two = [ITEM, {**ITEM, "pspReference": "q"}]
    assert covered(ADYEN, adyen(*two)) == covered(ADYEN, adyen(*two[::-1])) != covered(ADYEN, adyen(ITEM))
    # It identifies events over restarts and upgrades: as it is.
    assert (
        covered(ADYEN, adyen(*two)) == b"p::m:r:\\:1130:EUR:AUTHORISATION:true\nq::m:r:\\:1130:EUR:AUTHORISATION:true"
    )
    assert covered(MAILGUN, mailgun()) == b"1700000000t"
    assert covered(MAILGUN, b"timestamp=1700000000&token=t&signature=x&a=b", form) == b"1700000000t"
    assert covered(MAILGUN, b"[]") == b""
    body = BRAINTREE.sign_body(b"<xml/>", TEXT, NOW)
    assert covered(BRAINTREE, body) == covered(BRAINTREE, body.replace(b"%0A", b"")) == b"PHhtbC8+"
    assert covered(BRAINTREE, b"") == b""


def test_braintrees_pair_is_the_one_with_our_public_key():
    """Others are passed over; the payload counts with and without its last line end."""
    body = BRAINTREE.sign_body(b"<xml/>", TEXT, NOW)
    assert judge(BRAINTREE, body, TEXT) == "a"
    assert judge(BRAINTREE, body.replace(b"%0A", b""), TEXT) == "a"
    assert judge(BRAINTREE, body.replace(b"bt_signature=", b"bt_signature=other%7C00%26"), TEXT) == "a"
    assert judge(BRAINTREE, body.replace(b"ours", b"theirs"), TEXT) is RejectReason.MALFORMED_SIGNATURE
    assert judge(BRAINTREE, body, Secret("b", b"x")) is RejectReason.WRONG_SECRET
    assert judge(BRAINTREE, body, Secret("b", b"")) is RejectReason.WRONG_SECRET
    assert BRAINTREE.secret_problem(b"") == "is empty"


def test_at_most_eight_pairs_with_our_key_are_looked_at():
    """Each costs a hash."""
    body = BRAINTREE.sign_body(b"<xml/>", TEXT, NOW)
    wrong = b"ours%7C" + b"0" * 40 + b"%26"
    assert judge(BRAINTREE, body.replace(b"bt_signature=", b"bt_signature=" + wrong * 7), TEXT) == "a"
    refused = judge(BRAINTREE, body.replace(b"bt_signature=", b"bt_signature=" + wrong * 8), TEXT)
    assert refused is RejectReason.WRONG_SECRET


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", RejectReason.MISSING_SIGNATURE),
        (b"bt_payload=eA", RejectReason.MISSING_SIGNATURE),
        (b"bt_signature=ours%7C00", RejectReason.MISSING_SIGNATURE),
        (b"bt_payload=e A&bt_signature=ours%7C00", RejectReason.MALFORMED_BODY),
        (b"bt_payload=eA&bt_signature=ours%7C00&bt_payload=eB", RejectReason.MALFORMED_BODY),
        (b"&".join([b"a=1"] * 1002), RejectReason.MALFORMED_BODY),
        (b"bt_payload=eA&bt_signature=ours%7Czz", RejectReason.MALFORMED_SIGNATURE),
    ],
)
def test_what_braintree_does_not_send_is_refused(body, reason):
    """A field that is there twice would be another one for the app than for us."""
    assert judge(BRAINTREE, body, TEXT) is reason


def test_braintrees_challenge_has_the_published_answer():
    """Worked value of its documentation."""
    verifier = BraintreeVerifier(BraintreeOptions(public_key="integration_public_key"))
    answer = verifier.answer_challenge(Secret("a", b"integration_private_key"), b"20f9f8ed05f77439fe955c977e4c8a53")
    assert answer == b"integration_public_key|d9b899556c966b3f06945ec21311865d35df3ce4"


def test_the_answer_to_a_challenge_is_no_signature_of_a_payload():
    """Anybody may ask for one, so nothing that looks like a challenge is taken for a notification."""
    challenge = b"20f9f8ed05f77439fe955c977e4c8a53"
    pair = BRAINTREE.answer_challenge(TEXT, challenge).replace(b"|", b"%7C")
    for payload in (challenge, challenge + b"%0A"):
        body = b"bt_signature=%b&bt_payload=%b" % (pair, payload)
        assert judge(BRAINTREE, body, TEXT) is RejectReason.MALFORMED_BODY


@given(st.sampled_from([ADYEN, MAILGUN, BRAINTREE]), st.binary(max_size=200), st.sampled_from([{}, FORM]))
def test_arbitrary_bodies_are_refused_and_never_raise(verifier, body, headers):
    """With a reason."""
    request = Request(b"POST", b"/", b"", headers, body)
    assert isinstance(verifier.verify(request, (TEXT,), NOW), Rejected)
    msgspec.structs.replace(request)
    verifier.sign_body(body, TEXT, NOW)
