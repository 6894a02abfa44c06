"""Small regular files are read and remembered; everything else is refused at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.config.files import MAX_BYTES, Files, digest_of, read_regular


def test_a_file_is_read_with_its_mode_and_remembered(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "a").chmod(0o640)
    files = Files(str(tmp_path))
    content, mode = files.read("a")
    assert content == b"x"
    assert mode & 0o777 == 0o640
    watched = files.watched[str(tmp_path / "a")]
    assert watched.digest == digest_of(watched.path) != b""


def test_links_are_followed_and_stay_in_the_path(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    files = Files(str(tmp_path))
    assert files.read("link")[0] == b"x"
    assert list(files.watched) == [str(tmp_path / "link")]


def test_relative_paths_start_in_the_folder() -> None:
    assert Files("/etc/x").absolute("../a") == "/etc/a"
    assert Files("/etc/x").absolute("/b") == "/b"


def test_a_file_that_is_not_there_is_remembered_too(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        files.read("none")
    assert files.watched[str(tmp_path / "none")].digest == b"" == digest_of(str(tmp_path / "none"))


@pytest.mark.parametrize("kind", ["pipe", "folder", "large", "nul"])
def test_what_is_no_small_regular_file_is_refused_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "x")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "large":
        Path(path).write_bytes(b"")
        os.truncate(path, MAX_BYTES + 1)
    else:
        path = "a\0b"
    with pytest.raises(OSError, match=r"regular|directory|larger|not a file name"):
        read_regular(path)
    assert digest_of(path) == b""


@pytest.mark.parametrize("kind", ["regular", "directory", "pipe", "large", "missing"])
def test_no_descriptor_stays_open_whatever_is_there(tmp_path: Path, kind: str) -> None:
    """A watched file is looked at every few seconds: one descriptor each time, and soon there are none left."""
    path = tmp_path / "a"
    if kind == "regular":
        path.write_bytes(b"x")
    elif kind == "directory":  # what a container runtime makes of a mount whose file is missing
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(bytes(MAX_BYTES + 1))
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        digest_of(str(path))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_content_and_permissions_change_the_digest_but_times_do_not(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    first = digest_of(str(path))
    os.utime(path, (1, 1))
    assert digest_of(str(path)) == first
    path.chmod(0o600)
    second = digest_of(str(path))
    path.write_bytes(b"y")
    assert len({first, second, digest_of(str(path))}) == 3
