"""The daemon with deliberate bugs, named by an environment variable: it asks for no token, or takes every Host for its own."""

from __future__ import annotations

import os
import sys

from sidecar.__main__ import main
from sidecar.admin import server
from sidecar.admin.auth import Gate

BUG = os.environ["ADMIN_BUG"]
if BUG == "no token":
    Gate.knows = lambda *_: True
else:
    Gate.is_our_host = lambda *_: True
    server.is_address = lambda _: True
if __name__ == "__main__":
    sys.exit(main())
