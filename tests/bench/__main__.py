"""The benchmark: `make bench`, or ``python -m tests.bench [--quick | --full] [SCENARIO ...]``.

Runs the real daemon with everything on beside what limits it, prints each figure beside its budget, and writes the figures
(``results.json``) and plots into a folder. With ``--target`` the same load goes to any other gateway instead.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.bench.machine import LOAD_CORE, ROOT, SERVER_CORE, describe
from tests.bench.plots import plots
from tests.bench.scale import DEFAULT, FULL, QUICK, Scale
from tests.bench.scenarios import (
    ack,
    backlog,
    bodies,
    connections,
    deliver,
    duplicates,
    flood,
    idle,
    index,
    keys,
    rates,
    restart,
    sizing,
    troubled,
    watchers,
)
from tests.bench.subject import Bench
from tests.bench.table import as_text, rows
from tests.bench.target import TargetRefused, measure_target

SCENARIOS: dict[str, ModuleType] = {
    "ack": ack,
    "rates": rates,
    "deliver": deliver,
    "bodies": bodies,
    "connections": connections,
    "duplicates": duplicates,
    "troubled": troubled,
    "backlog": backlog,
    "keys": keys,
    "index": index,
    "restart": restart,
    "flood": flood,
    "watchers": watchers,
    "sizing": sizing,
    "idle": idle,
}
TOOLS = {"taskset": "util-linux", "nginx": "nginx-light"}


def main() -> int:
    """Run what was asked for; 0 also when a budget was missed: the table says so."""
    options = _options()
    if options.target:
        return _target(options)
    missing = [f"{tool} (Debian package {package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        print(
            f"missing: {', '.join(missing)}; `sh scripts/install_test_tools.sh` installs them as root", file=sys.stderr
        )
        return 69
    scale = _scale(options)
    options.out.mkdir(parents=True, exist_ok=True)
    run: dict[str, Any] = {"machine": describe(), "scale": scale.name, "scenarios": {}}
    if SERVER_CORE == LOAD_CORE:
        print("one core only: server and load share it, so latencies and rates say little", file=sys.stderr)
    work = Path(tempfile.mkdtemp(dir=options.disk, prefix="webhook-sidecar-bench-"))
    try:
        for name in options.scenarios or SCENARIOS:
            begin_s = time.monotonic()
            print(f"{name}: {(SCENARIOS[name].__doc__ or '').splitlines()[0]}", flush=True)
            run["scenarios"][name] = SCENARIOS[name].run(Bench(scale, work))
            print(f"  {time.monotonic() - begin_s:.0f} s", flush=True)
    finally:
        shutil.rmtree(work)
    table = rows(run["scenarios"])
    (options.out / "results.json").write_text(json.dumps(run, indent=1) + "\n")
    for file, content in plots(run["scenarios"]).items():
        (options.out / file).write_text(content)
    print()
    print(as_text(table))
    print(f"\nfigures and plots: {options.out}")
    return 0


def _target(options: argparse.Namespace) -> int:
    try:
        found = measure_target(
            Bench(_scale(options), Path()), options.target, options.target_pid, owned=options.i_own_this_host
        )
    except TargetRefused as e:
        print(e, file=sys.stderr)
        return 64
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "target.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _scale(options: argparse.Namespace) -> Scale:
    scale = FULL if options.full else QUICK if options.quick else DEFAULT
    return replace(scale, seconds=options.seconds) if options.seconds else scale


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)}")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="three minutes")
    size.add_argument("--full", action="store_true", help="ten million deliveries waiting, twenty million keys")
    parser.add_argument("--seconds", type=float, help="length of one measured window")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="where figures and plots go")
    parser.add_argument(
        "--disk", type=Path, default=None, help="folder on the disk to measure; default: for temporary files"
    )
    parser.add_argument("--target", metavar="URL", help="load this gateway instead; figures go to target.json")
    parser.add_argument("--target-pid", type=int, help="its process, to tell its CPU per request")
    parser.add_argument("--i-own-this-host", action="store_true", help="let --target be another machine")
    options = parser.parse_args()
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario called {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
