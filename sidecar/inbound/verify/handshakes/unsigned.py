"""[P] Handshakes that nobody signs: anybody can send one, so none of them says or stores more than it must.

What is echoed has the shape of a token; what is signed cannot be a body; a secret counts only while the operator
expects it.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Sequence
from typing import Final

from sidecar.inbound.verify.form import first_field, is_form
from sidecar.inbound.verify.handshakes.handshake import (
    BRAINTREE_CHALLENGE,
    NOSNIFF,
    TOKEN,
    Handshake,
    HandshakeAnswer,
    HandshakeTerms,
    Response,
    echo,
    field,
    json_answer,
)
from sidecar.inbound.verify.jsonfield import read_field
from sidecar.inbound.verify.request import Rejected, Request, Secret
from sidecar.model import Refusal, RejectReason

__all__ = ["UNSIGNED"]

_CRC: Final = re.compile(rb"[A-Za-z0-9_+/=-]{1,256}")
_SECRET: Final = re.compile(rb"[A-Za-z0-9_+/=.~-]{16,256}")
_ORIGIN: Final = re.compile(r"[A-Za-z0-9.:-]{1,255}")
_WOOCOMMERCE: Final = re.compile(rb"webhook_id=[0-9]{1,20}")


def _asked(request: Request, name: bytes) -> str:
    return (first_field(request.query, name) or b"").decode("utf-8", "replace")


def _meta(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Echo ``hub.challenge`` to whoever knows the verify token.

    Source: https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests
    """
    del secrets
    if _asked(request, b"hub.mode") != "subscribe":
        return None
    if not terms.token:
        return Rejected(RejectReason.NO_ACTIVE_SECRET, "no handshake_token")
    if not hmac.compare_digest(_asked(request, b"hub.verify_token").encode(), terms.token):
        return Rejected(RejectReason.WRONG_SECRET)
    return echo(_asked(request, b"hub.challenge"))


def _websub(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Echo ``hub.challenge`` for topics that are ours. Source: W3C WebSub, 5.3."""
    del secrets
    mode = _asked(request, b"hub.mode")
    if mode not in ("subscribe", "unsubscribe", "denied"):
        return None
    if _asked(request, b"hub.topic") not in terms.allowed:
        return Refusal.NOT_FOUND
    if mode == "denied":
        return HandshakeAnswer(b"", b"")
    return echo(_asked(request, b"hub.challenge"))


def _dropbox(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Echo the challenge. Source: https://www.dropbox.com/developers/reference/webhooks."""
    del secrets, terms
    return echo(_asked(request, b"challenge"))


def _okta(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Echo the header. Source: https://developer.okta.com/docs/concepts/event-hooks/#one-time-verification-request."""
    del secrets, terms
    text = request.headers.get(b"x-okta-verification-challenge", b"").decode("latin-1")
    return json_answer(verification=text) if TOKEN.fullmatch(text) else None


def _braintree(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Sign the challenge: hex digits only, which the verifier takes for no payload.

    Source: https://developer.paypal.com/braintree/docs/guides/webhooks/create
    """
    challenge = first_field(request.query, b"bt_challenge") or b""
    sign = getattr(terms.verifier, "answer_challenge", None)
    if not BRAINTREE_CHALLENGE.fullmatch(challenge) or sign is None or not secrets:
        return None
    return HandshakeAnswer(sign(secrets[0], challenge), headers=NOSNIFF)


def _crc(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Sign the token of X's challenge-response check; its shape makes it no JSON body.

    Source: https://docs.x.com/x-api/webhooks/quickstart
    """
    del terms
    token = first_field(request.query, b"crc_token") or b""
    if not _CRC.fullmatch(token) or not secrets:
        return None
    mac = hmac.digest(secrets[0].value, token, "sha256")
    return json_answer(response_token="sha256=" + base64.b64encode(mac).decode())


def _trello(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Be there. Source: https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/."""
    del secrets, terms
    return HandshakeAnswer(b"", b"") if request.method == b"HEAD" else None


def _cloudevents(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Allow the origin that asks, where it is one of ours or none are named.

    Source: CloudEvents, HTTP 1.1 Web Hooks for Event Delivery, 4
    """
    del secrets
    origin = request.headers.get(b"webhook-request-origin", b"").decode("latin-1")
    if not _ORIGIN.fullmatch(origin):
        return None
    if terms.allowed and origin not in terms.allowed:
        return Refusal.NOT_FOUND
    headers = [(b"Allow", b"POST"), (b"WebHook-Allowed-Origin", origin.encode())]
    if request.headers.get(b"webhook-request-rate"):
        headers.append((b"WebHook-Allowed-Rate", b"*"))
    return HandshakeAnswer(b"", b"", tuple(headers))


def _event_grid(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Give the validation code back, with 200. Source: Azure Event Grid, endpoint validation (synchronous)."""
    del secrets, terms
    code = read_field(request.body, ("0", "data", "validationCode"))
    return json_answer(validationResponse=code) if isinstance(code, str) and TOKEN.fullmatch(code) else None


def _asana(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Keep the secret and repeat it. Source: https://developers.asana.com/docs/webhooks-guide#the-webhook-handshake."""
    del secrets, terms
    secret = request.headers.get(b"x-hook-secret", b"")
    if not _SECRET.fullmatch(secret):
        return None
    return HandshakeAnswer(b"", b"", ((b"X-Hook-Secret", secret),), learned=secret)


def _notion(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Keep the verification token. Source: https://developers.notion.com/reference/webhooks#step-2-verifying."""
    del secrets, terms
    token = field(request, "verification_token")
    if not isinstance(token, str) or not _SECRET.fullmatch(token.encode("utf-8", "replace")):
        return None
    return HandshakeAnswer(b"", b"", learned=token.encode())


def _woocommerce(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Be there when a hook is saved. Source: deliver_ping of WooCommerce's class-wc-webhook.php."""
    del secrets, terms
    return HandshakeAnswer(b"", b"") if _WOOCOMMERCE.fullmatch(request.body) else None


def _monday(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Echo the challenge. Source: https://developer.monday.com/api-reference/reference/webhooks."""
    del secrets, terms
    challenge = field(request, "challenge")
    return json_answer(challenge=challenge) if isinstance(challenge, str) and TOKEN.fullmatch(challenge) else None


def _without(header: bytes, *, form: bool) -> Callable[[Request], bool]:
    return lambda request: (
        not request.headers.get(header) and form == is_form(request.headers.get(b"content-type", b""))
    )


def _with(header: bytes, value: bytes = b"") -> Callable[[Request], bool]:
    return lambda request: bool(found := request.headers.get(header)) and value in (b"", found)


UNSIGNED = (
    Handshake(
        name="meta",
        respond=_meta,
        methods=("GET",),
        signed=False,
        about="`hub.challenge` is echoed to whoever knows `handshake_token`",
    ),
    Handshake(
        name="websub",
        respond=_websub,
        methods=("GET",),
        signed=False,
        about="`hub.challenge` is echoed for topics in `handshake_allow`, others get 404",
    ),
    Handshake(name="dropbox", respond=_dropbox, methods=("GET",), signed=False, about="the challenge is echoed"),
    Handshake(name="okta", respond=_okta, methods=("GET",), signed=False, about="the challenge is echoed"),
    Handshake(name="braintree", respond=_braintree, methods=("GET",), signed=False, about="the challenge is signed"),
    Handshake(
        name="x-crc",
        respond=_crc,
        methods=("GET",),
        signed=False,
        signs=_CRC,
        about="X: `crc_token` is signed",
    ),
    Handshake(name="trello", respond=_trello, methods=("HEAD",), signed=False, about="HEAD is answered 200"),
    Handshake(
        name="cloudevents",
        respond=_cloudevents,
        methods=("OPTIONS",),
        signed=False,
        about="the origin is allowed, where it is in `handshake_allow` or none is named",
    ),
    Handshake(
        name="event-grid",
        respond=_event_grid,
        signed=False,
        unsigned_head=_with(b"aeg-event-type", b"SubscriptionValidation"),
        about="Azure: the validation code is given back",
    ),
    Handshake(
        name="asana",
        respond=_asana,
        signed=False,
        unsigned_head=_with(b"x-hook-secret"),
        about="the secret is kept while it is expected: `webhook-sidecar handshake expect SOURCE`",
    ),
    Handshake(
        name="notion",
        respond=_notion,
        signed=False,
        unsigned_head=_without(b"x-notion-signature", form=False),
        about="the token is kept while it is expected: `webhook-sidecar handshake expect SOURCE`",
    ),
    Handshake(
        name="woocommerce",
        respond=_woocommerce,
        signed=False,
        unsigned_head=_without(b"x-wc-webhook-signature", form=True),
        about="the try when a hook is saved is answered",
    ),
    Handshake(
        name="monday",
        respond=_monday,
        signed=False,
        unsigned_head=_without(b"authorization", form=False),
        about="monday: the challenge is echoed",
    ),
)
