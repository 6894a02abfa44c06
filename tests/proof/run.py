"""``make proof``: every harness for its share of the time, from one seed, with a line in the ledger at the end.

Each shard is a process of its own: one that dies is something found.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sidecar import __version__
from tests.proof.catalog import SHARDS
from tests.proof.shard import Job, Shard

LEAST_SHARE = 0.5
ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "docs" / "proof" / "ledger.jsonl"


def missing(shard: Shard) -> str:
    """What this machine lacks for a shard; "" when it can run."""
    lacking = [name for name in shard.needs if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None]
    if lacking:
        return f"not installed: {', '.join(lacking)} (scripts/install_{'root' if shard.root else 'test'}_tools.sh)"
    lacking = [name for name in shard.modules if importlib.util.find_spec(name) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)} (pip install -e '.[fuzz]'; Linux on x86_64, Python 3.11 to 3.13)"
    return "needs root" if shard.root and os.geteuid() != 0 else ""


def one(name: str, seed: int, seconds: float, *, workers: int = 1, control: bool = False) -> dict[str, Any]:
    """Run one shard here, or its control."""
    shard = SHARDS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"proof-{name}-"))
    job = Job(seed, seconds, folder, workers=workers if shard.parallel else 1)
    started_s = time.monotonic()
    try:
        if control:
            return {"caught": shard.control(job)}
        job.spread(shard.run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "count": job.count,
        "unit": shard.unit,
        "seconds": round(time.monotonic() - started_s, 1),
        "workers": job.workers,
        "found": job.found,
        "notes": job.notes,
    }


def in_process(name: str, seed: int, seconds: float, *, workers: int = 1, control: bool = False) -> dict[str, Any]:
    """The same in a process of its own.

    Raises:
        AssertionError: It failed, a control that was not caught included.
    """
    command = [sys.executable, "-m", "tests.proof.run", "--only", name, "--seed", str(seed), "--seconds", str(seconds)]
    command += ["--workers", str(workers)]
    done = subprocess.run(
        [*command, *(["--control"] if control else [])],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    # What is noted is published: where the checkout lies is nobody's business.
    said = done.stderr.decode(errors="replace").replace(f"{ROOT}/", "")
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{said[-4000:]}"
    result: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    return result


def everything(seed: int, minutes: float, names: list[str], workers: int) -> int:
    """Run the shards one after the other, then note what was done; returns the exit code.

    The deliberate bugs come first, and what they leave of the time is shared out; they leave half of it at least.
    """
    can = {n: SHARDS[n] for n in names if not missing(SHARDS[n])}
    for name in names:
        if name not in can:
            print(f"{name:12} left out: {missing(SHARDS[name])}", flush=True)
    weights = sum(s.weight for s in can.values())
    print(f"seed {seed}, {minutes:g} minutes, {workers} workers", flush=True)
    entry: dict[str, Any] = {
        "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "version": __version__,
        "revision": _revision(),
        "seed": seed,
        "minutes": minutes,
        "shards": {},
    }
    begun_s = time.monotonic()
    results = {name: _controlled(name, seed) for name in can}
    spent_s = time.monotonic() - begun_s
    print(f"deliberate bugs: {spent_s:.0f} s", flush=True)
    left_s = max(minutes * 60 - spent_s, minutes * 60 * LEAST_SHARE)
    for name, shard in can.items():
        result = results[name]
        try:
            done = in_process(name, seed, left_s * shard.weight / weights, workers=workers)
            result |= done | {"found": [*done["found"], *result["found"]]}
        except AssertionError as e:
            result["found"].append(str(e))
        entry["shards"][name] = result
        caught = f", caught: {', '.join(result.get('caught', []))}" if result.get("caught") else ""
        print(f"{name:12} {result['count']:,} {result['unit']} in {result['seconds']} s{caught}", flush=True)
        for line in result["found"]:
            print(f"  FOUND {line}", flush=True)
    failed = any(result["found"] for result in entry["shards"].values())
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    with LEDGER.open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return 1 if failed else 0


def _controlled(name: str, seed: int) -> dict[str, Any]:
    """A result without anything done but its deliberate bugs."""
    result: dict[str, Any] = {"count": 0, "unit": SHARDS[name].unit, "seconds": 0.0, "found": [], "notes": {}}
    try:
        result["caught"] = in_process(name, seed, 10.0, control=True)["caught"]
    except AssertionError as e:
        result["found"].append(str(e))
    return result


def _revision() -> str:
    git = ["git", "-C", str(LEDGER.parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, check=True).stdout.decode().strip()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        return ""


def main() -> int:
    """Parse the arguments and run; returns the exit code."""
    parser = argparse.ArgumentParser(description="Run the proof harnesses.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0, help="0 = a random one, which is printed")
    parser.add_argument("--shards", default="", help="names, separated by commas; all by default")
    parser.add_argument("--only", default="", help="run this one shard here and print its result")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=1, help="processes of a shard side by side; 0 = one a core")
    parser.add_argument("--control", action="store_true")
    given = parser.parse_args()
    seed = given.seed or random.SystemRandom().randrange(1, 1 << 31)
    workers = given.workers or len(os.sched_getaffinity(0))
    if given.only:
        print(json.dumps(one(given.only, seed, given.seconds, workers=workers, control=given.control)))
        return 0
    names = given.shards.split(",") if given.shards else list(SHARDS)
    unknown = [n for n in names if n not in SHARDS]
    if unknown:
        parser.error(f"no such shard: {', '.join(unknown)}; there are {', '.join(SHARDS)}")
    return everything(seed, given.minutes, names, workers)


if __name__ == "__main__":
    sys.exit(main())
