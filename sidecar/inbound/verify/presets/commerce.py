"""[P] Presets: shops, sites and the media they serve."""

from __future__ import annotations

import msgspec

from sidecar.inbound.verify.options import HmacOptions, TimestampOptions
from sidecar.inbound.verify.presets.preset import DAY, WEEK, Preset, header_hmac, standard_webhooks

__all__ = ["PRESETS"]

PRESETS = (
    Preset(
        name="shopify",
        title="Shopify",
        docs="https://shopify.dev/docs/apps/build/webhooks/subscribe/https",
        # Newer "events" deliveries drop the X-.
        scheme=HmacOptions(header="X-Shopify-Hmac-Sha256|Shopify-Hmac-Sha256", encoding="base64"),
        credential="client secret of the app",
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
        notes=("After a rotation the old secret signs for a while: list both.",),
    ),
    Preset(
        name="woocommerce",
        title="WooCommerce",
        docs="https://woocommerce.com/document/webhooks/",
        scheme=HmacOptions(header="X-WC-Webhook-Signature", encoding="base64"),
        dedup_key="header:X-WC-Webhook-Delivery-ID",
        event_type="header:X-WC-Webhook-Topic",
        deadline_s=60.0,
        handshake="woocommerce",
        sign_extra=(
            ("X-WC-Webhook-Topic", "order.updated"),
            ("X-WC-Webhook-Delivery-ID", "{id}"),
            ("X-WC-Webhook-ID", "142"),
        ),
        sample=b'{"id":727,"status":"processing","total":"29.35","currency":"USD"}',
        notes=(
            "WooCommerce never retries, and disables a webhook after five failures in a row.",
            "The shop decodes HTML entities of the secret before it uses it.",
        ),
    ),
    Preset(
        name="bigcommerce",
        title="BigCommerce",
        docs="https://developer.bigcommerce.com/docs/integrations/webhooks",
        # Standard Webhooks, but the key is the secret's text.
        scheme=msgspec.structs.replace(standard_webhooks(), secret_encoding="text", secret_prefix=""),  # noqa: S106
        credential="client secret of the app",
        dedup_key="header:webhook-id",
        dedup_ttl_s=3 * DAY,
        key_signed=True,
        event_type="json:/scope",
        deadline_s=10.0,
        sign_extra=(("webhook-id", "{id}"),),
        sample=b'{"scope":"store/order/created","store_id":"1025646","data":{"type":"order","id":250},"hash":"{id}"}',
    ),
    Preset(
        name="square",
        title="Square",
        docs="https://developer.squareup.com/docs/webhooks/step3validate",
        scheme=HmacOptions(header="x-square-hmacsha256-signature", encoding="base64", signed="{url}{body}"),
        credential="signature key",
        dedup_key="json:/event_id",
        dedup_ttl_s=4 * DAY,
        key_signed=True,
        event_type="json:/type",
        deadline_s=10.0,
        sample=b'{"merchant_id":"MLEFBHHSJGVHD","type":"payment.created","event_id":"{id}",'
        b'"created_at":"2025-09-01T22:49:03Z","data":{"type":"payment","id":"KkAkhdMsgzn59SM8A89WgKwekxLZY"}}',
    ),
    Preset(
        name="lemonsqueezy",
        title="Lemon Squeezy",
        docs="https://docs.lemonsqueezy.com/help/webhooks/signing-requests",
        scheme=HmacOptions(header="X-Signature"),
        credential="signing secret",
        dedup_key="body",
        key_signed=True,
        event_type="header:X-Event-Name",
        sign_extra=(("X-Event-Name", "order_created"),),
        sample=b'{"meta":{"event_name":"order_created"},"data":{"type":"orders","id":"{id}"}}',
    ),
    Preset(
        name="webflow",
        title="Webflow",
        docs="https://developers.webflow.com/data/docs/working-with-webhooks#validating-request-signatures",
        scheme=HmacOptions(
            header="x-webflow-signature",
            signed="{timestamp}:{body}",
            timestamp=TimestampOptions(header="x-webflow-timestamp", unit="ms"),
        ),
        credential="secret of the webhook; of an app its client secret",
        dedup_key="body",
        dedup_ttl_s=WEEK,
        key_signed=True,
        event_type="json:/triggerType",
        sample=b'{"triggerType":"form_submission","payload":{"id":"{id}","name":"Contact"}}',
    ),
    Preset(
        name="contentful",
        title="Contentful",
        docs="https://www.contentful.com/developers/docs/webhooks/request-verification/",
        scheme=HmacOptions(
            header="x-contentful-signature",
            signed="{method}\n{encoded-target}\n{headers:x-contentful-signed-headers}\n{body}",
            timestamp=TimestampOptions(header="x-contentful-timestamp", unit="ms", tolerance=30.0, past_only=True),
        ),
        credential="signing secret of 64 characters",
        dedup_key="header:X-Contentful-Topic json:/sys/id json:/sys/version",
        event_type="header:X-Contentful-Topic",
        deadline_s=30.0,
        content_type="application/vnd.contentful.management.v1+json",
        sign_extra=(("X-Contentful-Topic", "ContentManagement.Entry.publish"),),
        sample=b'{"sys":{"type":"Entry","id":"{id}","version":1}}',
        notes=("Path and query are signed: a proxy in front must not change them.",),
    ),
    Preset(
        name="mux",
        title="Mux",
        docs="https://www.mux.com/docs/core/verify-webhook-signatures",
        scheme=header_hmac("Mux-Signature", "v1", "t"),
        credential="signing secret",
        dedup_key="json:/id",
        dedup_ttl_s=WEEK,
        key_signed=True,
        event_type="json:/type",
        sample=b'{"type":"video.asset.ready","id":"{id}","created_at":"2025-09-01T22:49:03Z","data":{"status":"ready"}}',
    ),
    Preset(
        name="cloudflare-stream",
        title="Cloudflare Stream",
        docs="https://developers.cloudflare.com/stream/manage-video-library/using-webhooks/",
        scheme=header_hmac("Webhook-Signature", "sig1", "time"),
        dedup_key="json:/uid json:/status/state",
        dedup_ttl_s=WEEK,
        key_signed=True,
        event_type="json:/status/state",
        sample=b'{"uid":"{id}","readyToStream":true,"status":{"state":"ready"}}',
    ),
)
