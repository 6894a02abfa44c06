"""A reload tells everybody how it ended, also when that was a bug."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.clock import Clock
from sidecar.config.load import load_settings
from sidecar.config.settings import Settings
from sidecar.daemon.reload import Reload
from sidecar.errors import JournalError
from sidecar.metrics import Metrics

CONFIG = """
[sources.shop]
path = "/shop"
verify = "github"
secrets = [{ value = "s" }]
destinations = ["app"]
[destinations.app]
url = "http://127.0.0.1:1"
"""


class World:
    """A reload whose last step ends as it is told to."""

    def __init__(self, folder: Path, error: Exception | None) -> None:
        path = folder / "config.toml"
        path.write_text(CONFIG)
        self.told: list[str] = []
        self.metrics = Metrics()
        old = load_settings(str(path), env={})
        notifier: Any = SimpleNamespace(reloading=lambda _: self.told.append("reloading"), ready=self.told.append)
        watcher: Any = SimpleNamespace(watch=lambda _: None)

        async def apply(_: Settings) -> None:
            if error is not None:
                raise error

        self.reload = Reload(str(path), lambda: old, apply, watcher, notifier, self.metrics, Clock())

    @property
    def ok(self) -> float:
        return self.metrics.reload_ok.values[()]


async def test_a_reload_that_worked_is_told(tmp_path):
    world = World(tmp_path, None)
    assert (await world.reload.run()).ok
    assert world.told == ["reloading", "1 sources, 1 destinations"]
    assert world.ok == 1


async def test_a_failing_journal_refuses_it(tmp_path):
    world = World(tmp_path, JournalError("the journal failed"))
    result = await world.reload.run()
    assert (result.ok, result.problems) == (False, ("the journal failed",))
    assert world.told[-1] == "a changed configuration was refused: the old one stays in force"
    assert world.ok == 0


async def test_a_bug_in_it_leaves_nobody_waiting(tmp_path):
    world = World(tmp_path, KeyError("a bug"))
    with pytest.raises(KeyError):
        await world.reload.run()
    assert world.told == ["reloading", "a reload failed on a bug: see the log"]
    assert world.ok == 0
    with pytest.raises(KeyError):  # and the next one has its turn
        await world.reload.run()
