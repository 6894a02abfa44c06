"""The daemon with bugs, each of whose exceptions quotes all it has in hand: none of that may come out.

A request's body names the bug it meets. ``leak`` is the deliberate one that the search for secrets has to find.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from sidecar.__main__ import main
from sidecar.admin import api
from sidecar.daemon import Daemon
from sidecar.inbound.receive import Receiver
from sidecar.log import get_logger
from sidecar.outbound.deadletter import DeadLetters
from sidecar.outbound.deliver.pool import HttpDestination

judge, stored, attempt, write_many = Receiver._judge, Receiver._stored, HttpDestination.attempt, DeadLetters.write_many
failed_to_write: list[str] = []


def quote(*what: Any) -> ValueError:
    return ValueError(f"it was {what!r}")


def judge_with_bugs(self: Receiver, intake: Any) -> Any:
    body, secrets = intake.request.body, [bytes(s.value) for s in intake.source.secrets]
    if b"BUG-judge" in body:
        raise quote(body, secrets, intake.head.headers)
    if b"BUG-callback" in body:

        def callback() -> None:
            raise quote(body, secrets)

        asyncio.get_running_loop().call_soon(callback)
    if b"BUG-leak" in body:
        get_logger("leak").error("a line that should not be", body=body.decode(), secret=secrets[0].decode())
    return judge(self, intake)


def stored_with_bugs(self: Receiver, intake: Any, event: Any, result: Any, *, missing: bool) -> None:
    if b"BUG-stored" in event.body:
        raise quote(event.body, event.headers)
    stored(self, intake, event, result, missing=missing)


def attempt_with_bugs(self: HttpDestination, delivery: Any, resigned: Any, done: Any) -> Any:
    if b"BUG-attempt" in delivery.event.body:
        raise quote(delivery.event.body, delivery.event.headers)
    return attempt(self, delivery, resigned, done)


def write_many_with_bugs(self: DeadLetters, letters: Any) -> Any:
    bodies = [delivery.event.body for delivery, _ in letters]
    if any(b"BUG-bury" in body for body in bodies) and not failed_to_write:
        failed_to_write.append("once")
        raise quote(bodies)
    return write_many(self, letters)


async def status_with_bugs(gateway: Any) -> dict[str, Any]:
    raise quote(gateway._admin.token)


async def reload_with_bugs(self: Daemon) -> None:
    raise quote(self.settings.admin.token, self.settings.config)


Receiver._judge = judge_with_bugs
Receiver._stored = stored_with_bugs
HttpDestination.attempt = attempt_with_bugs
DeadLetters.write_many = write_many_with_bugs
Daemon._reload_and_tell = reload_with_bugs
api.status = status_with_bugs

if __name__ == "__main__":
    sys.exit(main())
