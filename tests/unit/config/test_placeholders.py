"""Variables go into strings after parsing, and never into secrets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.placeholders import fill, override
from sidecar.config.problems import Problems

NOT_WELL_FORMED = (
    "a placeholder is not well-formed; expected ${NAME}, ${NAME:-default} or ${NAME:?message}; $$ is a dollar sign"
)
ENV = {"HOST": "app", "EMPTY": "", "QUOTED": '"] x = 1'}


def filled(value: str, env: dict[str, str] | None = ENV) -> tuple[Any, list[str]]:
    problems = Problems()
    found = fill({"v": value}, env, problems)
    return found.data["v"], [f"{p.code} {p.text}" for p in problems.found]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("http://${HOST}:80{path}", "http://app:80{path}"),
        ("${HOST}${HOST}", "appapp"),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${NONE:-x y}", "x y"),
        ("${NONE:-}", ""),
        ("${HOST:-x}", "app"),
        ("${HOST:?say}", "app"),
        ("$$", "$"),
        ("$${HOST}", "${HOST}"),
        ("$HOST 5$", "$HOST 5$"),
        ("${QUOTED}", '"] x = 1'),
    ],
)
def test_variables_are_filled_in(text: str, value: str) -> None:
    assert filled(text) == (value, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("${NONE}", "C010 the environment variable NONE is not set; set it, or give a default with ${NONE:-default}"),
        ("${NONE:?the host}", "C010 the environment variable NONE is not set: the host"),
        ("${EMPTY:?}", "C010 the environment variable EMPTY is not set"),
        ("${", 'C011 got "${" without its "}"; expected ${NAME}, or $$ for a dollar sign'),
        ("${}", f"C011 {NOT_WELL_FORMED}"),
        ("${a b}", f"C011 {NOT_WELL_FORMED}"),
        ("${HOST:x}", f"C011 {NOT_WELL_FORMED}"),
    ],
)
def test_what_cannot_be_filled_in_is_a_problem(text: str, problem: str) -> None:
    """Nothing stands in its place for the checks that follow."""
    assert filled(text) == ("", [problem])


def test_secrets_are_left_alone() -> None:
    data = {
        "admin": {"token": {"value": "${HOST}"}},
        "any": {"deep": {"token": {"value": "${HOST}"}}},
        "sources": {
            "a": {
                "secrets": [{"value": "a$$b"}, {"file": "${HOST}"}, {"env": "${HOST}"}, {"credential": "${HOST}"}],
                "path": "/${HOST}",
            }
        },
        "destinations": {"d": {"headers": {"X": {"value": "${HOST}"}, "Y": "${HOST}"}}},
    }
    found = fill(data, ENV, Problems()).data
    assert (found["admin"], found["any"]) == (data["admin"], data["any"])
    assert found["sources"]["a"]["secrets"] == data["sources"]["a"]["secrets"]
    assert found["sources"]["a"]["path"] == "/app"
    assert found["destinations"]["d"]["headers"] == {"X": {"value": "${HOST}"}, "Y": "app"}


def test_the_text_as_written_is_remembered() -> None:
    found = fill({"a": ["${HOST}", "x"], "n": 1}, ENV, Problems())
    assert found.data == {"a": ["app", "x"], "n": 1}
    assert found.written == {("a", 0): "${HOST}"}
    assert found.unknown == set()


def test_without_an_environment_only_defaults_are_known() -> None:
    found = fill({"a": "${X:-1}${X:-}", "b": "${X}", "c": "${X:?m}", "d": "$$"}, None, Problems())
    assert found.data == {"a": "1", "b": "${X}", "c": "${X:?m}", "d": "$"}
    assert found.unknown == {("b",), ("c",)}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("SERVER__LISTEN", "127.0.0.1:1", {"server": {"listen": "127.0.0.1:1"}}),
        ("SERVER__LISTEN", "7", {"server": {"listen": "7"}}),
        ("SERVER__LISTEN", "{ a = 1 }", {"server": {"listen": "{ a = 1 }"}}),
        ("SERVER__PUBLIC_URL", "7", {"server": {"public_url": "7"}}),
        ("SERVER__MAX_CONNECTIONS", "7", {"server": {"max_connections": 7}}),
        ("SERVER__MAX_CONNECTIONS", "many", {"server": {"max_connections": "many"}}),
        ("SERVER__MAX_CONNECTIONS", "7\nx = 1", {"server": {"max_connections": "7\nx = 1"}}),
        ("SERVER__TRUSTED_PROXIES", '["10.0.0.0/8"]', {"server": {"trusted_proxies": ["10.0.0.0/8"]}}),
        ("SERVER__TLS__CERT", "/c", {"server": {"tls": {"cert": "/c"}}}),
        ("JOURNAL__EPHEMERAL", "true", {"journal": {"ephemeral": True}}),
        ("LOG__LEVEL", "debug", {"log": {"level": "debug"}}),
        ("LOG__LEVEL", "7", {"log": {"level": "7"}}),
        ("ADMIN__TOKEN", '{ file = "/t" }', {"admin": {"token": {"file": "/t"}}}),
        ("ADMIN__TOKEN__ENV", "T", {"admin": {"token": {"env": "T"}}}),
        ("SOURCES__NEW__VERIFY", "stripe", {"sources": {"new": {"verify": "stripe"}}}),
        ("SOURCES__NEW__VERIFY", "7", {"sources": {"new": {"verify": "7"}}}),
        ("SOURCES__NEW__VERIFY", '{ scheme = "basic" }', {"sources": {"new": {"verify": {"scheme": "basic"}}}}),
        ("SOURCES__NEW__VERIFY__SCHEME", "basic", {"sources": {"new": {"verify": {"scheme": "basic"}}}}),
        ("DESTINATIONS__APP__RETRY__FACTOR", "1.5", {"destinations": {"app": {"retry": {"factor": 1.5}}}}),
        ("NOPE", "1", {"nope": 1}),
        ("SERVER__NOPE__X", "x", {"server": {"nope": {"x": "x"}}}),
    ],
)
def test_a_variable_sets_a_key(name: str, text: str, expected: dict[str, Any]) -> None:
    data: dict[str, Any] = {}
    origins = override(data, {f"WEBHOOK_SIDECAR__{name}": text, "OTHER": "x"})
    assert data == expected
    assert list(origins.values()) == [f"environment WEBHOOK_SIDECAR__{name}"]
    assert list(origins) == [tuple(name.lower().split("__"))]


def test_names_match_what_the_file_has() -> None:
    data: dict[str, Any] = {"destinations": {"my-app": {"url": "http://a"}, "other": 5}}
    override(data, {"WEBHOOK_SIDECAR__DESTINATIONS__MY_APP__URL": "http://b", "WEBHOOK_SIDECAR__LOG": "x"})
    assert data == {"destinations": {"my-app": {"url": "http://b"}, "other": 5}, "log": "x"}
    data = {"destinations": {"My-App": {}}}
    override(data, {"WEBHOOK_SIDECAR__DESTINATIONS__my-app__URL": "http://b"})
    assert data == {"destinations": {"My-App": {"url": "http://b"}}}, "a dash in the variable is as good"


def test_a_variable_goes_before_a_value_that_is_no_table() -> None:
    data: dict[str, Any] = {"server": 5}
    override(data, {"WEBHOOK_SIDECAR__SERVER__LISTEN": "a:1"})
    assert data == {"server": {"listen": "a:1"}}


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_filled_in_or_reported(text: str, other: str) -> None:
    fill({"a": text + "${" + other, "secrets": [{"value": text}]}, {}, Problems())


@given(st.dictionaries(st.text(max_size=20).map(lambda s: "WEBHOOK_SIDECAR__" + s), st.text(max_size=20)))
def test_any_variables_can_be_overrides(env: dict[str, str]) -> None:
    override({"server": {}, "sources": {"a": {"verify": 1}}}, env)
