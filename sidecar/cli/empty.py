"""``journal empty``: the outbound half of a daemon, until nothing is owed or the wait is over."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable

from sidecar import log
from sidecar.clock import Clock
from sidecar.config.load import load_settings
from sidecar.config.settings import Settings
from sidecar.feed import Feed
from sidecar.inbound.receive import Receiver
from sidecar.journal import Journal
from sidecar.journal.types import Counters
from sidecar.metrics import Metrics
from sidecar.outbound.deadletter import DeadLetters
from sidecar.outbound.dispatch import Dispatcher

__all__ = ["empty"]

_ROUND_S = 2.0
_LET_END_S = 5.0


def empty(config_path: str | None, wait_s: float, tell: Callable[[str], None]) -> dict[str, int]:
    """Deliver what is pending.

    Args:
        config_path: The configuration, with its secrets: late deliveries are signed afresh.
        wait_s: How long at most.
        tell: Gets a line now and then.

    Returns:
        delivered, dead and left.

    Raises:
        SidecarError: The configuration or the journal cannot be used.
    """
    settings = load_settings(config_path, env=os.environ)
    log.start(settings.log)
    try:
        return asyncio.run(_empty(settings, wait_s, tell))
    finally:
        log.stop()


async def _empty(settings: Settings, wait_s: float, tell: Callable[[str], None]) -> dict[str, int]:
    clock, metrics, feed = Clock(), Metrics(), Feed()
    failed = asyncio.Event()
    journal = Journal.open(settings.journal, clock, metrics=metrics)
    try:
        journal.register([s.name for s in settings.sources], [d.name for d in settings.destinations])
        letters = DeadLetters(settings.dead_letters, journal.mac_key)
        letters.open()
        receiver = Receiver(journal, metrics, feed, clock)
        receiver.configure(settings.sources)
        dispatcher = Dispatcher(
            journal,
            metrics,
            feed,
            clock,
            max_buffered_bytes=settings.max_buffered_bytes,
            deadletters=letters,
            resign=receiver.resign,
            rand=random.random,
        )
        dispatcher.configure(settings.destinations)
        before = journal.counters()
        journal.start(
            asyncio.get_running_loop(),
            on_batch=dispatcher.on_batch,
            on_due=dispatcher.on_due,
            on_fatal=lambda _: failed.set(),
        )
        dispatcher.start()
        end_s, told = clock.monotonic_s() + wait_s, -1
        while (left := journal.counters().owed) and not failed.is_set() and clock.monotonic_s() < end_s:
            if left != told:
                tell(f"{left:,} to deliver")
                told = left
            await dispatcher.drain(min(_ROUND_S, end_s - clock.monotonic_s()))
            await asyncio.sleep(0.05)  # held or waiting: a drain returns at once
        await dispatcher.stop(_LET_END_S)
    finally:
        await journal.aclose()
    after = journal.counters()
    return {
        "delivered": _settled(after, "delivered") - _settled(before, "delivered"),
        "dead": _settled(after, "dead") - _settled(before, "dead"),
        "left": after.owed,
    }


def _settled(counters: Counters, outcome: str) -> int:
    return sum(n for (_, o), n in counters.settled.items() if o == outcome)
