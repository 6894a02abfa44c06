"""The process of a guided search: one target after the other, each in a child that libFuzzer may end as it likes.

``python -m tests.proof.guided.fuzz FOLDER --targets a,b --seconds N --seed N``; the last line of its output is JSON with
what was done. New inputs stay in FOLDER. Needs atheris (the extra ``fuzz``).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import atheris

if "--blind" in sys.argv:
    INSTRUMENTED: Any = contextlib.nullcontext()
else:
    INSTRUMENTED = atheris.instrument_imports(include=["sidecar", "tomllib", "tests.proof.guided.planted"])
with open(os.devnull, "w") as _quiet, contextlib.redirect_stderr(_quiet), INSTRUMENTED:  # it tells of every module
    from tests.proof.guided.planted import PLANTS
    from tests.proof.guided.targets import TARGETS

LEAST_EDGES = 4
"""The smallest decoder has more; without instrumentation there are none."""


class Wrong(Exception):
    """What a target's judge says."""


def search(name: str, folder: Path, flags: list[str]) -> None:
    """Become the search of one target: never returns."""
    (folder / "work").mkdir()
    target = TARGETS[name](folder / "work")
    for kind in ("seeds", "corpus"):
        (folder / kind).mkdir()
    for n, seed in enumerate(target.seeds):
        (folder / "seeds" / str(n)).write_bytes(seed)
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    (folder / "words").write_text("".join(f'"{word}"\n' for word in escaped))

    def one(data: bytes) -> None:
        wrong = target.judge(data)
        if wrong:
            raise Wrong(wrong)

    longest = max([target.max_bytes, *map(len, target.seeds)])
    words = [f"-dict={folder}/words"] if target.words else []
    paths = [f"-artifact_prefix={folder}/", str(folder / "corpus"), str(folder / "seeds")]
    atheris.Setup([name, f"-max_len={longest}", "-print_final_stats=1", "-timeout=60", *words, *flags, *paths], one)
    atheris.Fuzz()


def told(name: str, folder: Path, code: int, *, blind: bool) -> dict[str, Any]:
    """What came of a search, out of what libFuzzer wrote."""
    log = (folder / "log").read_text(encoding="utf-8", errors="replace")
    runs = re.search(r"stat::number_of_executed_units: (\d+)", log)
    edges = [int(n) for n in re.findall(r"cov: (\d+)", log)]
    kept = sorted(folder.glob("*-*"))
    wrong = ""
    if code or kept or runs is None:
        error = re.search(r"=== Uncaught Python exception: ===\n(.*)", log)
        why = error[1] if error else " ".join(log.splitlines()[-3:])
        data = kept[0].read_bytes() if kept else b""
        wrong = f"{name}: {why[:300]} (input, base64: {base64.b64encode(data[:3000]).decode()})"
    elif not blind and max(edges, default=0) < LEAST_EDGES:
        wrong = f"{name}: reaches only {max(edges, default=0)} edges: is nothing instrumented?"
    return {
        "count": int(runs[1]) if runs else 0,
        "edges": max(edges, default=0),
        "new": len(os.listdir(folder / "corpus")) if (folder / "corpus").exists() else 0,
        "wrong": wrong,
    }


def main() -> int:
    """Run the searches; returns 0 also when they found something."""
    parser = argparse.ArgumentParser(description="Search for inputs that a decoder takes wrongly.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("--runs", type=int, default=-1, help="at most so many executions of each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plant", default="", choices=["", *PLANTS])
    parser.add_argument("--blind", action="store_true", help="without coverage, to compare")
    given = parser.parse_args()
    results = {}
    for name in given.targets.split(","):
        folder = given.folder / name
        folder.mkdir(parents=True)
        pid = os.fork()
        if pid == 0:
            log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if given.plant:
                PLANTS[given.plant]()
            search(name, folder, [f"-max_total_time={given.seconds}", f"-runs={given.runs}", f"-seed={given.seed}"])
            os._exit(1)  # not reached: libFuzzer ends the process
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        results[name] = told(name, folder, code, blind=given.blind)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
