"""Tables become structs, and everything that does not fit is reported at once."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec
import pytest

from sidecar.config.problems import Problems
from sidecar.config.rules import Between, Duration
from sidecar.config.schema import NAME, Config, SecretRef, Source
from sidecar.config.shape import keys_of, members, shape, unwrap


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    word: Literal["a", "b"]
    text: str = "t"


class Outer(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="outer"):
    inner: Inner
    named: dict[Annotated[str, NAME], Inner] = {}
    plain: dict[str, str] = {}
    free: dict[str, Any] = {}
    wait: Annotated[str, Duration("1s", "1h"), msgspec.Meta(description="How long.")] = "5s"
    count: Annotated[int, Between(1, 5)] = 2
    share: float = 0.5
    flag: bool = False
    when: dt.datetime | None = None
    items: list[Annotated[str, Duration("1s", "1h")]] = []
    fixed: tuple[int, ...] = ()
    either: str | Inner = ""
    ref: SecretRef | None = None


class Deep(msgspec.Struct):
    wait: float = 0.0


class Around(msgspec.Struct):
    one: Deep
    named: dict[str, Deep]
    listed: list[Deep]


NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
RIGHT: dict[str, Any] = {
    "kind": "outer",
    "inner": {"word": "a"},
    "named": {"x": {"word": "b", "text": ""}},
    "plain": {"Any-Name": "x"},
    "free": {"x": [1]},
    "wait": "1h",
    "count": 5,
    "share": 1,
    "flag": True,
    "when": NOW,
    "items": ["2s"],
    "fixed": [1, 2],
    "either": {"word": "a"},
    "ref": {"env": "X"},
}


def codes(table: dict[str, Any], **options: bool) -> list[tuple[str, str]]:
    problems = Problems()
    shape(Outer, table, (), problems, **options)
    return [(p.code, ".".join(map(str, p.path))) for p in problems.found]


def test_what_fits_becomes_the_struct() -> None:
    problems = Problems()
    made = shape(Outer, RIGHT, (), problems)
    assert problems.found == []
    assert made == Outer(
        inner=Inner(word="a"),
        named={"x": Inner(word="b", text="")},
        plain={"Any-Name": "x"},
        free={"x": [1]},
        wait="1h",
        count=5,
        share=1.0,
        flag=True,
        when=NOW,
        items=["2s"],
        fixed=(1, 2),
        either=Inner(word="a"),
        ref=SecretRef(env="X"),
    )
    assert isinstance(made.share, float)


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"cuont": 1}, "C101", "cuont"),
        ({"inner": {}}, "C102", "inner.word"),
        ({"inner": {"word": "c"}}, "C104", "inner.word"),
        ({"inner": {"word": 1}}, "C104", "inner.word"),
        ({"inner": {"word": "a", "txet": ""}}, "C101", "inner.txet"),
        ({"inner": 5}, "C103", "inner"),
        ({"named": {"Bad": {"word": "a"}}}, "C110", "named.Bad"),
        ({"named": {"x": 5}}, "C103", "named.x"),
        ({"named": []}, "C103", "named"),
        ({"plain": {"x": 5}}, "C103", "plain.x"),
        ({"wait": "2h"}, "C121", "wait"),
        ({"wait": 5}, "C103", "wait"),
        ({"wait": {}}, "C103", "wait"),
        ({"count": 6}, "C123", "count"),
        ({"count": 1.0}, "C103", "count"),
        ({"count": True}, "C103", "count"),
        ({"count": "1"}, "C103", "count"),
        ({"share": float("nan")}, "C123", "share"),
        ({"share": float("inf")}, "C123", "share"),
        ({"share": "x"}, "C103", "share"),
        ({"flag": 1}, "C103", "flag"),
        ({"when": "2026"}, "C103", "when"),
        ({"when": NOW.date()}, "C103", "when"),
        ({"items": "2s"}, "C103", "items"),
        ({"items": ["2s", "x"]}, "C121", "items.1"),
        ({"fixed": ["1"]}, "C103", "fixed.0"),
        ({"either": 5}, "C103", "either"),
        ({"ref": "x"}, "C103", "ref"),
        ({"ref": {"evn": "x"}}, "C101", "ref.evn"),
    ],
)
def test_what_does_not_fit_is_reported_where_it_is(change: dict[str, Any], code: str, path: str) -> None:
    assert codes({**RIGHT, **change}) == [(code, path)]


def test_everything_is_reported_at_once() -> None:
    assert codes({"a": 1, "b": 2, "inner": {}, "count": 0, "items": ["x", "y"]}) == [
        ("C101", "a"),
        ("C101", "b"),
        ("C102", "inner.word"),
        ("C123", "count"),
        ("C121", "items.0"),
        ("C121", "items.1"),
    ]


def test_a_missing_table_is_reported_and_replaced() -> None:
    problems = Problems()
    made = shape(Outer, {}, (), problems)
    assert [p.path for p in problems.found] == [("inner",)]
    assert made.inner == Inner(word="a")
    assert shape(Outer, {"inner": 1, "count": 9}, (), problems).count == 2


def test_missing_texts_lists_and_tables_are_replaced_by_empty_ones() -> None:
    made = shape(Source, {}, (), Problems())
    assert (made.path, made.destinations, made.verify) == ("", [], "")


def test_messages_say_what_is_expected() -> None:
    problems = Problems()
    shape(Outer, {"ref": 1, "flag": 1, "count": "1", "wait": 1, "either": 1, "items": 1, "when": 1}, (), problems)
    shape(Inner, {}, (), problems)
    texts = {p.path[0]: p.text.partition("expected ")[2] for p in problems.found}
    assert texts == {
        "inner": "a table",
        "wait": '"1s" to "1h" (a number and ms, s, m, h or d)',
        "count": "a whole number, 1 to 5",
        "flag": "true or false",
        "when": "a date and time with offset, e.g. 2026-12-31T00:00:00Z",
        "items": "an array",
        "either": "a string or a table",
        "ref": 'a reference to a secret, e.g. { env = "NAME" }',
        "word": '"a" or "b"',
    }


def test_a_key_is_at_fault_where_it_is_unknown_missing_or_a_wrong_name() -> None:
    problems = Problems()
    shape(Outer, {"cuont": 1, "named": {"Bad": {"word": "a"}}, "flag": 1}, (), problems)
    assert {(p.code, p.at_key) for p in problems.found} == {
        ("C101", True),
        ("C102", True),
        ("C103", False),
        ("C110", True),
    }


def test_a_word_that_is_not_allowed_is_answered_with_those_that_are() -> None:
    class Three(msgspec.Struct):
        word: Literal["one", "two", "three"]

    texts = []
    for given in ("twoo", 7):
        problems = Problems()
        shape(Three, {"word": given}, (), problems)
        texts += [p.text for p in problems.found]
    assert texts == [
        'got "twoo"; expected "one", "two" or "three"; did you mean "two"?',
        'got 7; expected "one", "two" or "three"',
    ]


def test_a_number_without_a_range_is_finite() -> None:
    problems = Problems()
    shape(Outer, {**RIGHT, "share": float("inf")}, (), problems)
    assert problems.found[0].text == "got inf; expected a finite number"


def test_numbers_below_a_table_are_durations_as_well() -> None:
    table = {"one": {"wait": "1s"}, "named": {"x": {"wait": "2s"}}, "listed": [{"wait": "168h"}]}
    problems = Problems()
    made = shape(Around, table, (), problems, numbers_are_durations=True)
    assert problems.found == []
    assert (made.one.wait, made.named["x"].wait, made.listed[0].wait) == (1.0, 2.0, 604_800.0)


def test_one_word_is_named_alone() -> None:
    class One(msgspec.Struct):
        only: Literal["x"]

    problems = Problems()
    shape(One, {"only": "y"}, (), problems)
    assert problems.found[0].text == 'got "y"; expected "x"'


@pytest.mark.parametrize(("given", "problem"), [("90s", None), (90, "C121"), ("200h", "C121")])
def test_numbers_of_a_scheme_are_durations(given: object, problem: str | None) -> None:
    found = codes({**RIGHT, "share": given}, numbers_are_durations=True)
    assert found == ([] if problem is None else [(problem, "share")])
    if problem is None:
        assert shape(Outer, {**RIGHT, "share": given}, (), Problems(), numbers_are_durations=True).share == 90.0


def test_a_wrong_value_becomes_the_default_or_a_harmless_one() -> None:
    """So that the checks that follow can look at the rest."""
    table = {**RIGHT, "flag": 5, "wait": "2h", "inner": {"word": "c"}, "share": 90}
    made = shape(Outer, table, (), Problems(), numbers_are_durations=True)
    assert (made.flag, made.wait, made.inner.word, made.share) == (False, "5s", "a", 0.5)


def test_a_value_nobody_knows_becomes_the_default() -> None:
    problems = Problems(unknown=[("wait",)])
    assert shape(Outer, {**RIGHT, "wait": "${W}"}, (), problems).wait == "5s"
    assert problems.found == []


def test_keys_are_read_from_the_struct() -> None:
    keys = keys_of(Outer)
    assert keys["wait"].description == "How long."
    assert keys["count"].description == ""
    assert keys["inner"].default is msgspec.UNSET
    assert keys["named"].default == {}
    assert members(str | None) == (str,)
    assert unwrap(Annotated[int, 5]) == (int, (5,))


def test_the_whole_configuration_has_defaults() -> None:
    problems = Problems()
    assert shape(Config, {}, (), problems) == Config()
    assert problems.found == []
