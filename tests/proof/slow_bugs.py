"""The daemon with deliberate bugs, named by an environment variable: no timer of bodies, or a budget that never ends."""

from __future__ import annotations

import os
import sys

from sidecar.__main__ import main
from sidecar.inbound.body import Body, Budget


def never_late(self, options, now_s):
    return now_s + 3600.0


def no_end(self, size, large):
    self.used += size
    self.large += size if large else 0
    return True


if os.environ["PROOF_SLOW_BUG"] == "no timer":
    Body.next_check_s = never_late
else:
    Budget.take = no_end
if __name__ == "__main__":
    sys.exit(main())
