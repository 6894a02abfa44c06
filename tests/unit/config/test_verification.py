"""``verify`` of a source: a preset, a preset with options that differ, or a scheme; and back again as a table."""

import tomllib

import pytest

from sidecar.config.check import check
from sidecar.config.problems import Problems
from sidecar.config.verification import scheme_table
from sidecar.inbound.verify import PRESETS, HmacOptions, TimestampOptions

REST = '\ndestinations = ["app"]\npublic_url = "https://hooks.example.com"\nsecrets = [{ value = "x" }]'
APP = '\n[destinations.app]\nurl = "http://127.0.0.1:1/"\n'


def test_durations_and_tables_inside_are_written_as_the_file_wants_them():
    """Defaults are left out."""
    options = HmacOptions(header="S", signed="{timestamp}", timestamp=TimestampOptions(header="T", tolerance=90.0))
    assert scheme_table(options) == {
        "scheme": "hmac",
        "header": "S",
        "signed": "{timestamp}",
        "timestamp": {"header": "T", "tolerance": "90s"},
    }


def adapted(verify, unknown=()):
    text = f'[sources.x]\npath = "/x"\nverify = {verify}' + REST + APP
    problems = Problems(list(unknown))
    checked = check(tomllib.loads(text), problems)
    return checked, [f"{p.code} {'.'.join(map(str, p.path))}: {p.text}" for p in problems.found]


def test_an_option_of_a_preset_may_differ():
    """Tables inside keep what is not said."""
    checked, problems = adapted('{ preset = "paddle", timestamp = { tolerance = "5s" } }')
    assert problems == []
    made = checked.verifications["x"]
    assert made.preset is PRESETS["paddle"]
    assert (made.options.timestamp.tolerance, made.options.timestamp.entry) == (5.0, "ts")
    assert made.options.entries == PRESETS["paddle"].scheme.entries


@pytest.mark.parametrize(
    ("verify", "problem"),
    [
        ('{ preset = "padle" }', 'C140 sources.x.verify.preset: got "padle"'),
        ("{ preset = 5 }", "C140 sources.x.verify.preset: got 5"),
        ('{ preset = "paddle", tolerance = "5s" }', "C101 sources.x.verify.tolerance: unknown key"),
        ('"paypal"', "C152 sources.x.verify: missing: webhook_id"),
        ('{ preset = "braintree", public_key = "" }', "C152 sources.x.verify.public_key: missing: public_key"),
        ('{ preset = "netlify", jwks_url = "https://k" }', "C141 sources.x.verify"),
    ],
)
def test_what_does_not_fit_a_preset_is_a_problem(verify, problem):
    """With its place and a way out."""
    _, problems = adapted(verify)
    assert len(problems) == 1
    assert problems[0].startswith(problem)


@pytest.mark.parametrize(
    ("verify", "problem"),
    [
        ('"githb"', 'C140 sources.x.verify: got "githb"; expected the name of a preset, "none", or a table with a scheme; did you mean "github"?'),
        ('"hmac"', 'C140 sources.x.verify: got "hmac"; expected the name of a preset, "none", or a table with a scheme; a scheme is spelled out in a table: [sources.x.verify]'),
        ("5", "C103 sources.x.verify"),
        ("{}", "C102 sources.x.verify.scheme: missing"),
        ('{ scheme = "hmca" }', 'C140 sources.x.verify.scheme: got "hmca"; expected one of "hmac", "any", "token"'),
        ("{ scheme = 1 }", "C140 sources.x.verify.scheme: got 1"),
        ('{ scheme = "hmac" }', "C102 sources.x.verify.header: missing"),
        ('{ scheme = "hmac", header = "X", heder = "Y" }', 'C101 sources.x.verify.heder: unknown key; did you mean "header"?'),
        ('{ scheme = "hmac", header = "X", signed = "{bodi}" }', "C141 sources.x.verify: unknown part {bodi}"),
        ('{ scheme = "hmac", header = "a b" }', "C141 sources.x.verify"),
        ('{ scheme = "hmac", header = "X", timestamp = { header = "T", tolerance = 300 }, signed = "{timestamp}" }', "C121 sources.x.verify.timestamp.tolerance: got 300"),
        ('"none"', "C142 sources.x.verify: with none anybody who can reach the path can send"),
        ('{ scheme = "none" }', "C142 sources.x.verify"),
        ('{ scheme = "none", allow_unverified = 1 }', "C103 sources.x.verify.allow_unverified"),
    ],
)  # fmt: skip
def test_what_is_neither_a_preset_nor_a_scheme_is_a_problem(verify, problem):
    """One that names the place, and the nearest right word."""
    _, problems = adapted(verify)
    assert len(problems) == 1
    assert problems[0].startswith(problem)


@pytest.mark.parametrize(
    "verify",
    [
        '{ scheme = "none", allow_unverified = true }',
        '{ scheme = "none" }\nallow_unverified = true',
        '"none"\nallow_unverified = true',
    ],
)
def test_nothing_may_be_verified_where_that_is_said(verify):
    """In the table or beside it; with a warning."""
    checked, problems = adapted(verify)
    assert problems == []
    assert checked.verifications["x"].verifier.unverified
    assert "sources.x: nothing is verified (allow_unverified = true)" in checked.warnings


def test_what_a_preset_asks_for_makes_it_complete():
    """The same preset as in the table of problems, with its option."""
    checked, problems = adapted('{ preset = "paypal", webhook_id = "w" }')
    assert problems == []
    assert checked.verifications["x"].options.webhook_id == "w"


def test_a_variable_that_nobody_looked_up_stands_for_any_scheme():
    """What is wrong beside it is a problem all the same."""
    place = ("sources", "x", "verify")
    checked, problems = adapted('"${V}"', [place])
    assert problems == []
    assert checked.verifications["x"].verifier.unverified
    checked, problems = adapted('{ scheme = "hmac", header = "${H}" }', [(*place, "header")])
    assert problems == []
    checked, problems = adapted("5", [(*place, "header")])
    assert [line.partition(":")[0] for line in problems] == ["C103 sources.x.verify"]
    assert "x" not in checked.verifications


def test_a_scheme_whose_packages_are_missing_says_what_to_install(monkeypatch):
    """Not an exception and not a silence."""
    from sidecar.inbound.verify import schemes

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name}", name="cryptography")

    monkeypatch.setattr(schemes.importlib, "import_module", missing)
    _, problems = adapted('{ scheme = "ed25519", header = "S", signed = "{body}" }')
    assert problems == ["C153 sources.x.verify: needs the package cryptography: pip install 'webhook-sidecar[crypto]'"]


def test_secrets_may_be_left_out_only_where_keys_come_from_elsewhere():
    """Published ones, and secrets that arrive by handshake."""
    for verify, needed in (
        ('"github"', True),
        ('"asana"', False),
        ('"aws-sns"', False),
        ('{ scheme = "jwt", jwks_url = "https://k/jwks" }', False),
        ('{ scheme = "jwt", algorithm = "HS256" }', True),
        ('{ scheme = "sns", topics = ["t"] }', False),
        ('{ scheme = "ed25519", header = "S", signed = "{body}" }', True),
    ):
        text = f'[sources.x]\npath = "/x"\nverify = {verify}\ndestinations = ["app"]' + APP
        problems = Problems()
        check(tomllib.loads(text), problems)
        assert [p.code for p in problems.found] == (["C145"] if needed else []), verify
