"""A template names the parts that are signed, in order, and every mistake in it is found when it is prepared."""

import pytest

from sidecar.inbound.verify.request import Request
from sidecar.inbound.verify.signed import header_names, lower, parse_signed

REQUEST = Request(
    b"POST", b"/in", b"a=1", {b"webhook-id": b"m1", b"b": b"second"}, b"BODY", b"https://h.example/in?a=1"
)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{body}", b"BODY"),
        ("{header:webhook-id}.{timestamp}.{body}", b"m1.17.BODY"),
        ("v0:{timestamp}:{body}", b"v0:17:BODY"),
        ("{body}{timestamp}", b"BODY17"),
        ("{method}\n{path}?{query}\n{url}", b"POST\n/in?a=1\nhttps://h.example/in?a=1"),
        ("{{{body}}}", b"{BODY}"),
        ("{header:A|B}", b"second"),
        ("{body}{body}", b"BODYBODY"),
        ("100%s {timestamp}%{body}%d", b"100%s 17%BODY%d"),
        ("{timestamp}{timestamp}{body}", b"1717BODY"),
        ("{body}ü", "BODYü".encode()),
        ("{body}~", b"BODY~"),
        ("{timestamp}x", b"17x"),
        ("{{{timestamp}{body}", b"{17BODY"),
    ],
)
def test_parts_are_joined_in_order(template, message):
    """Nothing is added and nothing is normalised."""
    assert parse_signed(template).message(REQUEST, b"17") == message


def test_a_url_that_is_not_known_counts_as_nothing():
    """The verifier refuses before; the template itself never raises."""
    assert parse_signed("{url}{body}").message(Request(b"POST", b"/", b"", {}, b"x"), b"") == b"x"


def test_it_tells_what_it_takes_in():
    """Which headers, under which names, and which other parts."""
    parts = parse_signed("{header:Svix-Id|Webhook-Id}.{timestamp}.{body}")
    assert parts.headers == [(b"svix-id", b"webhook-id")]
    assert parts.uses == {"timestamp", "body"}
    assert parse_signed("{query:a};{body}").uses == {"query", "body"}
    assert parse_signed("{?a{query:a}}{query:b};{query}").queries == [b"a", b"b"]


@pytest.mark.parametrize(
    "template",
    [
        "",
        "text",
        "{",
        "}",
        "{body",
        "body}",
        "{bdy}",
        "{bdy}{body}",
        "{header:}",
        "{header:a b}",
        "{header:x_y}",
        "{}",
        "{header:a{n}}",
    ],
)
def test_a_mistake_is_a_value_error(template):
    """Unknown parts, lone braces, bad header names, and a template that signs nothing."""
    with pytest.raises(ValueError):
        parse_signed(template)


def test_header_names_can_be_several_and_numbered():
    """``A|B`` are two names, ``{n}`` counts only where that is meant."""
    assert header_names("X-A") == ("X-A",)
    assert header_names("X-A|x-b") == ("X-A", "x-b")
    assert header_names("X-Sig-{n}|Y", 3) == ("X-Sig-1", "X-Sig-2", "X-Sig-3", "Y")
    assert lower(("X-A", "B")) == (b"x-a", b"b")


@pytest.mark.parametrize("text", ["", "a|", "a b", "a_b", "ä", "a:", "X-{n}", "a\n"])
def test_what_is_no_header_name_is_refused(text):
    """Underscores too: backends fold them into dashes."""
    with pytest.raises(ValueError):
        header_names(text)


def test_a_numbered_name_has_one_number():
    """More would count in step, which no provider does."""
    with pytest.raises(ValueError):
        header_names("X-{n}-{n}", 2)


LISTED = Request(b"POST", b"/in put", b"a=1&b=%32?x", {b"names": b"B, a,names", b"a": b" 1 ", b"b": b"2"}, b"BODY")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{query:b};{body}", b"2?x;BODY"),
        ("{query:none}{body}", b"BODY"),
        ("{?id:{query:a};}{?request:{header:x-request};}ts:{timestamp};", b"id:1;ts:17;"),
        ("{target} {body}", b"/in put?a=1&b=%32?x BODY"),
        ("{headers:names}\n{body}", b"a:1;b:2;names:B, a,names\nBODY"),
        ("{encoded-target}", b"/in%20put?a%253D1%2526b%253D%252532"),
        ("{{?{body}", b"{?BODY"),
    ],
)
def test_parts_for_single_providers(template, message):
    """Query values, optional parts, listed headers, and Contentful's way of escaping."""
    assert parse_signed(template).message(LISTED, b"17") == message


def test_a_listed_header_that_is_missing_counts_as_empty():
    """Its name is signed all the same."""
    request = Request(b"POST", b"/in", b"", {b"names": b"names,none"}, b"")
    assert parse_signed("{headers:names}").message(request, b"") == b"names:names,none;none:"


def test_a_target_without_a_query_has_no_mark():
    """Neither form adds one."""
    bare = Request(b"POST", b"/in", b"", {}, b"")
    assert parse_signed("{target}|{encoded-target}").message(bare, b"") == b"/in|/in"


def test_optional_and_listing_headers_are_told_apart():
    """The verifier asks for the presence of the others only."""
    parts = parse_signed("{?a{header:X-A}}{headers:X-List}{body}")
    assert (parts.headers, parts.optional, parts.lists) == ([], [(b"x-a",)], [(b"x-list",)])


@pytest.mark.parametrize("template", ["{?a{bdy}}", "{query:}", "{headers:a b}", "{?a{header:x}", "{?{body}"])
def test_a_mistake_in_the_new_parts_is_a_value_error(template):
    """Also inside an optional part."""
    with pytest.raises(ValueError):
        parse_signed(template)
