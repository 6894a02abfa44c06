"""The one place that asks the time: units and sources of each clock."""

from __future__ import annotations

import builtins
import time

import pytest

from sidecar.clock import Clock


def test_wall_time_is_in_milliseconds_since_the_epoch():
    before = time.time()
    now = Clock().wall_ms()
    after = time.time()
    assert before * 1000 - 1 <= now <= after * 1000


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="CLOCK_BOOTTIME is Linux only")
def test_boot_time_counts_sleep():
    """It is CLOCK_BOOTTIME and not CLOCK_MONOTONIC, which stops while a machine is suspended."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = Clock().boot_ms()
    assert before * 1000 - 1 <= now <= time.clock_gettime(time.CLOCK_BOOTTIME) * 1000


def test_boot_time_falls_back_to_monotonic_where_there_is_none(monkeypatch):
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    before = time.monotonic()
    now = Clock().boot_ms()
    assert before * 1000 - 1 <= now <= time.monotonic() * 1000


def test_monotonic_time_is_in_seconds():
    before = time.monotonic()
    assert before <= Clock().monotonic_s() <= time.monotonic()


def test_a_boot_keeps_its_name():
    assert Clock().boot_id() == Clock().boot_id()


def test_a_system_without_boot_ids_gives_an_empty_name(monkeypatch):
    def missing(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", missing)
    assert Clock().boot_id() == ""
