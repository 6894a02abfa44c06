"""Memory follows what is in use."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

PIECES = 64  # of 1 MiB
CHILD = """
import sys
from sidecar.daemon.memory import give_back
from tests.support.senders import rss_kib
import os

if sys.argv[1] == "ours":
    give_back()
bytes(8 << 20)  # large, and freed at once: malloc takes that as a hint
before = rss_kib(os.getpid())
bodies, kept = [], []
for _ in range(int(sys.argv[2])):
    bodies.append(b"x" * (1 << 20))
    kept.append(b"x" * 20_000)
bodies.clear()
print(rss_kib(os.getpid()) - before)
"""

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt") or sys.platform != "linux", reason="this C library has no mallopt"
)


def kept_mib(who: str, **environment: str) -> float:
    """What a process still has of its large pieces, freed, with small ones between them that it needs."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, who, str(PIECES)],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(done.stdout) / 1024


def test_what_was_freed_goes_back_to_the_machine():
    assert kept_mib("ours") < 4


def test_the_control_a_process_that_leaves_malloc_alone_keeps_it():
    assert kept_mib("default") > PIECES / 2


def test_what_an_operator_sets_is_left_alone():
    assert kept_mib("ours", MALLOC_MMAP_THRESHOLD_=str(16 << 20)) > PIECES / 2
