"""The recorded cases turn out as expected, and a bad line is one documented error."""

import pathlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.presets import PRESETS
from sidecar.inbound.verify.vectors import parse_case, run_case

FILE = pathlib.Path(__file__).parents[3] / "vectors" / "signatures.jsonl"
LINES = FILE.read_bytes().splitlines()
CASES = [parse_case(line) for line in LINES]


@pytest.mark.parametrize("case", CASES, ids=[c.id for c in CASES])
def test_a_recorded_case_turns_out_as_expected(case):
    """Published values and what the providers' own libraries make."""
    assert run_case(case) is True


def test_every_preset_has_cases_of_both_kinds():
    """At least one to accept and one to refuse."""
    for name in PRESETS:
        assert {c.expect for c in CASES if c.provider == name} == {"accept", "reject"}


def test_a_case_that_differs_says_how():
    """In both directions, by reason or by secret."""
    accept = next(c for c in CASES if c.expect == "accept" and c.provider == "github")
    wrong = msgspec.structs.replace(accept, expect="reject")
    assert run_case(wrong) == "expected reject, got accept by secret 1"
    wrong = msgspec.structs.replace(accept, secret="other")
    assert run_case(wrong) == "expected accept, got reject: wrong_secret"
    assert run_case(msgspec.structs.replace(accept, secret="other", extra_secrets=[accept.secret])) is True


def test_a_case_that_cannot_be_prepared_says_why():
    """Params that contradict their scheme, as a missing package would."""
    plaid = next(c for c in CASES if c.provider == "plaid")
    wrong = msgspec.structs.replace(plaid, params={"key_api": "http://p", "nothing": 1})
    assert run_case(wrong) == "key_api: https only"


@pytest.mark.parametrize(
    ("provider", "params"),
    [
        ("github", {"header": 5}),
        ("pusher", {"key": 5}),
        ("box", {"secondary_key": [1]}),
        ("rfc9421", {"alg": "none"}),
        ("paypal", {"webhook_id": None}),
    ],
)
def test_params_of_another_type_than_their_option_are_told(provider, params):
    """In the file of a person they are a slip of the pen, and no bug."""
    case = next(c for c in CASES if c.provider == provider and c.expect == "accept")
    told = run_case(msgspec.structs.replace(case, params={**case.params, **params}))
    assert str(told).startswith(("Expected `", "Invalid enum value 'none'"))


def test_an_unknown_preset_is_called_so():
    """Neither right nor wrong."""
    assert run_case(msgspec.structs.replace(CASES[0], provider="nobody")) == "unknown preset"


@pytest.mark.parametrize("url", ["", "https://h", "https://h?x=1", "https://h/in?x=1"])
def test_any_url_is_taken_apart(url):
    """Only schemes that sign it look at it."""
    assert run_case(msgspec.structs.replace(CASES[0], url=url)) is True


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"provider":"github"}',
        LINES[0].replace(b'"accept"', b'"maybe"'),
        LINES[0].replace(b'"body_base64": "', b'"body_base64": "%'),
        b"\xff",
    ],
)
def test_a_line_that_is_no_case_is_a_value_error(line):
    """With the field at fault, never another exception."""
    with pytest.raises(ValueError, match="not a signature case"):
        parse_case(line)


def test_a_case_does_not_show_its_secret():
    """A file of one's own may hold real ones."""
    assert "Everybody" not in repr(CASES[0])


@given(st.binary(max_size=60))
def test_arbitrary_lines_never_raise_anything_else(line):
    """A value or a ValueError."""
    with pytest.raises(ValueError):
        parse_case(line)
