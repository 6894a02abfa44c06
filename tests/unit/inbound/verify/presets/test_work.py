"""Presets of what people work with: requests signed by hand as each provider's page says are accepted."""

import pytest

from tests.support.providers import by_hand


@pytest.mark.parametrize(
    ("name", "headers", "signed", "form"),
    [
        ("asana", {"X-Hook-Signature": "MAC"}, "BODY", "hex sha256"),
        ("trello", {"X-Trello-Webhook": "MAC"}, "BODYURL", "base64 sha1"),
        ("jira", {"X-Hub-Signature": "sha256=MAC"}, "BODY", "hex sha256"),
        ("notion", {"X-Notion-Signature": "sha256=MAC"}, "BODY", "hex sha256"),
        ("clickup", {"X-Signature": "MAC"}, "BODY", "hex sha256"),
        ("typeform", {"Typeform-Signature": "sha256=MAC"}, "BODY", "base64 sha256"),
        ("calendly", {"Calendly-Webhook-Signature": "t=1700000000,v1=MAC"}, "1700000000.BODY", "hex sha256"),
        ("docusign", {"X-DocuSign-Signature-1": "AAAA", "X-DocuSign-Signature-2": "MAC"}, "BODY", "base64 sha256"),
        ("dropbox", {"X-Dropbox-Signature": "MAC"}, "BODY", "hex sha256"),
        ("box", {"BOX-SIGNATURE-PRIMARY": "MAC", "BOX-DELIVERY-TIMESTAMP": "2023-11-14T22:13:20Z", "BOX-SIGNATURE-VERSION": "1", "BOX-SIGNATURE-ALGORITHM": "HmacSHA256"}, "BODY2023-11-14T22:13:20Z", "base64 sha256"),
        ("zendesk", {"X-Zendesk-Webhook-Signature-Timestamp": "2023-11-14T22:13:20Z", "X-Zendesk-Webhook-Signature": "MAC"}, "2023-11-14T22:13:20ZBODY", "base64 sha256"),
        ("hubspot", {"X-HubSpot-Request-Timestamp": "1700000000000", "X-HubSpot-Signature-v3": "MAC"}, "POSTURLBODY1700000000000", "base64 sha256"),
    ],
)  # fmt: skip
def test_what_the_providers_page_says_is_accepted(name, headers, signed, form):
    """Written down by hand; with one more byte in the body it is refused."""
    assert by_hand(name, headers, signed, form) == (True, False)
