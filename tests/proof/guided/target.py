"""What a coverage-guided search works on: where it begins, and who judges what it comes up with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

__all__ = ["Make", "Target"]


class Target(NamedTuple):
    """One decoder under search.

    Attributes:
        seeds: Inputs to begin with.
        judge: Says what is wrong about one input, "" when nothing is; what it raises is wrong too.
        words: Pieces that are worth trying anywhere.
        max_bytes: No input is longer.
    """

    seeds: list[bytes]
    judge: Callable[[bytes], str]
    words: tuple[bytes, ...] = ()
    max_bytes: int = 4096


Make = Callable[[Path], Target]
"""Makes a target; gets an empty folder of its own."""
