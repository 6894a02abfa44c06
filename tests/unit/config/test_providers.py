"""Presets for people: the TOML that a preset prints makes the same verifier, and judges every case alike."""

import tomllib
from pathlib import Path

import pytest

from sidecar.config.check import check
from sidecar.config.problems import Problems
from sidecar.config.providers import minimal_source, page, preset_toml
from sidecar.config.verification import scheme_table
from sidecar.inbound.verify import PRESETS, Rejected, compile_scheme
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


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_minimal_source_asks_for_a_url_where_it_is_signed(name):
    """Without compiling the scheme, whose packages may not be there."""
    assert ("public_url" in minimal_source(PRESETS[name])) == compile_scheme(PRESETS[name].scheme).needs_url


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
