"""Secrets come from where their references point, and no problem ever shows one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.files import Files
from sidecar.config.problems import Problems
from sidecar.config.schema import SecretRef
from sidecar.config.secrets import read_secret

PATH = ("admin", "token")


def read(
    reference: SecretRef, folder: Path, env: dict[str, str] | None = None
) -> tuple[bytes | None, list[str], Files]:
    files, problems = Files(str(folder)), Problems()
    secret = read_secret(reference, PATH, env or {}, files, problems)
    return secret, [f"{p.code} {'.'.join(map(str, p.path))}: {p.text}" for p in problems.found], files


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"hush", b"hush"),
        (b"hush\n", b"hush"),
        (b"hush\r\n", b"hush"),
        (b"hush\n\n", b"hush\n"),
        (b"\xff\r", b"\xff\r"),
    ],
)
def test_one_trailing_line_end_is_stripped_and_no_more(tmp_path: Path, content: bytes, secret: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    (tmp_path / "s").chmod(0o600)
    found, problems, files = read(SecretRef(file="s"), tmp_path)
    assert (found, problems) == (secret, [])
    assert files.readable_by_all == []


def test_a_secret_comes_from_the_environment(tmp_path: Path) -> None:
    assert read(SecretRef(env="A"), tmp_path, {"A": "hush\n"})[0] == b"hush"
    assert read(SecretRef(env="A"), tmp_path, {"A": "\udcff"})[0] == b"\xff"


def test_a_literal_is_taken_as_it_is(tmp_path: Path) -> None:
    assert read(SecretRef(value="hüsh\n"), tmp_path)[0] == "hüsh\n".encode()


def test_a_credential_comes_from_the_folder_of_systemd(tmp_path: Path) -> None:
    (tmp_path / "stripe").write_bytes(b"hush\n")
    (tmp_path / "stripe").chmod(0o400)
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert read(SecretRef(credential="stripe"), Path("/"), env)[0] == b"hush"
    secret, problems, _ = read(SecretRef(credential="stripe"), tmp_path)
    assert secret is None
    assert problems == [
        "C146 admin.token.credential: $CREDENTIALS_DIRECTORY is not set; expected systemd with LoadCredential= for this service"
    ]


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (b"", 0o600, "C145 admin.token.file: it is empty; expected a secret"),
        (b"\n", 0o600, "C145 admin.token.file: it is empty; expected a secret"),
        (b"hush", 0o602, "C147 admin.token.file: {} is writable by everybody; expected mode 0440 or 0400"),
    ],
)
def test_an_empty_or_world_writable_file_is_refused(tmp_path: Path, content: bytes, mode: int, problem: str) -> None:
    (tmp_path / "s").write_bytes(content)
    (tmp_path / "s").chmod(mode)
    assert read(SecretRef(file="s"), tmp_path)[:2] == (None, [problem.format(tmp_path / "s")])


def test_a_missing_file_or_variable_is_a_problem(tmp_path: Path) -> None:
    assert read(SecretRef(file="s"), tmp_path)[1] == [
        f"C146 admin.token.file: {tmp_path / 's'}: no such file or directory"
    ]
    assert read(SecretRef(env="A"), tmp_path)[1] == [
        "C145 admin.token.env: the environment variable A is not set; expected a secret in it"
    ]
    assert read(SecretRef(env="A"), tmp_path, {"A": ""})[1] == ["C145 admin.token.env: it is empty; expected a secret"]


def test_a_world_readable_file_is_noted_once(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"hush")
    (tmp_path / "s").chmod(0o644)
    files, problems = Files(str(tmp_path)), Problems()
    for _ in range(2):
        assert read_secret(SecretRef(file="s"), PATH, {}, files, problems) == b"hush"
    assert files.readable_by_all == [str(tmp_path / "s")]
