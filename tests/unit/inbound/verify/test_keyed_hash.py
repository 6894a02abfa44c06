"""The engine for keyed hashes accepts what the holder of an active secret signed, and nothing else, without raising."""

import base64
import hashlib
import hmac

import msgspec
import pytest

from sidecar.inbound.verify.keyed_hash import HmacVerifier
from sidecar.inbound.verify.options import EntryOptions, HmacOptions, TimestampOptions
from sidecar.inbound.verify.request import Accepted, Request, Secret
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


def request(headers, body=BODY, query=b"", **more):
    return Request(b"POST", b"/in", query, {k.lower(): v for k, v in headers.items()}, body, **more)


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
        (b"sha1=" + b"a" * 1019, RejectReason.UNSUPPORTED_VERSION),
        (b"sha1=" + b"a" * 1020, RejectReason.MALFORMED_SIGNATURE),
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
    both = HmacOptions(header="X-Sig", require={"X-Sig-Version": "1", "X-Sig-Method": "plain"})
    headers = {b"X-Sig": mac(), b"X-Sig-Version": b"1"}
    assert judge(both, {**headers, b"X-Sig-Method": b"plain"}) == "one"
    assert judge(both, headers) is RejectReason.UNSUPPORTED_VERSION


def test_a_key_header_selects_the_secret():
    """The right signature under another key's name is not accepted."""
    options = HmacOptions(header="X-Sig", key_header="X-Key")
    secrets = (Secret("one", KEY), Secret("two", b"2"))
    assert judge(options, {b"X-Sig": mac(), b"X-Key": b"one"}, secrets=secrets) == "one"
    assert judge(options, {b"X-Sig": mac(), b"X-Key": b"two"}, secrets=secrets) is RejectReason.WRONG_SECRET
    assert judge(options, {b"X-Sig": mac(), b"X-Key": b"\xff"}, secrets=secrets) is RejectReason.NO_ACTIVE_SECRET
    assert judge(options, {b"X-Sig": mac()}, secrets=secrets) is RejectReason.NO_ACTIVE_SECRET
    assert (b"X-Key", b"one") in HmacVerifier(options).sign(request({}), secrets[0], NOW)
    either = HmacOptions(header="X-Sig", key_header="X-Key|Y-Key")
    assert judge(either, {b"X-Sig": mac(), b"Y-Key": b"one"}, secrets=secrets) == "one"
    assert (b"X-Key", b"one") in HmacVerifier(either).sign(request({}), secrets[0], NOW)


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
        (T, b"v9=" + b"a" * 1021, GOOD),
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
        ((T, b"v9=" + b"a" * 1022, GOOD), RejectReason.MALFORMED_SIGNATURE),
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
    for other in (b",~", b",\t"):
        found = judge(options, {b"W": other.join([b"t=1700000000000", good])})
        assert found is RejectReason.UNSUPPORTED_VERSION
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


def test_it_is_shown_by_any_header_that_may_carry_it():
    """Of several forms the one that is there decides."""
    verifier = HmacVerifier(HmacOptions(header="X-A|X-B"))
    shown = [verifier.shown(request(headers)) for headers in ({b"X-B": b"junk"}, {b"X-A": b""}, {b"X-C": b"1"}, {})]
    assert shown == [True, False, False, False]


@pytest.mark.parametrize(
    "options",
    [
        {"header": "X Y"},
        {"header": "X", "signed": "{timestamp}{body}"},
        {"header": "X", "timestamp": TimestampOptions(header="T")},
        {"header": "X", "signed": "{timestamp}", "timestamp": TimestampOptions()},
        {"header": "X", "signed": "{timestamp}", "timestamp": TimestampOptions(header="T", json="/t")},
        {
            "header": "X",
            "entries": EntryOptions(key="v1"),
            "signed": "{timestamp}",
            "timestamp": TimestampOptions(header="T", entry="t"),
        },
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


def test_the_digest_of_the_standard_library_agrees():
    """A known answer: RFC 4231, test case 2."""
    value = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hashlib.sha256().digest_size * 2 == len(value)
    secrets = (Secret("rfc", b"Jefe"),)
    assert judge(HmacOptions(header="S"), {b"S": value}, body=b"what do ya want for nothing?", secrets=secrets) == "rfc"


# --- what single providers need


A, B = Secret("primary", b"one"), Secret("secondary", b"two")


def judge_either(options, headers, body=b"x", *, secrets=(A, B), url=b"https://h/in", query=b""):
    """Which of two secrets it is, if any."""
    return judge(options, headers, body=body, secrets=secrets, url=url, query=query)


BOUND = HmacOptions(header="P|S", secret_headers={"primary": "P", "secondary": "S"})


def test_a_secret_may_be_bound_to_its_header():
    """The primary key does not count in the secondary header; a secret of another name counts in both."""
    right, wrong = mac(b"x", A.value), mac(b"x", b"nobody")
    assert judge_either(BOUND, {b"p": right, b"s": wrong}) == "primary"
    assert judge_either(BOUND, {b"p": wrong, b"s": mac(b"x", B.value)}) == "secondary"
    assert judge_either(BOUND, {b"p": wrong, b"s": right}) is RejectReason.WRONG_SECRET
    assert judge_either(BOUND, {b"s": right}) is RejectReason.WRONG_SECRET
    assert judge_either(BOUND, {b"p": wrong, b"s": right}, secrets=(Secret("x", b"one"),)) == "x"
    request = Request(b"POST", b"/", b"", {}, b"x")
    verifier = HmacVerifier(BOUND)
    assert [n for n, _ in verifier.sign(request, B, NOW)] == [b"S"]
    assert [n for n, _ in verifier.sign(request, Secret("x", b"one"), NOW)] == [b"P"]


def test_a_field_of_a_form_may_stand_for_the_body():
    """Only in a form; elsewhere the body is the body."""
    options = HmacOptions(header="S", form_field="payload")
    form = {b"content-type": b"application/x-www-form-urlencoded"}
    assert judge_either(options, {**form, b"s": mac(b"{ }", A.value)}, b"payload=%7B+%7D") == "primary"
    assert judge_either(options, {**form, b"s": mac(b"{}", A.value)}, b"payload=%7B+%7D") is RejectReason.WRONG_SECRET
    assert judge_either(options, {b"s": mac(b"payload=1", A.value)}, b"payload=1") == "primary"
    assert judge_either(options, {**form, b"s": mac(b"", A.value)}, b"payload=") == "primary"


def test_what_is_covered_of_a_form_is_its_field():
    """The same as of the bare body, so that neither is another event than the other."""
    verifier = HmacVerifier(HmacOptions(header="S", form_field="payload"))
    form = {b"content-type": b"application/x-www-form-urlencoded"}
    assert verifier.covered(Request(b"POST", b"/", b"", form, b"payload=%7B%7D&")) == b"{}"
    assert verifier.covered(Request(b"POST", b"/", b"", {}, b"{}")) == b"{}"
    assert HmacVerifier(PLAIN).covered is None


@pytest.mark.parametrize(
    "body",
    [
        b"payload=good&payload=evil",
        b"payload=evil&payload=good",
        b"payload=good&p%61yload=evil",
        b"payload[x]=evil&payload=good",
        b"a=1&payload=good",
        b"a=1",
        b"",
    ],
)
def test_nothing_may_stand_beside_the_signed_field_of_a_form(body):
    """It is signed by nobody, and many frameworks take the last field of a name where we would have read the first."""
    options = HmacOptions(header="S", form_field="payload")
    headers = {b"content-type": b"application/x-www-form-urlencoded", b"s": mac(b"good", A.value)}
    assert judge_either(options, headers, body) is RejectReason.MALFORMED_BODY
    assert judge_either(options, {**headers, b"s": mac(b"", A.value)}, body) is RejectReason.MALFORMED_BODY


def test_escapes_of_the_url_are_undone_for_a_second_try():
    """As received comes first."""
    options = HmacOptions(header="S", signed="{url}", url_decode=":")
    url = b"https://h/in?a=%3A%20"
    assert judge_either(options, {b"s": mac(url, A.value)}, url=url) == "primary"
    assert judge_either(options, {b"s": mac(b"https://h/in?a=:%20", A.value)}, url=url) == "primary"
    assert judge_either(options, {b"s": mac(b"https://h/in?a=: ", A.value)}, url=url) is RejectReason.WRONG_SECRET
    assert judge_either(options, {b"s": mac(b"https://h/in", A.value)}) == "primary"
    unsigned = HmacOptions(header="S", url_decode=":")
    assert judge_either(unsigned, {b"s": mac(b"x", A.value)}, url=None) == "primary"


def test_the_prefixed_hash_is_no_hmac():
    """Secret and message, hashed."""
    options = HmacOptions(header="S", keyed="prefix")
    assert judge_either(options, {b"s": hashlib.sha256(b"onex").hexdigest().encode()}) == "primary"
    assert judge_either(options, {b"s": mac(b"x", A.value)}) is RejectReason.WRONG_SECRET


LISTED = HmacOptions(
    header="S", signed="{headers:List}\n{body}", timestamp=TimestampOptions(header="Time", unit="unix")
)
STAMP = b"1700000000"


def listed(names, message, **more):
    values = {b"list": names, b"time": STAMP, b"s": mac(message, A.value), b"a": b"1"}
    return values | {name.encode(): value for name, value in more.items()}


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        (listed(b"a,list,time", b"a:1;list:a,list,time;time:1700000000\nx"), "primary"),
        (listed(b"Time, List", b"list:Time, List;time:1700000000\nx"), "primary"),
        (listed(b"a,list", b"a:1;list:a,list\nx"), RejectReason.MISSING_HEADER),
        (listed(b"a,time", b"a:1;time:1700000000\nx"), RejectReason.MISSING_HEADER),
        (listed(b"", b"\nx"), RejectReason.MISSING_HEADER),
        (listed(b"a,list,time", b"a:1;list:a,list,time;time:1700000000\nx", a=b"2"), RejectReason.WRONG_SECRET),
        (listed(b"list,time", b"x", time=b"1600000000"), RejectReason.STALE_TIMESTAMP),
    ],
)
def test_listed_headers_cover_their_list_and_the_timestamp(headers, verdict):
    """Else somebody could draw their borders elsewhere, or renew the time."""
    assert judge_either(LISTED, headers) == verdict


def test_at_most_64_headers_are_listed():
    """No provider signs more, and each one costs."""
    for more, verdict in ((62, "primary"), (63, RejectReason.MISSING_HEADER)):
        names = b",".join([b"list", b"time", *[b"x"] * more])
        message = b"list:%b;time:1700000000%b\nx" % (names, b";x:" * more)
        assert judge_either(LISTED, listed(names, message)) == verdict


def test_a_listed_header_comes_once():
    """Of one that is there twice only the first line was signed; others may come as often as they like."""
    headers = listed(b"a,list,time", b"a:1;list:a,list,time;time:1700000000\nx")
    sent = Request(b"POST", b"/in", b"", headers, b"x", repeated=frozenset({b"b"}))
    assert HmacVerifier(LISTED).verify(sent, (A,), NOW) == Accepted("primary")
    again = Request(b"POST", b"/in", b"", headers, b"x", repeated=frozenset({b"a"}))
    assert HmacVerifier(LISTED).verify(again, (A,), NOW).reason is RejectReason.MALFORMED_SIGNATURE


def test_listed_headers_are_signed_again_with_a_fresh_time():
    """With the list that the request has, or with one of our own."""
    verifier = HmacVerifier(LISTED)
    old = Request(b"POST", b"/in", b"", {b"list": b"a,list,time", b"time": b"1", b"a": b"1"}, b"x")
    for request in (old, Request(b"POST", b"/in", b"", {}, b"x")):
        signed = {n.lower(): v for n, v in verifier.sign(request, A, NOW)}
        assert judge_either(LISTED, {**request.headers, **signed}) == "primary"
    assert judge_either(LISTED, {}) is RejectReason.MISSING_HEADER
    timeless = HmacOptions(header="S", signed="{headers:List}{body}")
    signed = {n.lower(): v for n, v in HmacVerifier(timeless).sign(Request(b"POST", b"/in", b"", {}, b"x"), A, NOW)}
    assert judge_either(timeless, signed) == "primary"


def test_a_list_of_our_own_has_every_name_that_the_timestamp_may_have():
    """Whoever judges it asks for all of them, so that nobody can add another time."""
    options = msgspec.structs.replace(LISTED, timestamp=TimestampOptions(header="Time|Date", unit="unix"))
    signed = {n.lower(): v for n, v in HmacVerifier(options).sign(request({}), A, NOW)}
    assert signed[b"list"] == b"date,list,time"
    assert judge_either(options, signed, BODY) == "primary"
    assert (
        judge_either(options, listed(b"list,time", b"list:list,time;time:1700000000\nx")) is RejectReason.MISSING_HEADER
    )


def test_optional_parts_may_be_missing():
    """Mercado Pago leaves out what is not there."""
    options = HmacOptions(
        header="S",
        entries=EntryOptions(key="v1"),
        signed="{?id:{query:id};}{?r:{header:R};}ts:{timestamp};",
        timestamp=TimestampOptions(entry="ts", unit="unix"),
    )

    def sent(message, stamp=STAMP, **more):
        return {b"s": b"ts=%b,v1=%b" % (stamp, mac(message, A.value))} | {k.encode(): v for k, v in more.items()}

    assert judge_either(options, sent(b"ts:1700000000;")) == "primary"
    assert judge_either(options, sent(b"id:7;r:q;ts:1700000000;", r=b"q"), query=b"id=7") == "primary"
    for query in (
        b"id=7&id=8",
        b"id=8&id=7",
        b"id=7&%69d=8",
        b"&".join([b"id=7"] * 1001),
    ):  # the app may take the other
        assert judge_either(options, sent(b"id:7;ts:1700000000;"), query=query) is RejectReason.MALFORMED_SIGNATURE
    assert judge_either(options, sent(b"r:q;ts:1700000000;", r=b"q"), query=b"id=7") is RejectReason.WRONG_SECRET
    assert judge_either(options, sent(b"ts:1700000000000;", b"1700000000000")) == "primary"
    assert b"r" in HmacVerifier(options).reads


def test_what_was_signed_and_should_have_come_of_it_can_be_told():
    """For the owner: timestamp, signatures as received, and what a secret makes."""
    entry = HmacVerifier(
        HmacOptions(
            header="S",
            entries=EntryOptions(key="v1"),
            signed="{timestamp}.{body}",
            timestamp=TimestampOptions(entry="t"),
        )
    )
    request = Request(b"POST", b"/", b"", {b"s": b"t=5,v1=" + b"0" * 64}, b"x")
    assert entry.timestamp_of(request) == b"5"
    assert entry.shown_signatures(request) == ["s: t=5,v1=" + "0" * 64]
    assert entry.expected(request, A, b"5") == mac(b"5.x", A.value).decode()
    assert entry.timestamp_of(Request(b"POST", b"/", b"", {b"s": b"junk"}, b"x")) == b""
    header = HmacVerifier(HmacOptions(header="S", signed="{timestamp}", timestamp=TimestampOptions(header="T")))
    assert header.timestamp_of(Request(b"POST", b"/", b"", {b"t": b"9"}, b"x")) == b"9"
    assert header.shown_signatures(Request(b"POST", b"/", b"", {}, b"x")) == []
    decoded = HmacVerifier(HmacOptions(header="S", secret_encoding="hex"))
    assert decoded.expected(request, Secret("a", b"xyz"), b"") == "(the secret is not hex)"


def test_the_signed_headers_that_did_not_arrive_are_named():
    verifier = HmacVerifier(STANDARD)
    assert verifier.missing(request({b"webhook-timestamp": b"5"})) == [b"webhook-id"]
    assert verifier.missing(request({b"webhook-timestamp": b"5", b"webhook-id": b"1"})) == []
