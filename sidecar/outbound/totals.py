"""What the folders of dead letters hold, kept in memory beside the files, and counted anew when people had their hands in."""

from __future__ import annotations

import contextlib
import os
import stat

import msgspec

from sidecar.outbound.folder import FolderTotals, count, folders, mtime_ms, opened

__all__ = ["Totals"]


class Totals:
    """Count, bytes and oldest file of each folder. Not safe by itself: whoever uses it from several threads locks.

    Args:
        path: The directory.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._by_folder: dict[str, FolderTotals] = {}
        self._stale: set[str] = set()  # folders whose oldest file may be another one by now

    @property
    def bytes(self) -> int:
        """All files together."""
        return sum(t.bytes for t in self._by_folder.values())

    @property
    def oldest_unsure(self) -> bool:
        """Whether an oldest file was removed, so that counting anew would find another one."""
        return bool(self._stale)

    def copy(self) -> dict[str, FolderTotals]:
        """Those of each folder, as of now."""
        return {name: msgspec.structs.replace(t) for name, t in self._by_folder.items()}

    def written(self, folder: str, before: int, after: int, died_at_ms: int) -> None:
        """A file was written: so many bytes before (0 = it is new) and after."""
        totals = self._by_folder.setdefault(folder, FolderTotals())
        totals.count += not before
        totals.bytes += after - before
        totals.oldest_ms = died_at_ms if totals.oldest_ms is None else min(totals.oldest_ms, died_at_ms)

    def removed(self, folder: str, status: os.stat_result) -> None:
        """A file was removed that was like this."""
        totals = self._by_folder.get(folder)
        if totals is None or not stat.S_ISREG(status.st_mode):
            return
        totals.count -= 1
        totals.bytes -= status.st_size
        if totals.oldest_ms is not None and mtime_ms(status) <= totals.oldest_ms:
            self._stale.add(folder)
        if totals.count <= 0:
            self._by_folder[folder] = FolderTotals()
            self._stale.discard(folder)

    def recount(self, *, sweep: bool) -> None:
        """Count what is there.

        Args:
            sweep: Remove what a crash left of unfinished files. Only while nobody writes.
        """
        counted: dict[str, FolderTotals] = {}
        with contextlib.suppress(OSError), opened(self._path) as base:
            for name in folders(base):
                with contextlib.suppress(OSError), opened(name, base) as folder:
                    counted[name] = count(folder, sweep=sweep)
        self._by_folder = counted
        self._stale.clear()
