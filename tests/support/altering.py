"""The daemon with deliberate bugs, named by an environment variable.

JSON is read and written again, what is packed is unpacked, or headers are sorted.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import sys

from sidecar.__main__ import main
from sidecar.inbound.receive import Receiver

complete = Receiver.complete


def complete_with_a_bug(self, head, context, body, reply):
    if os.environ["ALTERING_BUG"] == "json":
        with contextlib.suppress(ValueError):
            body = json.dumps(json.loads(body)).encode()
    elif os.environ["ALTERING_BUG"] == "inflate":
        with contextlib.suppress(OSError, EOFError):
            body = gzip.decompress(body)
    else:
        head.headers.sort()
    complete(self, head, context, body, reply)


Receiver.complete = complete_with_a_bug
if __name__ == "__main__":
    sys.exit(main())
