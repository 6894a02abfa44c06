"""The JSON Schema says what the checks say, and the effective configuration is valid TOML without secrets."""

from __future__ import annotations

import datetime as dt
import tomllib
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.check import check
from sidecar.config.describe import attribute_docs, json_schema, kind_of, range_of, render, toml_value
from sidecar.config.problems import Problems
from sidecar.config.schema import Config, Destination, Server, Source
from sidecar.config.shape import keys_of
from sidecar.config.verification import SCHEME_OPTIONS

SCHEMA = json_schema()


def plain(value: Any) -> Any:
    """As an editor hands TOML to a JSON Schema: times are texts."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value.isoformat() if isinstance(value, dt.datetime) else value


def fits(text: str) -> bool:
    return bool(jsonschema.Draft7Validator(SCHEMA).is_valid(plain(tomllib.loads(text))))


SOURCE = '[sources.a]\npath = "/a"\ndestinations = ["d"]\nsecrets = [{ env = "A" }]\n'
DESTINATION = '[destinations.d]\nurl = "http://d/{path}"\n'.replace("/{", "{")


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "",
        SOURCE + 'verify = "github"',
        SOURCE + 'verify = "${PRESET}"',
        SOURCE + 'verify = { scheme = "hmac", header = "X", timestamp = { header = "T", tolerance = "5m" } }',
        SOURCE + 'verify = { scheme = "none", allow_unverified = true }',
        '[server]\nheader_timeout = "${T:-5s}"\n[log]\nlevel = "${LEVEL}"',
        '[admin]\ntoken = { value = "x", not_after = 2026-01-01T00:00:00Z }',
        DESTINATION + 'headers = { X = "a", Y = { file = "f" } }\n[destinations.d.retry]\nfactor = 1.5',
        '[server]\ntls = { cert = "a", key = "b" }',
    ],
)
def test_the_schema_takes_what_is_right(text: str) -> None:
    assert fits(text)


@pytest.mark.parametrize(
    "text",
    [
        "servr = {}",
        "[server]\nlistn = 1",
        '[server]\nheader_timeout = "5 s"',
        "[server]\nmax_connections = 0",
        "[server]\nmax_connections = 1.5",
        SOURCE,
        SOURCE + 'verify = "githb"',
        SOURCE + 'verify = { scheme = "hmac" }',
        SOURCE + 'verify = { scheme = "hmac", header = "X", timestamp = { header = "T", tolerance = 300 } }',
        '[admin]\ntoken = { env = "A", file = "b" }',
        '[admin]\ntoken = "x"',
        '[destinations.Bad]\nurl = "http://a"',
        DESTINATION + "headers = { X = 5 }",
        '[log]\nlevel = "loud"',
        '[journal]\nephemeral = "yes"',
    ],
)
def test_the_schema_refuses_what_is_wrong(text: str) -> None:
    assert not fits(text)
    problems = Problems()
    check(tomllib.loads(text), problems)
    assert problems.found


def test_defaults_and_descriptions_are_in_the_schema() -> None:
    server = SCHEMA["definitions"]["Server"]["properties"]
    assert server["max_body"]["default"] == "1MiB"
    assert server["max_body"]["description"].startswith("Largest body")
    assert "default" not in server["public_url"]
    assert SCHEMA["definitions"]["TimestampOptions"]["properties"]["tolerance"]["default"] == "5m"


def test_options_are_explained_by_their_docstrings() -> None:
    for cls in SCHEME_OPTIONS.values():
        assert set(keys_of(cls)) <= set(attribute_docs(cls)), cls

    class Bare(msgspec.Struct):
        pass

    Bare.__doc__ = None
    assert attribute_docs(Bare) == {}

    class Told(msgspec.Struct):
        """Told.

        Attributes:
            stray words before any name
        """

    assert attribute_docs(Told) == {}


def test_types_are_named_for_people() -> None:
    named = {key.name: kind_of(key.hint) for key in (*keys_of(Source).values(), *keys_of(Destination).values())}
    assert named["max_body"] == "size"
    assert named["verify"] == "string or table"
    assert named["secrets"] == "array of secret reference"
    assert named["signature"] == '"fresh" or "original"'
    assert named["url"] == "URL"
    assert kind_of(float, durations=True) == "duration"
    assert kind_of(float) == "number"


def test_ranges_are_named_for_people() -> None:
    keys = keys_of(Server)
    assert range_of(keys["max_connections"].hint) == "1 to 1000000"
    assert range_of(keys["header_timeout"].hint) == "100ms to 5m"
    assert range_of(keys_of(Source)["max_body"].hint) == "1KiB to 256MiB"
    assert range_of(keys["listen"].hint) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        ('a"b\x7f', '"a\\"b\\u007f"'),
        (["a", 1], '["a", 1]'),
        ((), "[]"),
        ({"a b": 1, "c": {}}, '{ "a b" = 1, c = {} }'),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00Z"),
        (2.0, "2"),
        (0.1, "0.1"),
        (7, "7"),
    ],
)
def test_values_are_written_as_toml(value: object, text: str) -> None:
    assert toml_value(value) == text
    assert tomllib.loads(f"v = {text}")["v"] == (list(value) if isinstance(value, tuple) else value)


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_survives_as_toml(text: str) -> None:
    assert tomllib.loads(f"v = {toml_value(text)}")["v"] == text


FULL = """
[admin]
token = { value = "hushhush" }
[sources.a]
path = "/a"
destinations = ["d"]
secrets = [{ value = "hushhush", id = "one", not_after = 2030-01-01T00:00:00Z }, { env = "A" }]
ack = { status = 202 }
[sources.a.verify]
scheme = "hmac"
header = "X"
timestamp = { header = "T", tolerance = "5m" }
signed = "{timestamp}{body}"
[destinations.d]
url = "http://d"
headers = { X-Internal = "hushhush", Y = { env = "Y" } }
"""


def test_the_effective_configuration_is_the_configuration_without_secrets() -> None:
    problems = Problems()
    config = check(tomllib.loads(FULL), problems).config
    shown = render(config, {"server.listen": "environment X"})
    assert problems.found == []
    assert "hush" not in shown
    assert '"0.0.0.0:8787"  # environment X' in shown
    again = tomllib.loads(shown)
    assert again["sources"]["a"]["verify"]["timestamp"]["tolerance"] == "5m"
    assert again["sources"]["a"]["secrets"][1] == {"env": "A"}
    assert again["destinations"]["d"]["retry"]["max_attempts"] == 4
    check(again, problems)
    assert problems.found == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/a=b?key=hush&flag&sig=hush=", "http://h/a=b?key=***&flag=***&sig=***"),
        ("http://h/in?flag", "http://h/in?flag"),
        ("http://u:hush@h/?key=hush", "***"),
        ("http://u:hush@h/", "***"),
    ],
)
def test_a_url_is_shown_without_what_its_query_says(url: str, shown: str) -> None:
    config = Config(destinations={"d": Destination(url=url)})
    assert tomllib.loads(render(config))["destinations"]["d"]["url"] == shown


def test_an_empty_configuration_is_shown_with_its_defaults() -> None:
    shown = tomllib.loads(render(Config()))
    assert shown["journal"]["max_size"] == "1GiB"
    assert shown["sources"] == {}
