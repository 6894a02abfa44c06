"""What a service manager gets to hear."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify"))
        s.setblocking(False)
        yield s


def env(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_it_says_when_it_is_ready_reloads_and_stops(manager):
    notifier = Notifier(env(manager))
    notifier.ready("2 sources")
    assert heard(manager) == ["READY=1", "STATUS=2 sources"]
    notifier.reloading(12.5)
    assert heard(manager) == ["RELOADING=1", "MONOTONIC_USEC=12500000"]
    notifier.stopping()
    assert heard(manager)[0] == "STOPPING=1"


def test_signs_of_life_come_three_times_in_a_period(manager):
    notifier = Notifier(env(manager, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid())))
    assert notifier.alive_due(100.0)
    notifier.alive(100.0)
    assert heard(manager) == ["WATCHDOG=1"]
    assert not notifier.alive_due(109.9)
    assert notifier.alive_due(110.0)


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "no"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}])
def test_without_a_watchdog_of_ours_no_sign_is_due(manager, more):
    assert not Notifier(env(manager, **more)).alive_due(100.0)


def test_an_abstract_socket_is_found():
    name = f"sidecar-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("up")
        assert heard(s)[0] == "READY=1"


def test_nobody_who_listens_is_nobody_who_is_told(tmp_path):
    Notifier({}).ready("up")
    assert not Notifier({"WATCHDOG_USEC": "1"}).alive_due(1.0)


def test_a_manager_that_is_gone_is_a_warning(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr("sidecar.notify._log.limited", lambda *a, **k: lines.append((a, k)))
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("up")
    assert lines[0][0][1] == "warning"
