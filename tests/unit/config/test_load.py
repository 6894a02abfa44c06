"""A file becomes settings, or one error that names every problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.load import InvalidConfig, admin_socket, find_config, load_settings
from sidecar.config.settings import Settings
from sidecar.errors import ConfigError

GOOD = """
[sources.orders]
path = "/orders"
verify = "github"
secrets = [{ file = "secret" }]
destinations = ["app"]
[destinations.app]
url = "http://${APP_HOST:-127.0.0.1}:3000{path}"
"""


def write(folder: Path, text: str | bytes, secret: bytes = b"hush\n") -> str:
    (folder / "secret").write_bytes(secret)
    (folder / "secret").chmod(0o600)
    (folder / "config.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder / "config.toml")


def load(folder: Path, text: str | bytes, env: dict[str, str] | None = None, *, offline: bool = False) -> Settings:
    return load_settings(write(folder, text), env=env or {}, offline=offline)


def problems(folder: Path, text: str | bytes, env: dict[str, str] | None = None, *, offline: bool = False) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        load(folder, text, env, offline=offline)
    assert caught.value.exit_code == 78
    return [line.removeprefix(str(folder) + "/") for line in caught.value.problems]


def test_a_good_file_becomes_settings(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD, {"APP_HOST": "app"})
    assert settings.destinations[0].http.url == "http://app:3000{path}"
    assert settings.sources[0].secrets[0].value == b"hush"
    assert settings.path == str(tmp_path / "config.toml")
    assert {file.path for file in settings.watched} == {str(tmp_path / "config.toml"), str(tmp_path / "secret")}
    assert all(file.digest for file in settings.watched)


def test_relative_paths_start_from_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path.parent)
    settings = load_settings(f"{tmp_path.name}/config.toml", env={})
    assert settings.journal.path == str(tmp_path / "data/journal")
    assert settings.dead_letters.path == str(tmp_path / "data/dead-letters")
    assert settings.admin.socket == str(tmp_path / "data/admin.sock")


def test_every_problem_comes_at_once_also_of_secrets(tmp_path: Path) -> None:
    text = GOOD.replace('"secret"', '"none"').replace("/orders", "orders") + "[log]\nlevl = 1\n"
    assert [line.split(" ")[0:2] for line in problems(tmp_path, text)] == [
        ["config.toml:3:8:", "C128"],
        ["config.toml:5:21:", "C146"],
        ["config.toml:10:1:", "C101"],
    ]


def test_a_key_from_the_environment_goes_before_the_files(tmp_path: Path) -> None:
    env = {"WEBHOOK_SIDECAR__SERVER__LISTEN": "127.0.0.1:1", "WEBHOOK_SIDECAR__LOG__LEVEL": "debug"}
    settings = load(tmp_path, GOOD + '[server]\nlisten = "127.0.0.1:2"', env)
    assert settings.server.listen == "127.0.0.1:1"
    assert settings.log.level == "debug"
    assert settings.origins["server.listen"] == "environment WEBHOOK_SIDECAR__SERVER__LISTEN"
    shown = problems(tmp_path, GOOD, {"WEBHOOK_SIDECAR__SERVER__LISTEN": "x", "WEBHOOK_SIDECAR__NOPE__X": "1"})
    assert len(shown) == 2
    assert shown[0] == "environment WEBHOOK_SIDECAR__NOPE__X: C101 nope: unknown key"
    assert shown[1].startswith('environment WEBHOOK_SIDECAR__SERVER__LISTEN: C124 server.listen: got "x"; expected')


def test_a_value_from_the_environment_is_not_filled_in_again(tmp_path: Path) -> None:
    env = {"WEBHOOK_SIDECAR__DESTINATIONS__APP__HOST": "a.${X}"}
    assert problems(tmp_path, GOOD, env)[0].startswith("environment WEBHOOK_SIDECAR__DESTINATIONS__APP__HOST: C127")


def test_a_variable_cannot_inject_toml(tmp_path: Path) -> None:
    env = {"APP_HOST": 'a"\n[log]\nlevel = "debug'}
    shown = problems(tmp_path, GOOD, env)
    assert len(shown) == 1
    assert shown[0].startswith("config.toml:8:7: C120")
    assert "debug" not in shown[0]


def test_offline_looks_at_no_environment_and_no_other_file(tmp_path: Path) -> None:
    text = GOOD.replace("${APP_HOST:-127.0.0.1}", "${APP_HOST}").replace('"secret"', '"none"')
    text += '[admin]\ntoken = { env = "NONE" }\n[server]\ntls = { cert = "none", key = "none" }\n'
    text = text.replace(
        "[destinations.app]", '[destinations.app]\nca_file = "none"\nheaders = { X = { env = "NONE" } }'
    )
    settings = load(tmp_path, text, {"WEBHOOK_SIDECAR__LOG__LEVEL": "debug"}, offline=True)
    assert settings.log.level == "info"
    assert settings.sources[0].secrets == ()
    assert settings.admin.token is None
    assert [file.path for file in settings.watched] == [str(tmp_path / "config.toml")]


@pytest.mark.parametrize("place", ["path", "verify", "public_url", "max_body", "content_type", "destinations"])
def test_offline_judges_no_value_that_a_variable_gives(tmp_path: Path, place: str) -> None:
    lines = [line for line in GOOD.splitlines() if not line.startswith(place)]
    value = '["${X}"]' if place == "destinations" else '"${X}"'
    lines.insert(lines.index("[sources.orders]") + 1, f"{place} = {value}")
    load(tmp_path, "\n".join(lines), offline=True)
    assert problems(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"a = 1\nb = \xff\n", "config.toml: C002 not UTF-8 (line 2, column 5)"),
        (b"\xef\xbb\xbfa = 1", "config.toml:1:1: C002 Invalid statement"),
        ("a = 1\nb 2\n", "config.toml:2:3: C002 Expected '='"),
        ("a = 1\r\nb = 1\r\nb = 2\r\n", "config.toml:3:6: C002 Cannot overwrite a value"),
        ('a = "x', "config.toml:1:6: C002 Unterminated string (the file ends here)"),
        ("a = [", "config.toml:1:5: C002 Invalid value (the file ends here)"),
        ("a = " + "1" * 5000, "config.toml: C002 a number is too long"),
        ("a = " + "[" * 5000 + "]" * 5000, "config.toml: C002 nested too deeply"),
        ("a = " + "[" * 40 + "]" * 40, "config.toml: C002 nested too deeply"),
        ("a = 1979-02-30", "config.toml:1:5: C002 Invalid date or datetime"),
        ("[a]\n[a]\n", "config.toml:2:3: C002 Cannot declare ('a',) twice"),
    ],
)
def test_what_is_no_toml_is_reported_at_its_place(tmp_path: Path, text: str | bytes, problem: str) -> None:
    shown = problems(tmp_path, text)
    assert len(shown) == 1
    assert shown[0].startswith(problem), shown[0]


@pytest.mark.parametrize("kind", ["none", "folder"])
def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path if kind == "folder" else tmp_path / "none.toml")
    with pytest.raises(InvalidConfig) as caught:
        load_settings(name, env={})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{name}: C001 cannot be read: ")
    assert [file.path for file in caught.value.watched] == [name]


def test_a_failed_load_names_the_files_that_could_mend_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load(tmp_path, GOOD.replace('"secret"', '"later"'))
    assert {file.path: bool(file.digest) for file in caught.value.watched} == {
        str(tmp_path / "config.toml"): True,
        str(tmp_path / "later"): False,
    }
    assert str(caught.value).startswith(f"{tmp_path}/config.toml: the configuration has 1 problem\n  hint: ")


def test_the_configuration_is_found_where_it_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sidecar.config.load.PLACES", ("config.toml", str(tmp_path / "etc.toml")))
    with pytest.raises(ConfigError, match="no configuration") as caught:
        find_config(None, {})
    assert caught.value.hint
    (tmp_path / "etc.toml").touch()
    assert find_config(None, {}) == str(tmp_path / "etc.toml")
    (tmp_path / "config.toml").touch()
    assert find_config(None, {}) == "config.toml"
    assert find_config(None, {"WEBHOOK_SIDECAR_CONFIG": "/x"}) == "/x"
    assert find_config("/y", {"WEBHOOK_SIDECAR_CONFIG": "/x"}) == "/y"


@pytest.mark.parametrize(
    ("text", "env", "socket"),
    [
        ("", {}, "{}/data/admin.sock"),
        ('[admin]\nsocket = "x.sock"', {}, "{}/x.sock"),
        ('[admin]\nsocket = "${DIR}/x.sock"', {"DIR": "/run"}, "/run/x.sock"),
        ("[admin]\nsocket = 5\n[nonsense]", {}, "{}/data/admin.sock"),
        ("admin = 5", {}, "{}/data/admin.sock"),
        ("", {"WEBHOOK_SIDECAR__ADMIN__SOCKET": "/a.sock"}, "/a.sock"),
    ],
)
def test_clients_read_only_the_admin_socket(tmp_path: Path, text: str, env: dict[str, str], socket: str) -> None:
    """No secret is looked at, and problems elsewhere do not matter."""
    text += '\n[sources.a]\nsecrets = [{ file = "not-there" }]\n'
    assert admin_socket(write(tmp_path, text), env) == socket.format(tmp_path)
