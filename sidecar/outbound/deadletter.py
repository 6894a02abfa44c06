"""The DLQ directory: write, list, read and remove dead letters, so that every crash leaves whole files only.

``<path>/<destination>/<event id>.json``. Everything goes through directory handles that follow no link; names are made
of configured words and our own ids, never of what a sender said. Blocking: the daemon calls it from threads of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Sequence

import msgspec

from sidecar.errors import SidecarError
from sidecar.model import Delivery, parse_event_id
from sidecar.outbound.folder import (
    DESTINATION,
    DIRECTORY,
    FolderTotals,
    Problem,
    contents,
    event_ids,
    folders,
    make_durably,
    open_own,
    opened,
    problem_of,
    replace_file,
    size_of,
)
from sidecar.outbound.letter import HEAD_BYTES, Head, Letter, Malformed, encode, parse, parse_head
from sidecar.outbound.totals import Totals

__all__ = [
    "DeadLetterOptions",
    "DeadLetters",
    "FolderTotals",
    "Listed",
    "Problem",
    "Reading",
    "Written",
]

_MOST_BYTES = 256 << 20  # a file larger than any letter of ours is not read


class DeadLetterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where dead letters go and how much room they have.

    Attributes:
        path: Directory; made with mode 0700 when missing.
        max_size_bytes: All files together; beyond it deliveries that died wait for room.
    """

    path: str = "data/dead-letters"
    max_size_bytes: int = 1 << 30


class Reading(msgspec.Struct):
    """What reading one file gave.

    Attributes:
        letter: Its content wherever it is a dead letter at all, also when it is not to be trusted.
        problem: None when name, folder, id and seal agree.
    """

    letter: Letter | None
    problem: Problem | None


class Written(msgspec.Struct, frozen=True):
    """What became of one letter.

    Attributes:
        done: The file is durable under its name.
        full: There was no room within the quota, or on the disk.
        error: What the system said; "" when it was not asked or did not complain.
    """

    done: bool
    full: bool = False
    error: str = ""


class Listed(msgspec.Struct, frozen=True):
    """One row of a listing.

    Attributes:
        destination: The folder.
        event_id: The name without its ending.
        bytes: Size of the file.
        head: Its short fields; None when they cannot be read.
        problem: Why not. A listing does not check seals.
    """

    destination: str
    event_id: str
    bytes: int
    head: Head | None
    problem: Problem | None = None


class DeadLetters:
    """The directory, with its quota and its totals. Safe to use from several threads.

    Args:
        options: Where and how much.
        key: The journal's MAC key.
    """

    def __init__(self, options: DeadLetterOptions, key: bytes) -> None:
        self.options = options
        self._key = key
        self._lock = threading.RLock()  # one writer at a time, and totals that agree with the files
        self._totals = Totals(options.path)

    def open(self) -> None:
        """Make the directory where it is missing, see that it is ours and can be written, and count what it holds.

        Raises:
            SidecarError: it cannot be used; says why and what to do.
        """
        path = self.options.path
        try:
            make_durably(path)
            base = os.open(path, DIRECTORY)
        except OSError as e:
            raise _unusable(path, _refusal(path, e)) from e
        try:
            if os.fstat(base).st_uid != os.geteuid():
                raise _unusable(path, "belongs to another user")
            try:
                os.fchmod(base, 0o700)
                replace_file(base, ".probe", ".probe", b"", None)
                os.unlink(".probe", dir_fd=base)
                # A process that was killed may have made a folder here and not flushed its name.
                os.fsync(base)
            except OSError as e:
                raise _unusable(path, _refusal(path, e)) from e
        finally:
            os.close(base)
        self.refresh(sweep=True)

    # --- writing

    def write_many(self, letters: Sequence[tuple[Delivery, int]]) -> list[Written]:
        """Write dead letters: an fsync each, then one for each directory.

        Args:
            letters: Deliveries that were given up, each with the time of its death (wall clock, ms); at most 64
                make one round worth its fsyncs.

        Returns:
            For each, in order, whether it is durable now. A letter that is already there is replaced.
        """
        with self._lock:
            try:
                base = os.open(self.options.path, DIRECTORY)
            except OSError as e:
                return [_failure(e)] * len(letters)
            try:
                return self._write_all(base, letters)
            finally:
                os.close(base)

    def _write_all(self, base: int, letters: Sequence[tuple[Delivery, int]]) -> list[Written]:
        results = [Written(False)] * len(letters)
        by_folder: dict[str, list[int]] = {}
        for i, (delivery, _) in enumerate(letters):
            by_folder.setdefault(delivery.destination, []).append(i)
        refreshed = False
        for destination, places in by_folder.items():
            try:
                folder = open_own(base, destination)
            except OSError as e:
                for i in places:
                    results[i] = _failure(e)
                continue
            try:
                for i in places:
                    delivery, died_at_ms = letters[i]
                    data = encode(delivery, died_at_ms, self._key)
                    name = delivery.event.id + ".json"
                    before = size_of(folder, name)
                    if self._over_quota(len(data) - before) and not refreshed:
                        refreshed = True
                        self.refresh()  # somebody may have made room by hand
                    if self._over_quota(len(data) - before):
                        results[i] = Written(False, full=True)
                        continue
                    results[i] = self._write_one(folder, destination, name, data, before, died_at_ms)
                try:
                    os.fsync(folder)
                except OSError as e:
                    for i in places:
                        results[i] = _failure(e) if results[i].done else results[i]
            finally:
                os.close(folder)
        return results

    def _write_one(
        self, folder: int, destination: str, name: str, data: bytes, before: int, died_at_ms: int
    ) -> Written:
        try:
            replace_file(folder, f".{name}.tmp", name, data, died_at_ms)
        except OSError as e:
            return _failure(e)
        self._totals.written(destination, before, len(data), died_at_ms)
        return Written(True)

    def _over_quota(self, more: int) -> bool:
        return self._totals.bytes + more > self.options.max_size_bytes

    # --- reading

    def ls(
        self,
        *,
        destination: str = "",
        reason: str = "",
        since_ms: int = 0,
        until_ms: int = 0,
        limit: int = 100,
        after: tuple[str, str] = ("", ""),
    ) -> list[Listed]:
        """List dead letters, newest events first within each destination; only the beginning of a file is read.

        Args:
            destination: Only this folder; "" = all, in the order of their names.
            reason: Only this DeadReason; "" = all.
            since_ms: Died at or after (wall clock, ms).
            until_ms: Died before (wall clock, ms); 0 = no end.
            limit: How many at most.
            after: Destination and event id of the last one of the page before; empty = from the beginning.
        """
        rows: list[Listed] = []
        chosen = bool(reason or since_ms or until_ms)
        with contextlib.suppress(OSError), opened(self.options.path) as base:
            for name in [destination] if destination else sorted(folders(base)):
                if name < after[0]:
                    continue
                with contextlib.suppress(OSError), opened(name, base) as folder:
                    for event_id in sorted(event_ids(folder), reverse=True):
                        if name == after[0] and event_id >= after[1]:
                            continue
                        if len(rows) >= limit:
                            return rows
                        row = _list_one(folder, name, event_id)
                        head = row.head
                        if head is None:
                            keep = not chosen and row.problem is not Problem.GONE
                        else:
                            keep = (
                                reason in ("", head.reason)
                                and head.died_at_ms >= since_ms
                                and (not until_ms or head.died_at_ms < until_ms)
                            )
                        if keep:
                            rows.append(row)
        return rows

    def read(self, event_id: str, destination: str) -> Reading:
        """Read and check the dead letter of one delivery."""
        if parse_event_id(event_id) is None or not DESTINATION.fullmatch(destination):
            return Reading(None, Problem.GONE)
        try:
            with opened(self.options.path) as base, opened(destination, base) as folder:
                return self._read(folder, event_id + ".json", destination)
        except OSError as e:
            return Reading(None, problem_of(e))

    def read_file(self, path: str) -> Reading:
        """Read and check a file that somebody names, wherever it is; only name, last folder and content must agree."""
        parent, name = os.path.split(os.path.abspath(path))
        try:
            with opened(parent) as folder:
                return self._read(folder, name, os.path.basename(parent))
        except OSError as e:
            return Reading(None, problem_of(e))

    def _read(self, folder: int, name: str, destination: str) -> Reading:
        data = contents(folder, name, _MOST_BYTES)
        if isinstance(data, Problem):
            return Reading(None, data)
        try:
            letter = parse(data, self._key)
        except Malformed:
            return Reading(None, Problem.MALFORMED)
        if name != letter.head.event_id + ".json" or destination != letter.head.destination:
            return Reading(letter, Problem.NAME_MISMATCH)
        return Reading(letter, None if letter.sealed else Problem.MAC_MISMATCH)

    # --- removing

    def remove(self, event_id: str, destination: str, *, mac: str = "") -> Problem | None:
        """Remove the dead letter of one delivery, durably.

        Args:
            event_id: Our id.
            destination: Its folder.
            mac: Remove it only while it is this very letter: a delivery that was replayed may have died again and
                left a new one under the same name. "" = whatever is there.

        Returns:
            None when it is removed; GONE when there was none; NAME_MISMATCH when it is another letter by now.
        """
        if parse_event_id(event_id) is None or not DESTINATION.fullmatch(destination):
            return Problem.GONE
        name = event_id + ".json"
        with self._lock:
            try:
                with opened(self.options.path) as base, opened(destination, base) as folder:
                    if mac:
                        found = self._read(folder, name, destination)
                        if found.letter is None or found.letter.mac != mac:
                            return found.problem if found.letter is None else Problem.NAME_MISMATCH
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    os.unlink(name, dir_fd=folder)
                    self._totals.removed(destination, status)
                    os.fsync(folder)
            except OSError as e:
                return problem_of(e)
        return None

    # --- totals

    def totals(self) -> dict[str, FolderTotals]:
        """Count, bytes and oldest per destination, from memory; a copy."""
        with self._lock:
            return self._totals.copy()

    @property
    def oldest_unsure(self) -> bool:
        """Whether an oldest file was removed, so that ``refresh`` would find another one."""
        return self._totals.oldest_unsure

    def refresh(self, *, sweep: bool = False) -> None:
        """Count again what is there: files also come and go by people's hands.

        Args:
            sweep: Remove what a crash left of unfinished files. Only while nobody writes.
        """
        with self._lock:
            self._totals.recount(sweep=sweep)


def _list_one(folder: int, destination: str, event_id: str) -> Listed:
    name = event_id + ".json"
    size = size_of(folder, name)
    data = contents(folder, name, HEAD_BYTES)
    head = parse_head(data) if isinstance(data, bytes) else None
    if head is None and isinstance(data, bytes):  # somebody laid it out anew: read all of it
        data = contents(folder, name, _MOST_BYTES)
        try:
            head = parse(data, b"").head if isinstance(data, bytes) else None
        except Malformed:
            return Listed(destination, event_id, size, None, Problem.MALFORMED)
    return Listed(destination, event_id, size, head, data if isinstance(data, Problem) else None)


def _failure(e: OSError) -> Written:
    return Written(False, full=e.errno in (errno.ENOSPC, errno.EDQUOT), error=os.strerror(e.errno or 0).lower())


def _refusal(path: str, e: OSError) -> str:
    if os.path.islink(path):
        return "is a symbolic link"
    if e.errno in (errno.ENOTDIR, errno.EEXIST):
        return "is not a directory"
    if e.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "cannot be written"
    return f"cannot be used ({errno.errorcode.get(e.errno or 0, 'error')})"


def _unusable(path: str, why: str) -> SidecarError:
    return SidecarError(
        f'dead_letters.path: "{path}" {why}; expected a directory of our own that can be written',
        "set dead_letters.path to a directory that belongs to the daemon's user, on a writable volume",
    )
