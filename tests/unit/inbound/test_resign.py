"""A late delivery of every preset that can be signed is accepted by the preset itself, at the moment of the attempt."""

import msgspec
import pytest

from sidecar.inbound.source import SourceOptions
from sidecar.inbound.verify import PRESETS, Accepted
from sidecar.model import Event
from tests.support.providers import ELSEWHERE, make
from tests.unit.inbound.test_receive import World

NOW = 1_800_000_000_000
LATE = NOW + 3 * 86_400_000
MADE = {name: make(name, NOW) for name in sorted(set(PRESETS) - ELSEWHERE)}
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
        received_at_ms=NOW,
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
