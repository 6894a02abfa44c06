"""Presets for people: the TOML that a preset prints makes the same verifier, and judges every case alike."""

import tomllib
from pathlib import Path

import pytest

from sidecar.config.check import check
from sidecar.config.problems import Problems
from sidecar.config.providers import minimal_source, page, preset_toml
from sidecar.config.verification import scheme_table
from sidecar.inbound.verify import PRESETS, HmacOptions, Rejected, TimestampOptions
from sidecar.inbound.verify.vectors import parse_case, prepare

VECTORS = Path(__file__).parents[2] / "vectors" / "signatures.jsonl"
CASES = [parse_case(line) for line in VECTORS.read_bytes().splitlines()]
REST = '\ndestinations = ["app"]\npublic_url = "https://hooks.example.com"\nsecrets = [{ value = "x" }]'
APP = '\n[destinations.app]\nurl = "http://127.0.0.1:1/"\n'


def judged(text):
    problems = Problems()
    checked = check(tomllib.loads(text), problems)
    assert [str(p.text) for p in problems.found] == []
    return checked


def spelled_out(name, params=None):
    """The verification that the printed TOML makes, with what only the user knows filled in."""
    preset = PRESETS[name]
    text = preset_toml(preset, "x").replace(f'path = "/webhooks/{name}"', f'path = "/webhooks/{name}"' + REST)
    data = tomllib.loads(text + APP)
    own = set(scheme_table(preset.scheme)) | set(preset.scheme.__struct_fields__)
    data["sources"]["x"]["verify"] |= {k: v for k, v in (params or {}).items() if k in own}
    problems = Problems()
    checked = check(data, problems)
    assert [p.text for p in problems.found] == [], text
    return checked.verifications["x"]


@pytest.mark.parametrize("case", CASES, ids=[c.id for c in CASES])
def test_the_printed_toml_passes_the_same_cases(case):
    """All of them, through the configuration and not past it."""
    _, request, secrets, now_ms = prepare(case)
    verifier = spelled_out(case.provider, case.params).verifier
    verdict = verifier.verify(request, secrets, now_ms)
    assert isinstance(verdict, Rejected) == (case.expect == "reject"), case.why


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_printed_toml_makes_the_same_options(name):
    """Not only the same verdicts; and with them key, time and answer."""
    preset = PRESETS[name]
    params = dict.fromkeys(preset.required, "...")
    made = spelled_out(name, params)
    for field in preset.scheme.__struct_fields__:
        if field not in params:
            assert getattr(made.options, field) == getattr(preset.scheme, field), field


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_minimal_source_is_a_whole_one(name):
    """It loads as it is, with nothing to add but the secret's value."""
    text = minimal_source(PRESETS[name])
    checked = judged(text + APP)
    assert checked.verifications[name].preset is PRESETS[name]


def test_durations_and_tables_inside_are_written_as_the_file_wants_them():
    """Defaults are left out."""
    options = HmacOptions(header="S", signed="{timestamp}", timestamp=TimestampOptions(header="T", tolerance=90.0))
    assert scheme_table(options) == {
        "scheme": "hmac",
        "header": "S",
        "signed": "{timestamp}",
        "timestamp": {"header": "T", "tolerance": "90s"},
    }


def test_the_page_has_every_preset_and_every_fact():
    """A row and a section each."""
    text = page()
    for name, preset in PRESETS.items():
        assert f"\n### {name}\n" in text
        assert preset.docs in text
        for note in preset.notes:
            assert note in text
    assert "None" not in text
    assert "NotImplemented" not in text


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
