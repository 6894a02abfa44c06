"""Whatever is changed in what was signed, and whatever else is sent, the engine for keyed hashes refuses without raising."""

import base64
import hmac

from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.keyed_hash import HmacVerifier
from sidecar.inbound.verify.options import HmacOptions, TimestampOptions
from sidecar.inbound.verify.presets import PRESETS
from sidecar.inbound.verify.request import Accepted, Rejected, Request, Secret

NOW = 1_700_000_000_000
KEY = b"correct horse"
TEXT, ENCODED = Secret("text", KEY), Secret("encoded", b"whsec_" + base64.b64encode(KEY))
BODY = b'{"id":"evt_1"}'
STRIPE = HmacVerifier(PRESETS["stripe"].scheme)
STANDARD = HmacVerifier(PRESETS["standard-webhooks"].scheme)
STRIPE_HEADER = b"t=1700000000,v1=" + hmac.digest(KEY, b"1700000000." + BODY, "sha256").hex().encode()
STANDARD_HEADERS = {
    b"webhook-id": b"m",
    b"webhook-timestamp": b"1700000000",
    b"webhook-signature": b"v1," + base64.b64encode(hmac.digest(KEY, b"m.1700000000." + BODY, "sha256")),
}


def request(headers, body=BODY):
    return Request(b"POST", b"/in", b"", headers, body, b"u")


def test_unchanged_they_are_accepted():
    """Else the properties below would say nothing."""
    assert STRIPE.verify(request({b"stripe-signature": STRIPE_HEADER}), (TEXT,), NOW) == Accepted("text")
    assert STANDARD.verify(request(STANDARD_HEADERS), (ENCODED,), NOW) == Accepted("encoded")


@given(st.data())
def test_one_changed_byte_of_anything_signed_is_refused(data):
    """Body, timestamp, id and signature; hex digits may change their case only."""
    parts = {b"body": BODY, **STANDARD_HEADERS}
    name = data.draw(st.sampled_from(sorted(parts)))
    old = parts[name]
    position = data.draw(st.integers(0, len(old) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != old[position]))
    parts[name] = old[:position] + bytes([byte]) + old[position + 1 :]
    body = parts.pop(b"body")
    assert isinstance(STANDARD.verify(request(parts, body), (ENCODED,), NOW), Rejected)


@given(st.data())
def test_one_changed_byte_of_a_stripe_header_is_refused(data):
    """The list form; the case of a hex digit and the label of an unused entry are no change."""
    old = STRIPE_HEADER
    position = data.draw(st.integers(0, len(old) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: bytes([b]).lower() != old[position : position + 1].lower()))
    value = old[:position] + bytes([byte]) + old[position + 1 :]
    assert isinstance(STRIPE.verify(request({b"stripe-signature": value}), (TEXT,), NOW), Rejected)


VERIFIERS = [
    STRIPE,
    STANDARD,
    *(
        HmacVerifier(options)
        for options in (
            HmacOptions(header="X-Signature", prefix="sha256="),
            HmacOptions(header="X-Hub-Signature", prefix="{algorithm}=", algorithms=("sha1", "sha512")),
            HmacOptions(header="S", timestamp=TimestampOptions(json="/at", unit="ms")),
            HmacOptions(
                header="A|B-{n}",
                signed="{body}{timestamp}{url}",
                timestamp=TimestampOptions(header="D", unit="http-date"),
            ),
        )
    ),
]
NAMES = sorted(set().union(*(v.reads for v in VERIFIERS)))
VALUES = st.binary(max_size=200) | st.sampled_from(
    [b"v1=", b"t=1700000000,v1=", b"v1,", b"sha256=", b"1700000000", STRIPE_HEADER[13:]]
)
FUZZ = st.dictionaries(st.sampled_from(NAMES), st.lists(VALUES, max_size=4).map(b",".join))


@given(st.sampled_from(VERIFIERS), FUZZ, st.binary(max_size=200), st.integers(0, 2**45))
def test_arbitrary_bytes_are_refused_and_never_raise(verifier, headers, body, now):
    """In any header and in the body, at any time, on the head alone and on the whole."""
    r = request(headers, b"")
    assert isinstance(verifier.precheck(r, (TEXT,), now), (Rejected, type(None)))
    r.body = body
    assert isinstance(verifier.verify(r, (TEXT,), now), Rejected)
    assert isinstance(verifier.sign(r, TEXT, now), list)
