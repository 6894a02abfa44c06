"""Many senders at once on a daemon that may end at any moment; what each of them knows is kept for the time after."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from tests.proof.history import Accepted, digest

__all__ = ["PATH", "SECRET", "Ledger", "body_of", "crowd", "request_of", "send"]

PATH = "/webhooks/github"
SECRET = "crowd-test"
AGAIN_S = 0.02  # how long a sender waits after a refusal


@dataclass
class Ledger:
    """What the senders know."""

    acked: dict[str, str] = field(default_factory=dict)  # delivery id -> event id
    new: list[str] = field(default_factory=list)  # acknowledged since the last check
    unanswered: list[str] = field(default_factory=list)  # sent, not acknowledged: a provider would send them again
    refused: Counter[str] = field(default_factory=Counter)  # error codes of other answers
    next: int = 0

    def accepted(self) -> list[Accepted]:
        """The same for the checker of histories."""
        return [Accepted(name, event_id, digest(body_of(name))) for name, event_id in self.acked.items()]


def body_of(name: str) -> bytes:
    """The body of a webhook: its size is drawn from its name, from some bytes to 8 KB and now and then 200 KB."""
    size = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big")
    size = size if size < 60_000 else 200_000  # that is one which is stored in parts
    return (b'{"delivery":"%s","pad":"' % name.encode()) + b"x" * (size // 8 if size < 200_000 else size) + b'"}'


def request_of(name: str) -> bytes:
    """The webhook as GitHub would send it."""
    body = body_of(name)
    signature = hmac.new(SECRET.encode(), body, "sha256").hexdigest()
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-GitHub-Delivery: {name}\r\nX-GitHub-Event: push\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def send(port: int, ledger: Ledger, again: list[str]) -> None:
    """One sender: on one connection, one webhook after another, until the connection breaks."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return
    try:
        while True:
            if again:
                name = again.pop()
            else:
                name = f"d{ledger.next}"
                ledger.next += 1
            ledger.unanswered.append(name)
            writer.write(request_of(name))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            if head.startswith(b"HTTP/1.1 200 "):
                event_id = head.split(b"Webhook-Sidecar-Event-Id: ")[1].split(b"\r\n")[0].decode()
                ledger.unanswered.remove(name)
                known = ledger.acked.setdefault(name, event_id)
                assert known == event_id, "a repeat gets the first one's id"
                ledger.new.append(name)
            else:
                ledger.refused[json.loads(body)["error"]["code"]] += 1
                await asyncio.sleep(AGAIN_S)
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def crowd(port: int, ledger: Ledger, senders: int, alive: Callable[[], bool]) -> AsyncIterator[None]:
    """Let senders loose for the length of a block; each connects again while ``alive`` says so.

    What had no answer in an earlier block is sent first. Waits until the daemon listens.
    """
    again, ledger.unanswered = ledger.unanswered, []

    async def one() -> None:
        while alive():
            await send(port, ledger, again)
            await asyncio.sleep(0.003)

    tasks = [asyncio.create_task(one()) for _ in range(senders)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        ledger.unanswered += again
    for result in done:
        if isinstance(result, Exception):
            raise result
