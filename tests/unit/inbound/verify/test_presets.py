"""Every preset is complete, consistent, and agrees with its provider's own library where we have it."""

import time
from datetime import UTC, datetime

import pytest
import stripe
from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook

from sidecar.inbound.dedup import DedupOptions, extract, key_headers
from sidecar.inbound.verify.handshakes import HANDSHAKES
from sidecar.inbound.verify.presets import PRESETS
from sidecar.inbound.verify.request import Accepted, Request, Secret
from sidecar.inbound.verify.schemes import compile_scheme
from sidecar.inbound.verify.send import sample_body, sign_request

SECRETS = {"standard-webhooks": b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}


def now_ms():
    """The wall clock in whole seconds: the providers' libraries know no other, so nothing may be signed ahead of its test."""
    return int(time.time()) * 1000


def sent(name, unique_id="0001", body=None):
    """What ``send`` would send: (headers, body)."""
    preset = PRESETS[name]
    body = sample_body(preset, unique_id) if body is None else body
    secret = Secret("1", SECRETS.get(name, b"whsec_test"))
    headers = sign_request(compile_scheme(preset.scheme), secret, body, now_ms(), preset=preset, unique_id=unique_id)
    return {k.lower(): v for k, v in headers}, body


def test_the_first_five_are_there():
    """By the names that configurations use."""
    assert {"github", "shopify", "slack", "standard-webhooks", "stripe"} <= set(PRESETS)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_consistent(name):
    """Its name, scheme, key, handshake, deadline and ack are usable as they stand."""
    preset = PRESETS[name]
    assert preset.name == name
    assert preset.docs.startswith("https://")
    assert preset.dedup_ttl_s >= 86_400
    assert preset.handshake is None or preset.handshake in HANDSHAKES
    assert preset.deadline_s is None or preset.deadline_s > 0
    assert preset.ack is None or 200 <= preset.ack.status <= 299
    for key in (preset.dedup_key, preset.event_type or "none"):
        key_headers(DedupOptions(key=key))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_sample_request_is_accepted_and_has_key_and_type(name):
    """What ``send`` makes goes all the way: verified, named, typed; another id is another event."""
    preset = PRESETS[name]
    headers, body = sent(name)
    verdict = compile_scheme(preset.scheme).verify(
        Request(b"POST", b"/", b"", headers, body), (Secret("1", SECRETS.get(name, b"whsec_test")),), now_ms()
    )
    assert verdict == Accepted("1")
    keys = [extract(DedupOptions(key=preset.dedup_key), *sent(name, i)) for i in ("0001", "0001", "0002")]
    assert keys[0] is not None
    assert keys[0] == keys[1] != keys[2]
    assert extract(DedupOptions(key=preset.event_type), headers, body)


def test_keys_are_called_signed_only_where_the_signature_covers_them():
    """A key in the body is covered; of headers only those in the template."""
    for preset in PRESETS.values():
        kind, _, name = preset.dedup_key.partition(":")
        covered = kind == "json" and "{body}" in preset.scheme.signed
        covered = covered or (kind == "header" and f"{{header:{name}}}" in preset.scheme.signed)
        assert preset.key_signed == covered, preset.name


def test_stripes_own_library_accepts_what_we_sign():
    """The whole secret is the key, prefix included."""
    headers, body = sent("stripe")
    event = stripe.Webhook.construct_event(body, headers[b"stripe-signature"].decode(), "whsec_test")
    assert event["id"] == "evt_0001"


def test_slacks_own_library_accepts_what_we_sign():
    """Version v0, seconds."""
    headers, body = sent("slack")
    ours = {k.decode(): v.decode() for k, v in headers.items()}
    assert SignatureVerifier("whsec_test").is_valid_request(body, ours)


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
