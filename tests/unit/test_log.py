"""Log lines: escaped, bounded, rate-limited, and never in the way of a webhook."""

from __future__ import annotations

import io
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import log
from sidecar.errors import JournalFull
from sidecar.log import MAX_LINE_BYTES, Logger, LogOptions, bug_text, get_logger, safe_text


@pytest.fixture
def sink(monkeypatch):
    """A sink of our own behind the module's functions; stopped at the end."""
    fresh = log._Sink()
    monkeypatch.setattr(log, "_sink", fresh)
    yield fresh
    fresh.stop()


def written(out: io.StringIO) -> list[str]:
    """Stop the sink, which writes what is queued, and give the lines."""
    log.stop()
    return out.getvalue().splitlines()


class Terminal(io.StringIO):
    """A terminal, as far as it says."""

    def isatty(self) -> bool:
        return True


class Blocked(io.StringIO):
    """An output whose reader stopped reading."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.release = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.release.wait()
        return super().write(text)


class Broken(io.StringIO):
    """An output whose reader went away."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = 0

    def write(self, text: str) -> int:
        self.tried += 1
        raise BrokenPipeError


# --- outside text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("Grüße 漢字", "Grüße 漢字"),
        ("a\nb", "a\\u000ab"),
        ("\x1b[31mred", "\\u001b[31mred"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("\u200b", "\\u200b"),
        ("\x7f\x9b", "\\u007f\\u009b"),
    ],
)
def test_outside_text_is_made_harmless(text, safe):
    assert safe_text(text) == safe


def test_long_text_is_cut_with_a_mark():
    assert safe_text("x" * 11, limit=10) == "x" * 10 + "…"
    assert safe_text("x" * 10, limit=10) == "x" * 10


@given(st.text(st.characters(codec=None), max_size=400))
def test_safe_text_is_always_printable_and_encodable(text):
    safe = safe_text(text)
    safe.encode()
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in safe)


# --- lines


def test_a_json_line_has_time_level_logger_message_and_fields(sink):
    out = io.StringIO()
    log.start(LogOptions(format="json"), out)
    Logger("outbound").warning("held", destination="app", status=502, share=0.5, ok=False, error=None)
    (line,) = written(out)
    row = json.loads(line)
    ts = row.pop("ts")
    assert ts.endswith("Z")
    assert len(ts) == len("2026-11-24T04:16:00.123Z")
    assert row == {
        "level": "warning",
        "logger": "outbound",
        "msg": "held",
        "destination": "app",
        "status": 502,
        "share": 0.5,
        "ok": False,
    }


def test_a_text_line_is_for_people(sink):
    out = io.StringIO()
    log.start(LogOptions(format="text"), out)
    get_logger("x").info("ready", address="127.0.0.1:8787", note="two words", empty="", n=3, none=None)
    (line,) = written(out)
    assert line.split(" ", 1)[1] == "INFO    ready address=127.0.0.1:8787 note='two words' empty='' n=3"


@pytest.mark.parametrize(("out", "first"), [(io.StringIO(), "{"), (Terminal(), "2")])
def test_auto_means_text_on_a_terminal_and_json_elsewhere(sink, out, first):
    log.start(LogOptions(format="auto"), out)
    get_logger("x").info("ready")
    assert written(out)[0].startswith(first)


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_field_cannot_begin_a_new_line(sink, form):
    out = io.StringIO()
    log.start(LogOptions(format=form), out)
    get_logger("x").info("odd\nmessage", path='/a\n{"level":"error"}\r\x1b[2J')
    (line,) = written(out)
    assert "\x1b" not in line


@given(
    form=st.sampled_from(["json", "text"]),
    msg=st.text(max_size=400),
    fields=st.dictionaries(st.sampled_from([f"field_{n}" for n in range(30)]), st.text(max_size=300) | st.integers()),
)
def test_a_line_is_never_longer_than_its_limit(form, msg, fields):
    one = log._Sink()
    make = one._json_line if form == "json" else lambda level, _, m, f: one._text_line(level, m, f)
    line = make("info", "logger", msg, fields)
    assert len(line.encode()) <= MAX_LINE_BYTES
    assert line.endswith("\n")
    if form == "json":
        assert json.loads(line)["level"] == "info"


@pytest.mark.parametrize("letter", ["x", "漢", '"', "\x00"])
def test_a_line_that_is_too_long_keeps_its_first_fields(letter):
    fields = {f"field_{n}": letter * 200 for n in range(30)}
    row = json.loads(log._Sink()._json_line("error", "journal", "cannot write", fields))
    assert row["msg"] == "cannot write"
    assert row["cut"] is True
    text = log._Sink()._text_line("error", "cannot write", fields)
    assert "cannot write" in text
    assert text.endswith("…\n")


def test_the_limit_of_a_line_is_in_bytes():
    fields = {f"field_{n}": "漢" * 200 for n in range(3)}
    assert len(log._Sink()._text_line("info", "three bytes each", fields).encode()) <= MAX_LINE_BYTES
    assert len(log._Sink()._json_line("info", "x", "three bytes each", fields).encode()) <= MAX_LINE_BYTES


# --- levels


def test_lines_below_the_level_are_not_written(sink):
    out = io.StringIO()
    log.start(LogOptions(level="warning", format="json"), out)
    logger = get_logger("x")
    logger.debug("d")
    logger.info("i")
    logger.warning("w")
    logger.error("e")
    assert [json.loads(line)["msg"] for line in written(out)] == ["w", "e"]


def test_starting_again_takes_over_changed_options(sink):
    out = io.StringIO()
    log.start(LogOptions(level="error", format="json"), out)
    get_logger("x").info("before")
    log.start(LogOptions(level="info", format="json"), out)
    get_logger("x").info("after")
    assert [json.loads(line)["msg"] for line in written(out)] == ["after"]


def test_a_name_has_one_logger():
    assert get_logger("journal") is get_logger("journal")


# --- never in the way


def test_nothing_is_written_or_counted_before_the_start(sink):
    get_logger("x").error("nobody listens")
    assert log.counts() == (0, 0)


def test_stopping_writes_what_is_queued_and_flushes_it(sink):
    """Also when the last line is taken from a queue that is not empty yet."""

    class Buffered(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    out = Buffered()
    sink._queue.put("first\n")
    sink._queue.put("second\n")
    sink._queue.put(None)
    sink.start(LogOptions(), out)
    assert sink._thread is not None
    sink._thread.join()
    assert out.flushed == "first\nsecond\n"


def test_stopping_twice_is_safe(sink):
    log.start(LogOptions(), io.StringIO())
    log.stop()
    log.stop()


def test_a_blocked_output_drops_lines_instead_of_waiting(sink, monkeypatch):
    monkeypatch.setattr(sink, "_queue", type(sink._queue)(2))
    out = Blocked()
    log.start(LogOptions(format="json"), out)
    logger = get_logger("x")
    logger.info("taken by the thread")
    out.entered.wait()
    for _ in range(5):
        logger.info("more")
    assert log.counts() == (3, 0)
    out.release.set()
    assert len(written(out)) == 3


def test_stopping_with_a_blocked_output_gives_up(sink, monkeypatch):
    """The process must be able to end although nobody reads its output."""
    monkeypatch.setattr(sink, "_queue", type(sink._queue)(1))
    put = sink._queue.put
    monkeypatch.setattr(sink._queue, "put", lambda item, block=True, timeout=None: put(item, block, timeout and 0.01))
    out = Blocked()
    log.start(LogOptions(format="json"), out)
    get_logger("x").info("taken by the thread")
    out.entered.wait()
    get_logger("x").info("fills the queue")
    log.stop()
    assert sink._thread is not None
    out.release.set()


def test_a_thread_that_does_not_end_is_not_replaced_by_a_second_one(sink, monkeypatch):
    out = Blocked()
    log.start(LogOptions(format="json"), out)
    get_logger("x").info("taken by the thread")
    out.entered.wait()
    thread = sink._thread
    join = thread.join
    monkeypatch.setattr(thread, "join", lambda timeout: join(timeout=0.01))
    log.stop()
    log.start(LogOptions(format="json"), out)
    assert sink._thread is thread
    out.release.set()


def test_an_output_that_went_away_is_counted_and_survived(sink):
    out = Broken()
    log.start(LogOptions(format="json"), out)
    get_logger("x").info("one")
    get_logger("x").info("two")
    log.stop()
    assert out.tried == 2
    assert log.counts() == (2, 0)


# --- the rate limit


@pytest.fixture
def seconds(monkeypatch):
    """The time that the rate limit sees, to be moved by hand."""
    now = [100.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    return now


def test_equal_lines_are_limited_and_the_next_one_says_how_many_were_held_back(sink, seconds):
    out = io.StringIO()
    log.start(LogOptions(format="json"), out)
    logger = Logger("inbound")
    for _ in range(15):
        logger.limited("wrong_secret", "warning", "refused", source="stripe")
    assert log.counts() == (0, 5)
    seconds[0] += 1.0
    logger.limited("wrong_secret", "warning", "refused", source="stripe")
    seconds[0] += 1.0
    logger.limited("wrong_secret", "warning", "refused", source="stripe")
    rows = [json.loads(line) for line in written(out)]
    assert len(rows) == 12
    assert [row.get("suppressed") for row in rows[-2:]] == [5, None]


def test_each_key_has_its_own_limit(sink, seconds):
    log.start(LogOptions(format="json"), io.StringIO())
    logger = Logger("inbound")
    for _ in range(11):
        logger.limited("a", "info", "refused")
    logger.limited("b", "info", "refused")
    assert log.counts() == (0, 1)


def test_a_quiet_time_gives_back_ten_lines_and_no_more(sink, seconds):
    log.start(LogOptions(format="json"), io.StringIO())
    logger = Logger("inbound")
    for _ in range(10):
        logger.limited("a", "info", "refused")
    seconds[0] += 3600.0
    for _ in range(11):
        logger.limited("a", "info", "refused")
    assert log.counts() == (0, 1)


def test_lines_below_the_level_are_not_counted_as_held_back(sink, seconds):
    log.start(LogOptions(level="error", format="json"), io.StringIO())
    logger = Logger("inbound")
    for _ in range(20):
        logger.limited("a", "info", "refused")
    assert log.counts() == (0, 0)


def _bug(error: BaseException) -> BaseException:
    try:
        raise error  # noqa: TRY301 - for its traceback
    except BaseException as e:  # noqa: BLE001 - given back with its traceback
        return e


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (ValueError("a payload"), "ValueError < test_log.py:"),
        (OSError(28, "No space left on device", "/journal"), "OSError: No space left on device < test_log.py:"),
        (OSError("a payload"), "OSError < test_log.py:"),
        (JournalFull("the map is full"), "JournalFull: the map is full < test_log.py:"),
    ],
)
def test_a_bug_is_told_by_type_and_place_and_not_by_what_it_quotes(error, begins):
    text = bug_text(_bug(error))
    assert text.startswith(begins)
    assert text.endswith(" _bug")
    assert "payload" not in text
    assert bug_text(ValueError("never raised")) == "ValueError"
