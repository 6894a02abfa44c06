"""How malloc keeps what we have freed, so that memory follows what is in use and not the largest body of last week."""

from __future__ import annotations

import ctypes
import os

__all__ = ["give_back"]

_KIB = 1024
# By the names and numbers of glibc's malloc.h: option, the variable by which an operator sets it, bytes or count.
_OPTIONS = (
    # By default the first large piece that is freed raises this to its own size, up to 32 MiB. From then on bodies lie
    # between small things that stay, and the holes that they leave are kept: half of all memory in a soak, and growing.
    (-3, "MALLOC_MMAP_THRESHOLD_", 128 * _KIB),
    # Set together: at 128 KiB, where it stays when the first is set, batches give the top back and ask for it again. An
    # ack costs 6 to 10 % more CPU then.
    (-1, "MALLOC_TRIM_THRESHOLD_", 1024 * _KIB),
    # One heap for all threads: what one frees another uses. They take turns anyway, by Python's lock.
    (-8, "MALLOC_ARENA_MAX", 1),
)


def give_back() -> None:
    """Have malloc return freed pieces of 128 KiB and more to the machine at once; small ones stay at hand.

    To be called before there is a second thread. What the environment sets stays as it is. A C library without
    ``mallopt`` is left alone: musl returns large pieces by itself.

    Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for option, variable, value in _OPTIONS:
        if variable not in os.environ:
            mallopt(option, value)
