"""What ``send`` signs, the provider's own library accepts; what the library signs, we accept. ``make sdks`` installs them."""

from __future__ import annotations

import base64
import datetime as dt
import importlib
import json
import time
import types
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sidecar.inbound.verify import Accepted, Request
from tests.support.providers import PARAMS, TEXT, URL, Made, make, secret_of, verifier_of


def header(made: Made, name: str) -> str:
    return made.headers[name.lower().encode()].decode()


def sent(made: Made) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in made.headers.items()}


def secret(name: str) -> str:
    return secret_of(name).value.decode()


def url(name: str) -> str:
    return (URL % name.encode()).decode()


def said(verdict: object) -> bool:
    """What a library that raises on failure says by returning at all."""
    del verdict
    return True


def adyen(sdk: Any, made: Made) -> bool:
    return bool(sdk.is_valid_hmac_notification(json.loads(made.body), secret("adyen")))


def adyen_platform(sdk: Any, made: Made) -> bool:
    return bool(sdk.is_valid_hmac_payload(header(made, "HmacSignature"), secret("adyen-platform"), made.body))


def braintree(sdk: Any, made: Made) -> bool:
    from urllib.parse import parse_qs

    fields = {k: v[0] for k, v in parse_qs(made.body.decode()).items()}
    gateway = braintree_gateway(sdk)
    return said(gateway.webhook_notification.parse(fields["bt_signature"], fields["bt_payload"]))


def braintree_gateway(sdk: Any) -> Any:
    return sdk.BraintreeGateway(
        sdk.Configuration(
            environment=sdk.Environment.Sandbox,
            merchant_id="m",
            public_key=PARAMS["braintree"]["public_key"],
            private_key=secret("braintree"),
        )
    )


def hubspot(sdk: Any, made: Made) -> bool:
    return bool(
        sdk.Signature.is_valid(
            signature=header(made, "X-HubSpot-Signature-v3"),
            client_secret=secret("hubspot"),
            request_body=made.body.decode(),
            http_uri=url("hubspot"),
            signature_version="v3",
            timestamp=header(made, "X-HubSpot-Request-Timestamp"),
        )
    )


def mailgun(sdk: Any, made: Made) -> bool:
    parts = json.loads(made.body)["signature"]
    return bool(sdk.SecurityGuard.verify_webhook(secret("mailgun"), **parts))


def paddle(sdk: Any, made: Made) -> bool:
    request = types.SimpleNamespace(headers={"Paddle-Signature": header(made, "Paddle-Signature")}, body=made.body)
    request.content = request.body
    request.data = request.body
    return bool(sdk.Verifier(300).verify(request, sdk.Secret(secret("paddle"))))


def resend(sdk: Any, made: Made) -> bool:
    names = {part: header(made, f"svix-{part}") for part in ("id", "timestamp", "signature")}
    return said(
        sdk.Webhooks.verify({"payload": made.body.decode(), "headers": names, "webhook_secret": secret("resend")})
    )


def mercadopago(sdk: Any, made: Made) -> bool:
    return said(
        sdk.WebhookSignatureValidator.validate(
            header(made, "x-signature"),
            header(made, "x-request-id"),
            None,
            secret("mercadopago"),
            tolerance_seconds=300,
        )
    )


def pusher(sdk: Any, made: Made) -> bool:
    client = sdk.Pusher(app_id="1", key="1", secret=secret("pusher"), cluster="eu")
    return client.validate_webhook("1", header(made, "X-Pusher-Signature"), made.body.decode()) is not None


def gitlab_and_co(sdk: Any, made: Made) -> bool:
    return said(sdk.Webhook(secret("gitlab-signing-token")).verify(made.body.decode(), sent(made)))


ACCEPTS: dict[str, tuple[str, Callable[[Any, Made], bool]]] = {
    "adyen": ("Adyen.util", adyen),
    "adyen-platform": ("Adyen.util", adyen_platform),
    "box": (
        "box_sdk_gen.managers.webhooks",
        lambda sdk, m: bool(sdk.WebhooksManager.validate_message(m.body.decode(), sent(m), secret("box"))),
    ),
    "braintree": ("braintree", braintree),
    "coinbase-commerce": (
        "coinbase_commerce.webhook",
        lambda sdk, m: said(
            sdk.Webhook.construct_event(
                m.body.decode(), header(m, "X-CC-Webhook-Signature"), secret("coinbase-commerce")
            )
        ),
    ),
    "clerk": ("svix.webhooks", lambda sdk, m: said(sdk.Webhook(secret("clerk")).verify(m.body, sent(m)))),
    "discord": (
        "discord_interactions",
        lambda sdk, m: bool(
            sdk.verify_key(
                m.body, header(m, "X-Signature-Ed25519"), header(m, "X-Signature-Timestamp"), secret("discord")
            )
        ),
    ),
    "gitlab-signing-token": ("standardwebhooks.webhooks", gitlab_and_co),
    "gocardless": (
        "gocardless_pro.webhooks",
        lambda sdk, m: said(sdk.parse(m.body, secret("gocardless"), header(m, "Webhook-Signature"))),
    ),
    "hubspot": ("hubspot.utils.signature", hubspot),
    "line": (
        "linebot.v3.webhook",
        lambda sdk, m: bool(
            sdk.SignatureValidator(secret("line")).validate(m.body.decode(), header(m, "x-line-signature"))
        ),
    ),
    "mailgun": ("mailgun.security", mailgun),
    "mercadopago": ("mercadopago.webhook", mercadopago),
    "modern-treasury": (
        "modern_treasury",
        lambda sdk, m: bool(
            sdk.ModernTreasury(organization_id="o", api_key="k").webhooks.validate_signature(
                m.body.decode(), {"X-Signature": header(m, "X-Signature")}, key=secret("modern-treasury")
            )
        ),
    ),
    "openai": (
        "openai",
        lambda sdk, m: said(
            sdk.OpenAI(api_key="k").webhooks.verify_signature(m.body, sent(m), secret=secret("openai"))
        ),
    ),
    "paddle": ("paddle_billing.Notifications", paddle),
    "pusher": ("pusher", pusher),
    "razorpay": (
        "razorpay",
        lambda sdk, m: said(
            sdk.Utility().verify_webhook_signature(
                m.body.decode(), header(m, "X-Razorpay-Signature"), secret("razorpay")
            )
        ),
    ),
    "resend": ("resend", resend),
    "sendgrid": (
        "sendgrid.helpers.eventwebhook",
        lambda sdk, m: bool(
            sdk.EventWebhook(secret("sendgrid")).verify_signature(
                m.body.decode(),
                header(m, "X-Twilio-Email-Event-Webhook-Signature"),
                header(m, "X-Twilio-Email-Event-Webhook-Timestamp"),
            )
        ),
    ),
    "slack": (
        "slack_sdk.signature",
        lambda sdk, m: bool(sdk.SignatureVerifier(secret("slack")).is_valid_request(m.body, sent(m))),
    ),
    "square": (
        "square.utils.webhooks_helper",
        lambda sdk, m: bool(
            sdk.verify_signature(
                request_body=m.body.decode(),
                signature_header=header(m, "x-square-hmacsha256-signature"),
                signature_key=secret("square"),
                notification_url=url("square"),
            )
        ),
    ),
    "standard-webhooks": (
        "standardwebhooks.webhooks",
        lambda sdk, m: said(sdk.Webhook(secret("standard-webhooks")).verify(m.body.decode(), sent(m))),
    ),
    "stripe": (
        "stripe",
        lambda sdk, m: said(
            sdk.WebhookSignature.verify_header(m.body.decode(), header(m, "Stripe-Signature"), secret("stripe"), 300)
        ),
    ),
    "svix": ("svix.webhooks", lambda sdk, m: said(sdk.Webhook(secret("svix")).verify(m.body, sent(m)))),
    "telnyx": (
        "telnyx",
        lambda sdk, m: said(
            sdk.Telnyx(api_key="k").webhooks.unwrap(m.body.decode(), headers=sent(m), key=secret("telnyx"))
        ),
    ),
    "twilio": (
        "twilio.request_validator",
        lambda sdk, m: bool(
            sdk.RequestValidator(secret("twilio")).validate(
                url("twilio"), parsed_form(m.body), header(m, "X-Twilio-Signature")
            )
        ),
    ),
    "workos": (
        "workos.webhooks._verification",
        lambda sdk, m: said(
            sdk.verify_header(
                event_body=m.body, event_signature=header(m, "WorkOS-Signature"), secret=secret("workos"), tolerance=180
            )
        ),
    ),
}
"""Preset -> (module of the provider's library, what asks it)."""

UNCOVERED = {"mailgun", "mercadopago"}
"""The body is not signed, so no library can tell that it changed."""


def parsed_form(body: bytes) -> dict[str, str]:
    from urllib.parse import parse_qsl

    return dict(parse_qsl(body.decode(), keep_blank_values=True))


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"needs the provider's own library {name}: make sdks", exc_type=ImportError)


def now_ms() -> int:
    return int(time.time()) * 1000


@pytest.mark.parametrize("name", sorted(ACCEPTS))
@pytest.mark.filterwarnings("ignore")  # of the libraries themselves
def test_the_providers_own_library_accepts_what_we_sign(name: str) -> None:
    """And refuses it with another byte, so that its word means something."""
    module, accepts = ACCEPTS[name]
    sdk = library(module)
    made = make(name, now_ms())
    assert accepts(sdk, made)
    if name in UNCOVERED:
        return
    body = {
        "adyen": made.body.replace(b"1130", b"1131"),
        "braintree": made.body.replace(b"bt_payload=", b"bt_payload=A"),
        "twilio": made.body + b"&x=1",
    }.get(name, made.body + b" ")
    changed = Made(made.verifier, made.request, made.secrets, made.headers, body)
    assert refuses(sdk, accepts, changed)


def refuses(sdk: Any, accepts: Callable[[Any, Made], bool], made: Made) -> bool:
    """Each library has its own way to say no; a mistake in the asking is none of them."""
    try:
        return not accepts(sdk, made)
    except Exception as error:  # noqa: BLE001
        return not isinstance(error, AttributeError | ImportError | KeyError | TypeError)


def judged(name: str, headers: dict[str, str], body: bytes, query: bytes = b"") -> bool:
    made = {k.lower().encode(): v.encode() for k, v in headers.items()}
    address = URL % name.encode() + (b"?" + query if query else b"")
    request = Request(b"POST", b"/in/" + name.encode(), query, made, body, address)
    verifier, secrets = verifier_of(name), (secret_of(name),)
    changed = msgspec.structs.replace(request, body=body + b"x", parsed=None)
    assert not isinstance(verifier.verify(changed, secrets, now_ms()), Accepted)
    request.parsed = None
    return isinstance(verifier.verify(request, secrets, now_ms()), Accepted)


BODY = b'{"id":"1","type":"x.y","text":"\xc3\xbc"}'


def by_standard_webhooks(name: str, prefix: str = "webhook") -> Callable[[Any], tuple[dict[str, str], bytes]]:
    def sign(sdk: Any) -> tuple[dict[str, str], bytes]:
        at = dt.datetime.now(dt.UTC).replace(microsecond=0)
        signature = sdk.Webhook(secret(name)).sign("msg_1", at, BODY.decode())
        names = {"id": "msg_1", "timestamp": str(int(at.timestamp())), "signature": signature}
        return {f"{prefix}-{k}": v for k, v in names.items()}, BODY

    return sign


def by_slack(sdk: Any) -> tuple[dict[str, str], bytes]:
    stamp = str(now_ms() // 1000)
    signature = sdk.SignatureVerifier(secret("slack")).generate_signature(timestamp=stamp, body=BODY)
    return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": signature}, BODY


def by_stripe(sdk: Any) -> tuple[dict[str, str], bytes]:
    stamp = now_ms() // 1000
    signature = sdk.WebhookSignature._compute_signature(f"{stamp}.{BODY.decode()}", secret("stripe"))
    return {"Stripe-Signature": f"t={stamp},v1={signature}"}, BODY


def by_twilio(sdk: Any) -> tuple[dict[str, str], bytes]:
    body = b"Body=caf%C3%A9+%26+more&From=%2B1&Empty="
    fields = parsed_form(body)
    signature = sdk.RequestValidator(secret("twilio")).compute_signature(url("twilio"), fields)
    return {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}, body


def by_adyen(sdk: Any) -> tuple[dict[str, str], bytes]:
    item: dict[str, Any] = {
        "pspReference": "p", "merchantAccountCode": "m", "merchantReference": "a:b", "amount": {"value": 5, "currency": "EUR"},
        "eventCode": "CAPTURE", "success": "true",
    }  # fmt: skip
    signature = sdk.generate_notification_sig(item, secret("adyen")).decode()
    item["additionalData"] = {"hmacSignature": signature}
    return {}, json.dumps({"notificationItems": [{"NotificationRequestItem": item}]}).encode()


def by_adyen_platform(sdk: Any) -> tuple[dict[str, str], bytes]:
    return {"HmacSignature": sdk.generate_payload_sig(BODY, secret("adyen-platform")).decode()}, BODY


def by_hubspot(sdk: Any) -> tuple[dict[str, str], bytes]:
    stamp = str(now_ms())
    signature = sdk.Signature.get_signature(secret("hubspot"), BODY.decode(), "v3", url("hubspot"), "POST", stamp)
    return {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": stamp}, BODY


def by_hubspot_v2(sdk: Any) -> tuple[dict[str, str], bytes]:
    signature = sdk.Signature.get_signature(secret("hubspot"), BODY.decode(), "v2", url("hubspot"), "POST")
    return {"X-HubSpot-Signature": signature, "X-HubSpot-Signature-Version": "v2"}, BODY


def by_modern_treasury(sdk: Any) -> tuple[dict[str, str], bytes]:
    client = sdk.ModernTreasury(organization_id="o", api_key="k")
    return {"X-Signature": client.webhooks.get_signature(BODY.decode(), key=secret("modern-treasury"))}, BODY


def by_coinbase(sdk: Any) -> tuple[dict[str, str], bytes]:
    signature = sdk.WebhookSignature if hasattr(sdk, "WebhookSignature") else sdk
    compute = signature._compute_signature
    return {"X-CC-Webhook-Signature": compute(BODY.decode(), secret("coinbase-commerce"))}, BODY


def by_braintree(sdk: Any) -> tuple[dict[str, str], bytes]:
    from urllib.parse import urlencode

    made = braintree_gateway(sdk).webhook_testing.sample_notification(sdk.WebhookNotification.Kind.Check, "1")
    return {}, urlencode(made).encode()


SIGNS: dict[str, tuple[str, str, Callable[[Any], tuple[dict[str, str], bytes]]]] = {
    "adyen": ("adyen", "Adyen.util", by_adyen),
    "adyen-platform": ("adyen-platform", "Adyen.util", by_adyen_platform),
    "braintree": ("braintree", "braintree", by_braintree),
    "clerk": ("clerk", "svix.webhooks", by_standard_webhooks("clerk", "svix")),
    "coinbase-commerce": ("coinbase-commerce", "coinbase_commerce.webhook", by_coinbase),
    "gitlab-signing-token": (
        "gitlab-signing-token",
        "standardwebhooks.webhooks",
        by_standard_webhooks("gitlab-signing-token"),
    ),
    "hubspot": ("hubspot", "hubspot.utils.signature", by_hubspot),
    "hubspot-v2": ("hubspot", "hubspot.utils.signature", by_hubspot_v2),
    "modern-treasury": ("modern-treasury", "modern_treasury", by_modern_treasury),
    "resend": ("resend", "svix.webhooks", by_standard_webhooks("resend", "svix")),
    "slack": ("slack", "slack_sdk.signature", by_slack),
    "standard-webhooks": ("standard-webhooks", "standardwebhooks.webhooks", by_standard_webhooks("standard-webhooks")),
    "stripe": ("stripe", "stripe", by_stripe),
    "svix": ("svix", "svix.webhooks", by_standard_webhooks("svix", "svix")),
    "twilio": ("twilio", "twilio.request_validator", by_twilio),
}
"""Libraries that can also sign -> (preset, module, what makes it)."""


@pytest.mark.parametrize("name", sorted(SIGNS))
@pytest.mark.filterwarnings("ignore")  # of the libraries themselves
def test_we_accept_what_the_providers_own_library_signs(name: str) -> None:
    """Also bodies outside ASCII."""
    preset, module, sign = SIGNS[name]
    assert judged(preset, *sign(library(module)))


def test_enough_providers_are_asked() -> None:
    """At least twenty of them."""
    assert len(ACCEPTS) >= 20
    assert base64.b64encode(TEXT)
    assert importlib.util.find_spec("stripe") is not None, (
        "the few that come with the development environment are there"
    )
