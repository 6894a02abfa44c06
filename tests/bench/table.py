"""[P] The table of a run: measured, budget, ratio, met or not; as rows, as text, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.budgets import BUDGETS, Budget

__all__ = ["Row", "as_markdown", "as_text", "rows", "shown"]

HEADS = ("what", "measured", "budget", "ratio", "met", "goal")


@dataclass(frozen=True)
class Row:
    """One figure beside its budget; ``ratio`` is measured / budget."""

    what: str
    unit: str
    goal: str
    measured: float
    budget: float
    met: bool

    @property
    def ratio(self) -> float:
        """Measured / budget; infinite for a budget of nothing."""
        return self.measured / self.budget if self.budget else float("inf")

    def cells(self) -> tuple[str, ...]:
        """What is printed."""
        return (
            self.what,
            f"{shown(self.measured)} {self.unit}",
            f"{shown(self.budget)} {self.unit}",
            f"{self.ratio:.2f}",
            "yes" if self.met else "no",
            self.goal,
        )


def rows(results: Mapping[str, Any], budgets: Sequence[Budget] = BUDGETS) -> list[Row]:
    """Judge what a run found; scenarios that it left out have no row."""
    found = []
    for b in budgets:
        if b.scenario in results:
            measured, budget = b.measured(results[b.scenario]), b.budget(results[b.scenario])
            met = measured >= budget if b.at_least else measured <= budget
            found.append(Row(b.what, b.unit, b.goal, measured, budget, met))
    return found


def shown(value: float) -> str:
    """Three digits that count, and no more."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def as_text(table: Sequence[Row]) -> str:
    """For a terminal."""
    lines = [HEADS, *(r.cells() for r in table)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADS))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def as_markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """For a page: the first column is text, the others are figures."""
    rule = ["---", *("--:" for _ in heads[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *lines))
