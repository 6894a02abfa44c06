"""[P] Handshakes that are signed like any webhook: answered after verification, instead of being kept."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

from sidecar.inbound.verify.handshakes.handshake import (
    MAX_BYTES,
    NOSNIFF,
    Handshake,
    HandshakeAnswer,
    HandshakeTerms,
    Response,
    echo,
    field,
    json_answer,
)
from sidecar.inbound.verify.jsonfield import read_document, read_field
from sidecar.inbound.verify.request import Request, Secret

__all__ = ["SIGNED"]

_MAX_CHALLENGE = 1024
_PLAIN_TOKEN = re.compile(r"[A-Za-z0-9_+/=-]{1,256}")  # no colon: what is signed for a webhook begins with "v0:"


def _slack(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Echo the challenge of ``url_verification``.

    Source: https://docs.slack.dev/reference/events/url_verification
    """
    del secrets, terms
    if b"url_verification" not in request.body or field(request, "type") != "url_verification":
        return None
    challenge = field(request, "challenge")
    if not isinstance(challenge, str) or not 0 < len(challenge) <= _MAX_CHALLENGE:
        return None
    return HandshakeAnswer(challenge.encode(), headers=NOSNIFF)


def _zoom(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Sign the plain token of ``endpoint.url_validation``; it cannot be a body, so nobody gets one signed.

    Source: https://developers.zoom.us/docs/api/webhooks/#validate-your-webhook-endpoint
    """
    del terms
    if b"endpoint.url_validation" not in request.body or field(request, "event") != "endpoint.url_validation":
        return None
    token = read_field(request.body, ("payload", "plainToken"))
    if not isinstance(token, str) or not _PLAIN_TOKEN.fullmatch(token) or not secrets:
        return None
    mac = hmac.digest(secrets[0].value, token.encode(), "sha256")
    return json_answer(plainToken=token, encryptedToken=mac.hex())


def _twitch(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Echo the challenge. Source: https://dev.twitch.tv/docs/eventsub/handling-webhook-events/."""
    del secrets, terms
    if request.headers.get(b"twitch-eventsub-message-type") != b"webhook_callback_verification":
        return None
    return echo(field(request, "challenge"))


def _discord(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Answer a PING of interactions (type 1, neither data nor event in it) and of webhook events (type 0).

    Source: https://docs.discord.com/developers/interactions/overview, .../developers/events/webhook-events
    """
    del secrets, terms
    kind = field(request, "type")
    if kind == 1:
        body = read_document(request.body)
        bare = body is not None and body.get("data") is None and body.get("event") is None
        return json_answer(type=1) if bare else None
    return HandshakeAnswer(b"", b"", status=204) if kind == 0 else None


def _no_events(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """A list without events only tries the URL (Xero's intent to receive, LINE's "Verify")."""
    del secrets, terms
    if len(request.body) > MAX_BYTES or b'"events"' not in request.body:
        return None
    body = read_document(request.body)
    return HandshakeAnswer(b"", b"") if isinstance(body, dict) and body.get("events") == [] else None


def _sns(request: Request, secrets: Sequence[Secret], terms: HandshakeTerms) -> Response:
    """Confirm a subscription to a topic that the source names; one to any other topic is only answered.

    Source: https://docs.aws.amazon.com/sns/latest/dg/sns-http-https-endpoint-as-subscriber.html
    """
    del secrets
    if len(request.body) > MAX_BYTES or b"SubscribeURL" not in request.body:
        return None
    if read_field(request.body, ("Type",)) != "SubscriptionConfirmation":
        return None
    url = read_field(request.body, ("SubscribeURL",))
    confirm = getattr(terms.verifier, "confirmation", None)
    wanted = confirm(read_field(request.body, ("TopicArn",)), url) if confirm is not None else ""
    return HandshakeAnswer(b"", b"", confirm=wanted)


SIGNED = (
    Handshake(name="slack", respond=_slack, about="the challenge of `url_verification` is echoed"),
    Handshake(name="zoom", respond=_zoom, about="the plain token of `endpoint.url_validation` is signed"),
    Handshake(name="twitch", respond=_twitch, about="the challenge is echoed"),
    Handshake(name="discord", respond=_discord, about="a PING is answered"),
    Handshake(name="xero", respond=_no_events, about="an intent to receive (no events) is answered empty"),
    Handshake(name="line", respond=_no_events, about="a try without events is answered"),
    Handshake(name="aws-sns", respond=_sns, about="the subscription to a topic in `topics` is confirmed"),
)
