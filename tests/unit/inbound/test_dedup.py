"""The key is read only where it is certain, and a claim says exactly what makes two requests the same."""

import gzip
import random
import zlib
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.dedup import MAX_RATIO, DedupOptions, claim, extract, key_headers, key_parts, printable_key

HEADER = DedupOptions(key="header:X-Id")
JSON = DedupOptions(key="json:/id")
BODY = b'{"id":"evt_1"}'


def inflating(body, **more):
    return extract(JSON, {}, body, **more)


# --- extraction


def test_a_header_is_the_key_as_received():
    """The first name that has a value; an empty one is missing."""
    assert extract(HEADER, {b"x-id": b"abc"}, b"") == b"abc"
    assert extract(HEADER, {b"x-id": b""}, b"") is None
    assert extract(HEADER, {b"x_id": b"abc"}, b"") is None
    assert extract(HEADER, {}, BODY) is None
    two = DedupOptions(key="header:X-Id|Id")
    assert extract(two, {b"id": b"2"}, b"") == b"2"
    assert extract(two, {b"id": b"2", b"x-id": b"1"}, b"") == b"1"
    assert extract(two, {b"id": b"2", b"x-id": b""}, b"") == b"2"


@pytest.mark.parametrize("odd", [b"x" * 10_000, b"a\x00b", b"a\nb", b"../../etc/passwd", b"\xff\xfe"])
def test_odd_keys_are_still_keys(odd):
    """They are hashed, never used as a name."""
    assert extract(HEADER, {b"x-id": odd}, b"") == odd
    assert len(claim("s", HEADER, odd, b"").digest) == 16


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (BODY, b"evt_1"),
        (b'{"id":17}', b"17"),
        (b'{"id":"\xc3\xbc"}', "ü".encode()),
        (b'{"id":""}', None),
        (b'{"id":null}', None),
        (b'{"id":{}}', None),
        (b'{"id":"a","id":"b"}', None),
        (b'["id"]', None),
        (b'{"id":"x","n":NaN}', None),
        (b"\xef\xbb\xbf" + BODY, None),
        (b"id=evt_1", None),
        (b"", None),
    ],
)
def test_a_json_field_is_read_without_doubt_or_not_at_all(body, key):
    """Strings and integers; the rules for doubtful bodies are tested beside their code."""
    assert extract(JSON, {}, body) == key


def test_the_body_itself_and_nothing():
    """``body`` takes it as received, also when empty and compressed; ``none`` takes nothing."""
    packed = gzip.compress(BODY)
    assert extract(DedupOptions(key="body"), {}, packed) == packed
    assert extract(DedupOptions(key="body"), {}, b"") == b""
    assert extract(DedupOptions(), {b"x-id": b"1"}, BODY) is None


def _raw_deflate(data):
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(data) + engine.flush()


@pytest.mark.parametrize(
    "packed", [gzip.compress(BODY), zlib.compress(BODY), zlib.compress(BODY, 1), _raw_deflate(BODY), b" \t\r\n" + BODY]
)
def test_compressed_bodies_are_inflated_for_reading(packed):
    """Gzip and both kinds of deflate, told by their first bytes; JSON is read as it is."""
    assert inflating(packed) == b"evt_1"


@pytest.mark.parametrize("start", [b"", b" ", b"\t", b"\r", b"\n"])
def test_json_may_begin_with_any_of_its_blanks(start):
    """And with either bracket."""
    assert extract(JSON, {}, start + BODY) == b"evt_1"
    assert extract(DedupOptions(key="json:/0/id"), {}, start + b"[" + BODY + b"]") == b"evt_1"


@pytest.mark.parametrize("encoding", [b"gzip", b"x-gzip", b"deflate", b"br", b"identity", b"gzip, gzip", b"\xff"])
@pytest.mark.parametrize("body", [BODY, gzip.compress(BODY), zlib.compress(BODY), _raw_deflate(BODY)])
def test_no_header_takes_the_key_from_a_body(body, encoding):
    """Nobody signs Content-Encoding, so whoever sends a captured request again under another one finds it known."""
    assert extract(JSON, {b"content-encoding": encoding}, body) == b"evt_1"


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"id=evt_1",
        b"\x1f",
        gzip.compress(BODY)[:-1],
        gzip.compress(BODY)[:-5] + b"xxxxx",
        gzip.compress(BODY) + b"x",
        gzip.compress(BODY) + gzip.compress(BODY),
        gzip.compress(gzip.compress(BODY)),
        b"\xab" + BODY,
    ],
)
def test_what_does_not_inflate_cleanly_gives_no_key(packed):
    """Truncated, damaged, with something behind it, compressed twice or not at all."""
    assert inflating(packed) is None


def test_a_bomb_gives_no_key_and_is_not_inflated():
    """At most a hundred times its size, and never more than the body limit."""
    body = b'{"id":"x","pad":"' + b"a" * 1_000_000 + b'"}'
    packed = gzip.compress(body)
    assert len(body) > 100 * len(packed)
    assert inflating(packed, max_inflated=1 << 30) is None
    text = b'{"id":"x","pad":"' + bytes(range(65, 91)) * 100 + b'"}'
    assert inflating(gzip.compress(text), max_inflated=len(text)) == b"x"
    assert inflating(gzip.compress(text), max_inflated=len(text) - 1) is None


@pytest.mark.parametrize(
    "key", ["", "header", "header:", "header:a b", "header:x_id", "json", "json:id", "bodies", "x:y"]
)
def test_a_key_of_another_form_is_a_value_error(key):
    """Found when a source is prepared."""
    with pytest.raises(ValueError):
        key_headers(DedupOptions(key=key))


def test_the_headers_of_a_key_are_named():
    """In lower case, so that a repeated one is refused."""
    assert key_headers(DedupOptions(key="header:X-A|B")) == (b"x-a", b"b")
    assert key_headers(JSON) == ()


# --- claims


def same(a, b):
    return a.digest == b.digest


def test_a_signed_key_alone_is_the_identity():
    """Other bytes under it are the same event; the body digest tells that they differ."""
    options = DedupOptions(key="json:/id", key_signed=True, ttl_s=60.5, redrive_dead=False)
    a, b = claim("s", options, b"k", b"1"), claim("s", options, b"k", b"2")
    assert same(a, b)
    assert a.body_digest != b.body_digest
    assert a.body_digest == blake2b(b"1", digest_size=16).digest()[:4]
    assert (a.ttl_ms, a.redrive_dead) == (60_500, False)
    assert not same(a, claim("s", options, b"K", b"1"))


def test_an_unsigned_key_needs_the_bytes_too():
    """Nobody can claim a key for somebody else's event."""
    a = claim("s", HEADER, b"k", b"1")
    assert same(a, claim("s", HEADER, b"k", b"1"))
    assert not same(a, claim("s", HEADER, b"k", b"2"))
    assert not same(a, claim("s", HEADER, b"j", b"1"))


def test_sources_never_meet():
    """Also where name and key could be cut differently."""
    options = DedupOptions(key="header:X", key_signed=True)
    assert not same(claim("a", options, b"k", b""), claim("b", options, b"k", b""))
    assert not same(claim("a", options, b"bk", b""), claim("ab", options, b"k", b""))
    assert not same(claim("a1", options, b"x", b""), claim("a", options, b"1x", b""))
    assert not same(claim("as", options, b"x", b""), claim("a", options, b"sx", b""))


def test_a_missing_key_is_accepted_or_replaced_by_the_body():
    """As the source says; never with the key ``none``."""
    assert claim("s", HEADER, None, b"1") is None
    options = DedupOptions(key="header:X-Id", missing="body")
    a = claim("s", options, None, b"1")
    assert same(a, claim("s", options, None, b"1"))
    assert not same(a, claim("s", options, None, b"2"))
    assert same(a, claim("s", DedupOptions(key="body"), b"1", b"1"))
    assert claim("s", DedupOptions(key="none", missing="body"), None, b"1") is None


def test_what_is_covered_stands_for_a_body_that_can_be_written_in_several_ways():
    """And for a signed key that could not be read; an unsigned one stays as it is."""
    options = DedupOptions(key="body")
    a = claim("s", options, b"1", b"1", b"same")
    assert same(a, claim("s", options, b"2", b"2", b"same"))
    assert not same(a, claim("s", options, b"1", b"1", b"other"))
    assert a.body_digest != claim("s", options, b"2", b"2", b"same").body_digest
    signed = DedupOptions(key="json:/id", key_signed=True)
    assert same(claim("s", signed, None, b"1", b"same"), claim("s", signed, None, b"2", b"same"))
    assert same(claim("s", signed, b"k", b"1", b"same"), claim("s", signed, b"k", b"2", b"other"))
    assert claim("s", signed, None, b"1") is None
    assert claim("s", HEADER, None, b"1", b"same") is None
    assert not same(claim("s", HEADER, b"k", b"1", b"same"), claim("s", HEADER, b"k", b"2", b"same"))
    assert claim("s", DedupOptions(key_signed=True), None, b"1", b"same") is None


def test_a_key_that_looks_like_a_body_digest_is_no_body():
    """The two kinds of identity are apart."""
    signed = DedupOptions(key="header:X", key_signed=True)
    body = claim("s", DedupOptions(key="body"), b"1", b"1")
    for key in (b"1", blake2b(b"1", digest_size=16).digest(), b""):
        assert not same(claim("s", signed, key, b"1"), body)


@given(
    st.lists(
        st.tuples(st.text("ab1:", min_size=1, max_size=3), st.binary(max_size=4), st.binary(max_size=3)),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_different_identities_never_share_a_digest(two):
    """Whatever lengths and separators the parts have."""
    (s1, k1, b1), (s2, k2, b2) = two
    assert not same(claim(s1, HEADER, k1, b1), claim(s2, HEADER, k2, b2))
    signed = DedupOptions(key="header:X-Id", key_signed=True)
    assert same(claim(s1, signed, k1, b1), claim(s2, signed, k2, b2)) == ((s1, k1) == (s2, k2))


# --- display


def test_only_plain_keys_are_shown_as_they_are():
    """Printable ASCII of at most 256; everything else is a digest."""
    assert printable_key(None) == ""
    assert printable_key(b"") == ""
    assert printable_key(b"evt_1") == "evt_1"
    assert printable_key(b"x" * 256) == "x" * 256
    for odd in (b"x" * 257, b"a\nb", b"a\x1b[31m", "ü".encode(), b"\xff", "\u202e".encode()):
        shown = printable_key(odd)
        assert shown == "blake2b:" + blake2b(odd, digest_size=16).hexdigest()


@given(
    st.sampled_from([HEADER, JSON, DedupOptions(key="body"), DedupOptions()]),
    st.binary(max_size=100),
    st.binary(max_size=200) | st.binary(max_size=100).map(gzip.compress) | st.binary(max_size=100).map(zlib.compress),
    st.sampled_from([b"", b"gzip", b"deflate", b"\xff"]),
)
def test_arbitrary_bytes_never_raise(options, value, body, encoding):
    """Neither reading a key, nor claiming and showing it."""
    key = extract(options, {b"x-id": value, b"content-encoding": encoding}, body)
    claim("s", options, key, body)
    assert printable_key(key).isprintable()


@pytest.mark.parametrize(
    ("key", "headers", "body", "found"),
    [
        ("json:/a json:/b", {}, b'{"a":"x","b":7}', b"x 7"),
        ("header:X-T json:/a", {b"x-t": b"topic"}, b'{"a":"x"}', b"topic x"),
        ("json:/a json:/b", {}, b'{"a":"x y","b":"z"}', b"x%20y z"),
        ("json:/a json:/b", {}, b'{"a":"x","b":"y z"}', b"x y%20z"),
        ("json:/a json:/b", {}, b'{"a":"100%","b":"20"}', b"100%25 20"),
        ("json:/a json:/b", {}, b'{"a":"x"}', None),
        ("header:X-T json:/a", {}, b'{"a":"x"}', None),
        ("json:/a b", {}, b'{"a b":"x"}', b"x"),
    ],
)
def test_a_key_may_have_several_places(key, headers, body, found):
    """All must be there, and no two lists make the same text; a blank inside a pointer is a blank."""
    assert extract(DedupOptions(key=key), headers, body) == found


def test_all_headers_of_a_key_of_several_places_count():
    """A repeated one is refused before verification."""
    assert key_headers(DedupOptions(key="header:A|B json:/x header:C")) == (b"a", b"b", b"c")
    assert key_parts("header:A|B json:/x header:C") == ("header:A|B", "json:/x", "header:C")
    with pytest.raises(ValueError):
        key_headers(DedupOptions(key="json:/x header:a_b"))


# --- what a later version must find as it is


@pytest.mark.parametrize(
    ("options", "key", "identity"),
    [
        (DedupOptions(key="header:X", key_signed=True), b"evt_1", b"sevt_1"),
        (DedupOptions(key="header:X", key_signed=True), b"", b"s"),
        (DedupOptions(key="header:X"), b"evt_1", b"k" + blake2b(b"body", digest_size=16).digest() + b"evt_1"),
        (DedupOptions(key="header:X"), b"", b"k" + blake2b(b"body", digest_size=16).digest()),
        (DedupOptions(key="body"), b"body", b"b" + blake2b(b"body", digest_size=16).digest()),
    ],
)
def test_a_claim_s_digest_is_pinned(options, key, identity):
    """It lies in the journal: with another one, an upgrade would take every repeat for a new event."""
    expected = blake2b(b"4:shop" + identity, digest_size=16).digest()
    assert claim("shop", options, key, b"body").digest == expected


def test_the_digest_of_what_is_covered_is_pinned_as_well():
    """A body that is covered as it is has the claim of a body."""
    options = DedupOptions(key="body")
    assert claim("shop", options, b"1", b"1", b"body").digest == claim("shop", options, b"body", b"body").digest


def test_a_source_that_says_nothing_is_not_deduplicated():
    assert DedupOptions() == DedupOptions(
        key="none", ttl_s=86_400.0, missing="accept", redrive_dead=True, key_signed=False
    )


def test_without_a_limit_a_mebibyte_is_inflated():
    """Text that packs badly, so that the ratio does not decide."""
    assert MAX_RATIO == 100
    rand = random.Random(1)
    for size, found in ((1 << 20, b"x"), ((1 << 20) + 1, None)):
        head = b'{"id":"x","pad":"'
        text = head + bytes(rand.choices(b"abcdefghijklmnopqrstuvwxyz", k=size - len(head) - 2)) + b'"}'
        assert len(text) == size
        assert inflating(gzip.compress(text, 1)) == found
