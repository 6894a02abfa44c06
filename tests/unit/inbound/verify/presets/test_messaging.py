"""Presets of people who talk: requests signed by hand, or by Slack's library, are accepted."""

import time

import pytest
from slack_sdk.signature import SignatureVerifier

from tests.support.providers import TEXT, by_hand, make


@pytest.mark.parametrize(
    ("name", "headers", "signed", "form"),
    [
        ("slack", {"X-Slack-Request-Timestamp": "1700000000", "X-Slack-Signature": "v0=MAC"}, "v0:1700000000:BODY", "hex sha256"),
        ("line", {"x-line-signature": "MAC"}, "BODY", "base64 sha256"),
        ("meta", {"X-Hub-Signature-256": "sha256=MAC"}, "BODY", "hex sha256"),
        ("zoom", {"x-zm-request-timestamp": "1700000000", "x-zm-signature": "v0=MAC"}, "v0:1700000000:BODY", "hex sha256"),
        ("intercom", {"X-Hub-Signature": "sha1=MAC"}, "BODY", "hex sha1"),
        ("klaviyo", {"Klaviyo-Timestamp": "Tue, 14 Nov 2023 22:13:20 GMT", "Klaviyo-Signature": "MAC"}, "BODYTue, 14 Nov 2023 22:13:20 GMT", "hex sha256"),
        ("twitch", {"Twitch-Eventsub-Message-Id": "m", "Twitch-Eventsub-Message-Timestamp": "2023-11-14T22:13:20Z", "Twitch-Eventsub-Message-Signature": "sha256=MAC"}, "m2023-11-14T22:13:20ZBODY", "hex sha256"),
        ("pusher", {"X-Pusher-Key": "1", "X-Pusher-Signature": "MAC"}, "BODY", "hex sha256"),
        ("ably", {"X-Ably-Signature": "MAC"}, "BODY", "base64 sha256"),
    ],
)  # fmt: skip
def test_what_the_providers_page_says_is_accepted(name, headers, signed, form):
    """Written down by hand; with one more byte in the body it is refused."""
    assert by_hand(name, headers, signed, form) == (True, False)


def test_slacks_own_library_accepts_what_we_sign():
    """Version v0, seconds."""
    made = make("slack", int(time.time()) * 1000)  # the library knows no other clock
    ours = {k.decode(): v.decode() for k, v in made.headers.items()}
    assert SignatureVerifier(TEXT.decode()).is_valid_request(made.body, ours)
