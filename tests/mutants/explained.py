"""[P] Mutants that may survive, each with the reason: mostly because the module does the same with the change."""

from __future__ import annotations

__all__ = ["EXPLAINED"]

EXPLAINED: dict[str, dict[str, str]] = {}
