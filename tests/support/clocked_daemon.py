"""The daemon with a wall clock that a test sets: seconds since the epoch, in the file that TEST_MOMENT_FILE names."""

from __future__ import annotations

import os
import sys

from sidecar import clock
from sidecar.__main__ import main

_MOMENT = os.environ["TEST_MOMENT_FILE"]


def _wall_ms(self: clock.Clock) -> int:
    del self
    with open(_MOMENT, encoding="ascii") as f:
        return int(float(f.read()) * 1000)


if __name__ == "__main__":
    clock.Clock.wall_ms = _wall_ms  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
