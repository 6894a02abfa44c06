"""A run fits the time it is given, notes what was done, and fails when a harness or its control does."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.proof import run
from tests.proof.catalog import SHARDS


class World:
    """A run whose processes only say what they were asked, on a clock that they move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ledger: Path, control_s: float) -> None:
        self.now_s, self.control_s, self.ledger = 0.0, control_s, ledger
        self.asked: dict[str, float] = {}
        self.bad: tuple[str, bool] | None = None  # harness, whether it is its control
        monkeypatch.setattr(run, "LEDGER", ledger)
        monkeypatch.setattr(run, "missing", lambda _: "")
        monkeypatch.setattr(run, "in_process", self.in_process)
        monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: self.now_s))

    def in_process(self, name: str, seed: int, seconds: float, *, workers: int = 1, control: bool = False) -> Any:
        assert (name, control) != self.bad, "it is bad"
        if control:
            self.now_s += self.control_s
            return {"caught": ["a bug"]}
        self.asked[name] = seconds
        return {"count": 7, "unit": "things", "seconds": seconds, "workers": workers, "found": [], "notes": {}}

    def entry(self) -> dict[str, Any]:
        (line,) = self.ledger.read_text().splitlines()
        entry: dict[str, Any] = json.loads(line)
        return entry


@pytest.mark.parametrize(("control_s", "left_s"), [(30.0, 240.0), (1000.0, 150.0)])
def test_controls_are_part_of_the_time_but_for_half_of_it(monkeypatch, tmp_path, control_s, left_s) -> None:
    world = World(monkeypatch, tmp_path / "ledger.jsonl", control_s)
    assert run.everything(5, 5.0, ["kills", "rot"], 2) == 0
    assert sum(world.asked.values()) == pytest.approx(left_s)
    assert world.asked["kills"] / world.asked["rot"] == pytest.approx(SHARDS["kills"].weight / SHARDS["rot"].weight)
    entry = world.entry()
    assert (entry["seed"], entry["minutes"], list(entry["shards"])) == (5, 5.0, ["kills", "rot"])
    assert entry["shards"]["rot"]["count"] == 7
    assert entry["shards"]["rot"]["caught"] == ["a bug"]


@pytest.mark.parametrize("control", [False, True])
def test_a_harness_or_a_control_that_fails_is_noted_and_the_rest_goes_on(monkeypatch, tmp_path, control) -> None:
    world = World(monkeypatch, tmp_path / "ledger.jsonl", 1.0)
    world.bad = ("kills", control)
    assert run.everything(5, 5.0, ["kills", "rot"], 2) == 1
    shards = world.entry()["shards"]
    assert "it is bad" in shards["kills"]["found"][0]
    assert shards["kills"]["count"] == (7 if control else 0)
    assert ("caught" in shards["kills"]) is not control
    assert shards["rot"]["found"] == []


def test_what_is_noted_of_a_failure_does_not_say_where_the_checkout_lies(monkeypatch) -> None:
    told = f'  File "{run.ROOT}/tests/proof/run.py", line 1\nAssertionError: it is bad\n'.encode()
    done = SimpleNamespace(returncode=1, stdout=b"", stderr=told)
    monkeypatch.setattr(run, "subprocess", SimpleNamespace(run=lambda *_, **__: done))
    with pytest.raises(AssertionError, match=r'File "tests/proof/run\.py"') as failed:
        run.in_process("rot", 1, 1.0)
    assert str(run.ROOT) not in str(failed.value)
