"""How a request and its tries are written for people; secrets were masked where the value was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar.cli.output import say
from sidecar.log import safe_text

__all__ = ["show_attempts", "show_request"]

_MAX_BODY = 4096


def show_request(shown: dict[str, Any]) -> None:
    """Write request line, headers and the beginning of the body."""
    say("")
    query = f"?{shown['query']}" if shown["query"] else ""
    say(f"{shown['method']} {shown['path']}{query}")
    for name, value in shown["headers"]:
        say(f"{name}: {value}")
    say("")
    if "body" in shown:
        text = "\n".join(safe_text(line, _MAX_BODY) for line in shown["body"][:_MAX_BODY].splitlines())
        say(text)
        rest = shown["body_bytes"] - len(shown["body"][:_MAX_BODY].encode("utf-8", "surrogatepass"))
        if rest > 0:
            say(f"... {rest:,} more bytes")
    else:
        say(f"({shown['body_bytes']:,} bytes that are not text; --json shows them in base64)")


def show_attempts(log: Sequence[dict[str, Any]]) -> None:
    """Write one line for each try."""
    for a in log:
        replay = f" replay {a['round']}" if a["round"] else ""
        status = a["status"] if a["status"] is not None else a["outcome"]
        say(f"  #{a['number']}{replay}  {a['started_at']}  {a['duration_ms']:,} ms  {status}  {a['error']}".rstrip())
