"""Forms and queries are decoded for reading; nothing that may be signed is changed on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.form import (
    MAX_FIELDS,
    decode_escapes,
    first_field,
    is_ambiguous,
    is_form,
    only_field,
    parse_form,
)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (b"", []),
        (b"a=1", [(b"a", b"1")]),
        (b"a=1&b=2&a=3", [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]),
        (b"a=&b", [(b"a", b""), (b"b", b"")]),
        (b"a=x+y%20z%2B&&", [(b"a", b"x y z+")]),
        (b"a=1=2", [(b"a", b"1=2")]),
        (b"%C3%A9=%zz%", [("é".encode(), b"%zz%")]),
    ],
)
def test_fields_come_in_order_and_decoded(text, fields):
    """Empty values count; what is no escape stays."""
    assert parse_form(text) == fields


def test_a_flood_of_fields_is_not_read():
    """More than any provider sends."""
    assert MAX_FIELDS == 1000
    assert len(parse_form(b"&".join([b"a=1"] * MAX_FIELDS)) or ()) == MAX_FIELDS
    assert parse_form(b"&".join([b"a=1"] * (MAX_FIELDS + 1))) is None
    assert first_field(b"&".join([b"a=1"] * (MAX_FIELDS + 1)), b"a") is None


def test_the_first_field_of_a_name():
    """None where there is none."""
    assert first_field(b"a=1&a=2", b"a") == b"1"
    assert first_field(b"a=1", b"b") is None


@pytest.mark.parametrize(
    ("text", "ambiguous"),
    [
        (b"", False),
        (b"data.id=1", False),
        (b"type=a&data.id=1&id=2", False),
        (b"data.id=1&data.id=1", True),
        (b"data.id=1&data%2Eid=2", True),
        (b"data.id=1&data_id=2", True),
        (b"data.id=1&data+id=2", True),
        (b"&".join([b"a=1"] * (MAX_FIELDS + 1)), True),
    ],
)
def test_a_name_with_two_readings_is_ambiguous(text, ambiguous):
    """Also where one framework takes two spellings for the same name."""
    assert is_ambiguous(text, b"data.id") is ambiguous


def test_the_only_field_of_a_form():
    """None where there is another, or none, or one of another name."""
    assert only_field(b"a=1", b"a") == b"1"
    for text in (b"", b"b=1", b"a=1&a=1", b"a=1&b=2", b"b=2&a=1", b"&".join([b"a=1"] * (MAX_FIELDS + 1))):
        assert only_field(text, b"a") is None


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (b"application/x-www-form-urlencoded", True),
        (b"Application/X-WWW-Form-Urlencoded ; charset=utf-8", True),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_a_content_type_says_whether_it_is_a_form(value, form):
    """In any case, with or without parameters."""
    assert is_form(value) is form


def test_only_the_named_escapes_are_undone():
    """All others stay as they are."""
    assert decode_escapes(b"/a%3Ab%2fc%20%zz", frozenset({b":", b"/"})) == b"/a:b/c%20%zz"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise(text):
    """As query or as body."""
    parse_form(text)
    first_field(text, b"a")
    is_form(text)
    decode_escapes(text, frozenset({b"/"}))
