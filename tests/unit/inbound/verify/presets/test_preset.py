"""The options that many presets share are those of Stripe's list header and of Standard Webhooks."""

import base64
import hmac

import pytest

from sidecar.inbound.verify.keyed_hash import HmacVerifier
from sidecar.inbound.verify.options import EntryOptions, HmacOptions, TimestampOptions
from sidecar.inbound.verify.presets.preset import DAY, WEEK, Preset, header_hmac, standard_webhooks
from sidecar.inbound.verify.request import Accepted, Rejected, Request, Secret

NOW = 1_700_000_000_000
KEY = b"correct horse"


def accepts(options, headers, secret):
    request = Request(b"POST", b"/", b"", {k.lower(): v for k, v in headers.items()}, b"body")
    verdict = HmacVerifier(options).verify(request, (Secret("1", secret),), NOW)
    assert isinstance(verdict, Accepted | Rejected)
    return isinstance(verdict, Accepted)


def test_a_list_header_has_a_label_for_the_time_and_one_for_the_signature():
    """Further words about the timestamp are its options."""
    options = header_hmac("X-Sig", "v0", "ts", separator=";", unit="ms", tolerance=60.0)
    assert options == HmacOptions(
        header="X-Sig",
        entries=EntryOptions(key="v0", separator=";"),
        signed="{timestamp}.{body}",
        timestamp=TimestampOptions(entry="ts", unit="ms", tolerance=60.0),
    )
    good = hmac.digest(KEY, b"1700000000000.body", "sha256").hex().encode()
    assert accepts(options, {b"X-Sig": b"ts=1700000000000;v0=" + good}, KEY)
    assert not accepts(options, {b"X-Sig": b"ts=1700000000001;v0=" + good}, KEY)


@pytest.mark.parametrize(
    ("prefix", "sent", "accepted"),
    [
        ("webhook", b"webhook", True),
        ("webhook", b"svix", False),
        ("svix", b"svix", True),
        ("svix", b"webhook", True),
        ("svix", b"other", False),
    ],
)
def test_standard_webhooks_are_read_under_their_own_names_and_the_standards(prefix, sent, accepted):
    """Id, time and body are signed with what follows ``whsec_``, decoded."""
    mac = base64.b64encode(hmac.digest(KEY, b"m.1700000000.body", "sha256"))
    headers = {sent + b"-id": b"m", sent + b"-timestamp": b"1700000000", sent + b"-signature": b"v1," + mac}
    secret = b"whsec_" + base64.b64encode(KEY)
    assert accepts(standard_webhooks(prefix), headers, secret) is accepted
    assert not accepts(standard_webhooks(prefix), {**headers, sent + b"-id": b"n"}, secret)


def test_a_preset_that_says_little_promises_little():
    """No key, none that would be signed, secrets needed, a day of memory, JSON by POST."""
    plain = Preset(name="x", title="X", docs="https://x", scheme=HmacOptions(header="S"))
    assert (plain.dedup_key, plain.key_signed, plain.needs_secret) == ("none", False, True)
    assert (plain.dedup_ttl_s, WEEK / DAY) == (86_400.0, 7.0)
    assert (plain.methods, plain.content_type) == (("POST",), "application/json")
