"""Presets of money: requests signed by hand as each provider's page says are accepted."""

import time

import pytest
import stripe

from tests.support.providers import TEXT, by_hand, make


@pytest.mark.parametrize(
    ("name", "headers", "signed", "form"),
    [
        ("stripe", {"Stripe-Signature": "t=1700000000,v1=MAC,v0=00"}, "1700000000.BODY", "hex sha256"),
        ("paddle", {"Paddle-Signature": "ts=1700000000;h1=MAC"}, "1700000000:BODY", "hex sha256"),
        ("checkout-com", {"Cko-Signature": "MAC"}, "BODY", "hex sha256"),
        ("coinbase-commerce", {"X-CC-Webhook-Signature": "MAC"}, "BODY", "hex sha256"),
        ("coinbase-cdp", {"X-Hook0-Signature": "t=1700000000,v0=MAC"}, "1700000000.BODY", "hex sha256"),
        ("gocardless", {"Webhook-Signature": "MAC"}, "BODY", "hex sha256"),
        ("razorpay", {"X-Razorpay-Signature": "MAC"}, "BODY", "hex sha256"),
        ("paystack", {"x-paystack-signature": "MAC"}, "BODY", "hex sha512"),
        ("modern-treasury", {"X-Signature": "MAC"}, "BODY", "hex sha256"),
        ("xero", {"x-xero-signature": "MAC"}, "BODY", "base64 sha256"),
        ("quickbooks", {"intuit-signature": "MAC"}, "BODY", "base64 sha256"),
    ],
)  # fmt: skip
def test_what_the_providers_page_says_is_accepted(name, headers, signed, form):
    """Written down by hand; with one more byte in the body it is refused."""
    assert by_hand(name, headers, signed, form) == (True, False)


def test_stripes_own_library_accepts_what_we_sign():
    """The whole secret is the key, prefix included."""
    made = make("stripe", int(time.time()) * 1000)  # the library knows no other clock
    event = stripe.Webhook.construct_event(made.body, made.headers[b"stripe-signature"].decode(), TEXT.decode())
    assert event["id"] == "evt_0001"
