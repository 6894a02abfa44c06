"""A reload takes over all sources or none; secrets that arrive by handshake are taken over by themselves."""

import ipaddress

import pytest

from sidecar.inbound.dedup import DedupOptions
from sidecar.inbound.verify import HANDSHAKES, PRESETS, Secret, compile_scheme
from tests.support.receiving import BODY, OPEN, PLAIN, UNAUTHORIZED, OneSource, World, head, plain, signed, source


def test_a_reload_swaps_at_once_and_lets_requests_finish():
    """Under way: the old source. From then on: the new ones. Gone: their series too."""
    world, answers = World(source(), source("old", b"/old")), []
    h = signed(body=BODY)
    admitted = world.receiver.head(h)
    rotated = Secret("2027", b"new")
    world.receiver.configure([source(secrets=(rotated,), destinations=("other",))])
    world.receiver.complete(h, admitted.context, BODY, answers.append)
    assert answers[0].status == 200
    assert world.journal.appended[0][0].destinations == ("app",)
    assert world.send(signed(body=BODY), BODY) == UNAUTHORIZED
    assert world.send(signed(body=BODY, secret=rotated), BODY).status == 200
    assert world.send(head(b"/old")).status == 404
    assert {k[0] for k in world.metrics.received.values} == {"s", "unknown"}
    assert {k[0] for k in world.metrics.request_duration.values} == {"s"}


def test_a_reload_can_change_who_is_trusted():
    """And leaves it as it was when it does not say."""
    world = World(source(**OPEN), trusted=())
    said = [(b"X-Forwarded-For", b"203.0.113.7")]
    for trusted in (None, [ipaddress.ip_network("198.51.100.0/24")], None):
        world.receiver.configure([source(**OPEN)], trusted)
        world.send(head(headers=said))
    chains = [e.forwarded_for for e, _, _ in world.journal.appended]
    assert chains == [b"198.51.100.1", b"203.0.113.7, 198.51.100.1", b"203.0.113.7, 198.51.100.1"]


def test_a_bad_reload_changes_nothing():
    """All or nothing."""
    world = World(source())
    before = dict(world.metrics.received.values)
    with pytest.raises(ValueError):
        world.receiver.configure([source("new", b"/new"), source("bad", b"/bad", dedup=DedupOptions(key="?"))])
    assert world.send(signed()).status == 200
    assert set(world.metrics.received.values) == set(before)


ARRIVED = b"b537207f20cbfa02357cf448134da559"
ASANA = {"handshake": HANDSHAKES["asana"]}
HOOK = [(b"X-Hook-Secret", ARRIVED)]


def test_secrets_that_change_are_taken_over():
    """Also forgotten ones; an unknown source is nobody's."""
    world = OneSource(**ASANA)
    world.book.known.append(ARRIVED)
    world.receiver.secrets_changed("s")
    world.receiver.secrets_changed("nobody")
    signed = PLAIN.sign(plain(), Secret("x", ARRIVED), 0)
    assert world.send(headers=signed)[0].status == 200
    world.book.known.clear()
    world.receiver.secrets_changed("s")
    assert world.send(headers=signed)[0].status == 401


def test_a_key_has_its_row_before_it_matches_anything():
    """Configured, arrived by handshake before or after the reload, or from the network: the first use is an increase."""
    world = OneSource(handshake=HANDSHAKES["asana"], secrets=(Secret("2026", b"key"),))
    rows = world.metrics.key_matched.values
    assert rows == {("s", "2026"): 0}
    world.book.known.append(ARRIVED)
    world.receiver.secrets_changed("s")
    assert rows == {("s", "2026"): 0, ("s", "handshake-1"): 0}
    world = OneSource(verifier=compile_scheme(PRESETS["paypal"].scheme))
    assert world.metrics.key_matched.values == {("s", "network"): 0}
