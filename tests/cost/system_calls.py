"""System calls per event, counted by strace over the whole daemon, all threads."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.cost.turns import daemon_command, turns
from tests.support.daemon import eventually

__all__ = ["system_calls"]

WARM, COUNTED = 20, 150
# How often threads wait for each other, and how often a loop looks up, is a matter of timing.
NOT_COUNTED = "futex,?epoll_wait,epoll_pwait,?epoll_pwait2,sched_yield,restart_syscall,clock_nanosleep,rt_sigreturn"
_CALL = re.compile(r"^\d+ +(\w+)\(")


def system_calls(folder: Path, *, deliver: bool, worse: bool = False) -> tuple[float, dict[str, float]]:
    """Calls per event, and the same by name, most first."""
    log = folder / "strace"
    # -D: the daemon is our child and strace its grandchild, so that what we kill is the daemon.
    strace = ("strace", "-D", "-f", "-q", "-s", "64", "-e", f"trace=!{NOT_COUNTED}", "-o", str(log))
    env = {"WORSE": "1"} if worse else {}
    with turns(folder, daemon_command(*strace), deliver=deliver, env=env) as sender:
        sender.take(WARM)
        sender.mark("mark-begin")
        sender.take(COUNTED)
        sender.mark("mark-end")
        ended = re.compile(rf"^{sender.daemon.pid} +\+\+\+ killed", re.MULTILINE)
        sender.daemon.kill()
        # strace writes the rest of its file when the last thread is gone.
        eventually(lambda: ended.search(log.read_text(errors="replace")[-4000:]), 30, "strace to end")
    lines = log.read_text(errors="replace").splitlines()
    begin, end = (next(i for i, line in enumerate(lines) if f"GET /{m} " in line) for m in ("mark-begin", "mark-end"))
    found = Counter(m[1] for line in lines[begin + 1 : end] if (m := _CALL.match(line)))
    return found.total() / COUNTED, {call: round(n / COUNTED, 2) for call, n in found.most_common()}
