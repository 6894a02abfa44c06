"""What is changed in a module, and what is left alone."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.operators import mutants


def names(source: str) -> list[str]:
    return [m.what.partition(": ")[2] for m in mutants(source, "toy.py")]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a < b", ["a < b -> a <= b"]),
        ("a == b != c", ["a == b != c -> a != b != c", "a == b != c -> a == b == c"]),
        ("x = a and not b", ["a and (not b) -> a or not b", "not b -> b"]),
        ("x = a + 1", ["a + 1 -> a - 1", "1 -> 2"]),
        ("x = -a", ["-a -> a"]),
        ("x += a", ["x += a -> x -= a"]),
        ("x = True", ["True -> False"]),
        ("x = 'a', b'b', ''", ["'a' -> 'a~'", "b'b' -> b'b~'", "'' -> '~'"]),
        ("if a: f()", ["a -> not a", "f() -> pass"]),
        ("[a for a in b if a]", ["a -> not a"]),
        ("for a in b:\n  continue", ["continue -> break"]),
        ("x = min(a, b)", ["min -> max"]),
        ("x.y = a", ["x.y = a -> pass"]),
        ("del x.y", ["del x.y -> pass"]),
        ("raise E('gone')", ["raise E('gone') -> pass"]),
        ("x = {S.A: S.B}", ["S.A -> S.B", "S.B -> S.A"]),
        ("def f(a=1):\n  return a", ["1 -> 2", "return a -> return None"]),
    ],
)
def test_each_kind_of_change(source: str, wanted: list[str]) -> None:
    assert names(source) == wanted


@pytest.mark.parametrize(
    "source",
    [
        '"""Doc."""',
        "x: Literal['a']",
        "X = Literal['a']",
        "X = tuple[Literal['a'], int]",
        "@d(1)\nclass A(B, frozen=True):\n  __slots__ = ('a',)",
        "import a",
        "x = 'for people'",
        "f'{a} b'",
        "T = TypeVar('T')",
        "def f(a):\n  del a",
    ],
)
def test_what_is_left_alone(source: str) -> None:
    assert names(source) == []


def test_a_mutant_knows_the_function_that_it_changes_and_has_a_name_of_its_own() -> None:
    source = "A = 1\nclass C:\n  def f(self):\n    def g():\n      return 1\n    return 1 and g\n"
    found = list(mutants(source, "toy.py"))
    assert [m.where for m in found] == ["", "C.f", "C.f", "C.f", "C.f"]
    assert len({m.what for m in found}) == len(found)
    assert any(m.what.endswith("(#2)") for m in found)


def test_each_mutant_is_one_change() -> None:
    source = "def f(a):\n  return a + 1 if a > 2 else a - 3\n"
    results = []
    for mutant in mutants(source, "toy.py"):
        space: dict[str, object] = {}
        exec(mutant.code, space)
        results.append(space["f"](5))  # type: ignore[operator]
    plain: dict[str, object] = {}
    exec(compile(ast.parse(source), "toy.py", "exec"), plain)
    assert plain["f"](5) == 6  # type: ignore[operator]
    assert results == [None, 6, 6, 4, 7, 6, 6]
