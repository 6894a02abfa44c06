"""Presets of standards, identity and clouds: requests signed by hand as each page says are accepted."""

import time
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook

from sidecar.inbound.verify.request import Accepted, Request
from tests.support.providers import by_hand, make, secret_of


@pytest.mark.parametrize(
    ("name", "headers", "signed", "form"),
    [
        ("standard-webhooks", {"webhook-id": "m", "webhook-timestamp": "1700000000", "webhook-signature": "v1,MAC"}, "m.1700000000.BODY", "base64 sha256"),
        ("svix", {"svix-id": "m", "svix-timestamp": "1700000000", "svix-signature": "v1,MAC"}, "m.1700000000.BODY", "base64 sha256"),
        ("svix", {"webhook-id": "m", "webhook-timestamp": "1700000000", "webhook-signature": "v1,MAC"}, "m.1700000000.BODY", "base64 sha256"),
        ("clerk", {"svix-id": "m", "svix-timestamp": "1700000000", "svix-signature": "v1,MAC"}, "m.1700000000.BODY", "base64 sha256"),
        ("resend", {"svix-id": "m", "svix-timestamp": "1700000000", "svix-signature": "v1,AAAA v1,MAC"}, "m.1700000000.BODY", "base64 sha256"),
        ("openai", {"webhook-id": "m", "webhook-timestamp": "1700000000", "webhook-signature": "v1,MAC"}, "m.1700000000.BODY", "base64 sha256"),
        ("workos", {"WorkOS-Signature": "t=1700000000000, v1=MAC"}, "1700000000000.BODY", "hex sha256"),
        ("websub", {"X-Hub-Signature": "sha1=MAC"}, "BODY", "hex sha1"),
        ("websub", {"X-Hub-Signature": "sha512=MAC"}, "BODY", "hex sha512"),
    ],
)  # fmt: skip
def test_what_the_providers_page_says_is_accepted(name, headers, signed, form):
    """Written down by hand; with one more byte in the body it is refused."""
    assert by_hand(name, headers, signed, form) == (True, False)


def test_the_standard_webhooks_library_and_we_agree_both_ways():
    """It accepts ours, we accept its."""
    now = int(time.time()) * 1000  # the library knows no other clock
    made, secret = make("standard-webhooks", now), secret_of("standard-webhooks")
    headers, body = made.headers, made.body
    theirs = Webhook(secret.value.decode())
    theirs.verify(body, {k.decode(): v.decode() for k, v in headers.items()})
    signature = theirs.sign("msg_1", datetime.fromtimestamp(now / 1000, UTC), body.decode())
    r = Request(
        b"POST",
        b"/",
        b"",
        {
            b"webhook-id": b"msg_1",
            b"webhook-timestamp": b"%d" % (now // 1000),
            b"webhook-signature": signature.encode(),
        },
        body,
    )
    assert made.verifier.verify(r, (secret,), now) == Accepted("1")
