"""Every preset is complete, consistent, and agrees with its provider's own library where we have it."""

import time
from datetime import UTC, datetime

import msgspec
import pytest
import stripe
from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook

from sidecar.config.check import key_is_signed
from sidecar.inbound.dedup import DedupOptions, extract, key_headers
from sidecar.inbound.verify.handshakes import HANDSHAKES
from sidecar.inbound.verify.presets import PRESETS, code, commerce, messaging, payments, platform, work
from sidecar.inbound.verify.request import Accepted, Request, Secret
from sidecar.inbound.verify.schemes import compile_scheme
from tests.support.providers import ELSEWHERE, SECRETS, TEXT, make


def now_ms():
    """The wall clock in whole seconds: the providers' libraries know no other, so nothing may be signed ahead of its test."""
    return int(time.time()) * 1000


def sent(name, unique_id="0001", body=None):
    """What ``send`` would send: (headers, body)."""
    made = make(name, now_ms(), unique_id, body)
    return made.headers, made.body


def test_all_of_them_are_there():
    """By the names that configurations use; what a group has, the list of names has, and the other way round."""
    assert len(PRESETS) == len(list(PRESETS)) == 84
    groups = (code, commerce, messaging, payments, platform, work)
    assert {preset.name for group in groups for preset in group.PRESETS} == set(PRESETS)
    assert "nobody" not in PRESETS
    assert PRESETS.get("nobody") is None
    assert {"github", "shopify", "slack", "standard-webhooks", "stripe"} <= set(PRESETS)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_consistent(name):
    """Its name, scheme, key, handshake, deadline and ack are usable as they stand."""
    preset = PRESETS[name]
    assert preset.name == name
    assert preset.docs.startswith("https://")
    assert preset.credential
    assert all(hasattr(preset.scheme, option) for option in preset.required)
    assert preset.dedup_ttl_s >= 86_400
    assert preset.handshake is None or preset.handshake in HANDSHAKES
    assert preset.deadline_s is None or preset.deadline_s > 0
    assert preset.ack is None or 200 <= preset.ack.status <= 299
    for key in (preset.dedup_key, preset.event_type or "none"):
        key_headers(DedupOptions(key=key))


@pytest.mark.parametrize("name", sorted(set(PRESETS) - ELSEWHERE))
def test_a_sample_request_is_accepted_and_has_key_and_type(name):
    """What ``send`` makes goes all the way: verified, named, typed; another id is another event."""
    preset, made = PRESETS[name], make(name, now_ms())
    verifier = made.verifier
    assert verifier.precheck(made.request, made.secrets, now_ms()) is None
    assert verifier.verify(made.request, made.secrets, now_ms()) == Accepted(made.secrets[0].id)
    if preset.dedup_key != "none":
        keys = [extract(DedupOptions(key=preset.dedup_key), *sent(name, i)) for i in ("0001", "0001", "0002")]
        assert keys[0] is not None
        assert keys[0] != keys[2]
        assert keys[0] == keys[1] or preset.dedup_key == "body"
    if preset.event_type:
        assert extract(DedupOptions(key=preset.event_type), made.headers, made.body)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - ELSEWHERE))
def test_a_changed_body_is_refused_wherever_the_body_is_signed(name):
    """One byte more or less; the schemes that do not cover it say so in their notes."""
    made = make(name, now_ms())
    uncovered = {"gitlab", "okta", "auth0", "telegram", "postmark", "chargebee", "mercadopago"}
    changed = msgspec.structs.replace(made.request, body=made.body + b"x", parsed=None)
    verdict = made.verifier.verify(changed, made.secrets, now_ms())
    assert isinstance(verdict, Accepted) == (name in uncovered)
    if name in uncovered:
        assert PRESETS[name].notes


def test_keys_are_called_signed_only_where_the_signature_covers_them():
    """A key in the body is covered; of headers only those in the template."""
    bespoke = {"jwt", "ed25519", "ecdsa", "rfc9421", "twilio", "adyen", "mailgun", "braintree", "sns", "paypal"}
    for preset in PRESETS.values():
        kind = type(preset.scheme).__struct_config__.tag
        if preset.dedup_key == "none":
            continue
        if kind == "hmac":
            assert not preset.key_signed or key_is_signed(preset.scheme, preset.dedup_key), preset.name
        elif kind in bespoke:
            in_body = not preset.dedup_key.startswith("header:") or preset.name == "standard-webhooks-ed25519"
            covered = in_body and preset.name != "google-pubsub"
            assert preset.key_signed == covered, preset.name
        else:
            assert not preset.key_signed or kind == "any", preset.name


def test_stripes_own_library_accepts_what_we_sign():
    """The whole secret is the key, prefix included."""
    headers, body = sent("stripe")
    event = stripe.Webhook.construct_event(body, headers[b"stripe-signature"].decode(), TEXT.decode())
    assert event["id"] == "evt_0001"


def test_slacks_own_library_accepts_what_we_sign():
    """Version v0, seconds."""
    headers, body = sent("slack")
    ours = {k.decode(): v.decode() for k, v in headers.items()}
    assert SignatureVerifier(TEXT.decode()).is_valid_request(body, ours)


def test_the_standard_webhooks_library_and_we_agree_both_ways():
    """It accepts ours, we accept its."""
    headers, body = sent("standard-webhooks")
    theirs = Webhook(SECRETS["standard-webhooks"].decode())
    theirs.verify(body, {k.decode(): v.decode() for k, v in headers.items()})
    now = now_ms()
    signature = theirs.sign("msg_1", datetime.fromtimestamp(now / 1000, UTC), body.decode())
    r = Request(
        b"POST",
        b"/",
        b"",
        {
            b"webhook-id": b"msg_1",
            b"webhook-timestamp": b"%d" % (now // 1000),
            b"webhook-signature": signature.encode(),
        },
        body,
    )
    verifier = compile_scheme(PRESETS["standard-webhooks"].scheme)
    assert verifier.verify(r, (Secret("1", SECRETS["standard-webhooks"]),), now) == Accepted("1")


def test_known_maxima():
    """GitHub caps payloads at 25 MB."""
    assert PRESETS["github"].max_body == 25 * 1024 * 1024
