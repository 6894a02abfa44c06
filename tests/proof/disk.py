"""[P] What a power cut may leave: everything that was flushed, and any part of what was not.

A model of a disk that keeps its word: a flush makes durable what was written before it, 512-byte sectors are written
whole or not at all, and whatever was not flushed may be there, in any combination. Names are as strict: an entry of a
folder is durable when the folder was flushed, and not because the file was; the changes of one folder stay in order.

Source: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014; fsync(2) and LMDB's own assumptions.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field

from tests.proof.trace import Op

__all__ = ["Disk"]

SECTOR = 512


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    waiting: list[Op] = field(default_factory=list)
    whole: bytes | None = None  # the durable part as one piece, until it changes


class Disk:
    """The state of a disk while a trace is replayed."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.files: dict[int, _File] = {}
        self.names: list[tuple[Op, bool]] = []  # changes of folders, and whether each is durable
        self.paths: dict[int, str] = {0: root}

    def apply(self, op: Op) -> None:
        """Let one call happen."""
        if op.kind in ("create", "mkdir", "unlink", "rename"):
            self.names.append((op, False))
            if op.kind == "create":
                self.files[op.file] = _File()
            elif op.kind == "mkdir":
                self.paths[op.file] = op.path
        elif op.kind == "sync":
            if op.file in self.paths:
                self._flush_folder(self.paths[op.file])
            else:
                self._flush(self.files[op.file])
        elif op.kind in ("write", "truncate"):
            file = self.files[op.file]
            file.waiting.append(op)
            if op.durable:  # only this write: what else waits for a flush goes on waiting
                file.waiting.pop()
                file.whole = None
                _put(file.durable, op)

    def _flush(self, file: _File) -> None:
        if file.waiting:
            file.whole = None
        for op in file.waiting:
            _put(file.durable, op)
        file.waiting.clear()

    def _flush_folder(self, path: str) -> None:
        self.names = [(op, done or path in _touched(op)) for op, done in self.names]

    def crash(self, rand: random.Random) -> dict[str, bytes | None]:
        """Cut the power: one of the states that may be found afterwards, as path -> content (None = a folder)."""
        kept: dict[str, bool] = {}  # folder -> whether its further changes are still there
        tree: dict[str, int | None] = {}
        keep_most = rand.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        for op, durable in self.names:
            owner = os.path.dirname(op.to or op.path)
            if not durable:
                kept[owner] = kept.get(owner, True) and rand.random() < keep_most
                if not kept[owner]:
                    continue
            _rename(tree, op)
        share = rand.choice((0.0, 0.05, 0.3, 0.5, 0.7, 0.95, 1.0))
        found: dict[str, bytes | None] = {}
        for path in sorted(tree):
            number = tree[path]
            parent = os.path.dirname(path)
            if parent != self.root and parent not in found:
                continue  # its folder is not there
            found[path] = None if number is None else self._content(self.files[number], share, rand)
        return found

    @staticmethod
    def _content(file: _File, share: float, rand: random.Random) -> bytes:
        if not file.waiting:
            if file.whole is None:
                file.whole = bytes(file.durable)
            return file.whole
        data = bytearray(file.durable)
        for op in file.waiting:
            if op.kind == "truncate":
                if rand.random() < share:
                    _put(data, op)
                continue
            position = op.offset
            end = op.offset + len(op.data)
            while position < end:
                stop = min(end, (position // SECTOR + 1) * SECTOR)
                if share == 1.0 or rand.random() < share:
                    part = op.data[position - op.offset : stop - op.offset]
                    _put(data, Op("write", offset=position, data=part))
                position = stop
            if rand.random() < 0.5 and len(data) < end:  # the size may be there without the content
                data.extend(bytes(end - len(data)))
        return bytes(data)

    def waits(self) -> int:
        """Sectors and names that are not durable: without any, there is just one state."""
        sectors = sum(len(op.data) // SECTOR + 1 for f in self.files.values() for op in f.waiting)
        return sectors + sum(not done for _, done in self.names)


def _put(data: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        del data[op.offset :]
        data.extend(bytes(op.offset - len(data)))
        return
    if len(data) < op.offset:
        data.extend(bytes(op.offset - len(data)))
    data[op.offset : op.offset + len(op.data)] = op.data


def _touched(op: Op) -> set[str]:
    return {os.path.dirname(op.path), os.path.dirname(op.to or op.path)}


def _rename(tree: dict[str, int | None], op: Op) -> None:
    if op.kind in ("create", "mkdir"):
        tree[op.path] = op.file if op.kind == "create" else None
    elif op.kind == "unlink":
        tree.pop(op.path, None)
    else:
        for path in [p for p in tree if p.startswith(op.path + "/")]:
            tree[op.to + path[len(op.path) :]] = tree.pop(path)
        tree.pop(op.path, None)
        tree[op.to] = op.file  # the new name leads to the file, whatever became of the old one
