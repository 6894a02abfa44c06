"""The command line with a deliberate bug: nothing that it writes is made harmless."""

from __future__ import annotations

import sys

from sidecar import log

log.safe_text = lambda text, limit=256: text

from sidecar.__main__ import main  # noqa: E402
from sidecar.cli import output  # noqa: E402

output.clean = lambda text: text
if __name__ == "__main__":
    sys.exit(main())
