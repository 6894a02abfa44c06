"""Bytes that somebody sends to reach the terminal, the log or the reader of whoever looks at them."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["BODIES", "HEADERS", "KEYS", "harm"]

ESC = "\x1b"
_SEQUENCES = (
    f"{ESC}[31mred{ESC}[0m",
    f"{ESC}[2J{ESC}[H",
    f"{ESC}[8m hidden",
    f"{ESC}]0;title\x07",
    f"{ESC}]52;c;cm0gLXJmIH4=\x07",
    f"{ESC}]8;;http://evil.example{ESC}\\click{ESC}]8;;{ESC}\\",
    f"{ESC}P$qm{ESC}\\",
    f"{ESC}_application{ESC}\\",
    f"{ESC}c",
)
_UNSEEN = (
    "\x9b31mC1",
    "\x9d0;title\x9c",
    "\u202egnp.exe",
    "\u2066left\u2069",
    "zero\u200bwidth\u200d\ufeff",
    "\u2028line\u2029",
    "\U000e0041tag",
    "\ue000private",
    "\x00nul",
    "\x7f\x08\x08del",
)
_LINES = ('ok\r\n{"ts":"2026-01-01T00:00:00Z","level":"error","msg":"forged"}', "over\rwritten", "\x0b\x0c\x85next")
_MARKUP = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "${jndi:ldap://x}", "%s%n{0}", "`id`")

KEYS = (*_SEQUENCES, *_UNSEEN, *_LINES, *_MARKUP)
"""As text: what stands in ids and keys."""
BODIES = (
    *(k.encode() for k in KEYS),
    b"\xff\xfe\x80 not UTF-8",
    b"\xc0\x9b overlong",
    b"\x9b31m raw C1",
    b"x" * 300_000,
)
"""As bytes: what stands in bodies."""
HEADERS = tuple(b for b in BODIES if len(b) < 1000 and not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", b))
"""Those that the listener lets through as the value of a header."""

_OUR_WORDS = re.compile(
    "\x1b\\[(31|32|33|90)m(delivered|ok|pending|dying|held|warn|dead|fail|discarded|redirected)\x1b\\[0m"
)
_PROGRESS = re.compile("\r\x1b\\[K(\\[[# ]+\\] )?[0-9,./a-z: ]*")


def harm(shown: str) -> list[str]:
    """What reached a terminal and should not have: everything that is no text, no line and no colour of our own."""
    rest = _PROGRESS.sub("", _OUR_WORDS.sub("", shown)).replace("\r\n", "\n")
    return [
        f"{c!r} in {rest[max(0, at - 30) : at + 30]!r}"
        for at, c in enumerate(rest)
        if c not in "\n\t" and (c == "\ufffd" or unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
    ]
