"""Hold each pure module to its mirror: the test file of its own name, run alone, must take every branch of it.

Run together with others, a mirror would get the credit for what they load and call, and could need it to pass. So each
has a process to itself: a fork of this one, which has loaded pytest and nothing of ``sidecar``. From the root of the
repository:

    python scripts/check_mirrors.py [WORD ...]    all of them, or those with one of the words in their path
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import sys
import textwrap
from pathlib import Path

import coverage
import pytest

PURE = '"""[P]'
LIMIT_S = 600
"""For all of them together."""

SHOWN = 2000
"""Characters of the output of a mirror that fails."""


def pure_modules(root: Path) -> list[Path]:
    """The modules whose first line is marked, relative to the root of the repository."""
    found = sorted((root / "sidecar").rglob("*.py"))
    return [path.relative_to(root) for path in found if path.read_text().startswith(PURE)]


def mirror_of(module: Path) -> Path:
    """Where the test of a module is; that of a package itself is ``test_init.py``."""
    name = module.stem.strip("_")
    return Path("tests", "unit", *module.parts[1:-1], f"test_{name}.py")


def judge(module: Path) -> str:
    """Run one mirror and see what it reaches; to be called in a process of its own.

    Returns:
        What is wrong, for people; empty when nothing is.
    """
    mirror = mirror_of(module)
    if not mirror.is_file():
        return f"{module}: no mirror; expected {mirror}"
    measured = coverage.Coverage(data_file=None)
    for option, value in (
        ("run:source", None),
        ("run:patch", []),
        ("run:include", [str(module)]),
        ("run:branch", True),
    ):
        measured.set_option(option, value)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), measured.collect():
        code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:cov", str(mirror)])
    if code:
        shown = textwrap.indent(said.getvalue()[-SHOWN:], "    ", lambda _: True)
        return f"{mirror}: fails when it runs alone (exit {int(code)})\n{shown}"
    table = io.StringIO()
    try:
        if measured.report(file=table, show_missing=True, skip_covered=False) == 100:
            return ""
    except coverage.exceptions.NoDataError:
        return f"{module}: never loaded by {mirror}"
    missing = next(line for line in table.getvalue().splitlines() if line.startswith(str(module))).split("%")[-1]
    return f"{module}: {mirror} alone does not reach {missing.strip()}"


def main(words: list[str]) -> int:
    """Judge all that are asked for, as many at a time as there are processors.

    Returns:
        The exit code: 1 when something is wrong, or when nothing was asked for that exists.

    Raises:
        multiprocessing.TimeoutError: A mirror hangs, or ended the process that it ran in.
    """
    modules = [m for m in pure_modules(Path()) if not words or any(word in str(m) for word in words)]
    forks = multiprocessing.get_context("fork")
    with forks.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        problems = [p for p in pool.map_async(judge, modules, chunksize=1).get(LIMIT_S) if p]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems or not modules else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
