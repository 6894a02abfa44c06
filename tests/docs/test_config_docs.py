"""The documents of the configuration are current, complete and true."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from sidecar.config.load import load_settings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "config.example.toml"
SCHEMA: dict[str, Any] = json.loads((ROOT / "config.schema.json").read_text())


def uncommented() -> str:
    """The example with every commented key taken in."""
    return re.sub(r"(?m)^#(?=[a-z\[\]]|  \{)", "", EXAMPLE.read_text())


def plain(value: Any) -> Any:
    """As an editor hands TOML to a JSON Schema: times are texts."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value.isoformat() if isinstance(value, dt.datetime) else value


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, as it is when it is run from its own folder."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("generate", ROOT / "scripts" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_runs_as_it_is(tmp_path: Path) -> None:
    """It needs nothing beside it: no file, no variable."""
    shutil.copy(EXAMPLE, tmp_path / "config.toml")
    settings = load_settings(str(tmp_path / "config.toml"), env={})
    assert [source.name for source in settings.sources] == ["github"]
    assert [destination.name for destination in settings.destinations] == ["echo"]
    assert settings.admin.token is None
    assert len(settings.warnings) == 1
    assert "development" not in settings.warnings[0]


def test_the_example_loads_with_every_line_taken_in(tmp_path: Path) -> None:
    """All but the certificates, which only offline need not exist."""
    secret = tmp_path / "secrets" / "orders-old"
    secret.parent.mkdir()
    secret.write_text("secret\n")
    secret.chmod(0o600)
    env = {
        "WEBHOOK_SIDECAR_ADMIN_TOKEN": "token",
        "ORDERS_SECRET": "secret",
        "INTERNAL_TOKEN": "token",
        "ORDERS_HANDSHAKE_TOKEN": "token",
    }
    (tmp_path / "all.toml").write_text(uncommented())
    settings = load_settings(str(tmp_path / "all.toml"), env={}, offline=True)
    assert [source.name for source in settings.sources] == ["github", "orders"]
    without_tls = re.sub(r"(?m)^(tls|ca_file) = .*$", "", uncommented())
    (tmp_path / "all.toml").write_text(without_tls)
    settings = load_settings(str(tmp_path / "all.toml"), env=env)
    assert [secret.id for secret in settings.sources[1].secrets] == ["2026-11", "2026-10"]
    assert settings.admin.token == b"token"


@pytest.mark.parametrize("text", [EXAMPLE.read_text(), uncommented()], ids=["as it is", "everything"])
def test_the_schema_takes_the_example(text: str) -> None:
    jsonschema.validate(plain(tomllib.loads(text)), SCHEMA, jsonschema.Draft7Validator)


def test_the_example_names_its_schema() -> None:
    assert EXAMPLE.read_text().startswith("#:schema ./config.schema.json\n")


def test_every_key_of_the_schema_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "config.md").read_text()
    for name, definition in [("", SCHEMA), *SCHEMA["definitions"].items()]:
        for key, schema in definition["properties"].items():
            heading = f"## `[{key}" if name == "" else f"| `{key}` |"
            assert heading in page or "const" in schema, (name, key)
            if "const" not in schema:
                assert schema["description"], (name, key)


@pytest.mark.parametrize("name", ["config.example.toml", "config.schema.json", "docs/config.md"])
def test_generated_files_are_current(generator: ModuleType, name: str) -> None:
    """``make generate`` would change nothing."""
    assert generator.FILES[name]() == (ROOT / name).read_text()


def test_the_generator_notices_a_stale_file_and_mends_it(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = generator
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "FILES", {"a/b.md": lambda: "x", "c.md": lambda: "y"})
    (tmp_path / "c.md").write_text("y")
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert module.main() == 1
    assert "a/b.md is not current" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    assert module.main() == 0
    assert (tmp_path / "a" / "b.md").read_text() == "x"
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert module.main() == 0
