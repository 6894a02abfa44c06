"""A change of content is noticed once, by polling; the link that Kubernetes swaps is such a change."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from sidecar.config.files import WatchedFile, digest_of
from sidecar.config.watch import POLL_S, Watcher


def watched(*paths: Path) -> list[WatchedFile]:
    return [WatchedFile(str(path), digest_of(str(path))) for path in paths]


class Changes:
    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    async def __call__(self, names: list[str]) -> None:
        self.seen.append([os.path.basename(name) for name in names])


async def test_a_change_is_reported_once(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("1")
    changes = Changes()
    watcher = Watcher(watched(a, b), changes)
    assert await watcher.look() == []
    b.write_text("2")
    assert await watcher.look() == [str(b)]
    assert await watcher.look() == []
    assert changes.seen == [["b"]]


async def test_touching_a_file_is_no_change(tmp_path: Path) -> None:
    a = tmp_path / "a"
    a.write_text("1")
    watcher = Watcher(watched(a), Changes())
    os.utime(a, (1, 1))
    assert await watcher.look() == []


async def test_a_file_that_goes_and_one_that_comes_are_changes(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    changes = Changes()
    watcher = Watcher(watched(a, b), changes)
    a.unlink()
    b.write_text("1")
    await watcher.look()
    assert changes.seen == [["a", "b"]]


async def test_the_swap_of_a_kubernetes_mount_is_a_change(tmp_path: Path) -> None:
    """..data is a link to a folder with a time in its name, swapped by a rename."""
    for n in ("1", "2"):
        (tmp_path / f"..2026_{n}").mkdir()
        (tmp_path / f"..2026_{n}" / "config.toml").write_text(n)
    (tmp_path / "..data").symlink_to("..2026_1")
    (tmp_path / "config.toml").symlink_to("..data/config.toml")
    changes = Changes()
    watcher = Watcher(watched(tmp_path / "config.toml"), changes)
    (tmp_path / "..data_tmp").symlink_to("..2026_2")
    os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
    await watcher.look()
    assert changes.seen == [["config.toml"]]


async def test_the_files_of_new_settings_replace_the_old_ones(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("1")
    watcher = Watcher(watched(a), Changes())
    watcher.watch(watched(b))
    a.write_text("2")
    assert await watcher.look() == []
    b.write_text("2")
    assert await watcher.look() == [str(b)]


async def test_of_two_entries_for_one_path_the_last_counts(tmp_path: Path) -> None:
    a = tmp_path / "a"
    a.write_text("1")
    old = watched(a)
    a.write_text("2")
    watcher = Watcher([], Changes())
    watcher.watch([*old, *watched(a)])
    assert await watcher.look() == []


async def test_files_that_are_added_change_nothing_about_the_others(tmp_path: Path) -> None:
    """A secret that changes while the configuration is broken: one try, and not one every five seconds."""
    config, secret = tmp_path / "config", tmp_path / "secret"
    config.write_text("good")
    secret.write_text("1")
    changes = Changes()
    watcher = Watcher(watched(config, secret), changes)
    config.write_text("broken")
    assert await watcher.look() == [str(config)]
    watcher.watch_also(watched(config))
    secret.write_text("2")
    assert await watcher.look() == [str(secret)]
    watcher.watch_also(watched(config))
    assert await watcher.look() == []
    config.write_text("good")
    assert await watcher.look() == [str(config)]


async def test_a_reload_in_the_middle_of_a_look_knows_better(tmp_path: Path) -> None:
    a = tmp_path / "a"
    a.write_text("1")
    changes = Changes()
    watcher = Watcher(watched(a), changes)
    a.write_text("2")
    looking = asyncio.create_task(watcher.look())
    await asyncio.sleep(0)
    watcher.watch(watched(a))
    assert await looking == []
    assert changes.seen == []


async def test_it_looks_every_five_seconds_until_cancelled(tmp_path: Path) -> None:
    a = tmp_path / "a"
    a.write_text("1")
    waits: list[float] = []
    found = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        a.write_text(str(len(waits)))
        await asyncio.sleep(0)

    async def changed(names: list[str]) -> None:
        assert names == [str(a)]
        found.set()

    task = asyncio.create_task(Watcher(watched(a), changed, sleep=sleep).run())
    await asyncio.wait_for(found.wait(), 5)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert set(waits) == {POLL_S} == {5.0}
