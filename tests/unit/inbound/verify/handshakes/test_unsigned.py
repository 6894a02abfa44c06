"""Handshakes that anybody can send: what triggers each, what it says, and what it must never do."""

import base64
import hmac
import json

import pytest

from sidecar.inbound.verify.body_signed import BraintreeVerifier
from sidecar.inbound.verify.handshakes import HANDSHAKES, HandshakeAnswer, HandshakeTerms
from sidecar.inbound.verify.options import BraintreeOptions
from sidecar.inbound.verify.request import Rejected, Request
from sidecar.model import Refusal, RejectReason
from tests.support.handshakes import SECRET, respond


def test_meta_tells_its_challenge_only_to_who_knows_the_token():
    """A wrong token is refused like a wrong signature."""
    terms = HandshakeTerms(token=b"t0ken")
    query = b"hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    assert respond("meta", query=query + b"t0ken", terms=terms).body == b"1158201444"
    assert respond("meta", query=query + b"t0keN", terms=terms) == Rejected(RejectReason.WRONG_SECRET)
    assert respond("meta", query=query + b"%ff", terms=terms) == Rejected(RejectReason.WRONG_SECRET)
    assert respond("meta", query=query + b"t0ken").reason is RejectReason.NO_ACTIVE_SECRET
    assert respond("meta", query=query.replace(b"1158201444", b"<b>") + b"t0ken", terms=terms) is None
    assert respond("meta", query=b"hub.mode=x", terms=terms) is None


def test_websub_confirms_topics_that_are_ours():
    """Others are not found; a denial is only taken note of."""
    terms = HandshakeTerms(allowed=frozenset({"https://example.com/feed"}))
    query = b"hub.mode=subscribe&hub.challenge=abc&hub.topic=https://example.com/"
    assert respond("websub", query=query + b"feed", terms=terms).body == b"abc"
    assert respond("websub", query=query + b"other", terms=terms) is Refusal.NOT_FOUND
    assert respond("websub", query=query.replace(b"=sub", b"=unsub") + b"feed", terms=terms).body == b"abc"
    denied = respond("websub", query=query.replace(b"subscribe", b"denied") + b"feed", terms=terms)
    assert denied == HandshakeAnswer(b"", b"")
    assert respond("websub", query=b"", terms=terms) is None


def test_dropbox_and_okta_get_their_challenge():
    """Shaped like a token, and as text that no browser reads otherwise."""
    answer = respond("dropbox", query=b"challenge=a-b_c")
    assert (answer.body, answer.content_type, answer.headers) == (
        b"a-b_c",
        b"text/plain",
        ((b"X-Content-Type-Options", b"nosniff"),),
    )
    assert respond("dropbox", query=b"challenge=%3Cscript%3E") is None
    assert respond("dropbox") is None
    assert json.loads(respond("okta", x_okta_verification_challenge=b"abc").body) == {"verification": "abc"}
    assert respond("okta", x_okta_verification_challenge=b'a"b') is None
    assert respond("okta") is None


def test_braintree_signs_hex_digits_only():
    """So nobody gets a payload signed."""
    terms = HandshakeTerms(BraintreeVerifier(BraintreeOptions(public_key="pk")))
    good = respond("braintree", query=b"bt_challenge=20f9f8ed05f77439fe955c977e4c8a53", terms=terms)
    assert good.body.startswith(b"pk|")
    for challenge in (b"", b"20F9f8ed05f77439fe955c", b"0" * 19, b"0" * 33, b"PHhtbC8%2BCg%3D%3D0000000"):
        assert respond("braintree", query=b"bt_challenge=" + challenge, terms=terms) is None
    assert respond("braintree", query=b"bt_challenge=" + b"0" * 20) is None
    assert respond("braintree", query=b"bt_challenge=" + b"0" * 20, terms=terms, secrets=()) is None


def test_x_signs_tokens_and_no_bodies():
    """A body would need a brace."""
    mac = base64.b64encode(hmac.digest(SECRET.value, b"abc", "sha256")).decode()
    assert json.loads(respond("x-crc", query=b"crc_token=abc").body) == {"response_token": f"sha256={mac}"}
    assert respond("x-crc", query=b"crc_token=%7B%7D") is None
    assert respond("x-crc", query=b"crc_token=abc", secrets=()) is None


def test_trello_only_wants_somebody_to_be_there():
    """By HEAD."""
    assert respond("trello", method=b"HEAD") == HandshakeAnswer(b"", b"")
    assert respond("trello", method=b"GET") is None


def test_cloudevents_allows_origins():
    """Any, or only those that are named."""
    answer = respond("cloudevents", method=b"OPTIONS", webhook_request_origin=b"e.example", webhook_request_rate=b"9")
    headers = (b"Allow", b"POST"), (b"WebHook-Allowed-Origin", b"e.example"), (b"WebHook-Allowed-Rate", b"*")
    assert answer == HandshakeAnswer(b"", b"", headers)
    bare = respond("cloudevents", method=b"OPTIONS", webhook_request_origin=b"e.example")
    assert [name for name, _ in bare.headers] == [b"Allow", b"WebHook-Allowed-Origin"]
    terms = HandshakeTerms(allowed=frozenset({"other"}))
    assert respond("cloudevents", terms=terms, webhook_request_origin=b"e.example") is Refusal.NOT_FOUND
    assert respond("cloudevents") is None
    assert respond("cloudevents", webhook_request_origin=b"a b") is None


def test_event_grid_and_monday_get_their_code():
    """In JSON, and only shaped like a code."""
    body = [{"data": {"validationCode": "512d38b6-c7b8"}}]
    assert json.loads(respond("event-grid", body).body) == {"validationResponse": "512d38b6-c7b8"}
    assert respond("event-grid", [{"data": {"validationCode": "<b>"}}]) is None
    assert json.loads(respond("monday", {"challenge": "abc"}).body) == {"challenge": "abc"}
    assert respond("monday", {"challenge": "a b"}) is None


def test_secrets_that_arrive_are_named_as_such():
    """The answer alone does not keep them: the receiver asks whether they are expected."""
    secret = b"b537207f20cbfa02357cf448134da559"
    answer = respond("asana", x_hook_secret=secret)
    assert answer == HandshakeAnswer(b"", b"", ((b"X-Hook-Secret", secret),), learned=secret)
    assert respond("asana", x_hook_secret=b"short") is None
    token = "secret_tMrlL1qK5vuQAh1b6cZG"
    assert respond("notion", {"verification_token": token}) == HandshakeAnswer(b"", b"", learned=token.encode())
    assert respond("notion", {"verification_token": "\ud800" * 20}) is None
    assert respond("notion", {"type": "page.created"}) is None


def test_woocommerces_try_is_a_form_with_an_id():
    """And nothing else."""
    assert respond("woocommerce", b"webhook_id=142") == HandshakeAnswer(b"", b"")
    assert respond("woocommerce", b"webhook_id=142&x=1") is None


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("meta", ("GET",)),
        ("websub", ("GET",)),
        ("dropbox", ("GET",)),
        ("okta", ("GET",)),
        ("braintree", ("GET",)),
        ("x-crc", ("GET",)),
        ("trello", ("HEAD",)),
        ("cloudevents", ("OPTIONS",)),
        ("event-grid", ()),
        ("asana", ()),
        ("notion", ()),
        ("woocommerce", ()),
        ("monday", ()),
    ],
)
def test_it_comes_without_a_signature_by_a_method_of_its_own_or_tells_by_its_head(name, methods):
    """Whatever else the source takes is verified."""
    handshake = HANDSHAKES[name]
    assert (handshake.signed, handshake.methods) == (False, methods)
    assert (handshake.unsigned_head is None) == bool(methods)


@pytest.mark.parametrize(
    ("name", "headers", "may"),
    [
        ("woocommerce", {b"content-type": b"application/x-www-form-urlencoded"}, True),
        ("woocommerce", {b"content-type": b"application/json"}, False),
        (
            "woocommerce",
            {b"content-type": b"application/x-www-form-urlencoded", b"x-wc-webhook-signature": b"x"},
            False,
        ),
        ("notion", {b"content-type": b"application/json"}, True),
        ("notion", {b"content-type": b"application/json", b"x-notion-signature": b"x"}, False),
        ("asana", {b"x-hook-secret": b"x"}, True),
        ("asana", {}, False),
        ("event-grid", {b"aeg-event-type": b"SubscriptionValidation"}, True),
        ("event-grid", {b"aeg-event-type": b"Notification"}, False),
        ("monday", {b"content-type": b"application/json"}, True),
        ("monday", {b"content-type": b"application/x-www-form-urlencoded"}, False),
        ("monday", {b"content-type": b"application/json", b"authorization": b"x"}, False),
    ],
)
def test_only_certain_heads_are_read_without_a_signature(name, headers, may):
    """All others are verified from their head on."""
    shown = HANDSHAKES[name].unsigned_head
    assert shown is not None
    assert shown(Request(b"POST", b"/", b"", headers)) is may
