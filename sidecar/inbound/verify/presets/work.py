"""[P] Presets: how people work together: tasks, documents, forms, customers."""

from __future__ import annotations

from sidecar.inbound.verify.options import AnyOptions, HmacOptions, TimestampOptions
from sidecar.inbound.verify.presets.preset import DAY, WEEK, Preset, header_hmac

__all__ = ["PRESETS"]

_HUBSPOT_VERSION = "X-HubSpot-Signature-Version"

PRESETS = (
    Preset(
        name="asana",
        title="Asana",
        docs="https://developers.asana.com/docs/webhooks-guide#security",
        scheme=HmacOptions(header="X-Hook-Signature"),
        credential="X-Hook-Secret; arrives by the handshake: `webhook-sidecar handshake expect SOURCE`",
        needs_secret=False,
        dedup_key="body",
        dedup_ttl_s=2 * DAY,
        key_signed=True,
        event_type="json:/events/0/action",
        deadline_s=10.0,
        handshake="asana",
        sample=b'{"events":[{"action":"changed","created_at":"2025-09-01T22:49:03Z",'
        b'"resource":{"gid":"{id}","resource_type":"task"}}]}',
    ),
    Preset(
        name="trello",
        title="Trello",
        docs="https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/#webhook-signatures",
        scheme=HmacOptions(header="X-Trello-Webhook", algorithm="sha1", encoding="base64", signed="{body}{url}"),
        credential="secret of the application (OAuth)",
        dedup_key="json:/action/id",
        key_signed=True,
        event_type="json:/action/type",
        handshake="trello",
        sample=b'{"action":{"id":"{id}","type":"updateCard","data":{"card":{"name":"Example"}}}}',
        notes=("The callback URL is signed exactly as it was registered.",),
    ),
    Preset(
        name="jira",
        title="Jira Cloud (admin webhooks)",
        docs="https://developer.atlassian.com/cloud/jira/platform/webhooks/",
        scheme=HmacOptions(header="X-Hub-Signature", prefix="sha256="),
        dedup_key="header:X-Atlassian-Webhook-Identifier",
        event_type="json:/webhookEvent",
        deadline_s=30.0,
        sign_extra=(("X-Atlassian-Webhook-Identifier", "{id}"), ("X-Atlassian-Webhook-Flow", "Primary")),
        sample=b'{"timestamp":1753734313000,"webhookEvent":"jira:issue_created","issue":{"id":"10001","key":"EX-1"}}',
    ),
    Preset(
        name="notion",
        title="Notion",
        docs="https://developers.notion.com/reference/webhooks#step-3-validating-event-payloads-recommended",
        scheme=HmacOptions(header="X-Notion-Signature", prefix="sha256="),
        credential="verification token; arrives by the handshake: `webhook-sidecar handshake expect SOURCE`",
        needs_secret=False,
        dedup_key="json:/id",
        dedup_ttl_s=2 * DAY,
        key_signed=True,
        event_type="json:/type",
        handshake="notion",
        sample=b'{"id":"{id}","type":"page.created","attempt_number":1,"entity":{"id":"153104cd","type":"page"}}',
        notes=("Read the token with `webhook-sidecar handshake show SOURCE` and paste it into Notion's page.",),
    ),
    Preset(
        name="clickup",
        title="ClickUp",
        docs="https://developer.clickup.com/docs/webhooksignature",
        scheme=HmacOptions(header="X-Signature"),
        credential="webhook.secret of the answer that created the webhook",
        dedup_key="body",
        dedup_ttl_s=WEEK,
        key_signed=True,
        event_type="json:/event",
        sample=b'{"event":"taskCreated","task_id":"{id}","webhook_id":"7fa3ec74"}',
    ),
    Preset(
        name="typeform",
        title="Typeform",
        docs="https://www.typeform.com/developers/webhooks/secure-your-webhooks/",
        # A prefix as with hex elsewhere, but base64.
        scheme=HmacOptions(header="Typeform-Signature", prefix="sha256=", encoding="base64"),
        dedup_key="json:/event_id",
        key_signed=True,
        event_type="json:/event_type",
        deadline_s=30.0,
        sample=b'{"event_id":"{id}","event_type":"form_response","form_response":{"form_id":"lT4Z3j","token":"a3a1"}}',
    ),
    Preset(
        name="calendly",
        title="Calendly",
        docs="https://developer.calendly.com/api-docs/4c305798a61d3-webhook-signatures",
        scheme=header_hmac("Calendly-Webhook-Signature", "v1", "t", tolerance=180.0),
        credential="signing key",
        dedup_key="body",
        dedup_ttl_s=2 * DAY,
        key_signed=True,
        event_type="json:/event",
        deadline_s=10.0,
        sample=b'{"event":"invitee.created","created_at":"2025-09-01T22:49:03Z","payload":{"uri":"https://api.calendly.com/{id}"}}',
    ),
    Preset(
        name="docusign",
        title="DocuSign Connect",
        docs="https://developers.docusign.com/platform/webhooks/connect/validate/",
        scheme=HmacOptions(header="X-DocuSign-Signature-{n}", encoding="base64", max_signatures=100),
        credential="Connect HMAC key",
        dedup_key="json:/data/envelopeId json:/event json:/generatedDateTime",
        dedup_ttl_s=16 * DAY,
        key_signed=True,
        event_type="json:/event",
        deadline_s=100.0,
        sample=b'{"event":"envelope-completed","apiVersion":"v2.1","generatedDateTime":"2025-09-01T22:49:03Z",'
        b'"data":{"accountId":"1","envelopeId":"{id}"}}',
        notes=("One numbered header for each key of the account; one match is enough.",),
    ),
    Preset(
        name="dropbox",
        title="Dropbox",
        docs="https://www.dropbox.com/developers/reference/webhooks",
        scheme=HmacOptions(header="X-Dropbox-Signature"),
        credential="app secret",
        # The body names accounts that have changed and nothing else: the same bytes soon mean something new.
        dedup_key="none",
        dedup_ttl_s=2 * DAY,
        deadline_s=10.0,
        handshake="dropbox",
        sample=b'{"list_folder":{"accounts":["dbid:{id}"]},"delta":{"users":[12345678]}}',
    ),
    Preset(
        name="box",
        title="Box",
        docs="https://developer.box.com/guides/webhooks/v2/signatures-v2/",
        scheme=HmacOptions(
            header="BOX-SIGNATURE-PRIMARY|BOX-SIGNATURE-SECONDARY",
            encoding="base64",
            signed="{body}{timestamp}",
            timestamp=TimestampOptions(header="BOX-DELIVERY-TIMESTAMP", unit="rfc3339", tolerance=600.0, future=0.0),
            secret_headers={"primary": "BOX-SIGNATURE-PRIMARY", "secondary": "BOX-SIGNATURE-SECONDARY"},
            require={"BOX-SIGNATURE-VERSION": "1", "BOX-SIGNATURE-ALGORITHM": "HmacSHA256"},
        ),
        credential="primary and secondary signature key; their ids `primary` and `secondary` bind them to their headers",
        dedup_key="header:BOX-DELIVERY-ID",
        dedup_ttl_s=WEEK,
        event_type="json:/trigger",
        deadline_s=30.0,
        sign_extra=(("BOX-DELIVERY-ID", "{id}"),),
        sample=b'{"type":"webhook_event","id":"1","trigger":"FILE.UPLOADED","source":{"id":"1234567890","type":"file"}}',
        notes=("Box takes no future timestamp: a clock that is behind refuses everything.",),
    ),
    Preset(
        name="zendesk",
        title="Zendesk",
        docs="https://developer.zendesk.com/documentation/webhooks/verifying/",
        # Looks like base64 and is used as text.
        scheme=HmacOptions(
            header="X-Zendesk-Webhook-Signature",
            encoding="base64",
            signed="{timestamp}{body}",
            timestamp=TimestampOptions(header="X-Zendesk-Webhook-Signature-Timestamp", unit="rfc3339"),
        ),
        credential="signing secret",
        dedup_key="header:x-zendesk-webhook-invocation-id",
        event_type="json:/type",
        deadline_s=12.0,
        sign_extra=(
            ("x-zendesk-webhook-invocation-id", "{id}"),
            ("x-zendesk-webhook-id", "01F1KRDQ6BZ29CWWFR0KCSNS55"),
        ),
        sample=b'{"type":"zen:event-type:ticket.created","account_id":123,"id":"{id}","detail":{"id":"1"}}',
    ),
    Preset(
        name="hubspot",
        title="HubSpot",
        docs="https://developers.hubspot.com/docs/api/webhooks/validating-requests",
        scheme=AnyOptions(
            forms=(
                HmacOptions(
                    header="X-HubSpot-Signature-v3",
                    encoding="base64",
                    signed="{method}{url}{body}{timestamp}",
                    timestamp=TimestampOptions(header="X-HubSpot-Request-Timestamp", unit="ms", past_only=True),
                    url_decode=":/?@!$'()*,;",
                ),
                HmacOptions(
                    header="X-HubSpot-Signature",
                    signed="{method}{url}{body}",
                    keyed="prefix",
                    require={_HUBSPOT_VERSION: "v2"},
                ),
                HmacOptions(header="X-HubSpot-Signature", keyed="prefix", require={_HUBSPOT_VERSION: "v1"}),
            )
        ),
        credential="client secret of the app",
        # Retries count attempts inside the body, and a batch has no id of its own.
        dedup_key="json:/0/eventId json:/0/subscriptionId json:/0/occurredAt",
        dedup_ttl_s=2 * DAY,
        event_type="json:/0/subscriptionType",
        deadline_s=5.0,
        sample=b'[{"eventId":"{id}","subscriptionId":1,"portalId":62515,"occurredAt":1700000000000,'
        b'"subscriptionType":"contact.creation","attemptNumber":0,"objectId":1}]',
        notes=(
            (
                "One delivery carries up to 100 events. A retry differs in its attempt number and is a new event here: "
                "deduplicate in the app by eventId, subscriptionId and occurredAt."
            ),
            "v1 and v2 are older signatures without a time; they are taken where HubSpot sends no v3.",
        ),
    ),
)
