"""The part of Structured Fields that message signatures use, and nothing more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.fields import InnerList, parse_byte_sequences, parse_inner_lists


def test_byte_sequences_by_label():
    """In any number up to eight."""
    assert parse_byte_sequences("a=:eA==:") == {"a": b"x"}
    assert parse_byte_sequences("a=:eA==:,b-1.*=::") == {"a": b"x", "b-1.*": b""}
    assert parse_byte_sequences("a=:eA==: \t, b=:eQ==:") == {"a": b"x", "b": b"y"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "A=:eA==:",
        "a=eA==",
        "a=:eA=:",
        "a=:eHg==:",
        "a=:e-A=:",
        "a=:eA==:,",
        "a=:eA==:;x",
        "a=:eA==:,a=:eA==:",
        "a=:eA==: b",
        ",".join(f"a{n}=:eA==:" for n in range(9)),
    ],
)
def test_anything_else_is_no_byte_sequence(text):
    """Capitals, other encodings, repeated labels, too many."""
    assert parse_byte_sequences(text) is None


def test_inner_lists_with_parameters():
    """The text stays as it came: it is signed."""
    text = 'sig=("@method"  "x-a";sf "b\\"c" );created=17;keyid="k\\\\";flag;no=?0;tok=abc/1;n=-5;b=:eA==:'
    found = parse_inner_lists(text)
    assert found == {
        "sig": InnerList(
            (("@method", ""), ("x-a", ";sf"), ('b"c', "")),
            {"created": 17, "keyid": "k\\", "flag": True, "no": False, "tok": "abc/1", "n": -5, "b": ":eA==:"},
            text.removeprefix("sig="),
        )
    }
    assert list(parse_inner_lists('a=("x"),b=()') or ()) == ["a", "b"]


def test_a_text_is_all_that_its_quotes_hold():
    """From the first character to the last."""
    assert (parse_inner_lists('a=();keyid="abc"') or {})["a"].parameters == {"keyid": "abc"}


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a=", "a=(", 'a=("x"', 'a=("x)', "a=(x)", 'a=("x""y")', 'a=("x";)', 'a=("x");', 'a=("x");A=1',
        'a=("x");a=1;a=2', 'a=("x"),', 'a=("x") b=()', "a=(),a=()", "a=1", 'a=("x")z',
        "a=(" + " ".join(['"x"'] * 65) + ")", ",".join(f"a{n}=()" for n in range(9)), 'a=("\u00e9")',
        "a=()" + "".join(f";a{n}" for n in range(65)),
    ],
)  # fmt: skip
def test_anything_else_is_no_inner_list(text):
    """Half of one, repeated labels and parameters, too many."""
    assert parse_inner_lists(text) is None


@given(st.text(alphabet='ab=():;", \\x', max_size=60) | st.text(max_size=60))
def test_arbitrary_text_never_raises(text):
    """Neither of the two."""
    parse_inner_lists(text)
    parse_byte_sequences(text)
