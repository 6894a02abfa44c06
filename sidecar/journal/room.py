"""How full the journal and its disk are, and whether arrivals are taken.

A part of the journal is kept free for settling, so that delivering goes on when receiving cannot. Measured after each
so many bytes and once a second, on the writer thread; the event loop only reads the attributes.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

import lmdb

from sidecar.clock import Clock
from sidecar.journal.environment import Environment
from sidecar.journal.limits import MIN_RESERVE_BYTES, early_fill, limit_bytes, reserve_bytes
from sidecar.log import Level, get_logger
from sidecar.model import Refusal

__all__ = ["MEASURE_EVERY_S", "Lack", "Room"]

log = get_logger("journal")

MEASURE_EVERY_S = 1.0
MEASURE_AFTER_BYTES = 2 << 20
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Lack(NamedTuple):
    """What is full, for the log, and what a person does about it. The answer is the same, ``storage_full``."""

    what: str
    hint: str


_OF_MAP = Lack(
    "the journal is full", "see who is owed so much: webhook-sidecar status; or raise journal.max_size and restart"
)
_OF_DISK = Lack(
    "the journal's disk is full",
    "free some of it, or grow it or its quota: the room is used at once, without a restart",
)


class Room:
    """The room of one open journal.

    Attributes:
        refusal: Why arrivals are refused now; None while they are taken.
        used_bytes: In pages of all tables.
        disk_free_bytes: For us, on the journal's file system.
        limit_bytes: What the map and the disk let the journal hold.
        filling: So much is used that finished events go before their time.
    """

    def __init__(self, environment: Environment, clock: Clock) -> None:
        self._environment = environment
        self._clock = clock
        self._grown_bytes = 0
        self._next_s = 0.0
        # Often enough that pruning begins before the reserve is reached, in a small journal, too.
        self._measure_after_bytes = min(MEASURE_AFTER_BYTES, environment.capacity_bytes // 50)
        self.refusal: Refusal | None = None
        self.used_bytes = 0
        self.disk_free_bytes = 0
        self.limit_bytes = environment.capacity_bytes
        self.filling = False
        self.measure()

    @property
    def fill(self) -> float:
        """Used share of what the map and the disk let it hold, 0.0 to 1.0."""
        return self.used_bytes / self.limit_bytes

    def grew(self, by_bytes: int, now_s: float) -> None:
        """Note what a commit brought in, and measure where it is time to (monotonic clock)."""
        self._grown_bytes += by_bytes
        if now_s >= self._next_s or self._grown_bytes > self._measure_after_bytes or self.filling:
            self.measure()

    def measure(self) -> None:
        """Look how full it is; from then on arrivals are taken, or refused, accordingly."""
        environment = self._environment
        with environment.env.begin() as txn:
            self.used_bytes = environment.used_bytes(txn)
        self._grown_bytes = 0
        self._next_s = self._clock.monotonic_s() + MEASURE_EVERY_S
        self._measure_disk()
        self.limit_bytes = limit_bytes(environment.capacity_bytes, environment.file_bytes(), self.disk_free_bytes)
        reserve = reserve_bytes(self.limit_bytes)
        self.filling = self.fill > early_fill(self.limit_bytes, reserve)
        full = self.used_bytes > self.limit_bytes - reserve
        was, self.refusal = self.refusal, Refusal.STORAGE_FULL if full else None
        if was is None and full:
            lack = _OF_DISK if self.limit_bytes < environment.capacity_bytes else _OF_MAP
            self._say("warning", lack, "answering 503")
        elif was is not None and not full:
            log.info("the journal has room again", used_bytes=self.used_bytes)

    def _measure_disk(self) -> None:
        s = os.statvfs(self._environment.path)
        self.disk_free_bytes = s.f_bavail * s.f_frsize

    def overflowed(self, *, disk: bool) -> Lack:
        """Refuse arrivals from now on: a transaction did not fit into the map, or onto the disk."""
        self.refusal = Refusal.STORAGE_FULL
        self._measure_disk()
        lack = _OF_DISK if disk else _OF_MAP
        self._say("error", lack, "a transaction did not fit")
        return lack

    def _say(self, level: Level, lack: Lack, then: str) -> None:
        log.limited(
            then,
            level,
            f"{lack.what}: {then}",
            used_bytes=self.used_bytes,
            disk_free=self.disk_free_bytes,
            hint=lack.hint,
        )

    def is_missing(self, error: BaseException) -> bool:
        """Whether an error of a transaction means that the disk is full.

        LMDB reports a short write as an I/O error, so the file system is asked, not the error alone.
        """
        if isinstance(error, OSError) and error.errno in _FULL_ERRNOS:
            return True
        if isinstance(error, lmdb.PanicError):
            return False
        self._measure_disk()
        return self.disk_free_bytes < MIN_RESERVE_BYTES // 2 or any(
            os.strerror(code) in str(error) for code in _FULL_ERRNOS
        )
