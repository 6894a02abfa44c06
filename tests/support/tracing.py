"""Whether strace may trace here: containers often forbid it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

__all__ = ["needs_strace"]


def _traceable() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


needs_strace = pytest.mark.skipif(
    not _traceable(), reason="strace is missing or may not trace here: sh scripts/install_test_tools.sh, CAP_SYS_PTRACE"
)
