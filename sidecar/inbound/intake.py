"""One request between its head and its answer."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sidecar.inbound.ack import Answer
from sidecar.inbound.application import Head
from sidecar.inbound.forwarded import Forwarded
from sidecar.inbound.source import Source
from sidecar.inbound.verify import Request
from sidecar.metrics import Series

__all__ = ["Intake", "Reply"]

Reply = Callable[[Answer], None]


class Intake(msgspec.Struct, eq=False):
    """What is known of it so far; it keeps the source it began with, whatever is configured meanwhile.

    Attributes:
        duration: Where the time it took is counted.
        reply: Sends the answer; None while the body is not here.
        started_s: When the request was complete, on the monotonic clock.
        answered: Whether it has its answer: there is never a second one.
        trial: Its head is that of an unsigned handshake.
        learning: Its answer comes once its secret is on disk.
        fetched: Its key was asked for once.
    """

    source: Source
    head: Head
    request: Request
    forwarded: Forwarded
    duration: Series
    reply: Reply | None = None
    started_s: float = 0.0
    answered: bool = False
    trial: bool = False
    learning: bool = False
    fetched: bool = False

    def answer(self, answer: Answer, now_s: float) -> None:
        """Answer the sender, unless a bug came between handing it to the journal and now and it was told so."""
        if self.answered:
            return
        self.answered = True
        self.duration.observe(now_s - self.started_s)
        assert self.reply is not None
        self.reply(answer)
