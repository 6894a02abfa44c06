"""Presets of shops and of what is sold: requests signed by hand as each provider's page says."""

import pytest

from tests.support.providers import by_hand


@pytest.mark.parametrize(
    ("name", "headers", "signed", "form"),
    [
        ("shopify", {"X-Shopify-Hmac-Sha256": "MAC"}, "BODY", "base64 sha256"),
        ("shopify", {"Shopify-Hmac-Sha256": "MAC"}, "BODY", "base64 sha256"),
        ("woocommerce", {"X-WC-Webhook-Signature": "MAC"}, "BODY", "base64 sha256"),
        ("bigcommerce", {"webhook-id": "m", "webhook-timestamp": "1700000000", "webhook-signature": "v1,MAC"}, "m.1700000000.BODY", "base64 sha256"),
        ("square", {"x-square-hmacsha256-signature": "MAC"}, "URLBODY", "base64 sha256"),
        ("lemonsqueezy", {"X-Signature": "MAC"}, "BODY", "hex sha256"),
        ("webflow", {"x-webflow-timestamp": "1700000000000", "x-webflow-signature": "MAC"}, "1700000000000:BODY", "hex sha256"),
        ("mux", {"Mux-Signature": "t=1700000000,v1=MAC"}, "1700000000.BODY", "hex sha256"),
        ("cloudflare-stream", {"Webhook-Signature": "time=1700000000,sig1=MAC"}, "1700000000.BODY", "hex sha256"),
    ],
)  # fmt: skip
def test_what_the_providers_page_says_is_accepted(name, headers, signed, form):
    """Written down by hand; with one more byte in the body it is refused."""
    assert by_hand(name, headers, signed, form) == (True, False)
