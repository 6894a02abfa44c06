"""What commands write."""

from __future__ import annotations

import click
import pytest

from sidecar.cli import output


@pytest.mark.parametrize(
    ("n", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 30, "1.0 GiB"), (5 << 40, "5.0 TiB")],
)
def test_sizes_are_written_for_people(n, text):
    assert output.size(n) == text


@pytest.mark.parametrize(
    ("s", "text"),
    [(None, "-"), (0.44, "0.4s"), (12.9, "12s"), (200, "3m20s"), (7500, "2h05m"), (4 * 86400 + 3 * 3600, "4d03h")],
)
def test_spans_are_written_for_people(s, text):
    assert output.age(s) == text


def test_tables_align_words_left_and_numbers_right(capsys):
    output.table(("NAME", "N"), [("a", 5), ("longer", 1234), ("x", None)])
    assert capsys.readouterr().out == "NAME       N\na          5\nlonger  1234\nx          -\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand ö →", "two\nlines\tand ö →"),
        ("\x1b[32mdelivered\x1b[0m by us", "\x1b[32mdelivered\x1b[0m by us"),
        ("\x1b[32mours?\x1b[0m", "\\u001b[32mours?\\u001b[0m"),
        ("\x1b]0;t\x07\x9b\u202e\r\x00", "\\u001b]0;t\\u0007\\u009b\\u202e\\u000d\\u0000"),
        ("x" * 5000 + "\x7f", "x" * 5000 + "\\u007f"),
    ],
)
def test_nothing_but_text_lines_and_our_states_gets_through(text, shown):
    assert output.clean(text) == shown


def test_json_is_ascii_so_that_no_terminal_acts_on_it(capsys):
    output.emit({"a": "\x1b\u202e\x7fö"})
    assert capsys.readouterr().out == '{"a":"\\u001b\\u202e\\u007f\\u00f6"}\n'


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours_follow_the_environment(monkeypatch, env, coloured):
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b" in output.colour("dead")) is coloured
    assert output.colour("unknown word") == "unknown word"


def test_a_dumb_terminal_gets_no_colour(monkeypatch):
    monkeypatch.setattr(output, "is_terminal", lambda **_: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert not output.wants_colour()
    monkeypatch.setenv("TERM", "xterm")
    assert output.wants_colour()


class Terminal:
    def isatty(self) -> bool:
        return True


def test_confirm_asks_on_a_terminal_and_takes_no_for_an_answer(monkeypatch):
    monkeypatch.setattr(output.sys, "stdin", Terminal())
    monkeypatch.setattr(output.sys, "stderr", Terminal())
    monkeypatch.setattr(click, "confirm", lambda *_, **__: False)
    with pytest.raises(click.exceptions.Exit):
        output.confirm("Sure?", yes=False)
    monkeypatch.setattr(click, "confirm", lambda *_, **__: True)
    output.confirm("Sure?", yes=False)


def test_without_a_terminal_yes_is_needed():
    with pytest.raises(click.UsageError, match="--yes"):
        output.confirm("Sure?", yes=False)
    output.confirm("Sure?", yes=True)


def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch, capsys):
    output.Progress(10).show({"done": 4, "failed": 1, "rate": 5.0})
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(output, "is_terminal", lambda **_: True)
    bar = output.Progress(10)
    bar.show({"done": 4, "failed": 1, "rate": 5.0})
    bar.close()
    written = capsys.readouterr().err
    assert "[###############               ] 5/10  4 done, 1 failed, 5/s, 1.0s left" in written
    output.Progress(None).show({"done": 4, "failed": 1, "rate": 0})
    assert "4 done, 1 failed, 0/s" in capsys.readouterr().err


def test_times_are_written_to_the_second_in_utc():
    assert output.short_time("2026-11-20T08:00:00.123+01:00") == "2026-11-20 07:00:00"
    assert output.short_time(None) == "-"
