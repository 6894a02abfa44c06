"""The daemon with deliberate bugs, named by an environment variable: it logs, counts or remembers what strangers send."""

from __future__ import annotations

import os
import sys

from sidecar.__main__ import main
from sidecar.inbound.receive import Receiver
from sidecar.log import Logger

head = Receiver.head
remembered = []


def limited(self, key, level, msg, **fields):
    self._log(level, msg, fields)


def head_with_a_bug(self, request):
    if BUG == "series":
        self._metrics.received.inc(request.path.decode("latin-1"), "not_found")
    else:
        remembered.append(bytearray(4000))
    return head(self, request)


BUG = os.environ["PROOF_FLOOD_BUG"]
if BUG == "lines":
    Logger.limited = limited
else:
    Receiver.head = head_with_a_bug
if __name__ == "__main__":
    sys.exit(main())
