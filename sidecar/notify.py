"""Tells a service manager how we are: ``READY``, ``RELOADING``, ``STOPPING``, and signs of life for its watchdog.

Nothing happens where nobody listens, which is everywhere but under systemd. A message is one datagram on a
Unix socket, so there is nothing to wait for.

Source: sd_notify(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from sidecar.log import get_logger

__all__ = ["Notifier"]

_log = get_logger("notify")


class Notifier:
    """What ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` ask for."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Look at the environment; nothing is sent yet.

        Args:
            env: The environment. A watchdog that is meant for another process is not ours.
        """
        path = env.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._period_s = 0.0
        period_us = env.get("WATCHDOG_USEC", "")
        ours = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if self._address and ours and period_us.isdecimal():
            self._period_s = int(period_us) / 1e6
        self._last_s = float("-inf")

    def ready(self, status: str) -> None:
        """Everything is up, at the start or after a reload; ``status`` is for people."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self, now_s: float) -> None:
        """The configuration is being read again; ``ready`` follows.

        Args:
            now_s: CLOCK_MONOTONIC.
        """
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(now_s * 1e6)}")

    def stopping(self) -> None:
        """We are on our way out."""
        self._send("STOPPING=1\nSTATUS=delivering what is due")

    def alive_due(self, now_s: float) -> bool:
        """Whether a sign of life is wanted by now: three in each period, so that two may be late."""
        return self._period_s > 0 and now_s - self._last_s >= self._period_s / 3

    def alive(self, now_s: float) -> None:
        """Give a sign of life. Whoever calls has looked whether a restart would help."""
        self._last_s = now_s
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as s:
                s.connect(self._address)
                s.send(message.encode())
        except OSError as e:
            _log.limited(
                "notify", "warning", "the service manager cannot be told", error=(e.strerror or "failed").lower()
            )
