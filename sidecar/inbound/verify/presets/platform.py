"""[P] Presets: standards, identity and clouds."""

from __future__ import annotations

import msgspec

from sidecar.inbound.verify.options import (
    Ed25519Options,
    EntryOptions,
    HmacOptions,
    JwtOptions,
    Rfc9421Options,
    SnsOptions,
    TimestampOptions,
    TokenOptions,
)
from sidecar.inbound.verify.presets.preset import DAY, NO_CONTENT, WEEK, Preset, header_hmac, standard_webhooks

__all__ = ["PRESETS"]

_SAMPLE = (
    b'{"type":"contact.created","timestamp":"2025-11-03T20:26:10.344522Z",'
    b'"data":{"id":"1f81eb52-5198-4599-803e-771906343485","type":"contact","name":"Ada"}}'
)


def _svix(name: str, title: str, docs: str) -> Preset:
    return Preset(
        name=name,
        title=title,
        docs=docs,
        scheme=standard_webhooks("svix"),
        credential="signing secret (whsec_...)",
        dedup_key="header:svix-id|webhook-id",
        dedup_ttl_s=4 * DAY,
        key_signed=True,
        event_type="json:/type",
        deadline_s=15.0,
        sign_extra=(("svix-id", "msg_{id}"),),
        sample=_SAMPLE,
    )


PRESETS = (
    Preset(
        name="standard-webhooks",
        title="Standard Webhooks",
        docs="https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md",
        scheme=standard_webhooks(),
        credential="signing secret (whsec_...)",
        dedup_key="header:webhook-id",
        dedup_ttl_s=4 * DAY,  # the specification's schedule ends after 76 hours
        key_signed=True,
        event_type="json:/type",
        deadline_s=15.0,
        sign_extra=(("webhook-id", "msg_{id}"),),
        sample=_SAMPLE,
        notes=("Also for Lithic, Polar, Replicate and everybody else who follows the standard.",),
    ),
    Preset(
        name="standard-webhooks-ed25519",
        title="Standard Webhooks (v1a, public key)",
        docs="https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md",
        scheme=Ed25519Options(
            header="webhook-signature",
            encoding="base64",
            entries=EntryOptions(key="v1a", separator=" ", assign=","),
            signed="{header:webhook-id}.{timestamp}.{body}",
            timestamp=TimestampOptions(header="webhook-timestamp"),
            secret_encoding="base64",  # noqa: S106 - an encoding
            secret_prefix="whpk_",  # noqa: S106
        ),
        credential="public key (whpk_...)",
        dedup_key="header:webhook-id",
        dedup_ttl_s=4 * DAY,
        key_signed=True,
        event_type="json:/type",
        deadline_s=15.0,
        sign_extra=(("webhook-id", "msg_{id}"),),
        sample=_SAMPLE,
    ),
    _svix("svix", "Svix", "https://docs.svix.com/receiving/verifying-payloads/how-manual"),
    _svix("clerk", "Clerk", "https://clerk.com/docs/webhooks/overview"),
    _svix("resend", "Resend", "https://resend.com/docs/dashboard/webhooks/verify-webhooks-requests"),
    Preset(
        name="openai",
        title="OpenAI",
        docs="https://platform.openai.com/docs/guides/webhooks",
        # Its libraries use a secret without the prefix as text.
        scheme=msgspec.structs.replace(standard_webhooks(), secret_unprefixed="text"),  # noqa: S106
        credential="signing secret (whsec_...)",
        dedup_key="header:webhook-id",
        dedup_ttl_s=4 * DAY,
        key_signed=True,
        event_type="json:/type",
        deadline_s=15.0,
        sign_extra=(("webhook-id", "wh_{id}"),),
        sample=b'{"id":"evt_{id}","object":"event","created_at":1750861210,"type":"response.completed","data":{"id":"resp_1"}}',
    ),
    Preset(
        name="workos",
        title="WorkOS",
        docs="https://workos.com/docs/events/data-syncing/webhooks",
        scheme=header_hmac("WorkOS-Signature", "v1", "t", separator=", ", unit="ms", tolerance=180.0),
        credential="signing secret",
        dedup_key="json:/id",
        dedup_ttl_s=4 * DAY,
        key_signed=True,
        event_type="json:/event",
        sample=b'{"id":"event_{id}","event":"dsync.user.created","data":{"id":"directory_user_1"}}',
    ),
    Preset(
        name="okta",
        title="Okta event hooks",
        docs="https://developer.okta.com/docs/concepts/event-hooks/",
        scheme=TokenOptions(header="Authorization"),
        credential="authentication secret, word for word",
        dedup_key="json:/eventId",
        event_type="json:/data/events/0/eventType",
        ack=NO_CONTENT,
        deadline_s=3.0,
        handshake="okta",
        sample=b'{"eventType":"com.okta.event_hook","eventId":"{id}","data":{"events":[{"uuid":"1","eventType":"user.session.start"}]}}',
        notes=("The secret proves the sender, not the body.",),
    ),
    Preset(
        name="auth0",
        title="Auth0 log streams",
        docs="https://auth0.com/docs/customize/log-streams/custom-log-streams",
        scheme=TokenOptions(header="Authorization"),
        credential="authorization token, word for word",
        dedup_key="body",
        dedup_ttl_s=WEEK,
        event_type="json:/0/data/type",
        sample=b'[{"log_id":"{id}","data":{"type":"s","date":"2025-09-01T22:49:03Z"}}]',
        notes=("The token proves the sender, not the body.",),
    ),
    Preset(
        name="aws-sns",
        title="AWS SNS",
        docs="https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html",
        scheme=SnsOptions(),
        credential="none; a certificate (PEM) here is used instead of the one that SNS names",
        needs_secret=False,
        dedup_key="json:/MessageId",
        dedup_ttl_s=2 * DAY,
        key_signed=True,
        event_type="json:/TopicArn",
        deadline_s=15.0,
        handshake="aws-sns",
        content_type="text/plain; charset=UTF-8",
        sample=b'{"Type":"Notification","MessageId":"{id}","TopicArn":"arn:aws:sns:us-east-1:123456789012:MyTopic"}',
        notes=(
            (
                "Anybody with an AWS account can sign for a topic of their own: name yours, "
                '`verify = { preset = "aws-sns", topics = ["arn:aws:sns:..."] }`.'
            ),
            "A subscription to a named topic is confirmed by itself; to any other it is not.",
        ),
    ),
    Preset(
        name="google-pubsub",
        title="Google Pub/Sub push",
        docs="https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions",
        scheme=JwtOptions(
            issuers=("https://accounts.google.com", "accounts.google.com"),
            needs_audience=True,
            needs_expiry=True,
            jwks_url="https://www.googleapis.com/oauth2/v3/certs",
        ),
        credential="none; a JWKS document here is used instead of Google's",
        required=("email",),
        needs_secret=False,
        dedup_key="json:/message/messageId",
        dedup_ttl_s=8 * DAY,
        event_type="json:/message/attributes/eventType",
        deadline_s=10.0,
        sample=b'{"message":{"messageId":"{id}","data":"SGVsbG8=","attributes":{"eventType":"example"}},'
        b'"subscription":"projects/p/subscriptions/s"}',
        notes=(
            "`email` is the service account of the subscription; `audience` is the source's public URL where it is left out.",
            "The token proves the sender, not the body.",
        ),
    ),
    Preset(
        name="websub",
        title="WebSub hubs",
        docs="https://www.w3.org/TR/websub/#authenticated-content-distribution",
        scheme=HmacOptions(
            header="X-Hub-Signature", prefix="{algorithm}=", algorithms=("sha1", "sha256", "sha384", "sha512")
        ),
        credential="hub.secret of the subscription",
        dedup_key="body",
        dedup_ttl_s=WEEK,
        key_signed=True,
        ack=NO_CONTENT,
        handshake="websub",
        content_type="application/atom+xml",
        sign_extra=(("Link", '<https://hub.example.com/>; rel="hub", <https://example.com/feed>; rel="self"'),),
        sample=b'<feed xmlns="http://www.w3.org/2005/Atom"><title>{id}</title></feed>',
        notes=("Name the topics you subscribe to in `handshake_allow`; others are answered 404.",),
    ),
    Preset(
        name="rfc9421",
        title="HTTP Message Signatures",
        docs="https://www.rfc-editor.org/rfc/rfc9421",
        scheme=Rfc9421Options(),
        credential="shared key in base64, or the public key (PEM or base64)",
        dedup_key="body",
        dedup_ttl_s=WEEK,
        key_signed=True,
        notes=(
            'With another algorithm than `hmac-sha256`: verify = { preset = "rfc9421", alg = "ed25519" }.',
            "A body counts only when `content-digest` is signed; it is computed again.",
        ),
    ),
)
