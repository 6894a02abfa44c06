"""The search for mutants that nobody notices: it finds the hole of a weak test, and none in a good one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.catalog import MODULES
from tests.mutants.explained import EXPLAINED
from tests.mutants.judge import ROOT, source_of
from tests.mutants.operators import mutants
from tests.mutants.run import ledger, unexplained

TOY = """
LIMIT = 3

def allowed(n):
    if n > LIMIT:
        return False
    return n != 0

def down(n):
    while n > 0:
        n -= 1
    return n

def nobody(n):
    return n + 1
"""
WEAK = """
from toy import allowed, down, nobody

def test_some():
    assert allowed(2) and not allowed(9) and down(2) == 0
"""
GOOD = """
from toy import LIMIT, allowed, down, nobody

def test_all():
    assert [allowed(n) for n in range(5)] == [False, True, True, True, False]
    assert [down(n) for n in (3, 0, -1)] == [0, 0, -1]
    assert nobody(1) == 2
    assert allowed(1) is True and allowed(0) is False and allowed(9) is False
"""
SURVIVE_WEAK = [
    "module: 3 -> 4",
    "allowed: n > LIMIT -> n >= LIMIT",
    "allowed: 0 -> 1",
    "down: n > 0 -> n >= 0",
    "nobody: return n + 1 -> return None",
    "nobody: n + 1 -> n - 1",
    "nobody: 1 -> 2",
    "down: 1 -> 2",
]


def judged(folder: Path, tests: str) -> dict:
    (folder / "toy.py").write_text(TOY)
    (folder / "test_toy.py").write_text(tests)
    program = (
        "import json, sys; from pathlib import Path; from tests.mutants.judge import judge;"
        "print(json.dumps(judge('toy', [sys.argv[1] + '/test_toy.py'], Path(sys.argv[1]), patience_s=2.0)._asdict()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        return {"error": done.stderr.decode()}
    return json.loads(done.stdout)


def test_a_weak_test_leaves_survivors(tmp_path: Path) -> None:
    """Constants outside of functions, bounds, and functions that nobody calls; one that never ends is noticed."""
    found = judged(tmp_path, WEAK)
    assert found["mutants"] == 14
    assert [s for s in found["survived"] if s not in SURVIVE_WEAK] == []
    assert set(SURVIVE_WEAK) - {"down: n > 0 -> n >= 0"} <= set(found["survived"])


def test_a_good_one_leaves_none(tmp_path: Path) -> None:
    """The same module."""
    assert judged(tmp_path, GOOD)["survived"] == []


def test_tests_that_fail_anyway_prove_nothing(tmp_path: Path) -> None:
    """It says so instead of counting every mutant as noticed."""
    assert "fail as they are" in judged(tmp_path, "def test_wrong():\n    assert False\n")["error"]


@pytest.mark.parametrize("module", list(MODULES))
def test_every_module_of_the_catalog_and_its_tests_exist(module: str) -> None:
    assert source_of(module).is_file()
    assert [path for path in MODULES[module] if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("module", list(EXPLAINED))
def test_what_is_explained_is_a_mutant_of_the_module_as_it_is(module: str) -> None:
    there = {m.what for m in mutants(source_of(module).read_text(encoding="utf-8"), "")}
    assert [what for what in EXPLAINED[module] if what not in there] == []


def test_nine_of_ten_mutants_were_noticed_and_every_other_one_is_explained() -> None:
    rows = ledger().values()
    assert [what for row in rows for what in unexplained(row)] == []
    assert [row["module"] for row in rows if row["killed"] < 0.9 * row["mutants"]] == []
