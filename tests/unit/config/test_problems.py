"""Problems are shown with place, caret and suggestion, and never with a secret."""

from __future__ import annotations

import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.positions import Path, Positions, scan
from sidecar.config.problems import CODES, Problem, Problems, Report, got, printable, sensitive, suggestion


def show(text: str, *problems: Problem, overrides: dict[Path, str] | None = None) -> str:
    return "\n".join(Report("config.toml", scan(text), overrides).lines(problems))


def test_a_problem_has_file_line_column_code_key_and_a_caret_below_the_key() -> None:
    text = "[server]\nmax_bodyy = 1\n"
    problem = Problem("C101", ("server", "max_bodyy"), 'unknown key; did you mean "max_body"?', at_key=True)
    assert show(text, problem) == (
        'config.toml:2:1: C101 server.max_bodyy: unknown key; did you mean "max_body"?\n'
        "  2 | max_bodyy = 1\n"
        "    | ^^^^^^^^^"
    )


def test_a_text_under_a_key_that_does_not_exist_is_not_shown() -> None:
    """Nobody knows what it was meant to be: the name of a secret may be written wrongly too."""
    problem = Problem("C101", ("sorces",), "unknown key", at_key=True)
    other = Problem("C120", ("url",), "bad")
    shown = show('url = "x"\nsorces.a.pw = "hush"\n[sorces.b]\nk = [{ w = \'hush\' }, "hush", 7]\n', problem, other)
    assert "hush" not in shown
    assert 'sorces.a.pw = "***"' in shown
    assert '1 | url = "x"' in shown, "what else is wrong is shown as it is"
    loud = Problem("C103", ("sorces", "b", "k"), "bad")
    assert "k = [{ w = '***' }, \"***\", 7]" in show("[sorces.b]\nk = [{ w = 'hush' }, \"hush\", 7]\n", problem, loud)
    assert "hush" in show("[sorces.b]\nk = [{ w = 'hush' }]\n", loud), "else this would show nothing"


def test_a_problem_of_a_value_has_its_carets_below_the_value() -> None:
    assert show('u = "app:3000"\n', Problem("C120", ("u",), "bad")).splitlines()[1:] == [
        '  1 | u = "app:3000"',
        "    |     ^^^^^^^^^^",
    ]


def test_problems_come_in_the_order_of_the_file() -> None:
    text = "a = 1\nb = 2\n"
    lines = Report("f", scan(text)).lines(
        [Problem("C103", ("b",), "x"), Problem("C103", ("a",), "x"), Problem("C001", (), "x")]
    )
    assert [line.split(" ")[0] for line in lines] == ["f:", "f:1:5:", "f:2:5:"]


def test_the_order_is_that_of_places_and_what_is_elsewhere_stands_at_the_ends() -> None:
    """Of the whole file first, then by line as a number, then what came from the environment."""
    text = "a = 1\n" + "\n" * 9 + "b = 2"
    report = Report("f", scan(text), {("c",): "environment C"})
    lines = report.lines(
        [
            Problem("C103", ("c",), "x"),
            Problem("C103", ("b",), "x"),
            Problem("C101", ("a",), "x", at_key=True),
            Problem("C001", (), "x"),
        ]
    )
    assert [line.split(" C1")[0] for line in lines] == ["f: C001 x", "f:1:1:", "f:11:5:", "environment C:"]


def test_a_report_can_be_made_twice() -> None:
    """What the first one might show, the second one hides when it knows of a wrong key."""
    report = Report("f", scan('sorces.pw = "hush"\n'))
    assert "hush" in report.lines([Problem("C103", ("sorces", "pw"), "x")])[0]
    assert "hush" not in report.lines([Problem("C101", ("sorces",), "x", at_key=True)])[0]


def test_a_missing_key_is_shown_at_its_table() -> None:
    assert show("[sources.a]\nx = 1\n", Problem("C102", ("sources", "a", "path"), "missing", at_key=True)).startswith(
        "config.toml:1:10: C102 sources.a.path: missing\n  1 | [sources.a]\n    |          ^"
    )


def test_a_missing_value_points_at_the_key_above_it() -> None:
    assert ":1:1:" in show("t = { a = 1 }\n", Problem("C102", ("t", "b"), "missing"))


def test_a_key_from_the_environment_is_shown_with_its_variable_and_no_line() -> None:
    overrides: dict[Path, str] = {("server", "listen"): "environment W__SERVER__LISTEN"}
    for path in (("server", "listen"), ("server", "listen", "x"), ("server",)):
        shown = show("", Problem("C103", path, "bad"), overrides=overrides)
        assert shown.startswith("environment W__SERVER__LISTEN: C103 server")
    assert show("[server]\n", Problem("C103", ("server",), "bad"), overrides=overrides).startswith("config.toml:1")


def test_only_what_came_from_the_environment_is_shown_with_a_variable() -> None:
    overrides: dict[Path, str] = {("a",): "environment A"}
    assert show("a = 1\n", Problem("C103", ("a",), "bad"), overrides=overrides) == "environment A: C103 a: bad"
    assert show("", Problem("C103", ("b",), "bad"), overrides=overrides).startswith("config.toml:1:1: C103 b: bad")
    assert show("", Problem("C001", (), "bad"), overrides=overrides) == "config.toml: C001 bad"


def test_a_syntax_error_is_shown_at_its_offset() -> None:
    text = "a = 1\nb = 2 3\n"
    shown = "\n".join(Report("f", Positions(text, {})).lines([Problem("C002", (), "no line end", offset=12)]))
    assert shown == "f:2:7: C002 no line end\n  2 | b = 2 3\n    |       ^"


@pytest.mark.parametrize(
    ("text", "offset", "column", "line", "carets"),
    [
        ("\x1b = 1", 0, 1, "\\u001b = 1", "^^^^^^"),
        ("a\x1b = 1", 1, 2, "a\\u001b = 1", " ^^^^^^"),
        ("abc = 1", 1, 2, "abc = 1", " ^"),
        ("a = 1", 5, 6, "a = 1", "     ^"),
        ("a = 1\n", 5, 6, "a = 1", "     ^"),
    ],
)
def test_the_carets_of_a_syntax_error_are_as_wide_as_its_character_is_shown(
    text: str, offset: int, column: int, line: str, carets: str
) -> None:
    """One behind the end of the line where that is the error."""
    shown = Report("f", Positions(text, {})).lines([Problem("C002", (), "bad", offset=offset)])
    assert shown == (f"f:1:{column}: C002 bad\n  1 | {line}\n    | {carets}",)


def test_a_long_line_is_cut_around_the_caret() -> None:
    text = "a = [" + '"x", ' * 100 + "7]\n"
    shown = show(text, Problem("C103", ("a", 100), "bad"))
    line, carets = shown.splitlines()[1:]
    assert len(line) < 200
    assert line[carets.index("^")] == "7"


def test_a_line_is_cut_only_where_it_is_longer_than_160_and_80_before_the_caret() -> None:
    """However far down it is."""
    text = "a = ['" + "0123456789" * 14 + "01234567', 70]"
    at = text.index("70")
    problem = Problem("C103", ("a", 1), "bad")
    assert len(text) == 160
    assert show(text, problem).splitlines()[1] == f"  1 | {text}"
    assert show(f"{text}#", problem).splitlines()[1] == f"  1 | {text[at - 80 :]}#"
    longer = f"{text} # {text}"
    assert show(longer, problem).splitlines()[1:] == [
        f"  1 | {longer[at - 80 : at + 80]}",
        "    | " + " " * 80 + "^^",
    ]
    short = text[:6] + text[40:]
    assert show("#" * 150 + "\n" + short, problem).splitlines()[1] == f"  2 | {short}"


def test_invisible_characters_are_escaped_and_the_caret_moves_along() -> None:
    text = 'a = ["\u202e", 7]\n'
    line, carets = show(text, Problem("C103", ("a", 1), "\x1b[31m")).splitlines()[1:]
    assert "\u202e" not in line
    assert line[carets.index("^")] == "7"
    assert printable("a\tb\x1b") == "a b\\u001b"


SECRETS = """
[admin]
token = "hushhush"
[sources.token-shop]
path = "/visible"
secrets = [{ value = "hushhush", idd = "x" }, "hushhush", { env = "hush hush" }]
secret = 'hushhush'
[destinations.a]
url = "http://user:hushhush@host/"
headers = { Authorization = "Bearer hushhush", env = "hushhush" }
"""


def test_no_line_and_no_value_shows_a_secret() -> None:
    positions = scan(SECRETS)
    problems = Problems()
    for path, place in positions.places.items():
        value: object = tomllib.loads(SECRETS)
        for part in path:
            value = value[part]  # type: ignore[index]
        assert place is not None
        problems.expect("C103", path, value, "something else")
    shown = "\n".join(Report("config.toml", positions).lines(problems.found))
    assert "hush" not in shown
    assert '"/visible"' in shown
    assert '{ value = "***", idd = "***" }' in shown  # keys stay readable, only values are hidden


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('value = "hushhush', 'value = "***'),
        ('secrets = [{ value = "hushhush }]', 'secrets = [{ *** = "*** }]'),
        ("hushhush", "***"),
        ('"hushhush", [', '"***", ['),
        ("token = hushhush", "token = ***"),
        ("a = 1\ntoken = hush~hush", "token = ***"),
        ('["hushhush', '["***'),
        ("[{hushhush", "[{***"),
        ('secrets = [\n"hushhush="\n"hushhush="', '"***="'),
        ("a = [\n[hushhush", "[***"),
        ('text = """\nhush=hush', "***=***"),
        ("n = " + "[" * 3000 + '\nlisten = "hush', '*** = "***'),
        ("[headers]\nX-Other = 'hush", "X-Other = '***"),
        ('[destinations.a.headers]\n"X-Other" = "hush', '"X-Other" = "***'),
        ('a.headers.X-Other = "hush', 'a.headers.X-Other = "***'),
        ('url = "http://user:hush@host/', 'url = "***'),
        ('url = "http://host/?a=hush', 'url = "***=***'),
        ('env = "hush hush', 'env = "*** ***'),
        ('env = "~hush', 'env = "***'),
        ('verify = { scheme = "token", token = "hush }', 'verify = { *** = "***", *** = "*** }'),
        ('listen = 1 token = "hush"', 'listen = *** *** = "***"'),
    ],
)
def test_a_syntax_error_shows_no_secret(text: str, line: str) -> None:
    """Nor what goes on with an array or a text from the lines above: nobody knows its key."""
    offset = text.rfind("\n") + 1
    shown = "\n".join(Report("f", Positions(text, {})).lines([Problem("C002", (), "bad", offset=offset)]))
    assert shown.split(" | ")[1].splitlines()[0] == line


def test_a_password_behind_the_end_of_a_cut_line_hides_what_is_shown_of_it() -> None:
    text = 'url = "http://' + "u" * 150 + ":hush" * 10 + "@host/"
    shown = "\n".join(Report("f", Positions(text, {})).lines([Problem("C002", (), "bad", offset=0)]))
    assert 'url = "***\n' in shown


@pytest.mark.parametrize(
    "text",
    [
        "[servr",
        "[serv~r",
        'listen = "0.0.0.0:8787',
        '[headers]\n[server]\nlisten = "0.0.0.0:8787',
        'listen = "a"\nlisten = "b"',
        'path = "/~a',
        "env = 'NAME",
        'env = "NAME"\t"',
    ],
)
def test_a_syntax_error_elsewhere_shows_its_line(text: str) -> None:
    line = printable(text.splitlines()[-1])
    offset = text.rfind("\n") + 1
    assert f"| {line}\n" in "\n".join(
        Report("f", Positions(text, {})).lines([Problem("C002", (), "bad", offset=offset)])
    )


@pytest.mark.parametrize(
    ("path", "value", "secret"),
    [
        (("sources", "a", "secrets", 0, "value"), "x", True),
        (("sources", "a", "secrets", 0, "file"), "/run/x", False),
        (("sources", "a", "secrets", 0, "env"), "NAME", False),
        (("sources", "a", "secrets", 0, "env"), "not a name", True),
        (("sources", "a", "secrets", 0, "env"), 7, True),
        (("sources", "a", "secrets", 0, "env"), "~NAME", True),
        (("sources", "token", "path"), "/x", False),
        (("destinations", "token", "path"), "/x", False),
        (("sources", "a", "secrets", 0, "credential"), "name", False),
        (("sources", "a", "secrets", 0, "id"), "2026", False),
        (("sources", "a", "secrets", 0, "not_before"), "2026", False),
        (("sources", "a", "secrets", 0, "not_after"), "2026", False),
        (("destinations", "a", "headers", "X"), "x", True),
        (("destinations", "a", "headers", "id"), "x", True),
        (("any", "token", "path"), "/x", True),
        (("sources", "a", "verify", "secret_encoding"), "hex", False),
        (("destinations", "a", "url"), "http://u:p@h/", True),
        (("destinations", "a", "url"), "http://h/", False),
        (("destinations", "a", "url"), "http://h/?key=x", True),
        (("destinations", "a", "url"), "http://h/a=b", False),
        (("api_key",), "x", True),
        ((), "", False),
    ],
)
def test_what_may_be_a_secret_is_decided_by_its_place(path: Path, value: object, secret: bool) -> None:
    assert sensitive(path, value) is secret


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        (("a",), {"x": 1}, "a table"),
        (("a",), [1], "an array"),
        (("a",), [], "an empty array"),
        (("a",), True, "true"),
        (("a",), False, "false"),
        (("a",), 'q"\n', '"q\\"\\n"'),
        (("a",), "x" * 80, '"' + "x" * 80 + '"'),
        (("a",), "x" * 81, '"' + "x" * 80 + '…"'),
        (("a",), "ü", '"ü"'),
        (("a",), 7, "7"),
        (("a",), (1 << 64) - 1, "18446744073709551615"),
        (("a",), 1 << 64, "a number with more than 64 bits"),
        (("a",), -(1 << 64), "a number with more than 64 bits"),
        (("a",), 1.5, "1.5"),
        (("token",), "x", "a string (not shown)"),
        (("token",), 7, "a value of type int (not shown)"),
        (("token",), "", 'an empty string, ""'),
    ],
)
def test_what_was_got_is_shown_as_toml_writes_it(path: Path, value: object, shown: str) -> None:
    assert got(path, value) == shown


def test_a_filled_in_value_is_shown_as_written() -> None:
    problems = Problems(written={("a",): "${SECRET_HOST}"})
    problems.expect("C120", ("a",), "hush", "a URL")
    assert problems.found[0].text == 'got "${SECRET_HOST}"; expected a URL'


def test_a_value_nobody_knows_is_not_judged_but_its_key_is() -> None:
    problems = Problems(unknown=[("a",)])
    problems.add("C120", ("a",), "x")
    assert problems.found == []
    assert problems.touches("a")
    problems.add("C101", ("a",), "x", at_key=True)
    assert len(problems.found) == 1


def test_one_problem_is_noted_once() -> None:
    problems = Problems()
    problems.add("C120", ("a", "b"), "x")
    problems.add("C120", ("a", "b"), "y")
    assert len(problems.found) == 1
    assert problems.found[0].at_key is False
    problems.add("C120", ("c",), "x")
    assert problems.touches("a")
    assert not problems.touches("b")


def test_a_close_word_is_suggested() -> None:
    assert suggestion("max_bodyy", ["max_body", "listen"]) == '; did you mean "max_body"?'
    assert suggestion("zzz", ["max_body"]) == ""


def test_codes_are_unique_words() -> None:
    assert len(set(CODES.values())) == len(CODES)
    assert all(re.fullmatch("C[0-9]{3}", code) for code in CODES)


def test_a_problem_is_with_the_value_and_has_no_place_of_its_own_unless_it_says_so() -> None:
    problem = Problem("C103", ("a",), "x")
    assert (problem.at_key, problem.offset) == (False, -1)


@given(st.text(max_size=40), st.integers(-1, 50))
def test_any_line_can_be_shown(text: str, offset: int) -> None:
    """Whatever the text, showing a syntax error in it works and prints nothing invisible."""
    offset = min(offset, len(text))
    for line in Report("f", Positions(text, {})).lines([Problem("C002", (), text, offset=offset)]):
        assert all(part.isprintable() for part in line.split("\n"))


def test_a_pasted_secret_is_hidden_also_where_only_its_first_character_tells_it_from_a_name() -> None:
    shown = show('secrets = [{ env = "~hush" }]\n', Problem("C103", ("secrets", 0, "env"), "bad"))
    assert 'env = "***"' in shown


def test_a_number_in_the_place_of_a_secret_is_hidden_from_its_first_digit() -> None:
    shown = show("[admin]\ntoken = 7391\n", Problem("C103", ("admin", "token"), "bad"))
    assert "token = ***\n" in shown
