"""Draws a delivery's life from the lifecycle's table into ``docs/architecture.md``, between its markers."""

from __future__ import annotations

from pathlib import Path

from sidecar.lifecycle import TABLE
from sidecar.model import State

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
BEGIN = "<!-- state diagram: begin; written by scripts/state_diagram.py -->\n"
END = "<!-- state diagram: end -->\n"


def diagram() -> str:
    """Make the Mermaid text: one arrow for each pair of states, with every change that leads along it."""
    arrows: dict[tuple[State, State], list[str]] = {(State.ABSENT, State.PENDING): ["append"]}
    for (state, change), target in TABLE.items():
        arrows.setdefault((state, target), []).append(change.value)
    lines = ["```mermaid", "stateDiagram-v2"]
    for (state, target), changes in arrows.items():
        start = "[*]" if state is State.ABSENT else state.word
        lines.append(f"    {start} --> {target.word}: {', '.join(changes)}")
    return "\n".join([*lines, "```", ""])


def architecture() -> str:
    """Give the whole page with the diagram of today.

    Raises:
        ValueError: the page has lost a marker.
    """
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} must have the two markers of the state diagram")
    return before + begin + diagram() + end + after
