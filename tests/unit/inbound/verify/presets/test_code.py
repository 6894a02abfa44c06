"""Presets round code: requests signed by hand as each provider's page says, and what is known besides."""

import pytest

from sidecar.inbound.verify.presets import PRESETS
from tests.support.providers import by_hand


@pytest.mark.parametrize(
    ("name", "headers", "signed", "form"),
    [
        ("github", {"X-Hub-Signature-256": "sha256=MAC"}, "BODY", "hex sha256"),
        ("bitbucket", {"X-Hub-Signature": "sha256=MAC"}, "BODY", "hex sha256"),
        ("gitea", {"X-Gitea-Signature": "MAC"}, "BODY", "hex sha256"),
        ("forgejo", {"X-Forgejo-Signature": "MAC"}, "BODY", "hex sha256"),
        ("forgejo", {"X-Gitea-Signature": "MAC"}, "BODY", "hex sha256"),
        ("circleci", {"circleci-signature": "v1=MAC"}, "BODY", "hex sha256"),
        ("buildkite", {"X-Buildkite-Signature": "timestamp=1700000000,signature=MAC"}, "1700000000.BODY", "hex sha256"),
        ("vercel", {"x-vercel-signature": "MAC"}, "BODY", "hex sha1"),
        ("heroku", {"Heroku-Webhook-Hmac-SHA256": "MAC"}, "BODY", "base64 sha256"),
        ("sentry", {"Sentry-Hook-Signature": "MAC"}, "BODY", "hex sha256"),
        ("launchdarkly", {"X-LD-Signature": "MAC"}, "BODY", "hex sha256"),
        ("pagerduty", {"X-PagerDuty-Signature": "v1=0000000000000000000000000000000000000000000000000000000000000000,v1=MAC"}, "BODY", "hex sha256"),
    ],
)  # fmt: skip
def test_what_the_providers_page_says_is_accepted(name, headers, signed, form):
    """Written down by hand; with one more byte in the body it is refused."""
    assert by_hand(name, headers, signed, form) == (True, False)


def test_known_maxima():
    """GitHub caps payloads at 25 MB."""
    assert PRESETS["github"].max_body == 25 * 1024 * 1024
