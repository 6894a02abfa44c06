"""The daemon with deliberate bugs: no timer of bodies, a budget that never ends, a look at the clocks that takes its time."""

from __future__ import annotations

import sys
import time

from sidecar.__main__ import main
from sidecar.inbound.body import Body, Budget
from sidecar.inbound.shared import Shared

tick = Shared.tick


def never_late(self, options, now_s):
    return now_s + 3600.0


def no_end(self, size, large):
    self.used += size
    self.large += size if large else 0
    return True


def slow_tick(self):
    time.sleep(0.001 * len(self.order))
    tick(self)


Body.next_check_s = never_late
Budget.take = no_end
Shared.tick = slow_tick
if __name__ == "__main__":
    sys.exit(main())
