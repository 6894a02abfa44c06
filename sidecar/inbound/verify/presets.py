"""[P] What is known about each provider, as data: one entry each.

Every number is the provider's own (``docs``) unless a comment says why not. ``dedup_ttl_s`` covers the provider's
whole retry span, since a key forgotten before the last retry turns that retry into a second event.
"""

from __future__ import annotations

import msgspec

from sidecar.inbound.verify.options import EntryOptions, HmacOptions, SchemeOptions, TimestampOptions
from sidecar.model import AckTemplate

__all__ = ["PRESETS", "Preset"]

_HOUR = 3600.0
_DAY = 24 * _HOUR
_MIB = 1 << 20


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """One provider.

    Attributes:
        name: As in ``verify = "name"``.
        title: For people.
        docs: The provider's page on signatures.
        scheme: How it signs.
        dedup_key: ``header:NAME``, ``json:/pointer``, ``body`` or ``none``: what stays the same on its retries.
        dedup_ttl_s: How long to remember that, in seconds.
        key_signed: Whether the signature covers the key, so that nobody can claim it for other bytes.
        event_type: Where the kind of event is said, in the form of ``dedup_key``; empty = nowhere.
        ack: How it wants to be answered; None = the default.
        deadline_s: How long it waits for the answer, in seconds; None = not published.
        max_body: Its largest body in bytes; None = not published.
        handshake: Name in ``HANDSHAKES``.
        methods: How it sends.
        content_type: Of its bodies.
        sign_extra: Headers besides the signature that a real request carries and an app may need. ``{id}`` stands
            for an id that is new for each event.
        sample: A small realistic body; ``{id}`` as above.
    """

    name: str
    title: str
    docs: str
    scheme: SchemeOptions
    dedup_key: str = "none"
    dedup_ttl_s: float = _DAY
    key_signed: bool = False
    event_type: str = ""
    ack: AckTemplate | None = None
    deadline_s: float | None = None
    max_body: int | None = None
    handshake: str | None = None
    methods: tuple[str, ...] = ("POST",)
    content_type: str = "application/json"
    sign_extra: tuple[tuple[str, str], ...] = ()
    sample: bytes = b"{}"


_ENTRIES = (
    Preset(
        name="github",
        title="GitHub",
        docs="https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
        scheme=HmacOptions(header="X-Hub-Signature-256", prefix="sha256="),
        # Not covered by the signature; kept when a delivery is sent again by hand, which works for three days.
        dedup_key="header:X-GitHub-Delivery",
        dedup_ttl_s=3 * _DAY,
        event_type="header:X-GitHub-Event",
        deadline_s=10.0,
        max_body=25 * _MIB,
        sign_extra=(
            ("User-Agent", "GitHub-Hookshot/0000000"),
            ("X-GitHub-Event", "ping"),
            ("X-GitHub-Delivery", "{id}"),
            ("X-GitHub-Hook-ID", "1"),
        ),
        sample=b'{"zen":"Keep it logically awesome.","hook_id":1,"hook":{"type":"Repository","id":1,"active":true,'
        b'"events":["push"]},"repository":{"id":1,"full_name":"octocat/hello-world"},"sender":{"login":"octocat"}}',
    ),
    Preset(
        name="shopify",
        title="Shopify",
        docs="https://shopify.dev/docs/apps/build/webhooks/subscribe/https",
        # Newer "events" deliveries drop the X-.
        scheme=HmacOptions(header="X-Shopify-Hmac-Sha256|Shopify-Hmac-Sha256", encoding="base64"),
        dedup_key="header:X-Shopify-Webhook-Id|Shopify-Webhook-Id",
        event_type="header:X-Shopify-Topic|Shopify-Topic",
        deadline_s=5.0,
        sign_extra=(
            ("X-Shopify-Topic", "orders/create"),
            ("X-Shopify-Shop-Domain", "example.myshopify.com"),
            ("X-Shopify-API-Version", "2025-07"),
            ("X-Shopify-Webhook-Id", "{id}"),
            ("X-Shopify-Event-Id", "{id}"),
        ),
        sample=b'{"id":820982911946154508,"email":"jon@example.com","created_at":"2025-07-28T20:45:13-04:00",'
        b'"total_price":"398.00","currency":"USD","line_items":[{"id":866550311766439020,"quantity":1}]}',
    ),
    Preset(
        name="slack",
        title="Slack",
        docs="https://docs.slack.dev/authentication/verifying-requests-from-slack",
        scheme=HmacOptions(
            header="X-Slack-Signature",
            prefix="v0=",
            signed="v0:{timestamp}:{body}",
            timestamp=TimestampOptions(header="X-Slack-Request-Timestamp"),
        ),
        # Slash commands and interactions are forms without one.
        dedup_key="json:/event_id",
        key_signed=True,
        event_type="json:/event/type",
        # The answer to a slash command or an interaction is shown to the user, or refused when it says anything odd.
        ack=AckTemplate(200, "", b""),
        deadline_s=3.0,
        handshake="slack",
        sample=b'{"token":"unused","team_id":"T061EG9R6","api_app_id":"A0MDYCDME","event":{"type":"app_mention",'
        b'"user":"U061F7AUR","text":"Hello","ts":"1515449522.000016","channel":"C0LAN2Q65"},'
        b'"type":"event_callback","event_id":"Ev{id}","event_time":1515449522}',
    ),
    Preset(
        name="standard-webhooks",
        title="Standard Webhooks",
        docs="https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md",
        scheme=HmacOptions(
            header="webhook-signature",
            encoding="base64",
            entries=EntryOptions(key="v1", separator=" ", assign=","),
            signed="{header:webhook-id}.{timestamp}.{body}",
            timestamp=TimestampOptions(header="webhook-timestamp"),
            secret_encoding="base64",  # noqa: S106
            secret_prefix="whsec_",  # noqa: S106
        ),
        dedup_key="header:webhook-id",
        dedup_ttl_s=4 * _DAY,  # the specification's schedule ends after 76 hours
        key_signed=True,
        event_type="json:/type",
        deadline_s=15.0,
        sign_extra=(("webhook-id", "msg_{id}"),),
        sample=b'{"type":"contact.created","timestamp":"2025-11-03T20:26:10.344522Z",'
        b'"data":{"id":"1f81eb52-5198-4599-803e-771906343485","type":"contact","name":"Ada"}}',
    ),
    Preset(
        name="stripe",
        title="Stripe",
        docs="https://docs.stripe.com/webhooks/signature",
        # The key is the whole secret, "whsec_" included. Stripe's own libraries look only at the past.
        scheme=HmacOptions(
            header="Stripe-Signature",
            entries=EntryOptions(key="v1"),
            signed="{timestamp}.{body}",
            timestamp=TimestampOptions(entry="t", past_only=True),
        ),
        dedup_key="json:/id",
        dedup_ttl_s=4 * _DAY,  # retries go on for three days
        key_signed=True,
        event_type="json:/type",
        content_type="application/json; charset=utf-8",
        sign_extra=(("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)"),),
        sample=b'{"id":"evt_{id}","object":"event","api_version":"2025-06-30.basil","created":1753734313,'
        b'"data":{"object":{"id":"pi_1","object":"payment_intent","amount":2000,"currency":"usd"}},'
        b'"livemode":false,"pending_webhooks":1,"request":{"id":null,"idempotency_key":null},'
        b'"type":"payment_intent.succeeded"}',
    ),
)

#: Preset name -> preset.
PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ENTRIES}
