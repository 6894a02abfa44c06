"""[P] What is known about each provider, as data: one entry each, by kind of provider.

Every number is the provider's own (``docs``) unless a comment says why not. ``dedup_ttl_s`` covers the provider's
whole retry span, since a key forgotten before the last retry turns that retry into a second event; where the span is
not published it is a week.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

from sidecar.inbound.verify.presets.preset import Preset

__all__ = ["PRESETS", "Preset"]

_GROUPS: dict[str, str] = {
    "code": "bitbucket buildkite circleci forgejo gitea github gitlab gitlab-signing-token heroku launchdarkly linear "
    "netlify pagerduty sentry vercel",
    "commerce": "bigcommerce cloudflare-stream contentful lemonsqueezy mux shopify square webflow woocommerce",
    "messaging": "ably discord intercom klaviyo line mailgun meta postmark pusher sendgrid slack telegram telnyx twilio "
    "twitch vonage zoom",
    "payments": "adyen adyen-platform braintree chargebee checkout-com coinbase-cdp coinbase-commerce gocardless "
    "mercadopago modern-treasury paddle paypal paystack plaid quickbooks razorpay stripe xero",
    "platform": "auth0 aws-sns clerk google-pubsub okta openai resend rfc9421 standard-webhooks "
    "standard-webhooks-ed25519 svix websub workos",
    "work": "asana box calendly clickup docusign dropbox hubspot jira notion trello typeform zendesk",
}
"""Module -> its presets. A daemon loads only the modules of the presets that it uses."""


class _Presets(Mapping[str, Preset]):
    """All presets by name; a group is loaded when the first of its presets is asked for."""

    def __init__(self) -> None:
        self._groups = {name: group for group, names in _GROUPS.items() for name in names.split(" ")}
        self._known: dict[str, Preset] = {}

    def __getitem__(self, name: str) -> Preset:
        if name not in self._known:
            group = importlib.import_module(f"sidecar.inbound.verify.presets.{self._groups[name]}")
            self._known.update({preset.name: preset for preset in group.PRESETS})
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._groups

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


#: Preset name -> preset.
PRESETS: Mapping[str, Preset] = _Presets()
