"""What became of a request is counted, logged and shown; nothing a sender sends makes a new row."""

import asyncio
import json

import pytest

from sidecar.inbound import telling
from sidecar.inbound.verify import HANDSHAKES
from sidecar.journal.types import Duplicate
from sidecar.model import ACK_DEFAULT, Refusal, RejectReason
from tests.support.receiving import NOW, World, head, signed, source

CHALLENGE = b'{"token":"t","challenge":"c4llenge","type":"url_verification"}'


@pytest.fixture(autouse=True)
def lines(monkeypatch):
    """What was logged: (key, level, message, fields)."""
    out = []
    monkeypatch.setattr(telling._log, "limited", lambda key, level, msg, **f: out.append((key, level, msg, f)))
    return out


def test_every_series_is_there_at_zero():
    """The first failure is visible as an increase, and nothing a sender sends makes a new one."""
    world = World(source(), source("other", b"/other"))
    m = world.metrics
    outcomes = {"accepted", "duplicate", "handshake", "aborted", *map(str, Refusal)}
    assert {k for k in m.received.values if k[0] == "s"} == {("s", o) for o in outcomes}
    assert {k[0] for k in m.received.values} == {"s", "other", "unknown"}
    assert {k for k in m.verification_failures.values if k[0] == "s"} == {("s", r) for r in RejectReason}
    assert set(m.key_matched.values) == {("s", "2026"), ("other", "2026")}
    for family in (m.dedup_conflicts, m.dedup_key_missing, m.last_accepted, m.request_duration):
        assert set(family.values) == {("s",), ("other",)}


def test_what_the_listener_refused_is_counted_where_it_belongs():
    """By the request's source, by its path, or under ``unknown``."""
    world = World(source())
    admitted = world.receiver.head(signed())
    world.receiver.refused(admitted.context, None, Refusal.BODY_TOO_LARGE)
    world.receiver.refused(None, head(), Refusal.BAD_HOST)
    world.receiver.refused(None, head(b"/x"), Refusal.BAD_HOST)
    world.receiver.refused(None, None, Refusal.BAD_FRAMING)
    world.receiver.aborted(admitted.context)
    world.receiver.aborted(None)
    assert world.counts() == {
        ("s", "body_too_large"): 1,
        ("s", "bad_host"): 1,
        ("unknown", "bad_host"): 1,
        ("unknown", "bad_framing"): 1,
        ("s", "aborted"): 1,
        ("unknown", "aborted"): 1,
    }
    assert world.receiver.refused_since(0, "s") == {"body_too_large": 1, "bad_host": 1}


def test_unknown_paths_are_logged_more_quietly(lines):
    """Strangers knock all day."""
    World(source()).send(head(b"/nothing"))
    assert [(key, level) for key, level, _, _ in lines] == [("unknown not_found", "info")]


@pytest.mark.parametrize("announced", [5_000_000, None])
def test_a_body_that_is_too_large_is_logged_with_the_limit_and_what_was_announced(lines, announced):
    """To see what ``max_body`` would have to be; a chunked one announces nothing."""
    world = World(source(max_body=1_000_000))
    context = world.receiver.head(signed(length=announced)).context
    for code in (Refusal.BODY_TOO_LARGE, Refusal.TIMEOUT):
        world.receiver.refused(context, None, code)
    [said, other] = [fields for _, _, _, fields in lines]
    assert (said["limit_bytes"], said["announced_bytes"]) == (1_000_000, announced)
    assert not {"limit_bytes", "announced_bytes"} & set(other)


async def test_watchers_see_every_outcome():
    """Rows of ids, names and numbers; nothing is built when nobody watches."""
    world = World(source(preset="slack", handshake=HANDSHAKES["slack"]))
    watcher = world.feed.watch()
    body = b'{"event_id":"Ev1"}'
    world.send(signed("slack", body), body)
    world.journal.result = Duplicate("wse_1", ACK_DEFAULT, False, 0)
    world.send(signed("slack", body), body)
    world.send(signed("slack", CHALLENGE), CHALLENGE)
    world.send(head())
    world.send(head(b"/x"))
    told, _ = await asyncio.wait_for(watcher.next(), 1)
    base = {"type": "received", "at_ms": NOW, "source": "s"}
    accepted = {"event_id": "wse_00000000000000000000000001", "key": "Ev1", "bytes": len(body)}
    assert [t.row for t in told] == [
        {**base, "outcome": "accepted", **accepted},
        {**base, "outcome": "duplicate", "event_id": "wse_1", "key": "Ev1", "bytes": len(body)},
        {**base, "outcome": "handshake"},
        {**base, "outcome": "unauthorized", "reason": "missing_header"},
        {**base, "source": "unknown", "outcome": "not_found"},
    ]
    json.dumps([t.row for t in told])
