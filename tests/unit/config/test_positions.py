"""The scanner knows the place of everything that tomllib finds."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.positions import Path, Place, Positions, Span, dotted, scan


def paths(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """Every path of a document with its value."""
    found = [(path, value)] if path else []
    if isinstance(value, dict):
        for k, v in value.items():
            found += paths(v, (*path, k))
    elif isinstance(value, list):
        for i, v in enumerate(value):
            found += paths(v, (*path, i))
    return found


def assert_all_found(text: str) -> Positions:
    document = tomllib.loads(text)
    positions = scan(text)
    wanted = dict(paths(document))
    assert set(positions.places) == set(wanted)
    for path, value in wanted.items():
        place = positions.places[path]
        shown = text[place.value.start : place.value.end]
        assert place.scalar == (not isinstance(value, dict | list))
        if place.scalar or place.key != place.value:
            assert tomllib.loads(f"v = {shown}")["v"] == value
        if place.key != place.value:
            assert list(tomllib.loads(f"{text[place.key.start : place.key.end]} = 1")) == [path[-1]]
    return positions


DOCUMENT = '''\
title = "top" # a comment with = and [x]
"quoted key" = 'literal # not a comment'
a.b . c = 1

[server]
listen = "0.0.0.0:8787"
at = 1979-05-27 07:32:00Z
when = 1979-05-27T07:32:00.5+01:00
text = """
several "quotes" and \\""" escapes
end"""""
raw = \'\'\'
it's raw\'\'\'\'
tls = { cert = "c", key.file = "k" , "odd # key" = [1, 2] }
list = [ # comment ]
  "one", # ,
  { x = 1 }, [true, []],
]

[[items]]
n = 1
[[items.parts]]
p = 1
[[items.parts]]
p = 2
[items.parts.more]
deep = true
[[items]]
[[items.parts]]

[x.y.z]
v = 1
[x]
w = 2
'''


def test_every_kind_of_toml_is_found() -> None:
    positions = assert_all_found(DOCUMENT)
    place, own = positions.nearest(("items", 0, "parts", 1, "p"))
    assert own
    assert positions.line_column(place.key.start) == (25, 1)
    assert positions.line_column(place.value.start) == (25, 5)
    assert DOCUMENT.splitlines()[24] == "p = 2"


def test_line_ends_of_windows_change_nothing() -> None:
    positions = assert_all_found("a = 1\r\n[t]\r\nb = 'x'\r\n")
    assert positions.line_column(positions.places["t", "b"].value.start) == (3, 5)
    assert positions.line_span(2) == Span(7, 10)
    assert positions.line_span(4) == Span(21, 21)


def test_a_table_is_placed_at_its_own_header() -> None:
    positions = scan("[x.y]\n[x]\n")
    assert positions.line_column(positions.places[("x",)].key.start) == (2, 2)


def test_a_missing_path_is_placed_at_the_closest_above() -> None:
    positions = scan("[x]\na = 1\n")
    place, own = positions.nearest(("x", "b", "c"))
    assert not own
    assert place == positions.places[("x",)]
    assert positions.nearest(("q",)) == (Place(Span(0, 0), Span(0, 0)), False)


def test_an_empty_document_has_one_line() -> None:
    assert scan("").line_column(0) == (1, 1)
    assert scan("").line_span(1) == Span(0, 0)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("sources", "orders", "secrets", 0, "file"), "sources.orders.secrets[0].file"),
        (("a b", 'q"\\'), '"a b"."q\\"\\\\"'),
    ],
)
def test_paths_are_written_as_people_name_them(path: Path, text: str) -> None:
    assert dotted(path) == text


bare = st.from_regex(r"[A-Za-z0-9_-]{1,4}", fullmatch=True)
blank = st.sampled_from(["", " ", "\t", "  "])
fill = st.sampled_from(["", " ", "\n", " # c ] } \" '\n", "\r\n\t"])
safe = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6)
scalars = st.one_of(
    safe.map(json.dumps),
    safe.filter(lambda s: "'" not in s).map(lambda s: f"'{s}'"),
    safe.filter(lambda s: "\\" not in s and '"""' not in s and not s.endswith('"')).map(lambda s: f'"""\n{s}\n"""'),
    safe.filter(lambda s: "'" not in s).map(lambda s: f"'''{s}''\n'''''"),
    st.sampled_from(["1", "-2_0", "0xff", "1.5e3", "inf", "true", "1979-05-27 07:32:00Z", "07:32:00", "1979-05-27"]),
)


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["scalar", "scalar", "array", "table"] if depth else ["scalar"]))
    if kind == "scalar":
        return draw(scalars)
    if kind == "array":
        items = [draw(fill) + draw(values(depth - 1)) + draw(fill) for _ in range(draw(st.integers(0, 3)))]
        return "[" + ",".join(items) + draw(fill) + "]"
    pairs_ = [draw(pairs(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    return "{" + ",".join(draw(blank) + p + draw(blank) for p in pairs_) + "}"


@st.composite
def names(draw: st.DrawFn) -> str:
    one = st.one_of(bare, bare, safe.map(json.dumps), safe.filter(lambda s: "'" not in s).map(lambda s: f"'{s}'"))
    parts = [draw(one) for _ in range(draw(st.integers(1, 3)))]
    return ".".join(draw(blank) + p + draw(blank) for p in parts)


@st.composite
def pairs(draw: st.DrawFn, depth: int = 2) -> str:
    return draw(names()) + "=" + draw(blank) + draw(values(depth))


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.integers(0, 3))
        line = draw(pairs()) if kind < 2 else f"[{draw(names())}]" if kind == 2 else f"[[{draw(names())}]]"
        lines.append(draw(blank) + line + draw(blank) + draw(st.sampled_from(["\n", "\r\n", " # c\n"])) + draw(fill))
    return "".join(lines)


def accepted(text: str) -> bool:
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(documents().filter(accepted))
def test_every_path_that_tomllib_finds_has_its_place(text: str) -> None:
    """Ensures: same paths as tomllib, and the text at each place gives the same value."""
    assert_all_found(text)
