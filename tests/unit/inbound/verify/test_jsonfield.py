"""A field is read from a JSON body only where nothing about the body is doubtful."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify import jsonfield
from sidecar.inbound.verify.jsonfield import parse_pointer, read_document, read_field


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("/id", ("id",)),
        ("/a/0/b", ("a", "0", "b")),
        ("/", ("",)),
        ("/a~1b/~0/~01", ("a/b", "~", "~1")),
        ("/x" * 16, ("x",) * 16),
    ],
)
def test_pointers_are_taken_apart_as_rfc_6901_says(text, tokens):
    """Tokens are unescaped once: ~1 first, then ~0."""
    assert parse_pointer(text) == tokens


@pytest.mark.parametrize("text", ["", "id", "#/id", "/a~", "/a~2b", "/a~/b", "/x" * 17])
def test_a_bad_pointer_is_a_value_error(text):
    """Also one with more steps than any provider needs."""
    with pytest.raises(ValueError):
        parse_pointer(text)


@pytest.mark.parametrize(
    ("body", "pointer", "found"),
    [
        (b'{"id":"evt_1"}', "/id", "evt_1"),
        (b'{"id":"evt_1","data":{"id":"x"}}', "/id", "evt_1"),
        (b'{"data":{"id":"x"},"id":"evt_1"}', "/id", "evt_1"),
        (b'{"data":{"object":{"id":"x"}}}', "/data/object/id", "x"),
        (b'{"data":{"id":"x"},"id":{"data":"y"}}', "/data/id", "x"),
        (b'[{"id":7},{"id":8}]', "/1/id", 8),
        (b"[[1],[2,3]]", "/1/1", 3),
        (b"[[1],[2,3]]", "/0", None),
        (b'{"a":["x"]}', "/a/0", "x"),
        (b'{"a":["x"]}', "/a/1", None),
        (b'{"a":["x"]}', "/a/-", None),
        (b'{"a":["x"]}', "/a/00", None),
        (b'{"a":["x"]}', "/a/+0", None),
        (b'{"a":["x"]}', "/a/٠", None),
        (b'{"a":"x"}', "/a/b", None),
        (b'{"a":1}', "/b", None),
        (b'{"a":true}', "/a", None),
        (b'{"a":null}', "/a", None),
        (b'{"a":1.5}', "/a", None),
        (b'{"a":{}}', "/a", None),
        (b'{"":"e"}', "/", "e"),
        ('{"\u00fc":"x","a":1}'.encode(), "/ü", "x"),
        (b'{"a/b":"x"}', "/a~1b", "x"),
        (b'{"id":"\\u0061\\ud83d\\ude00"}', "/id", "a😀"),
        (b'{"\\u0069d":"x"}', "/id", "x"),
        (b'{"a,b":1,"id":"x","c":{"id":2}}', "/id", "x"),
        (b'{"id":-12}', "/id", -12),
        (b' {"id" : "x" }\n', "/id", "x"),
        (b'"text"', "/id", None),
        (b'"' + b"[" * 70 + b'"', "/id", None),
        (b'{"n":99999999999999999999999999}', "/n", 99999999999999999999999999),
    ],
)
def test_strings_and_integers_are_read_and_nothing_else(body, pointer, found):
    """Names match after unescaping; array steps are plain decimal numbers."""
    assert read_field(body, parse_pointer(pointer)) == found


DOUBTFUL = {
    "empty": b"",
    "not JSON": b"id=1",
    "trailing bytes": b'{"id":"x"}{',
    "NaN": b'{"id":"x","n":NaN}',
    "Infinity": b'{"id":"x","n":-Infinity}',
    "out of range": b'{"id":"x","n":1e999}',
    "5000 digits": b'{"id":"x","n":' + b"1" * 5000 + b"}",
    "lone surrogate": b'{"id":"x","n":"\\ud800"}',
    "lone surrogate as bytes": b'{"id":"x","n":"\xed\xa0\x80"}',
    "swapped surrogates": b'{"id":"x","n":"\\udc00\\ud800"}',
    "not UTF-8": b'{"id":"x","n":"\xff"}',
    "byte order mark": b'\xef\xbb\xbf{"id":"x"}',
    "UTF-16": '{"id":"x"}'.encode("utf-16"),
    "UTF-16 without mark": '{"id":"x"}'.encode("utf-16-le"),
    "UTF-32": '{"id":"x"}'.encode("utf-32-be"),
    "65 levels": b'{"id":"x","n":' + b"[" * 64 + b"]" * 64 + b"}",
    "a million levels": b'{"id":"x","n":' + b"[" * 1_000_000,
    "100,000 closed levels": b"[" * 100_000 + b"]" * 100_000,
    "name twice": b'{"id":"x","id":"y"}',
    "name twice, same value": b'{"id":"x","id":"x"}',
    "name twice, once escaped": b'{"id":"x","\\u0069d":"y"}',
    "name twice, commas in the names": b'{"id":"x","a,b":1,"id":"y"}',
    "name twice, far apart": b'{"id":"x","data":{"id":"z"},"id":"y"}',
    "control character": b'{"id":"a\nb"}',
    "leading zero": b'{"id":01}',
    "comment": b'{"id":"x"/**/}',
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_doubtful_body_gives_nothing(name):
    """Whatever is wrong with it, and wherever."""
    assert read_field(DOUBTFUL[name], ("id",)) is None


def test_sixty_four_levels_are_still_read():
    """The limit itself is fine, in objects and arrays alike, and wide is not deep."""
    deep = b'{"id":"x","n":' + b"[" * 63 + b"]" * 63 + b"}"
    assert read_field(deep, ("id",)) == "x"
    objects = b'{"id":"x","n":' + b'{"a":' * 62 + b"{}" + b"}" * 62 + b"}"
    assert read_field(objects, ("id",)) == "x"
    wide = b'{"id":"x","n":[' + b"{}," * 1000 + b"1]}"
    assert read_field(wide, ("id",)) == "x"


def test_a_repeated_name_matters_only_on_the_path():
    """Elsewhere it is the sender's business."""
    assert read_field(b'{"id":"x","other":1,"other":2,"d":{"id":1}}', ("id",)) == "x"
    assert read_field(b'{"d":{"id":"x","id":"y"},"id":"z"}', ("id",)) == "z"
    assert read_field(b'{"d":{"id":"x","id":"y"},"id":"z"}', ("d", "id")) is None
    assert read_field(b'{"d":{"id":"x"},"d":{"id":"y"}}', ("d", "id")) is None
    assert read_field(b'{"a\\"b":"x","a\\"b":"y"}', ('a"b',)) is None, "a name that is spelled with an escape"
    assert read_field(b'{"a\\"b":"x"}', ('a"b',)) == "x"


def _pairs_have_twice(text, name):
    pairs = json.loads(text, object_pairs_hook=list)
    return isinstance(pairs, list) and sum(1 for p in pairs if p[0] == name) > 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(['"id"', '"a"', '"\\u0069d"', '"a,b"', '"id,"', '"\\u002c"', '"\\"id\\""']),
            st.sampled_from(['"x"', '"id"', "1", '{"id":[1,2]}', '[",","id"]', '"\\u002c"', "null", '{"a":1,"a":2}']),
        ),
        max_size=5,
    )
)
def test_counting_commas_finds_exactly_the_repeated_names(members):
    """The shortcut agrees with a parser that sees every pair."""
    text = "{" + ",".join(f"{k}:{v}" for k, v in members) + "}"
    found = read_field(text.encode(), ("id",))
    if _pairs_have_twice(text, "id"):
        assert found is None
    else:
        value = json.loads(text).get("id")
        assert found == (value if type(value) in (str, int) else None)


@pytest.mark.parametrize(
    ("body", "pointer", "parsers"),
    [
        (b'{"id":"x","n":[1,{"m":2}]}', "/id", []),
        (b'{"id":"a\\nb"}', "/id", []),
        (b"[7]", "/0", []),
        (b'{"data":{"id":"x"}}', "/data/id", ["members"]),
        (b"[[7]]", "/0/0", ["elements"]),
        (b'{"id":"\\u0061"}', "/id", ["members"]),
        (b'{"id":"x","n":["id",1,2]}', "/id", ["members"]),
        (b'{"a/b":"x","n":[1,2]}', "/a~1b", ["members"]),
        (b'{"a,b":1,"id":"x","n":"id"}', "/id", ["members", "pairs"]),
    ],
)
def test_no_more_is_parsed_a_second_time_than_the_answer_needs(monkeypatch, body, pointer, parsers):
    """Bytes settle most names, commas nearly all others, and nobody looks into the value at the end of the path."""
    asked = []

    def note(owner, name, label):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **options: (asked.append(label), real(*args, **options))[1])

    note(jsonfield, "_decode_members", "members")
    note(jsonfield, "_decode_elements", "elements")
    note(json, "loads", "pairs")
    assert read_field(body, parse_pointer(pointer)) is not None
    assert asked == parsers


@given(st.binary(max_size=300) | st.text(alphabet='{}[]":,\\u0idé1eE.-+ntrufals ', max_size=80).map(str.encode))
def test_arbitrary_bytes_never_raise(body):
    """Nothing, a string or an integer comes back."""
    assert isinstance(read_field(body, ("id",)), (str, int, type(None)))


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"a":[1,{"b":null}]}', {"a": [1, {"b": None}]}),
        (b"[]", []),
        (b'{"a":1,"a":1}', None),
        (b'[{"b":{"a":1,"\\u0061":2}}]', None),
        (b'{"a":NaN}', None),
        (b"\xef\xbb\xbf{}", None),
        ('{"a":1}'.encode("utf-16"), None),
        (b"[" * 65 + b"]" * 65, None),
        (b'{"a":' + b"1" * 5000 + b"}", None),
        (b'"\\ud800"', None),
        (b"", None),
    ],
)
def test_a_whole_document_names_nothing_twice(body, document):
    """Wherever it is, however it is spelled; and is JSON as the standard has it."""
    assert read_document(body) == document
