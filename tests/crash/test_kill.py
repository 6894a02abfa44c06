"""kill -9 at random moments under 32 senders: nothing acknowledged is ever lost, and the books balance each time."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest

from sidecar.journal.types import AuditReport
from sidecar.outbound.retry import RetryPolicy
from tests.proof.crowd import Ledger, body_of, send
from tests.proof.history import Got, History, compare, digest, read_journal
from tests.support.daemon import Daemon
from tests.support.journals import Books
from tests.support.sink import Sink

CYCLES = int(os.environ.get("CRASH_CYCLES", "200"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
SENDERS = 32
CONCURRENCY = 16

CONFIG = """
[sources.code]
path = "/webhooks/github"
verify = "github"
secrets = [{{ value = "crowd-test" }}]
destinations = ["app", "mail"]
[destinations.app]
url = "{app}/app"
concurrency = 16
[destinations.mail]
url = "{mail}/mail"
concurrency = 16
"""


async def one_life(daemon: Daemon, ledger: Ledger, alive_s: float) -> None:
    """Start the daemon, let 32 senders loose on it, kill it."""
    daemon.start()
    again, ledger.unanswered = ledger.unanswered, []
    senders = [asyncio.create_task(send(daemon.port, ledger, again)) for _ in range(SENDERS)]
    await asyncio.sleep(alive_s)
    daemon.kill()
    await asyncio.gather(*senders)
    ledger.unanswered += again


async def check(daemon: Daemon, ledger: Ledger) -> tuple[AuditReport, list[str]]:
    """Open what the killed process left, read only: the audit, and the acknowledged events that are missing."""
    books = Books.open(str(daemon.folder / "journal"), read_only=True)
    try:
        report = await books.journal.audit()
        lost = []
        for name in ledger.new:
            view = await books.journal.event(ledger.acked[name])
            if view is None or view.event.body != body_of(name):
                lost.append(name)
        ledger.new.clear()
        return report, lost
    finally:
        books.journal.close()


@pytest.mark.crash
async def test_nothing_acknowledged_is_lost_in_200_kills(tmp_path: Path) -> None:
    """Acked means stored: after each kill -9 every acked event is there and enqueued = settled + pending."""
    rand = random.Random(SEED)
    print(f"seed {SEED}, {CYCLES} cycles")
    ledger = Ledger()
    with Sink() as app, Sink(delay_s=0.002) as mail:
        daemon = Daemon(tmp_path, CONFIG.format(app=app.url, mail=mail.url))
        for cycle in range(CYCLES):
            await one_life(daemon, ledger, rand.choice((0.0, 0.02, 0.1, 0.3)) * rand.random() * 2)
            report, lost = await check(daemon, ledger)
            assert not lost, f"seed {SEED}, cycle {cycle}: {len(lost)} acknowledged events are gone"
            assert all(row.balanced for row in report.rows), f"seed {SEED}, cycle {cycle}: {report.rows}"
            assert report.quarantined == 0
        daemon.start()
        again, ledger.unanswered = ledger.unanswered, []
        senders = [asyncio.create_task(send(daemon.port, ledger, again)) for _ in range(4)]
        await asyncio.sleep(0.5)
        for _ in range(1200):  # everything that is owed arrives
            if (
                daemon.api("status")["destinations"][0]["pending"]
                == 0
                == daemon.api("status")["destinations"][1]["pending"]
            ):
                break
            if again == [] and _ == 20:
                for s in senders:
                    s.cancel()
            await asyncio.sleep(0.1)
        await asyncio.gather(*senders, return_exceptions=True)
        await asyncio.sleep(0.5)
        for sink in (app, mail):
            deliver_check(sink, ledger, CYCLES)
        assert daemon.stop() == 0
        assert whole_history(daemon, ledger, {"app": app, "mail": mail}) == []
    assert len(ledger.acked) > CYCLES, "the senders got something done"
    print(f"{len(ledger.acked)} acknowledged, 0 lost, in {CYCLES} kills")


def whole_history(daemon: Daemon, ledger: Ledger, sinks: dict[str, Sink]) -> list[str]:
    """All sides of the whole run against each other, once more, from what lies on disk."""
    got = [
        Got(destination, r.event_id, r.get("X-GitHub-Delivery") or "", digest(r.body))
        for destination, sink in sinks.items()
        for r in sink.requests
    ]
    stored = read_journal(daemon.folder / "journal", daemon.folder / "dead-letters")
    # Above 70 % full the oldest events that are delivered everywhere are forgotten, and only those.
    taken = [{g.event_id for g in got if g.destination == name} for name in sinks]
    pruned = frozenset(set.intersection(*taken) - stored.events.keys())
    policy = {name: RetryPolicy() for name in sinks}
    return compare(History(ledger.accepted(), got, stored, policy, pruned))


def deliver_check(sink: Sink, ledger: Ledger, kills: int) -> None:
    """At least once each, as the same event each time, with the same bytes, and few of them twice."""
    ids: dict[str, set[str]] = {}
    for r in sink.requests:
        name = r.get("X-GitHub-Delivery") or ""
        ids.setdefault(name, set()).add(r.event_id)
        assert r.body == body_of(name), "altered bytes were delivered"
    missing = [name for name in ledger.acked if name not in ids]
    assert not missing, f"{len(missing)} acknowledged events were never delivered"
    assert all(len(v) == 1 for v in ids.values()), "one dedup key became two events"
    repeated = len(sink.requests) - len(ids)
    assert repeated <= kills * (CONCURRENCY + 256), f"{repeated} repeated deliveries in {kills} kills"


@pytest.mark.crash
async def test_the_check_catches_a_daemon_that_acknowledges_before_the_commit(tmp_path: Path) -> None:
    """The negative control: with a deliberate early ack the same check finds lost events within 30 kills."""
    rand = random.Random(SEED)
    ledger = Ledger()
    with Sink() as app, Sink() as mail:
        command = (sys.executable, str(Path(__file__).with_name("early_ack.py")))
        daemon = Daemon(tmp_path, CONFIG.format(app=app.url, mail=mail.url), command=command)
        for _ in range(30):
            await one_life(daemon, ledger, 0.1 + rand.random() * 0.2)
            _, lost = await check(daemon, ledger)
            if lost:
                return
    pytest.fail("30 kills of a daemon that acknowledges early lost nothing: the check is blind")
