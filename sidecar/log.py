"""Structured log lines: one JSON object (or one line of text) each, escaped, bounded, off the event loop.

A line is queued and written by a thread of its own, so that a blocked stdout never blocks a webhook; what
does not fit in the queue is counted and dropped. Never hand secrets, signatures or payloads to a logger:
every field is configuration, an id, a number or a named reason.
"""

from __future__ import annotations

import datetime as dt
import os
import queue
import sys
import threading
import time
import traceback
import unicodedata
from typing import IO, Literal

import msgspec

from sidecar.errors import SidecarError

__all__ = ["LEVELS", "Level", "LogOptions", "Logger", "bug_text", "get_logger", "safe_text", "start", "stop"]

Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_LINE_BYTES = 1024
_QUEUE_LINES = 10_000
_FRAMES = 3  # of a bug, innermost first
_CUTS = ((64, 16), (24, 8), (24, 4))  # (characters kept of a text, fields kept) until a line fits

Field = str | int | float | bool | None


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How lines look and which appear.

    Attributes:
        level: Least level that is written.
        format: ``json``, ``text``, or ``auto``: text when the output is a terminal.
    """

    level: Level = "info"
    format: Literal["json", "text", "auto"] = "auto"


def safe_text(text: str, limit: int = 256) -> str:
    r"""Make outside text harmless for a terminal, a log and a JSON reader.

    Control, bidirectional and other format characters, surrogates and line separators become ``\uXXXX``;
    more than ``limit`` characters are cut, with a mark.
    """
    cut = text[:limit]
    if not (cut.isascii() and cut.isprintable()):
        cut = "".join(
            c if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} else _escape(c) for c in cut
        )
    return cut + "…" if len(text) > limit else cut


def bug_text(error: BaseException) -> str:
    """Say what a bug is and where, without the exception's own text: that may quote a request.

    What the system or we ourselves say (``OSError``, ``SidecarError``) names files and reasons, and is kept.
    """
    text = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text += f": {error.strerror}"
    elif isinstance(error, SidecarError):
        text += f": {error.message}"
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return text + "".join(f" < {os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in reversed(frames))


def _escape(c: str) -> str:
    n = ord(c)
    return f"\\u{n:04x}" if n <= 0xFFFF else f"\\U{n:08x}"


class _Sink:
    """Where lines go: a bounded queue and one thread that writes."""

    def __init__(self) -> None:
        self.options = LogOptions()
        self.threshold = LEVELS["info"]
        self.out: IO[str] = sys.stderr
        self.json = True
        self.dropped = 0
        self.suppressed = 0
        self._queue: queue.Queue[str | None] = queue.Queue(_QUEUE_LINES)
        self._thread: threading.Thread | None = None

    def start(self, options: LogOptions, out: IO[str] | None) -> None:
        if out is None:  # stderr was closed by whoever started us
            return
        self.options, self.out = options, out
        self.threshold = LEVELS[options.level]
        self.json = options.format == "json" or (options.format == "auto" and not out.isatty())
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            try:
                self._queue.put(None, timeout=1)
            except queue.Full:
                return  # the output is blocked; the thread is a daemon thread and dies with us
            self._thread.join(timeout=2)
            if not self._thread.is_alive():
                self._thread = None

    def write(self, level: str, name: str, msg: str, fields: dict[str, Field]) -> None:
        if self._thread is None:  # not started: a command line tool, or a test
            return
        line = self._json_line(level, name, msg, fields) if self.json else self._text_line(level, msg, fields)
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        while True:
            line = self._queue.get()
            try:
                if line is not None:
                    self.out.write(line)
                if line is None or self._queue.empty():
                    self.out.flush()
            except (OSError, ValueError):  # the reader of our output went away; nobody is left to tell
                self.dropped += line is not None
            if line is None:
                return

    def _json_line(self, level: str, name: str, msg: str, fields: dict[str, Field]) -> str:
        row: dict[str, Field] = {"ts": _now(), "level": level, "logger": name, "msg": safe_text(msg)}
        for k, v in fields.items():
            if v is not None:
                row[k] = safe_text(v) if isinstance(v, str) else v
        line = msgspec.json.encode(row)
        # Cut texts first and drop fields last: what a line is about stands in its first fields.
        for limit, count in _CUTS:
            if len(line) >= MAX_LINE_BYTES:
                short = {k: v[:limit] if isinstance(v, str) else v for k, v in list(row.items())[:count]}
                line = msgspec.json.encode({**short, "cut": True})
        return line.decode() + "\n"

    def _text_line(self, level: str, msg: str, fields: dict[str, Field]) -> str:
        parts = [f"{_now()} {level.upper():7} {safe_text(msg)}"]
        for k, v in fields.items():
            if v is not None:
                text = safe_text(v) if isinstance(v, str) else str(v)
                parts.append(f"{k}={text!r}" if " " in text or not text else f"{k}={text}")
        line = " ".join(parts)
        if len(line.encode()) >= MAX_LINE_BYTES:
            line = line.encode()[: MAX_LINE_BYTES - 4].decode(errors="ignore") + "…"
        return line + "\n"


def _now() -> str:
    # A log line's time is display only, so it reads the system clock and not the injected one.
    now = dt.datetime.fromtimestamp(time.time_ns() / 1e9, tz=dt.UTC)
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_sink = _Sink()


def start(options: LogOptions, out: IO[str] | None = None) -> None:
    """Begin to write (or take over changed options). Safe to call again."""
    _sink.start(options, out if out is not None else sys.stderr)


def stop() -> None:
    """Write what is queued and end the thread. Safe to call twice."""
    _sink.stop()


def counts() -> tuple[int, int]:
    """Lines dropped because the output was blocked, and lines held back by the rate limit."""
    return (_sink.dropped, _sink.suppressed)


class Logger:
    """Writes lines under one name. Fields are keyword arguments; None leaves a field out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._buckets: dict[str, list[float]] = {}  # limit key -> [tokens, last refill, suppressed]

    def debug(self, msg: str, **fields: Field) -> None:
        """A detail for developers."""
        self._log("debug", msg, fields)

    def info(self, msg: str, **fields: Field) -> None:
        """Something an operator may want to have read."""
        self._log("info", msg, fields)

    def warning(self, msg: str, **fields: Field) -> None:
        """Something an operator should look at."""
        self._log("warning", msg, fields)

    def error(self, msg: str, **fields: Field) -> None:
        """Something that does not work."""
        self._log("error", msg, fields)

    def limited(self, key: str, level: Level, msg: str, **fields: Field) -> None:
        """Write at most 10 lines at once and 1 a second for one ``key``; the next one says how many were held back.

        Args:
            key: From a closed set (a reason, a source's name), never from a request.
            level: As in the plain methods.
            msg: The line.
            **fields: As in the plain methods.
        """
        if LEVELS[level] < _sink.threshold:  # not held back by the limit, so not counted as such
            return
        now = time.monotonic()
        bucket = self._buckets.setdefault(key, [10.0, now, 0.0])
        bucket[0] = min(10.0, bucket[0] + now - bucket[1])
        bucket[1] = now
        if bucket[0] < 1.0:
            bucket[2] += 1
            _sink.suppressed += 1
            return
        bucket[0] -= 1.0
        if bucket[2]:
            fields["suppressed"] = int(bucket[2])
            bucket[2] = 0.0
        self._log(level, msg, fields)

    def _log(self, level: str, msg: str, fields: dict[str, Field]) -> None:
        if LEVELS[level] >= _sink.threshold:
            _sink.write(level, self.name, msg, fields)


_loggers: dict[str, Logger] = {}


def get_logger(name: str) -> Logger:
    """The logger of this name."""
    return _loggers.setdefault(name, Logger(name))
