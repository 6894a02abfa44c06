"""Every preset is there by its name, is complete and consistent, and goes all the way from sending to its verdict."""

import time

import msgspec
import pytest

from sidecar.config.check import key_is_signed
from sidecar.inbound.dedup import DedupOptions, extract, key_headers
from sidecar.inbound.verify.handshakes import HANDSHAKES
from sidecar.inbound.verify.presets import PRESETS, code, commerce, messaging, payments, platform, work
from sidecar.inbound.verify.request import Accepted
from tests.support.providers import ELSEWHERE, make


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


def test_a_preset_is_loaded_with_its_group_when_it_is_asked_for():
    """Names alone load nothing; what nobody has is a KeyError, as in any mapping."""
    fresh = type(PRESETS)()
    assert ("github" in fresh, len(fresh), next(iter(fresh))) == (True, 84, "bitbucket")
    assert fresh._known == {}
    github = fresh["github"]
    assert fresh._known.keys() == {preset.name for preset in code.PRESETS}
    assert fresh["github"] is github
    with pytest.raises(KeyError):
        fresh["nobody"]


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
