"""A late delivery of every preset that can be signed is accepted by the preset itself, at the moment of the attempt."""

import msgspec
import pytest

from sidecar.inbound.source import SourceOptions
from sidecar.inbound.verify import (
    PRESETS,
    Accepted,
    HmacOptions,
    Secret,
    TimestampOptions,
    compile_scheme,
    sign_request,
)
from sidecar.model import Event
from tests.support.providers import ELSEWHERE, make
from tests.support.receiving import BODY, NOW, OPEN, SECRET, UNAUTHORIZED, World, head, signed, source

RECEIVED = 1_800_000_000_000
LATE = RECEIVED + 3 * 86_400_000
MADE = {name: make(name, RECEIVED) for name in sorted(set(PRESETS) - ELSEWHERE)}
RENEWED = [n for n, made in MADE.items() if made.verifier.can_sign and made.verifier.tolerance_ms is not None]


def late(name):
    """The event as the journal has it, and what a late attempt would change."""
    made = MADE[name]
    options = SourceOptions(
        name=name,
        path=made.request.path,
        verifier=made.verifier,
        destinations=("app",),
        secrets=made.secrets,
        public_url=b"https://hooks.example.com",
        preset=name,
    )
    event = Event(
        source=name,
        destinations=("app",),
        received_at_ms=RECEIVED,
        method=b"POST",
        path=made.request.path,
        query=made.request.query,
        headers=list(made.headers.items()),
        body=made.body,
        verified=True,
        forwarded_proto=b"https",
        forwarded_host=b"hooks.example.com",
    )
    return event, World(options).receiver.resign(event, LATE)


@pytest.mark.parametrize("name", RENEWED)
def test_a_late_delivery_is_signed_afresh(name):
    """In the provider's own form, over the same bytes; the old signature would not do."""
    made, (event, fresh) = MADE[name], late(name)
    assert fresh
    headers = {**made.headers, **{n.lower(): v for n, v in fresh}}
    later = msgspec.structs.replace(made.request, headers=headers, parsed=None)
    assert made.verifier.verify(later, made.secrets, LATE) == Accepted(made.secrets[0].id)
    assert event.body == made.body
    old = msgspec.structs.replace(made.request, parsed=None)
    assert not isinstance(made.verifier.verify(old, made.secrets, LATE), Accepted)


@pytest.mark.parametrize("name", sorted(set(MADE) - set(RENEWED)))
def test_where_nothing_limits_the_time_or_nobody_can_sign_the_original_stays(name):
    """Tokens, plain hashes, public keys, and times inside the body."""
    assert late(name)[1] is None


def test_most_presets_with_a_time_can_be_renewed():
    """The rest are public keys, which check names, and Linear's and Mailgun's times inside the body."""
    assert {"stripe", "slack", "svix", "paddle", "zoom", "box", "contentful", "hubspot", "vonage", "rfc9421"} <= set(
        RENEWED
    )


def kept(preset="stripe", **more):
    """An event as the journal has it."""
    h = signed(preset, BODY)
    fields = {
        "source": "s",
        "destinations": ("app",),
        "received_at_ms": NOW,
        "method": b"POST",
        "path": b"/in",
        "query": b"",
        "headers": h.headers,
        "body": BODY,
        "verified": True,
        "forwarded_proto": b"https",
        "forwarded_host": b"h.example",
    }
    return Event(**{**fields, **more})


def resigned(world, event, now):
    made = world.receiver.resign(event, now)
    if made is None:
        return None
    replaced = {name.lower() for name, _ in made}
    return head(headers=[*made, *(x for x in event.headers[1:] if x[0].lower() not in replaced)])


@pytest.mark.parametrize("preset", ["stripe", "slack", "standard-webhooks"])
def test_a_late_delivery_is_signed_so_that_it_is_accepted_again(preset):
    """A day later, by the same check, with the same body and id."""
    secret = Secret("1", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    world = World(source(preset=preset, secrets=(secret,)))
    h = head(headers=sign_request(compile_scheme(PRESETS[preset].scheme), secret, BODY, NOW, preset=PRESETS[preset]))
    event = kept(headers=h.headers)
    original = list(event.headers)
    world.clock.now = NOW + 86_400_000
    assert world.send(h, BODY) == UNAUTHORIZED
    assert world.send(resigned(world, event, world.clock.now), BODY).status == 200
    assert event.headers == original


def test_within_half_the_tolerance_the_original_stands():
    """150 s of 300; also when the clock went back."""
    world = World(source())
    for now, made in ((NOW, False), (NOW + 150_000, False), (NOW + 150_001, True), (NOW - 10**9, False)):
        assert (world.receiver.resign(kept(), now) is not None) is made


def test_what_must_not_or_cannot_be_signed_afresh():
    """Unverified, unknown source, no timestamp, no active secret, no id to sign."""
    late = NOW + 10**7
    world = World(
        source(),
        source("github", b"/g", preset="github"),
        source("open", b"/o", **OPEN),
        source("std", b"/std", preset="standard-webhooks", secrets=(Secret("1", b"whsec_a2V5"),)),
        source("none", b"/n", secrets=(Secret("old", b"x", not_after_ms=1),)),
    )
    assert world.receiver.resign(kept(), late) is not None
    assert world.receiver.resign(kept(verified=False), late) is None
    for name in ("gone", "github", "open", "none", "std"):
        assert world.receiver.resign(kept(source=name), late) is None


def test_the_newest_active_secret_signs():
    """By not_before, else the first listed; a future one does not yet."""
    old, new = Secret("old", b"old"), Secret("new", b"new", not_before_ms=NOW)
    future = Secret("future", b"future", not_before_ms=NOW + 10**9)
    world = World(source(secrets=(old, new, future)))
    world.clock.now = NOW + 10**6
    assert world.send(resigned(world, kept(), world.clock.now), BODY).status == 200
    assert world.counts("key_matched") == {("s", "new"): 1}
    world = World(source(secrets=(old, SECRET)))
    world.clock.now = NOW + 10**6
    assert world.send(resigned(world, kept(), world.clock.now), BODY).status == 200
    assert world.counts("key_matched") == {("s", "old"): 1}


def test_a_late_delivery_signs_the_url_that_the_sender_used():
    """The public one, else what was known at receipt; the first of repeated headers counts."""
    scheme = HmacOptions(
        header="X-Sig", signed="{url}{header:X-Id}{timestamp}{body}", timestamp=TimestampOptions(header="X-Time")
    )
    verifier = compile_scheme(scheme)
    for public, base in ((None, b"https://h.example"), (b"https://public.example", b"https://public.example")):
        world = World(source(verifier=verifier, public_url=public))
        event = kept(headers=[(b"X-Id", b"1"), (b"x-id", b"2")], query=b"q")
        made = world.receiver.resign(event, NOW + 10**6)
        expected = sign_request(verifier, SECRET, BODY, NOW + 10**6, extra=[("X-Id", "1")], url=base + b"/in?q")
        assert dict(made) == {k: v for k, v in expected if k in (b"X-Sig", b"X-Time")}
