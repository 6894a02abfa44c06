"""`make cost`: every count as it is now, beside the one in ``costs.COSTS``; instructions, too, where valgrind is installed."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.cost.costs import COSTS
from tests.cost.function_calls import function_calls
from tests.cost.instructions import instructions
from tests.cost.lmdb_calls import lmdb_calls
from tests.cost.size import awakenings, idle, installed_mib, loaded_modules, wheel_kib
from tests.cost.system_calls import system_calls

MEASURES: dict[str, Callable[[Path], float]] = {
    "system calls, acked": lambda f: system_calls(f, deliver=False)[0],
    "system calls, acked and delivered": lambda f: system_calls(f, deliver=True)[0],
    "function calls, acked": lambda f: function_calls(f, deliver=False)[0],
    "function calls, acked and delivered": lambda f: function_calls(f, deliver=True)[0],
    "LMDB calls, 64 arrivals": lambda f: asyncio.run(lmdb_calls(f)).total(),
    "LMDB calls, 64 arrivals and 64 settlements": lambda f: asyncio.run(lmdb_calls(f, settle=True)).total(),
    "LMDB calls, 64 arrivals to three destinations": lambda f: asyncio.run(
        lmdb_calls(f, destinations=("app", "mail", "audit"))
    ).total(),
    "instructions, acked": lambda _: instructions(deliver=False),
    "instructions, acked and delivered": lambda _: instructions(deliver=True),
    "wheel": wheel_kib,
    "installed, with all it needs": lambda _: installed_mib(),
    "modules loaded by run": lambda f: len(loaded_modules(f)),
    "anonymous memory, idle": lambda f: idle(f)[0],
    "CPU from exec to ready": lambda f: idle(f)[1],
    "awakenings, idle": awakenings,
}
NEEDS = {"system calls": "strace", "instructions": "valgrind"}


def main() -> int:
    """Print a line for each; 1 when one is over."""
    over = False
    for name, cost in COSTS.items():
        tool = next((tool for what, tool in NEEDS.items() if name.startswith(what)), None)
        if tool and not shutil.which(tool):
            print(f"{name}: not counted, {tool} is not installed")
            continue
        with tempfile.TemporaryDirectory(prefix="cost-") as folder:
            found = MEASURES[name](Path(folder))
        word = "OVER" if found > cost.most else "could be lowered" if found < cost.value * 0.97 else ""
        over = over or found > cost.most
        print(
            f"{name}: {found:.4g} {cost.unit}, table {cost.value:.4g}, most {cost.most:.4g} {word}".rstrip(), flush=True
        )
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
