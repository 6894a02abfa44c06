"""[P] Bytes changed a little: flipped, cut, doubled, with pieces put in that mean something where they stand."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["spoil"]


def spoil(rand: random.Random, seeds: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    """Change one of the seeds, or two in a row, a little.

    Args:
        rand: All randomness comes from it.
        seeds: What is changed.
        pieces: What is put in.
    """
    data = bytearray(rand.choice(seeds))
    if rand.random() < 0.3:
        data += rand.choice(seeds)
    for _ in range(rand.choice((1, 1, 2, 4))):
        at = rand.randrange(len(data) + 1)
        kind = rand.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rand.randrange(8)
        elif kind == 1:
            data[at:at] = rand.choice(pieces)
        elif kind == 2:
            del data[at : at + rand.choice((1, 2, 8))]
        elif kind == 3:
            data[at : at + 4] = rand.choice(pieces)
        else:
            start = rand.randrange(len(data) + 1)
            data[at:at] = data[start : start + rand.choice((1, 4, 40))]
    return bytes(data)
