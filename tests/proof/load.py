"""Senders in threads that keep what they know: what was acknowledged, which answers came, which request got none."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from tests.proof.history import Accepted, Got, digest
from tests.support.senders import Raw, framed, github
from tests.support.sink import Received, Sink

__all__ = ["SECRET", "Load", "Unanswered", "chance", "got_by", "source"]

SECRET = "proof-test"
PAUSE_S = 0.01  # after a refusal or a cut connection


def source(destinations: str) -> str:
    """The configuration of the source that ``Load`` sends to, with its destinations as TOML."""
    return (
        f'[sources.code]\npath = "/code"\nmax_body = "2MiB"\nverify = "github"\n'
        f'secrets = [{{ value = "{SECRET}" }}]\ndestinations = {destinations}\n'
    )


@dataclass(frozen=True)
class Unanswered:
    """A request that was sent whole, on a connection that had been answered before, and got no answer."""

    key: str
    sent_at_s: float  # monotonic


class Load:
    """Sends webhooks on a few connections until it is told to stop. A key is sent once.

    Attributes:
        acked: Every acknowledgement.
        answers: How often which status came.
        unanswered: Requests that got no answer.

    Args:
        port: Where the daemon listens.
        prefix: Of every key, so that two loads never share one.
        senders: Connections at once.
        size: Bytes of padding of the n-th body.
        pause_s: Between two webhooks of one sender.
    """

    def __init__(
        self,
        port: int,
        prefix: str,
        *,
        senders: int = 6,
        size: Callable[[int], int] = lambda n: 20 if n % 10 else 20_000,
        pause_s: float = 0.0,
    ) -> None:
        self.acked: list[Accepted] = []
        self.answers: Counter[int] = Counter()
        self.unanswered: list[Unanswered] = []
        self._port, self._prefix, self._size, self._pause_s = port, prefix, size, pause_s
        self._numbers = itertools.count()
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._send_on, daemon=True) for _ in range(senders)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no more; each sender waits for its last answer."""
        self._enough.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a sender waits for an answer for 30 s"

    def _send_on(self) -> None:
        while not self._enough.is_set():
            try:
                with Raw(self._port, timeout_s=20) as raw:
                    self._talk(raw)
            except OSError:
                self._enough.wait(PAUSE_S)

    def _talk(self, raw: Raw) -> None:
        answered = False
        while not self._enough.is_set():
            number = next(self._numbers)
            key = f"{self._prefix}-{number}"
            body = b'{"key":"%s","pad":"%s"}' % (key.encode(), b"x" * self._size(number))
            sent = framed("/code", body, github(body, SECRET, key))
            raw.sock.sendall(sent)
            sent_at_s = time.monotonic()
            try:
                got = raw.answer()
            except (OSError, EOFError):
                if answered:
                    self.unanswered.append(Unanswered(key, sent_at_s))
                return
            answered = True
            self.answers[got.status] += 1
            if 200 <= got.status < 300:
                self.acked.append(Accepted(key, got.headers["webhook-sidecar-event-id"], digest(body)))
            else:
                self._enough.wait(PAUSE_S)
            if got.headers.get("connection", "").lower() == "close":
                return
            if self._pause_s:
                self._enough.wait(self._pause_s)


def got_by(destination: str, sink: Sink, took: Callable[[Received], bool]) -> list[Got]:
    """What a backend got, for the history."""
    return [
        Got(destination, r.event_id, r.get("X-GitHub-Delivery") or "", digest(r.body), taken=took(r))
        for r in list(sink.requests)
    ]


def chance(r: Received) -> float:
    """In [0, 1), the same for the same attempt of the same event: what a backend does by chance, it can be asked again."""
    return int.from_bytes(hashlib.sha256(f"{r.event_id} {r.attempt}".encode()).digest()[:4], "big") / (1 << 32)
