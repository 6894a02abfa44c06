"""Coverage-guided search: inputs that reach new branches of our code are changed further (libFuzzer, by atheris).

``decoders`` and ``http_fuzz`` change good input blindly and fast; this one finds what stands behind a comparison. Each
target has a process of its own, from ``tests.proof.guided.fuzz``, which alone imports atheris.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from tests.proof.shard import Job, Shard
from tests.support.daemon import REPOSITORY

LEAST_S = 30
"""Less time than that is for a look at each target: making seeds and instrumenting takes some of it."""
LOOK_RUNS = 1_000


def searched(job: Job, name: str, seconds: int, *flags: str) -> dict[str, dict[str, Any]]:
    """Search for some seconds per target, at most; returns for each what came of it."""
    command = [sys.executable, "-m", "tests.proof.guided.fuzz", str(job.folder / name)]
    limits = ["--seconds", str(max(1, seconds)), "--seed", str(job.seed)]
    done = subprocess.run(
        [*command, *limits, *flags], cwd=REPOSITORY, capture_output=True, check=False, timeout=600 + 20 * seconds
    )
    if done.returncode:
        raise AssertionError(f"the search ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    results: dict[str, dict[str, Any]] = json.loads(done.stdout.decode().splitlines()[-1])
    return results


def run(job: Job) -> None:
    """Search all targets, each for its share of the time."""
    from tests.proof.guided.targets import TARGETS

    begun_s = time.monotonic()
    look = job.seconds < LEAST_S
    seconds = 1 if look else int(job.seconds / len(TARGETS))
    results = searched(job, "all", seconds, *(("--runs", str(LOOK_RUNS)) if look else ()))
    for name, result in results.items():
        job.count += result["count"]
        job.note(f"{name} executions", result["count"])
        job.note(f"{name} edges", result["edges"])
        job.note(f"{name} inputs for new code", result["new"])
        if result["wrong"]:
            job.found.append(f"seed {job.seed}: {result['wrong']}")
    job.note("seconds", int(time.monotonic() - begun_s))


def control(job: Job) -> list[str]:
    """An error behind four bytes, which guessing would not find in a lifetime; signatures that all agree; secrets shown."""
    found = searched(job, "guided", 60, "--targets", "stored", "--plant", "behind_four_bytes")["stored"]
    assert "planted" in found["wrong"], f"behind_four_bytes: {found['count']} inputs, and nothing was wrong"
    blind = searched(job, "blind", 60, "--targets", "stored", "--plant", "behind_four_bytes", "--blind",
                     "--runs", str(found["count"] + 100_000))["stored"]  # fmt: skip
    assert not blind["wrong"], f"without coverage it is found too: {blind['wrong']}"
    found = searched(job, "forged", 60, "--targets", "signature", "--plant", "any_signature")["signature"]
    assert "a changed body is accepted" in found["wrong"], f"any_signature: {found}"
    found = searched(job, "shown", 60, "--targets", "configuration", "--plant", "shown_secret")["configuration"]
    assert "AssertionError" in found["wrong"], f"shown_secret: {found}"
    return [
        "an undocumented error behind four bytes, which blind search does not find",
        "every signature matches",
        "no value of a configuration is a secret",
    ]


SHARD = Shard(
    "guided",
    ("P3", "P8", "P9", "P11", "P19", "P21"),
    "guided executions",
    run,
    control,
    weight=3.0,
    modules=("atheris",),
)
