"""Runs a module's tests against its mutants, each in a fork of its own.

First the tests are collected once, and a fork of that process runs, for each mutant, those that call the changed function.
What survives that, and what is changed outside of any function, is tried by a fork that imports everything anew.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import hypothesis
import pytest

from tests.mutants.operators import Mutant, mutants
from tests.mutants.swap import Replaced, swap_function

__all__ = ["Verdict", "judge", "source_of"]

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = (
    "aiohttp",
    "click",
    "cryptography.x509",
    "hypothesis.strategies",
    "jwt",
    "lmdb",
    "msgspec",
    "pytest_asyncio",
)
"""What tests import anyway and takes its time: once, before anything forks."""

PATIENCE_S = 3.0
"""CPU time: a mutant that takes more than that, and four times more than the module does, never ends: it is noticed."""
IDLE_S = 60.0
"""Wall clock: one that waits longer than that for nothing is noticed too."""
MEMORY_BYTES = 3 << 30
SURVIVED, KILLED, BROKEN = 0, 1, 99
OPTIONS = ("-x", "-q", "--tb=no", "--no-header", "--no-summary", "--assert=plain", "-p", "no:cacheprovider")


class Verdict(NamedTuple):
    """What came of a module.

    Attributes:
        mutants: How many there are.
        survived: Names of those that no test noticed.
    """

    mutants: int
    survived: list[str]


def judge(module: str, tests: Sequence[str], root: Path = ROOT, patience_s: float = PATIENCE_S) -> Verdict:
    """Try every mutant of a module; call it in a process that has not imported the module.

    Args:
        module: Its name.
        tests: Files whose tests must notice.
        root: Where its package is.
        patience_s: How long a mutant may take at least.

    Raises:
        AssertionError: The tests fail without any mutant.
    """
    filename = str(source_of(module, root))
    found = list(mutants(Path(filename).read_text(encoding="utf-8"), filename))
    for name in PRELOADED:
        importlib.import_module(name)
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    for profile, examples in (("mutants", 100), ("mutants-quick", 20)):
        hypothesis.settings.register_profile(
            profile, derandomize=True, database=None, phases=phases, max_examples=examples
        )
    hypothesis.settings.load_profile("mutants")
    code, cpu_s = _forked(lambda: _anew(None, module, filename, tests), 600)
    assert code == SURVIVED, f"{tests} fail as they are"
    patience_s = max(patience_s, 4 * cpu_s)
    left = _collected(module, tests, found, patience_s)
    survived = [
        m.what for m in left if _forked(lambda m=m: _anew(m, module, filename, tests), patience_s)[0] == SURVIVED
    ]
    return Verdict(len(found), survived)


def source_of(module: str, root: Path = ROOT) -> Path:
    """Where a module is; nothing is imported to find out."""
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _forked(work: Callable[[], int], cpu_s: float) -> tuple[int, float]:
    """Do something in a fork with a group of its own; a signal that ends it, or an error, is as good as a test that fails.

    Returns:
        What it came to, and the CPU time that it took.
    """
    pid = os.fork()
    if pid == 0:
        code = KILLED
        with contextlib.suppress(BaseException):
            os.setpgid(0, 0)
            quiet = os.open(os.devnull, os.O_RDWR)
            for n in (0, 1, 2):
                os.dup2(quiet, n)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, IDLE_S + 10 * cpu_s)
            most_s = math.ceil(cpu_s)
            resource.setrlimit(resource.RLIMIT_CPU, (most_s, most_s + 1))
            code = work()
        os._exit(code)
    _, status, used = os.wait4(pid, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what the tests have left behind
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def _anew(mutant: Mutant | None, module: str, filename: str, tests: Sequence[str]) -> int:
    if mutant is not None:
        sys.meta_path.insert(0, Replaced(module, filename, mutant.code))
    return SURVIVED if pytest.main([*OPTIONS, *tests]) == 0 else KILLED


def _collected(module: str, tests: Sequence[str], found: list[Mutant], patience_s: float) -> list[Mutant]:
    """Try the mutants in functions on tests that are collected once; returns those that have to be tried anew."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = BROKEN
        with contextlib.suppress(BaseException):
            os.close(reading)
            hypothesis.settings.load_profile("mutants-quick")  # what that leaves is tried again, with more examples
            quiet = os.open(os.devnull, os.O_RDWR)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            pytest.main([*OPTIONS, *tests], plugins=[_Loop(module, found, patience_s, writing)])
            code = 0
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    assert len(told) == len(found), "the search broke off"
    return [mutant for mutant, survived in zip(found, told, strict=True) if survived]


class _Loop:
    """In the place of the run of the tests: one run for each mutant."""

    def __init__(self, module: str, found: list[Mutant], patience_s: float, pipe: int) -> None:
        self.module, self.found, self.patience_s, self.pipe = module, found, patience_s, pipe
        self.callers: dict[str, list[Any]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        module = importlib.import_module(self.module)
        self._note_callers(session, module.__file__ or "")
        for mutant in self.found:
            items = self.callers.get(mutant.where, [])
            caught = (
                bool(items)
                and _forked(lambda m=mutant, i=items: self._try(session, m, i), self.patience_s)[0] != SURVIVED
            )
            os.write(self.pipe, bytes([not caught]))
        return True

    def _try(self, session: pytest.Session, mutant: Mutant, items: list[Any]) -> int:
        if not swap_function(sys.modules[self.module], mutant.where, mutant.code):
            return SURVIVED
        return _run(session, items)

    def _note_callers(self, session: pytest.Session, filename: str) -> None:
        """Run all tests once in this process, and note which functions of the module each one calls."""
        called: set[str] = set()

        def watch(frame: FrameType, event: str, _arg: object) -> None:
            if event == "call" and frame.f_code.co_filename == filename:
                called.add(frame.f_code.co_qualname.partition(".<locals>")[0])

        for item in session.items:
            called.clear()
            threading.setprofile(watch)
            sys.setprofile(watch)
            begun_s = time.monotonic()
            _run(session, [item])
            sys.setprofile(None)
            threading.setprofile(None)
            for name in called:
                self.callers.setdefault(name, []).append((time.monotonic() - begun_s, item))
        self.callers = {n: [i for _, i in sorted(x, key=lambda pair: pair[0])] for n, x in self.callers.items()}


def _run(session: pytest.Session, items: list[Any]) -> int:
    for n, item in enumerate(items):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=items[n + 1] if n + 1 < len(items) else None)
        if session.testsfailed:
            return KILLED
    return SURVIVED
