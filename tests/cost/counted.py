"""The daemon, counting every function that its event loop's thread calls: Python's own and C's.

On SIGUSR1 it writes the counts so far into the file that ``COUNTS`` names: function to calls. With ``WORSE`` set it has a
deliberate regression, so that a check can show that it would notice: for each event one more system call, and a dictionary
of its headers that nobody needs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from types import FrameType
from typing import Any

from sidecar.__main__ import main
from sidecar.journal import Journal

calls: Counter[Any] = Counter()  # code object or built-in function to calls
honest = Journal.append


def count(frame: FrameType, event: str, function: Any) -> None:
    """Be told of each call and return."""
    if event == "call":
        calls[frame.f_code] += 1
    elif event == "c_call":
        calls[function] += 1


def name(function: Any) -> str:
    """A function's name, for people."""
    code = getattr(function, "co_qualname", None)
    if code is None:
        return f"{getattr(function, '__module__', None) or ''}.{getattr(function, '__qualname__', function)}"
    return f"{os.path.basename(function.co_filename)}:{code}"


def tell(*_: object) -> None:
    """Write the counts down; the file appears whole."""
    sys.setprofile(None)
    named: Counter[str] = Counter()
    for function, n in calls.items():
        named[name(function)] += n
    path = os.environ["COUNTS"]
    with open(path + ".new", "w", encoding="utf-8") as f:
        json.dump(named, f)
    os.rename(path + ".new", path)
    sys.setprofile(count)


def worse(self: Journal, event: Any, *arguments: Any) -> None:
    """Append, with work that nobody asked for."""
    os.stat("/")
    headers = {}
    for key, value in event.headers:
        headers[key.decode("latin-1").lower()] = value.decode("latin-1").strip()
    honest(self, event, *arguments)


if __name__ == "__main__":
    if os.environ.get("WORSE"):
        Journal.append = worse  # type: ignore[method-assign, assignment]
    if "COUNTS" in os.environ:
        signal.signal(signal.SIGUSR1, tell)
        sys.setprofile(count)
    sys.exit(main())
