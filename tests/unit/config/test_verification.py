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


def adapted(verify, **more):
    text = f'[sources.x]\npath = "/x"\nverify = {verify}' + REST + APP
    problems = Problems()
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


def test_a_scheme_whose_packages_are_missing_says_what_to_install(monkeypatch):
    """Not an exception and not a silence."""
    from sidecar.inbound.verify import schemes

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name}", name="cryptography")

    monkeypatch.setattr(schemes.importlib, "import_module", missing)
    _, problems = adapted('"discord"')
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


@pytest.mark.parametrize(
    ("more", "code", "warning"),
    [
        ('handshake = "nobody"', "C154", None),
        ('handshake = "none"', None, None),
        ('handshake = "cloudevents"', None, None),
        ('handshake = "meta"', None, "handshake_token"),
        ('handshake = "meta"\nhandshake_token = { env = "T" }', None, None),
        ('handshake = "websub"', None, "handshake_allow"),
        ('handshake = "websub"\nhandshake_allow = ["t"]', None, None),
        ('handshake_token = { value = "" }', "C145", None),
    ],
)
def test_handshakes_are_judged(more, code, warning):
    """Their name, and what they cannot do without."""
    problems = Problems()
    text = f'[sources.x]\npath = "/x"\nverify = "github"\n{more}' + REST + APP
    checked = check(tomllib.loads(text), problems)
    assert [p.code for p in problems.found] == ([code] if code else [])
    said = [w for w in checked.warnings if "handshake" in w]
    assert (len(said) == 1 and warning in said[0]) if warning else said == []


def test_any_topic_of_anybody_is_warned_about():
    """Until one is named."""
    assert any("any topic" in w for w in adapted('"aws-sns"')[0].warnings)
    assert not any("any topic" in w for w in adapted('{ preset = "aws-sns", topics = ["t"] }')[0].warnings)
