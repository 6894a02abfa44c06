"""What happens around a Pod: a provider that sends and repeats, and a kubelet that runs hooks and ends containers in order."""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from tests.support.daemon import Daemon
from tests.support.senders import github

__all__ = ["GRACE_S", "Provider", "drain", "end_pod"]

GRACE_S = 60.0
"""``terminationGracePeriodSeconds`` of the manifests."""


class Provider:
    """Sends webhooks all the time, and each one again until it is acknowledged, as providers do.

    Attributes:
        acknowledged: Delivery id -> our event id.
        answers: How often which status came; 0 is no answer at all.
        signs: Makes the headers of a body; may be changed while it sends.

    Args:
        port: Where to send now; a Service would know.
        secret: Signs with it.
        senders: So many at once.
        pause_s: Between two webhooks of one sender.
    """

    def __init__(self, port: Callable[[], int], secret: str, *, senders: int = 4, pause_s: float = 0.005) -> None:
        self.acknowledged: dict[str, str] = {}
        self.answers: Counter[int] = Counter()
        self.secret = secret
        self._port, self._pause_s = port, pause_s
        self._ids = itertools.count()
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._send_on) for _ in range(senders)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no more; what was begun is sent until it is acknowledged."""
        self._enough.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a webhook is never acknowledged"

    def _send_on(self) -> None:
        while not self._enough.is_set():
            delivery = f"delivery-{next(self._ids)}"
            deadline = time.monotonic() + 45
            while time.monotonic() < deadline:
                status, event_id = self._send(delivery)
                self.answers[status] += 1
                if status == 200:
                    self.acknowledged[delivery] = event_id
                    break
                time.sleep(0.05)
            self._enough.wait(self._pause_s)

    def _send(self, delivery: str) -> tuple[int, str]:
        body = f'{{"delivery": "{delivery}"}}'.encode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=10)
        try:
            connection.request("POST", "/github", body, github(body, self.secret, delivery))
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("Webhook-Sidecar-Event-Id", "")
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()


def drain(daemon: Daemon, wait: str = "") -> int:
    """Run a preStop hook as the kubelet does: over TCP, with the header; the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.admin_port, timeout=90)
    try:
        path = f"/-/drain?wait={wait}" if wait else "/-/drain"
        connection.request("GET", path, headers={"Webhook-Sidecar-Drain": "1"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def end_pod(daemon: Daemon, end_app: Callable[[], None] | None = None, wait: str = "20s") -> float:
    """End a Pod as the kubelet does; how long it took.

    All hooks begin together. The app is ended when its own hook is through, and only when it is gone the sidecar gets its
    SIGTERM. Without an app the Pod is a gateway.

    Raises:
        AssertionError: It took longer than the grace, or did not end in order.
    """
    began_s = time.monotonic()
    own = threading.Thread(target=drain, args=(daemon,))
    own.start()
    if end_app is not None:
        assert drain(daemon, wait) == 200
        end_app()
    own.join(GRACE_S)
    os.kill(daemon.pid, signal.SIGTERM)
    code = daemon.wait(GRACE_S)
    took_s = time.monotonic() - began_s
    assert code == 0
    assert took_s < GRACE_S
    return took_s
