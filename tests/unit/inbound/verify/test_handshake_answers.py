"""Every handshake of the table: what triggers it, what it says, and what it must never do."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.body_signed import BraintreeVerifier
from sidecar.inbound.verify.certificates import SnsVerifier
from sidecar.inbound.verify.handshakes import HANDSHAKES, MAX_BYTES, HandshakeAnswer, HandshakeTerms
from sidecar.inbound.verify.options import BraintreeOptions, SnsOptions
from sidecar.inbound.verify.presets import PRESETS
from sidecar.inbound.verify.request import Rejected, Request, Secret
from sidecar.model import Refusal, RejectReason

SECRET = Secret("a", b"yK8Rb3vJT4WkXh1e_zoom")
TOPIC = "arn:aws:sns:eu-west-1:1:t"
SUBSCRIBE = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=1"


def respond(name, body=b"", *, query=b"", method=b"POST", secrets=(SECRET,), terms=None, **headers):
    sent = {n.replace("_", "-").encode(): v for n, v in headers.items()}
    request = Request(method, b"/", query, sent, body if isinstance(body, bytes) else json.dumps(body).encode())
    return HANDSHAKES[name].respond(request, secrets, terms or HandshakeTerms())


def test_zooms_token_is_signed_as_published():
    """Worked value of its documentation; what is no token is not signed."""
    body = {"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}}
    assert json.loads(respond("zoom", body).body) == {
        "plainToken": "qgg8vlvZRS6UYooatFL8Aw",
        "encryptedToken": "54daadda017837d64939a3a7026e6460361f95620b56d0ea8b883202afa4a019",
    }
    assert respond("zoom", body, secrets=()) is None
    for token in ("v0:1700000000:{}", "v0:1700000000:7", '{"a":1}', "", "x" * 600, 5, None):
        assert respond("zoom", {**body, "payload": {"plainToken": token}}) is None
    assert respond("zoom", {"event": "meeting.started", "text": "endpoint.url_validation"}) is None
    assert respond("zoom", b"{}") is None


def test_twitch_gets_its_challenge():
    """Told by the message type."""
    kind = {"twitch_eventsub_message_type": b"webhook_callback_verification"}
    assert respond("twitch", {"challenge": "pogchamp-kappa-360noscope"}, **kind).body == b"pogchamp-kappa-360noscope"
    assert respond("twitch", {"challenge": "<script>"}, **kind) is None
    assert respond("twitch", {"challenge": "x"}, twitch_eventsub_message_type=b"notification") is None


def test_discord_gets_its_pong():
    """Of both kinds; an interaction is none."""
    assert json.loads(respond("discord", {"type": 1}).body) == {"type": 1}
    assert respond("discord", {"type": 0}).status == 204
    assert respond("discord", {"type": 2}) is None
    assert respond("discord", {"type": 1, "event": {"type": "X"}}) is None
    assert respond("discord", b"junk") is None


@pytest.mark.parametrize("name", ["xero", "line"])
def test_a_try_without_events_is_answered_empty(name):
    """A body with events is a webhook."""
    assert respond(name, {"events": [], "entropy": "x"}) == HandshakeAnswer(b"", b"")
    assert respond(name, {"events": [{}]}) is None
    assert respond(name, b'{"events":[],"events":[1]}') is None
    assert respond(name, b"{}") is None
    assert respond(name, b'{"events":[]' + b" " * 9000 + b"}") is None
    assert respond(name, b'["events"]') is None


def test_sns_confirms_only_what_the_verifier_lets():
    """Any other confirmation is answered and nothing is called."""
    body = {"Type": "SubscriptionConfirmation", "TopicArn": TOPIC, "SubscribeURL": SUBSCRIBE}
    ours = HandshakeTerms(SnsVerifier(SnsOptions(topics=(TOPIC,))))
    assert respond("aws-sns", body, terms=ours).confirm == SUBSCRIBE
    assert respond("aws-sns", {**body, "TopicArn": "other"}, terms=ours).confirm == ""
    assert respond("aws-sns", {**body, "SubscribeURL": "https://evil.com/"}, terms=ours).confirm == ""
    assert respond("aws-sns", body).confirm == ""
    assert respond("aws-sns", {**body, "Type": "Notification"}, terms=ours) is None
    assert respond("aws-sns", b"{}") is None


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
    assert respond("websub", query=query.replace(b"subscribe", b"denied") + b"feed", terms=terms).body == b""
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
    assert dict(answer.headers) == {
        b"Allow": b"POST",
        b"WebHook-Allowed-Origin": b"e.example",
        b"WebHook-Allowed-Rate": b"*",
    }
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
    assert (answer.learned, answer.headers) == (secret, ((b"X-Hook-Secret", secret),))
    assert respond("asana", x_hook_secret=b"short") is None
    assert (
        respond("notion", {"verification_token": "secret_tMrlL1qK5vuQAh1b6cZG"}).learned
        == b"secret_tMrlL1qK5vuQAh1b6cZG"
    )
    assert respond("notion", {"verification_token": "\ud800" * 20}) is None
    assert respond("notion", {"type": "page.created"}) is None


def test_woocommerces_try_is_a_form_with_an_id():
    """And nothing else."""
    assert respond("woocommerce", b"webhook_id=142") == HandshakeAnswer(b"", b"")
    assert respond("woocommerce", b"webhook_id=142&x=1") is None


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
        ("monday", {b"authorization": b"x"}, False),
    ],
)
def test_only_certain_heads_are_read_without_a_signature(name, headers, may):
    """All others are verified from their head on."""
    shown = HANDSHAKES[name].unsigned_head
    assert shown is not None
    assert shown(Request(b"POST", b"/", b"", headers)) is may


def test_every_handshake_says_what_it_does_and_every_preset_has_one_that_exists():
    """For the page that people read."""
    for name, handshake in HANDSHAKES.items():
        assert handshake.name == name
        assert handshake.about
        assert handshake.signed == (not handshake.methods and handshake.unsigned_head is None)
    assert {p.handshake for p in PRESETS.values()} - {None} <= set(HANDSHAKES)


@given(st.sampled_from(sorted(HANDSHAKES)), st.binary(max_size=100), st.binary(max_size=60), st.binary(max_size=40))
def test_strangers_get_nothing_but_tokens_back(name, body, query, value):
    """Whatever they send: no answer is longer than what it needs, none has a line end or a bracket."""
    keys = (b"x-hook-secret", b"x-okta-verification-challenge", b"webhook-request-origin")
    request = Request(b"POST", b"/", query, dict.fromkeys(keys, value), body)
    said = HANDSHAKES[name].respond(request, (SECRET,), HandshakeTerms(token=b"t"))
    if isinstance(said, HandshakeAnswer):
        assert len(said.body) <= MAX_BYTES
        assert b"<" not in said.body
        assert all(b"\n" not in v and b"\r" not in v for _, v in said.headers)
    assert hashlib.sha256(body)  # the body itself is only read
