"""Any text is a configuration or a ConfigError, never anything else, and no error shows a secret."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.config.describe import toml_value
from sidecar.config.settings import Settings
from tests.support.configs import SECRET_ENV, load_any, secret_folder

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.sub(r"(?m)^#(?=[a-z\[\]]|  \{)", "", (ROOT / "config.example.toml").read_text())
LINES = EXAMPLE.splitlines(keepends=True)
SECRET = "development-secret-change-me"
KEYS = sorted(set(re.findall(r"(?m)^\[?([a-z_]+)", EXAMPLE)))

quick = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return secret_folder(tmp_path)


def load(folder: Path, text: str | bytes, env: dict[str, str] | None = None, *, offline: bool) -> Settings | None:
    return load_any(folder, text, SECRET_ENV if env is None else env, offline=offline)


scalars = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(
        ["10s", "1MiB", "${X}", "${X:-1s}", "${", "$$", "stripe", "none", "/a", "header:X", "http://a", "*"]
    ),
    st.datetimes().map(lambda d: d.replace(microsecond=0)),
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, "x y", ""]), inner, max_size=3),
    max_leaves=6,
)


@quick
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda s: s.encode("utf-8", "replace")))
def test_any_bytes(folder: Path, content: bytes) -> None:
    load(folder, content, offline=False)


@quick
@given(
    st.lists(
        st.sampled_from(
            [*KEYS, "=", "=", "[", "]", "{", "}", ".", ",", '"', "'''", "\n", "\n", "1", "true", '"10s"', "#"]
        )
    )
)
def test_any_words_that_look_like_toml(folder: Path, words: list[str]) -> None:
    load(folder, " ".join(words), offline=True)


@quick
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=4), st.booleans())
def test_any_values_below_any_keys(folder: Path, document: dict[str, Any], offline: bool) -> None:
    text = "".join(f"{key} = {toml_value(value)}\n" for key, value in document.items())
    load(folder, text, offline=offline)


@quick
@given(st.data())
def test_mutations_of_the_example(folder: Path, data: st.DataObject) -> None:
    """Values replaced, lines dropped, doubled, swapped and cut."""
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["value", "value", "value", "drop", "double", "cut", "swap"]))
        if kind == "value" and "=" in lines[at] and not lines[at].startswith("#"):
            lines[at] = lines[at].partition("=")[0] + "= " + toml_value(data.draw(values)) + "\n"
        elif kind == "drop":
            lines[at] = "\n"
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "cut":
            lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
        else:
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
    load(folder, "".join(lines), offline=data.draw(st.booleans()))


@quick
@given(
    st.dictionaries(
        st.lists(st.sampled_from([k.upper() for k in KEYS] + ["GITHUB", "ECHO", ""]), min_size=1, max_size=4).map(
            lambda words: "WEBHOOK_SIDECAR__" + "__".join(words)
        ),
        st.text(max_size=12) | values.map(toml_value),
        max_size=3,
    )
)
def test_any_overrides(folder: Path, env: dict[str, str]) -> None:
    load(folder, (ROOT / "config.example.toml").read_text(), {**SECRET_ENV, **env}, offline=False)


def test_the_example_itself_is_taken(folder: Path) -> None:
    """The fuzz would prove nothing if every text were refused."""
    assert load(folder, EXAMPLE, offline=True) is not None
    assert load(folder, re.sub(r"(?m)^(tls|ca_file) = .*$", "", EXAMPLE), offline=False) is not None
    assert SECRET in EXAMPLE
