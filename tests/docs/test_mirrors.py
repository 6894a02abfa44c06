"""A pure module has every branch covered by its own mirror: where that is, and that the check of it notices what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.check_mirrors import mirror_of, pure_modules

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / "scripts" / "check_mirrors.py"
PURE = '"""[P] Says which sign a number has."""\n'
SIGN = PURE + "def sign(n):\n    if n < 0:\n        return '-'\n    return ''\n"
BOTH = "from sidecar.{0} import sign\n\ndef test_both():\n    assert [sign(-1), sign(1)] == ['-', '']\n"
ONE = "from sidecar.{0} import sign\n\ndef test_one():\n    assert sign(1) == ''\n"
PLANTED = {
    "sidecar/__init__.py": "",
    "sidecar/good.py": SIGN,
    "tests/unit/test_good.py": BOTH.format("good") + "\nfrom sidecar import half\n\nassert half.sign(-1) == '-'\n",
    "sidecar/deep/__init__.py": SIGN,
    "tests/unit/deep/test_init.py": BOTH.format("deep"),
    "sidecar/half.py": SIGN,
    "tests/unit/test_half.py": ONE.format("half"),
    "sidecar/none.py": SIGN,
    "sidecar/elsewhere.py": SIGN,
    "tests/unit/test_elsewhere.py": BOTH.format("good"),
    "sidecar/wrong.py": SIGN,
    "tests/unit/test_wrong.py": BOTH.format("wrong").replace("''", "'+'"),
    "sidecar/impure.py": SIGN.replace("[P] ", ""),
    "pyproject.toml": '[tool.pytest.ini_options]\naddopts = ["--import-mode=importlib"]\npythonpath = ["."]\n',
}
"""A repository of its own: two modules as they should be, four that are not, and one that is not marked."""


@pytest.mark.parametrize("module", pure_modules(ROOT), ids=str)
def test_every_pure_module_has_its_mirror(module: Path) -> None:
    """`make check-mirrors` runs them; this only says that they are there."""
    assert (ROOT / mirror_of(module)).is_file()


def check(folder: Path, *words: str) -> tuple[int, list[str]]:
    """The exit code and the problems, without the output of tests that fail."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, str(CHECK), *words],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, [
        line for line in done.stderr.splitlines() if line.startswith(("sidecar/", "tests/unit/")) and ": " in line
    ]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    for name, text in PLANTED.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_branch_that_only_another_test_takes_is_reported(planted: Path) -> None:
    """And a module without a mirror, one that its mirror never loads, and a mirror that fails."""
    code, problems = check(planted)
    assert code == 1
    assert problems == [
        "sidecar/elsewhere.py: never loaded by tests/unit/test_elsewhere.py",
        "sidecar/half.py: tests/unit/test_half.py alone does not reach 4",
        "sidecar/none.py: no mirror; expected tests/unit/test_none.py",
        "tests/unit/test_wrong.py: fails when it runs alone (exit 1)",
    ]


def test_what_is_as_it_should_be_is_not(planted: Path) -> None:
    """But a word that fits nothing is no success."""
    assert check(planted, "good") == (0, [])
    assert check(planted, "nothing")[0] == 1
