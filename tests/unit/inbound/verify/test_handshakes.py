"""A handshake is recognised for sure or treated as an ordinary webhook."""

import json

import pytest

from sidecar.inbound.verify.handshakes import HANDSHAKES, HandshakeAnswer, HandshakeTerms
from sidecar.inbound.verify.request import Request

SLACK = HANDSHAKES["slack"]


def respond(body):
    return SLACK.respond(Request(b"POST", b"/", b"", {}, body), (), HandshakeTerms())


def test_slack_gets_its_challenge_back():
    """As plain text, not to be sniffed as anything else, and only after verification."""
    body = json.dumps({"token": "x", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY", "type": "url_verification"}).encode()
    assert respond(body) == HandshakeAnswer(
        b"3eZbrw1aBm2rZgRNFdxV2595E9CY", headers=((b"X-Content-Type-Options", b"nosniff"),)
    )
    assert SLACK.signed
    assert SLACK.methods == ()


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
def test_anything_else_is_an_ordinary_webhook(body):
    """Other types, and challenges that Slack would not send."""
    assert respond(body) is None


def test_names_agree_with_the_table():
    """A handshake is found by its own name."""
    assert all(name == handshake.name for name, handshake in HANDSHAKES.items())
