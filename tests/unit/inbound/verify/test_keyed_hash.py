"""The engine for keyed hashes accepts what the holder of an active secret signed, and nothing else, without raising."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.keyed_hash import HmacVerifier
from sidecar.inbound.verify.options import EntryOptions, HmacOptions, TimestampOptions
from sidecar.inbound.verify.request import Accepted, Rejected, Request, Secret
from sidecar.model import RejectReason

NOW = 1_700_000_000_000
KEY = b"correct horse"
SECRETS = (Secret("one", KEY),)
BODY = b'{"id":"evt_1"}'
STRIPE = HmacOptions(
    header="Stripe-Signature",
    entries=EntryOptions(key="v1"),
    signed="{timestamp}.{body}",
    timestamp=TimestampOptions(entry="t"),
)
STANDARD = HmacOptions(
    header="webhook-signature",
    encoding="base64",
    entries=EntryOptions(key="v1", separator=" ", assign=","),
    signed="{header:webhook-id}.{timestamp}.{body}",
    timestamp=TimestampOptions(header="webhook-timestamp"),
)
PLAIN = HmacOptions(header="X-Signature", prefix="sha256=")


def mac(message=BODY, key=KEY, algorithm="sha256"):
    return hmac.new(key, message, algorithm).hexdigest().encode()


def mac64(message, key=KEY):
    return base64.b64encode(hmac.new(key, message, "sha256").digest())


def request(headers, body=BODY, **more):
    return Request(b"POST", b"/in", b"", {k.lower(): v for k, v in headers.items()}, body, **more)


def judge(options, headers, *, body=BODY, secrets=SECRETS, now=NOW, **more):
    """The verdict in one step and in two must be the same."""
    whole = HmacVerifier(options).verify(request(headers, body, **more), secrets, now)
    verifier, r = HmacVerifier(options), request(headers, b"", **more)
    rejected = verifier.precheck(r, secrets, now)
    r.body = body
    assert (rejected or verifier.verify(r, secrets, now)) == whole
    return whole.key_id if isinstance(whole, Accepted) else whole.reason


# --- plain values


def test_the_right_signature_is_accepted():
    """And names the secret that matched."""
    assert judge(PLAIN, {b"X-Signature": b"sha256=" + mac()}) == "one"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64", "base64url"])
def test_every_algorithm_and_encoding_signs_and_verifies(algorithm, encoding):
    """What ``sign`` makes, ``verify`` accepts."""
    verifier = HmacVerifier(HmacOptions(header="X-Sig", algorithm=algorithm, encoding=encoding))
    ((name, value),) = verifier.sign(request({}), SECRETS[0], NOW)
    assert name == b"X-Sig"
    assert verifier.verify(request({name: value}), SECRETS, NOW) == Accepted("one")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, RejectReason.MISSING_HEADER),
        (b"", RejectReason.MISSING_HEADER),
        (b"foo", RejectReason.MALFORMED_SIGNATURE),
        (b"sha256=", RejectReason.MALFORMED_SIGNATURE),
        (b"sha256=zz", RejectReason.MALFORMED_SIGNATURE),
        (b"sha256=" + mac()[:-1], RejectReason.MALFORMED_SIGNATURE),
        (b"sha256=" + mac() + b"0", RejectReason.MALFORMED_SIGNATURE),
        (b"sha256= " + mac(), RejectReason.MALFORMED_SIGNATURE),
        (b"sha256=" + mac()[:2] + b" " + mac()[3:], RejectReason.MALFORMED_SIGNATURE),
        (b"sha256=" + "é".encode() * 32, RejectReason.MALFORMED_SIGNATURE),
        (b"sha256=" + b"\xff" * 64, RejectReason.MALFORMED_SIGNATURE),
        (b"sha256=" + b"a" * 1100, RejectReason.MALFORMED_SIGNATURE),
        (b"SHA256=" + mac(), RejectReason.UNSUPPORTED_VERSION),
        (b"sha1=" + mac(algorithm="sha1"), RejectReason.UNSUPPORTED_VERSION),
        (mac(), RejectReason.MALFORMED_SIGNATURE),
        (b"sha256=" + mac(b"other"), RejectReason.WRONG_SECRET),
        (b"sha256=" + mac(key=b"other"), RejectReason.WRONG_SECRET),
        (b"sha256=" + mac(key=b""), RejectReason.WRONG_SECRET),
    ],
)
def test_everything_else_is_refused_by_name(value, reason):
    """Missing, malformed, weaker and wrong ones are told apart, for us only."""
    assert judge(PLAIN, {} if value is None else {b"X-Signature": value}) is reason


def test_a_value_without_prefix_that_is_malformed_is_called_so():
    """A scheme without a prefix has no versions to be unsupported but a foreign label."""
    bare = HmacOptions(header="X-Signature")
    assert judge(bare, {b"X-Signature": b"xyz"}) is RejectReason.MALFORMED_SIGNATURE
    assert judge(bare, {b"X-Signature": b"sha256=" + mac()}) is RejectReason.UNSUPPORTED_VERSION
    assert judge(bare, {b"X-Signature": mac().upper()}) == "one"


def test_every_header_that_may_carry_one_is_tried():
    """Alternative and numbered headers: one match is enough, an undecodable one does not end the search."""
    two = HmacOptions(header="X-A|X-B")
    assert judge(two, {b"X-A": b"junk", b"X-B": mac()}) == "one"
    assert judge(two, {b"X-A": mac(b"other"), b"X-B": mac()}) == "one"
    assert judge(two, {b"X-A": b"junk"}) is RejectReason.MALFORMED_SIGNATURE
    numbered = HmacOptions(header="X-Sig-{n}", max_signatures=100)
    assert judge(numbered, {b"X-Sig-1": mac(b"other"), b"X-Sig-100": mac()}) == "one"
    assert judge(numbered, {b"X-Sig-101": mac()}) is RejectReason.MISSING_HEADER


def test_the_sender_chooses_an_algorithm_only_from_a_closed_list():
    """WebSub names the method in front of the value."""
    options = HmacOptions(header="X-Hub-Signature", prefix="{algorithm}=", algorithms=("sha256", "sha512"))
    assert judge(options, {b"X-Hub-Signature": b"sha256=" + mac()}) == "one"
    assert judge(options, {b"X-Hub-Signature": b"sha512=" + mac(algorithm="sha512")}) == "one"
    for weak in ("sha1", "md5"):
        value = weak.encode() + b"=" + mac(algorithm=weak)
        assert judge(options, {b"X-Hub-Signature": value}) is RejectReason.UNSUPPORTED_VERSION
    assert judge(options, {b"X-Hub-Signature": b"sha512=" + mac()}) is RejectReason.MALFORMED_SIGNATURE
    both = HmacOptions(header="X-A|X-B", prefix="{algorithm}=", algorithms=("sha256", "sha512"))
    headers = {b"X-A": b"sha256=" + mac(b"other"), b"X-B": b"sha512=" + mac(algorithm="sha512")}
    assert judge(both, headers) == "one"
    signed = HmacVerifier(options).sign(request({}), SECRETS[0], NOW)
    assert signed == [(b"X-Hub-Signature", b"sha512=" + mac(algorithm="sha512"))]


def test_required_headers_must_have_their_value():
    """A signature version that we do not know is not tried."""
    options = HmacOptions(header="X-Sig", require={"X-Sig-Version": "1"})
    assert judge(options, {b"X-Sig": mac(), b"X-Sig-Version": b"1"}) == "one"
    for other in ({}, {b"X-Sig-Version": b"2"}):
        assert judge(options, {b"X-Sig": mac(), **other}) is RejectReason.UNSUPPORTED_VERSION
    assert (b"X-Sig-Version", b"1") in HmacVerifier(options).sign(request({}), SECRETS[0], NOW)


def test_a_key_header_selects_the_secret():
    """The right signature under another key's name is not accepted."""
    options = HmacOptions(header="X-Sig", key_header="X-Key")
    secrets = (Secret("one", KEY), Secret("two", b"2"))
    assert judge(options, {b"X-Sig": mac(), b"X-Key": b"one"}, secrets=secrets) == "one"
    assert judge(options, {b"X-Sig": mac(), b"X-Key": b"two"}, secrets=secrets) is RejectReason.WRONG_SECRET
    assert judge(options, {b"X-Sig": mac(), b"X-Key": b"\xff"}, secrets=secrets) is RejectReason.NO_ACTIVE_SECRET
    assert judge(options, {b"X-Sig": mac()}, secrets=secrets) is RejectReason.NO_ACTIVE_SECRET
    assert (b"X-Key", b"one") in HmacVerifier(options).sign(request({}), secrets[0], NOW)


# --- secrets


def test_all_active_secrets_are_tried_and_retired_ones_only_named():
    """A match with a secret that does not count is refused, and the log learns which case it was."""
    old = Secret("old", b"old", not_after_ms=NOW)
    soon = Secret("soon", b"soon", not_before_ms=NOW + 1)
    secrets = (old, soon, Secret("a", b"a"), Secret("b", b"b"))
    for key, verdict in (
        (b"a", "a"),
        (b"b", "b"),
        (b"old", RejectReason.RETIRED_SECRET),
        (b"soon", RejectReason.RETIRED_SECRET),
        (b"none", RejectReason.WRONG_SECRET),
    ):
        assert judge(PLAIN, {b"X-Signature": b"sha256=" + mac(key=key)}, secrets=secrets) == verdict
    value = {b"X-Signature": b"sha256=" + mac(key=b"other")}
    assert judge(PLAIN, value, secrets=(old,)) is RejectReason.NO_ACTIVE_SECRET
    assert judge(PLAIN, value, secrets=()) is RejectReason.NO_ACTIVE_SECRET


def test_the_same_value_retired_and_active_counts():
    """A secret listed twice is good when either listing is."""
    secrets = (Secret("old", KEY, not_after_ms=1), Secret("new", KEY))
    assert judge(PLAIN, {b"X-Signature": b"sha256=" + mac()}, secrets=secrets) == "new"


def test_a_secret_that_cannot_be_a_key_never_matches():
    """Not even a signature made with an empty key or with its text."""
    options = HmacOptions(header="X-Sig", secret_encoding="hex")
    secrets = (Secret("bad", b"xyz"), Secret("empty", b""))
    for key in (b"", b"xyz"):
        assert judge(options, {b"X-Sig": mac(key=key)}, secrets=secrets) is RejectReason.WRONG_SECRET
    verifier = HmacVerifier(options)
    assert verifier.sign(request({}), secrets[0], NOW) == []
    assert verifier.secret_problem(b"xyz") == "is not hex"
    assert verifier.secret_problem(b"00ff") == ""


def test_many_reloads_do_not_grow_the_key_cache():
    """Keys are kept by secret, at most 64 at a time."""
    verifier = HmacVerifier(PLAIN)
    for n in range(200):
        verifier.sign(request({}), Secret("x", b"%d" % n), NOW)
    assert len(verifier._keys._known) <= 64


# --- entries


def stripe(*entries):
    return {b"Stripe-Signature": b",".join(entries)}


T = b"t=1700000000"
GOOD = b"v1=" + mac(b"1700000000." + BODY)
BAD = b"v1=" + b"0" * 64


@pytest.mark.parametrize(
    "entries",
    [
        (T, GOOD),
        (GOOD, T),
        (T, BAD, GOOD),
        (T, b"v0=" + b"0" * 64, GOOD),
        (T, b"v1=zz", GOOD),
        (T, b"x", GOOD),
        (T, GOOD, b""),
    ],
)
def test_any_matching_entry_is_enough(entries):
    """In any order, past wrong, undecodable and unknown ones."""
    assert judge(STRIPE, stripe(*entries)) == "one"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((T, BAD), RejectReason.WRONG_SECRET),
        ((T,), RejectReason.MALFORMED_SIGNATURE),
        ((T, b"v1="), RejectReason.MALFORMED_SIGNATURE),
        ((T, b"v0=" + GOOD[3:]), RejectReason.UNSUPPORTED_VERSION),
        ((T, b"v1x=" + GOOD[3:], b"v1=zz"), RejectReason.MALFORMED_SIGNATURE),
        ((T, b"V1=" + GOOD[3:]), RejectReason.UNSUPPORTED_VERSION),
        ((T, b" " + GOOD), RejectReason.UNSUPPORTED_VERSION),
        ((GOOD,), RejectReason.MALFORMED_TIMESTAMP),
        ((b"t=", GOOD), RejectReason.MALFORMED_TIMESTAMP),
        ((T, T, GOOD), RejectReason.MALFORMED_TIMESTAMP),
        ((b"t=1_700_000_000", GOOD), RejectReason.MALFORMED_TIMESTAMP),
        ((b"t=1700000000000", GOOD), RejectReason.MALFORMED_TIMESTAMP),
        ((b"t=1699999999", GOOD), RejectReason.WRONG_SECRET),
        ((T, *[BAD] * 8, GOOD), RejectReason.TOO_MANY_SIGNATURES),
        ((T, *[b"v0=0"] * 8, GOOD), RejectReason.TOO_MANY_SIGNATURES),
        ((T, b"v9=" + b"a" * 1100, GOOD), RejectReason.MALFORMED_SIGNATURE),
        ((b"i'm not even a real signature header",), RejectReason.MALFORMED_SIGNATURE),
    ],
)
def test_entry_lists_that_do_not_hold(entries, reason):
    """Unknown labels never count, however right their value is; nine are too many."""
    assert judge(STRIPE, stripe(*entries)) is reason


def test_eight_entries_are_fine():
    """The last of them may be the one that matches."""
    assert judge(STRIPE, stripe(T, *[BAD] * 7, GOOD)) == "one"


def test_blanks_round_entries_only_where_the_separator_has_one():
    """WorkOS sends a comma and a blank; both forms are read there."""
    options = HmacOptions(
        header="W",
        entries=EntryOptions(key="v1", separator=", "),
        signed="{timestamp}.{body}",
        timestamp=TimestampOptions(entry="t", unit="ms"),
    )
    good = b"v1=" + mac(b"1700000000000." + BODY)
    for join in (b", ", b","):
        assert judge(options, {b"W": join.join([b"t=1700000000000", good])}) == "one"
    assert HmacVerifier(options).sign(request({}), SECRETS[0], NOW) == [(b"W", b"t=1700000000000, " + good)]


def standard(value):
    return {b"webhook-id": b"m", b"webhook-timestamp": b"1700000000", b"webhook-signature": value}


def test_space_lists_and_signed_headers():
    """Standard Webhooks: id and timestamp are signed, unknown versions are skipped."""
    good = b"v1," + mac64(b"m.1700000000." + BODY)
    assert judge(STANDARD, standard(good)) == "one"
    assert judge(STANDARD, standard(b"v1a,AAAA v2,x " + good)) == "one"
    assert judge(STANDARD, standard(b"v2" + good[2:])) is RejectReason.UNSUPPORTED_VERSION
    assert judge(STANDARD, standard(good[3:])) is RejectReason.MALFORMED_SIGNATURE
    for missing in (b"webhook-id", b"webhook-timestamp", b"webhook-signature"):
        assert judge(STANDARD, {**standard(good), missing: b""}) is RejectReason.MISSING_HEADER
        headers = {k: v for k, v in standard(good).items() if k != missing}
        assert judge(STANDARD, headers) is RejectReason.MISSING_HEADER


# --- timestamps


def test_stale_and_early_requests_are_refused_on_the_head():
    """Before the body and before any hash."""
    for now, reason in ((NOW + 300_001, RejectReason.STALE_TIMESTAMP), (NOW - 300_001, RejectReason.FUTURE_TIMESTAMP)):
        rejected = HmacVerifier(STRIPE).precheck(request(stripe(T, BAD), b""), SECRETS, now)
        assert rejected is not None
        assert rejected.reason is reason
        assert judge(STRIPE, stripe(T, GOOD), now=now) is reason


def test_the_body_may_come_later_than_the_tolerance():
    """What the head decided stays decided: a slow body does not make a fresh request stale."""
    verifier, r = HmacVerifier(STRIPE), request(stripe(T, GOOD), b"")
    assert verifier.precheck(r, SECRETS, NOW + 300_000) is None
    r.body = BODY
    assert verifier.verify(r, SECRETS, NOW + 330_000) == Accepted("one")


def test_a_timestamp_in_the_body_is_read_after_the_signature():
    """Linear: signed with the body, in milliseconds; an unsigned header cannot refresh it."""
    options = HmacOptions(header="S", timestamp=TimestampOptions(json="/at", unit="ms", tolerance=60.0))
    body = b'{"at":1700000000000}'
    headers = {b"S": mac(body), b"Linear-Timestamp": b"1700000061000"}
    assert judge(options, headers, body=body, now=NOW + 60_000) == "one"
    assert judge(options, headers, body=body, now=NOW + 61_000) is RejectReason.STALE_TIMESTAMP
    assert judge(options, {b"S": mac(b"{}")}, body=b"{}") is RejectReason.MALFORMED_BODY
    assert judge(options, {b"S": mac(b'{"at":-1}')}, body=b'{"at":-1}') is RejectReason.MALFORMED_TIMESTAMP
    assert judge(options, {b"S": mac(b"x")}, body=body, now=NOW + 61_000) is RejectReason.WRONG_SECRET
    assert HmacVerifier(options).tolerance_ms is None


# --- the URL


def test_a_signed_url_must_be_known():
    """Without one nothing is accepted, also not a signature that leaves it out."""
    options = HmacOptions(header="S", signed="{url}{body}")
    assert HmacVerifier(options).needs_url
    assert judge(options, {b"S": mac(b"https://a/x" + BODY)}, url=b"https://a/x") == "one"
    assert judge(options, {b"S": mac(b"https://a/x" + BODY)}, url=b"https://b/x") is RejectReason.WRONG_SECRET
    assert judge(options, {b"S": mac(BODY)}) is RejectReason.MISSING_HEADER


# --- what it says of itself


def test_it_names_the_headers_that_it_reads():
    """All of them, in lower case: a repeated one is refused by the caller."""
    options = HmacOptions(
        header="X-A|X-B",
        signed="{header:X-Id|Y-Id}{timestamp}{body}",
        timestamp=TimestampOptions(header="X-Time"),
        require={"X-Version": "1"},
        key_header="X-Key",
    )
    verifier = HmacVerifier(options)
    assert verifier.reads == {b"x-a", b"x-b", b"x-id", b"y-id", b"x-time", b"x-version", b"x-key"}
    assert (verifier.needs_body, verifier.needs_url, verifier.can_sign, verifier.unverified) == (
        True,
        False,
        True,
        False,
    )
    assert verifier.masked == frozenset()
    assert verifier.tolerance_ms == 300_000
    assert HmacVerifier(PLAIN).tolerance_ms is None


@pytest.mark.parametrize(
    "options",
    [
        {"header": "X Y"},
        {"header": "X", "signed": "{timestamp}{body}"},
        {"header": "X", "timestamp": TimestampOptions(header="T")},
        {"header": "X", "signed": "{timestamp}", "timestamp": TimestampOptions()},
        {"header": "X", "signed": "{timestamp}", "timestamp": TimestampOptions(header="T", json="/t")},
        {"header": "X", "signed": "{timestamp}", "timestamp": TimestampOptions(json="/t")},
        {"header": "X", "timestamp": TimestampOptions(json="t")},
        {"header": "X", "signed": "{timestamp}", "timestamp": TimestampOptions(entry="t")},
        {"header": "X", "entries": EntryOptions(key="")},
        {"header": "X", "entries": EntryOptions(key="v1", separator="")},
        {"header": "X", "entries": EntryOptions(key="v1", assign="")},
        {"header": "X", "require": {"A B": "1"}},
        {"header": "X", "key_header": "_"},
        {"header": "X", "signed": "nothing"},
    ],
)
def test_options_that_contradict_each_other_are_refused(options):
    """Among them a timestamp that is not signed, which would prove nothing."""
    with pytest.raises(ValueError):
        HmacVerifier(HmacOptions(**options))


# --- signing


@pytest.mark.parametrize("options", [PLAIN, STRIPE, STANDARD, HmacOptions(header="A|B")])
def test_what_is_signed_afresh_is_accepted(options):
    """A day later, with the headers of the first time replaced."""
    verifier = HmacVerifier(options)
    later = NOW + 86_400_000
    r = request({b"webhook-id": b"m", b"webhook-timestamp": b"1", b"b": b"old"})
    signed = verifier.sign(r, SECRETS[0], later)
    headers = {**r.headers, **{n.lower(): v for n, v in signed}}
    assert verifier.verify(request(headers), SECRETS, later) == Accepted("one")


def test_a_name_that_the_sender_used_is_kept():
    """So that the app finds the new signature where the old one was."""
    (signed,) = HmacVerifier(HmacOptions(header="X-A|X-B")).sign(request({b"X-B": b"old"}), SECRETS[0], NOW)
    assert signed[0] == b"X-B"


def test_without_a_header_that_is_signed_nothing_is_signed():
    """An id cannot be made up."""
    assert HmacVerifier(STANDARD).sign(request({}), SECRETS[0], NOW) == []


# --- properties


@given(st.data())
def test_one_changed_byte_of_anything_signed_is_refused(data):
    """Body, timestamp, id and signature; hex digits may change their case only."""
    good = b"v1," + mac64(b"m.1700000000." + BODY)
    parts = {b"body": BODY, **standard(good)}
    name = data.draw(st.sampled_from(sorted(parts)))
    old = parts[name]
    position = data.draw(st.integers(0, len(old) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != old[position]))
    parts[name] = old[:position] + bytes([byte]) + old[position + 1 :]
    body = parts.pop(b"body")
    assert isinstance(HmacVerifier(STANDARD).verify(request(parts, body), SECRETS, NOW), Rejected)


@given(st.data())
def test_one_changed_byte_of_a_stripe_header_is_refused(data):
    """The list form; the case of a hex digit and the label of an unused entry are no change."""
    old = T + b"," + GOOD
    position = data.draw(st.integers(0, len(old) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: bytes([b]).lower() != old[position : position + 1].lower()))
    value = old[:position] + bytes([byte]) + old[position + 1 :]
    assert judge(STRIPE, {b"Stripe-Signature": value}) != "one"


VERIFIERS = [
    HmacVerifier(o)
    for o in (
        PLAIN,
        STRIPE,
        STANDARD,
        HmacOptions(header="X-Hub-Signature", prefix="{algorithm}=", algorithms=("sha1", "sha512")),
        HmacOptions(header="S", timestamp=TimestampOptions(json="/at", unit="ms")),
        HmacOptions(
            header="A|B-{n}", signed="{body}{timestamp}{url}", timestamp=TimestampOptions(header="D", unit="http-date")
        ),
    )
]
NAMES = sorted(set().union(*(v.reads for v in VERIFIERS)))
VALUES = st.binary(max_size=200) | st.sampled_from(
    [b"v1=", b"t=1700000000,v1=", b"v1,", b"sha256=", b"1700000000", GOOD]
)
FUZZ = st.dictionaries(st.sampled_from(NAMES), st.lists(VALUES, max_size=4).map(b",".join))


@given(st.sampled_from(VERIFIERS), FUZZ, st.binary(max_size=200), st.integers(0, 2**45))
def test_arbitrary_bytes_are_refused_and_never_raise(verifier, headers, body, now):
    """In any header and in the body, at any time, on the head alone and on the whole."""
    r = Request(b"POST", b"/", b"", headers, b"", b"u")
    assert isinstance(verifier.precheck(r, SECRETS, now), (Rejected, type(None)))
    r.body = body
    assert isinstance(verifier.verify(r, SECRETS, now), Rejected)
    assert isinstance(verifier.sign(r, SECRETS[0], now), list)


def test_the_digest_of_the_standard_library_agrees():
    """A known answer: RFC 4231, test case 2."""
    value = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hashlib.sha256().digest_size * 2 == len(value)
    secrets = (Secret("rfc", b"Jefe"),)
    assert judge(HmacOptions(header="S"), {b"S": value}, body=b"what do ya want for nothing?", secrets=secrets) == "rfc"
