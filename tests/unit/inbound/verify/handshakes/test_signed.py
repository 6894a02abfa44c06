"""Handshakes that are verified first: what triggers each, what it says, and that anything else is an ordinary webhook."""

import json

import pytest

from sidecar.inbound.verify.certificates import SnsVerifier
from sidecar.inbound.verify.handshakes import HANDSHAKES, HandshakeAnswer, HandshakeTerms
from sidecar.inbound.verify.options import SnsOptions
from tests.support.handshakes import respond

TOPIC = "arn:aws:sns:eu-west-1:1:t"
SUBSCRIBE = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=1"


def test_slack_gets_its_challenge_back():
    """As plain text, not to be sniffed as anything else, and only after verification."""
    body = json.dumps({"token": "x", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY", "type": "url_verification"}).encode()
    assert respond("slack", body) == HandshakeAnswer(
        b"3eZbrw1aBm2rZgRNFdxV2595E9CY", headers=((b"X-Content-Type-Options", b"nosniff"),)
    )
    for challenge in ("x", "x" * 1024):
        answer = respond("slack", {"type": "url_verification", "challenge": challenge})
        assert answer.body == challenge.encode()
    assert HANDSHAKES["slack"].signed
    assert HANDSHAKES["slack"].methods == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"type":"event_callback","event_id":"Ev1"}',
        b'{"type":"event_callback","text":"url_verification","challenge":"x"}',
        b'{"event":{"type":"url_verification"},"challenge":"x"}',
        b'{"type":"url_verification"}',
        b'{"type":"url_verification","challenge":""}',
        b'{"type":"url_verification","challenge":7}',
        b'{"type":"url_verification","challenge":null}',
        b'{"type":"url_verification","challenge":"x","challenge":"y"}',
        b'{"type":"url_verification","challenge":"' + b"x" * 1025 + b'"}',
        b'{"type":"url_verification","challenge":"x"' + b" " * 9000 + b"}",
        b'{"type":"url_verification","challenge":"\\ud800"}',
        b"payload=url_verification",
        b'["url_verification"]',
    ],
)
def test_anything_else_is_an_ordinary_webhook_to_slack(body):
    """Other types, and challenges that Slack would not send."""
    assert respond("slack", body) is None


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
    assert respond("zoom", {**body, "event": "meeting.started", "text": "endpoint.url_validation"}) is None
    assert respond("zoom", b"{}") is None


def test_twitch_gets_its_challenge():
    """Told by the message type."""
    kind = {"twitch_eventsub_message_type": b"webhook_callback_verification"}
    assert respond("twitch", {"challenge": "pogchamp-kappa-360noscope"}, **kind).body == b"pogchamp-kappa-360noscope"
    assert respond("twitch", {"challenge": "<script>"}, **kind) is None
    assert respond("twitch", {"challenge": "x"}, twitch_eventsub_message_type=b"notification") is None


def test_discord_gets_its_pong():
    """Of both kinds; what brings data or an event is none, and kept."""
    for ping in ({"type": 1}, {"type": 1, "data": None}):
        assert json.loads(respond("discord", ping).body) == {"type": 1}
    assert respond("discord", {"type": 0}) == HandshakeAnswer(b"", b"", status=204)
    assert respond("discord", {"type": 2}) is None
    for name in ("data", "event"):
        for value in ({"type": "X"}, {}, "x"):
            assert respond("discord", {"type": 1, name: value}) is None
    assert respond("discord", b'{"type":1,"data":{"a":1},"data":null}') is None
    assert respond("discord", b'{"type":1,"a":1,"a":2}') is None
    assert respond("discord", b"junk") is None


@pytest.mark.parametrize("name", ["xero", "line"])
def test_a_try_without_events_is_answered_empty(name):
    """A body with events is a webhook."""
    assert respond(name, {"events": [], "entropy": "x"}) == HandshakeAnswer(b"", b"")
    assert respond(name, {"events": [{}]}) is None
    assert respond(name, b'{"events":[],"events":[1]}') is None
    assert respond(name, b"{}") is None
    assert respond(name, b'{"events":[]}'.ljust(8192)) == HandshakeAnswer(b"", b"")
    assert respond(name, b'{"events":[]}'.ljust(8193)) is None
    assert respond(name, b'["events"]') is None


def test_sns_confirms_only_what_the_verifier_lets():
    """Any other confirmation is answered and nothing is called."""
    body = {"Type": "SubscriptionConfirmation", "TopicArn": TOPIC, "SubscribeURL": SUBSCRIBE}
    ours = HandshakeTerms(SnsVerifier(SnsOptions(topics=(TOPIC,))))
    assert respond("aws-sns", body, terms=ours) == HandshakeAnswer(b"", b"", confirm=SUBSCRIBE)
    assert respond("aws-sns", json.dumps(body).encode().ljust(8192), terms=ours).confirm == SUBSCRIBE
    assert respond("aws-sns", json.dumps(body).encode().ljust(8193), terms=ours) is None
    assert respond("aws-sns", {**body, "TopicArn": "other"}, terms=ours).confirm == ""
    assert respond("aws-sns", {**body, "SubscribeURL": "https://evil.com/"}, terms=ours).confirm == ""
    assert respond("aws-sns", body).confirm == ""
    assert respond("aws-sns", {**body, "Type": "Notification"}, terms=ours) is None
    assert respond("aws-sns", b"{}") is None
