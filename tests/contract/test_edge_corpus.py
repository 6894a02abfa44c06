"""The corpus of raw requests against the protocol: whole, and cut anywhere; and against a listener over TCP."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from sidecar.clock import Clock
from sidecar.inbound.application import ServerOptions
from sidecar.inbound.server import Listener
from sidecar.metrics import Metrics
from tests.proof.corpus import Case, load
from tests.proof.wire import converse
from tests.support.raw_http import Desk, Peer

CORPUS = Path(__file__).resolve().parents[1] / "data" / "http" / "corpus.jsonl"
CASES = load(CORPUS.read_text(encoding="ascii").splitlines())


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 400
    assert len({c.name for c in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_each_request_gets_its_answers_however_it_is_cut(case: Case) -> None:
    rand = random.Random(case.name)
    for pieces in ([case.raw], _cut(case.raw, rand), [case.raw[i : i + 1] for i in range(len(case.raw))]):
        talk = converse(pieces)
        assert talk.statuses == case.statuses
        assert talk.code == case.code
        assert talk.bodies == case.bodies


def _cut(raw: bytes, rand: random.Random) -> list[bytes]:
    at = sorted(rand.sample(range(1, len(raw)), min(4, len(raw) - 1)))
    return [raw[a:b] for a, b in zip([0, *at], [*at, len(raw)], strict=True)]


async def test_the_listener_answers_the_whole_corpus() -> None:
    """Over TCP, a connection each."""
    desk = Desk(max_body=1000)
    listener = Listener(ServerOptions(), desk, Metrics(), Clock())
    await listener.start("127.0.0.1:0")
    wrong = []
    for case in CASES:
        desk.bodies.clear()
        peer = await Peer.open(listener.addresses[0])
        await peer.send(case.raw)
        peer.half_close()
        statuses = tuple(int(s) for s in re.findall(rb"HTTP/1\.1 (\d+) ", await peer.at_end(10)))
        if statuses != case.statuses or tuple(desk.bodies) != case.bodies:
            wrong.append((case.name, statuses, case.statuses))
        await peer.close()
    assert wrong == []
    assert listener.buffered_bytes == 0
    await listener.close()
