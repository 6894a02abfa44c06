"""The system calls of a process that change files, in order, as strace saw them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Op", "traced"]

CALLS = (
    "open,openat,creat,close,write,writev,pwrite64,pwritev,pwritev2,fdatasync,fsync,rename,renameat,renameat2,"
    "unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,lseek"
)
_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?")
_BEGUN = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HANDLE = re.compile(r"^(AT_FDCWD|\d+)(?:<([^>]*)>)?$")


@dataclass
class Op:
    """One change.

    Attributes:
        kind: ``create``, ``mkdir``, ``write``, ``truncate``, ``rename``, ``unlink``, ``sync`` or ``mark``.
        file: Number of the file or folder it is about.
        path: Where in the tree; for a rename, where from.
        to: For a rename, where to; for a mark, its text.
        offset: Of a write; the new size for a truncation.
        data: What was written.
        durable: The write was synchronous (``O_DSYNC``).
    """

    kind: str
    file: int = -1
    path: str = ""
    to: str = ""
    offset: int = 0
    data: bytes = b""
    durable: bool = False


def traced(command: Sequence[str], root: Path, marks: Path, output: Path, **kwargs: object) -> list[Op]:
    """Run a command to its end and give its changes below ``root``; each line it writes to ``marks`` is a mark.

    Raises:
        AssertionError: The command failed.
    """
    full = [
        "strace",
        "-f",
        "-xx",
        "-y",
        "-s",
        "100000000",
        "-e",
        f"trace={CALLS}",
        "-e",
        "signal=none",
        "-o",
        str(output),
    ]
    done = subprocess.run([*full, *command], capture_output=True, check=False, **kwargs)  # type: ignore[call-overload]
    assert done.returncode == 0, f"the workload failed:\n{done.stderr.decode()[-3000:]}"
    with output.open(encoding="ascii") as lines:
        return list(_Tree(str(root), str(marks)).read(_whole(lines)))


def _whole(lines: Iterator[str]) -> Iterator[tuple[str, str, int, str]]:
    """Calls with their arguments and results; one that another thread's call interrupted counts where it ended.

    A write or a sync counts from its end, so that a crash state never has more on disk than a real one would.
    """
    begun: dict[str, str] = {}
    for raw in lines:
        line = raw.rstrip("\n")
        if match := _BEGUN.match(line):
            begun[match[1]] = match[3]
            continue
        if match := _RESUMED.match(line):
            line = f"{match[1]} {match[2]}({begun.pop(match[1])}{match[3]}"
        if match := _LINE.match(line):
            yield match[1], match[2], int(match[3]), match[4] or ""


class _Tree:
    """Who is open, who is called what."""

    def __init__(self, root: str, marks: str) -> None:
        self.root, self.marks = root, marks
        self.open: dict[str, tuple[int, bool]] = {}  # descriptor -> (file, synchronous)
        self.position: dict[str, int] = {}
        self.files: dict[str, int] = {root: 0}
        self._last = 0

    def read(self, calls: Iterator[tuple[str, str, int, str]]) -> Iterator[Op]:
        for name, text, result, _ in calls:
            if result < 0:
                continue
            arguments = text.split(", ")
            if name in ("open", "openat", "creat"):
                yield from self._opened(name, arguments, str(result))
            elif name == "close":
                self.open.pop(arguments[0].partition("<")[0], None)
            elif name.startswith(("write", "pwrite")):
                yield from self._written(name, text, result)
            elif name in ("fsync", "fdatasync"):
                if (known := self._known(arguments[0])) is not None:
                    yield Op("sync", known[0])
            elif name == "ftruncate":
                if (known := self._known(arguments[0])) is not None:
                    yield Op("truncate", known[0], offset=int(arguments[1], 0))
            elif name == "lseek":
                self.position[arguments[0].partition("<")[0]] = result
            elif name in ("mkdir", "mkdirat"):
                if self._mine(path := self._path(arguments)):
                    yield Op("mkdir", self._number(path), path)
            elif name in ("unlink", "unlinkat", "rmdir"):
                if self._mine(path := self._path(arguments)):
                    self.files.pop(path, None)
                    yield Op("unlink", path=path)
            elif name.startswith("rename"):
                old, new = self._both(arguments)
                if self._mine(old):
                    self.files[new] = self.files.pop(old)
                    for path in [p for p in self.files if p.startswith(old + "/")]:
                        self.files[new + path[len(old) :]] = self.files.pop(path)
                    yield Op("rename", self.files[new], old, new)

    def _opened(self, name: str, arguments: list[str], descriptor: str) -> Iterator[Op]:
        path = self._path(arguments)
        flags = text if (text := next((a for a in arguments if a.startswith("O_")), "")) else "O_CREAT|O_TRUNC"
        self.open.pop(descriptor, None)
        self.position[descriptor] = 0
        if path == self.marks:
            self.open[descriptor] = (-1, True)
        elif self._mine(path):
            if path not in self.files:
                assert "O_CREAT" in flags, (name, path, flags)
                yield Op("create", self._number(path), path)
            elif "O_TRUNC" in flags:
                yield Op("truncate", self.files[path])
            self.open[descriptor] = (self.files[path], "O_DSYNC" in flags or "O_SYNC" in flags)

    def _written(self, name: str, text: str, length: int) -> Iterator[Op]:
        descriptor = text.partition("<")[0]
        known = self.open.get(descriptor)
        if known is None:
            return
        data = b"".join(_bytes(part) for part in _STRING.findall(text))[:length]
        if known[0] < 0:
            for line in data.decode().splitlines():
                yield Op("mark", to=line)
            return
        if name.startswith("p"):
            numbers = re.findall(r", (\d+)(?=,|$)", text.rpartition('"')[2].rpartition("]")[2])
            offset = int(numbers[-1] if name in ("pwrite64", "pwritev") else numbers[-2])
        else:
            offset = self.position[descriptor]
            self.position[descriptor] = offset + length
        yield Op("write", known[0], offset=offset, data=data, durable=known[1])

    def _known(self, argument: str) -> tuple[int, bool] | None:
        known = self.open.get(argument.partition("<")[0])
        return known if known is not None and known[0] >= 0 else None

    def _number(self, path: str) -> int:
        self._last += 1
        self.files[path] = self._last
        return self._last

    def _mine(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + "/")

    @staticmethod
    def _path(arguments: list[str]) -> str:
        base = ""
        if handle := _HANDLE.match(arguments[0]):
            base = _text(handle[2] or "")
        named = next(a for a in arguments if a.startswith('"'))
        return os.path.normpath(os.path.join(base, _text(named.strip('"'))))

    @staticmethod
    def _both(arguments: list[str]) -> tuple[str, str]:
        bases = [_text(h[2] or "") for a in arguments if (h := _HANDLE.match(a))] + ["", ""]
        names = [_text(a.strip('"')) for a in arguments if a.startswith('"')]
        return os.path.normpath(os.path.join(bases[0], names[0])), os.path.normpath(os.path.join(bases[1], names[1]))


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(text: str) -> str:
    return os.fsdecode(_bytes(text)) if "\\x" in text else text
