"""Keys from the network: the receiver resolves what the verifiers only name, once for a request."""

import pytest

from sidecar.inbound.ack import error_answer
from sidecar.inbound.receive import EXPLAIN_EVERY_S
from sidecar.inbound.verify import (
    Accepted,
    Fetch,
    Fetched,
    Rejected,
    Secret,
)
from sidecar.model import Refusal, RejectReason
from tests.support.receiving import PLAIN, OneSource, plain

FETCH = Fetch("k", "https://k/jwks")


class Needy:
    """Accepts what its key says, once the key is there."""

    reads = masked = frozenset()
    tolerance_ms = None
    needs_url = unverified = can_sign = False
    needs_body = True
    fetches = ()
    covered = None

    def __init__(self, reason=RejectReason.KEY_UNAVAILABLE):
        self.reason = reason

    def precheck(self, request, secrets, now_ms):
        return None

    def verify(self, request, secrets, now_ms):
        fetched = (request.keys or {}).get("k")
        if fetched is None:
            return Rejected(self.reason, fetch=FETCH)
        if fetched.data == b"again":
            return Rejected(self.reason, fetch=FETCH)
        return Accepted("network") if fetched.data == b"good" else Rejected(RejectReason.WRONG_SECRET)


def test_a_request_whose_key_is_here_never_waits():
    """It is judged by the snapshot."""
    world = OneSource(verifier=Needy())
    world.keys.snapshot["k"] = Fetched(b"good", 1)
    assert [a.status for a in world.send()] == [200]
    assert world.keys.asked == []


@pytest.mark.parametrize(("data", "status"), [(b"good", 200), (b"bad", 401), (b"again", 401)])
def test_a_key_that_must_be_fetched_is_waited_for_once(data, status):
    """Then the request is judged again, and that verdict stands."""
    world = OneSource(verifier=Needy())
    answers = world.send()
    assert answers == []
    ((fetch, done),) = world.keys.asked
    assert fetch == FETCH
    world.keys.snapshot["k"] = Fetched(data, 1)
    done(True)
    assert [a.status for a in answers] == [status]
    assert len(world.keys.asked) == 1


def test_a_key_that_cannot_be_had_is_our_fault_and_not_the_senders():
    """503, so that the sender tries again; the reason is in the metric."""
    world = OneSource(verifier=Needy())
    answers = world.send()
    world.keys.asked[0][1](False)
    assert answers == [error_answer(Refusal.KEYS_UNAVAILABLE)]
    assert answers[0].status == 503
    assert world.counts() == {"keys_unavailable": 1}
    assert world.counts("verification_failures") == {"key_unavailable": 1}
    assert world.journal.appended == []


def test_a_key_that_the_provider_does_not_have_is_refused_at_once():
    """When nothing newer is to be had."""
    world = OneSource(verifier=Needy(RejectReason.UNKNOWN_KEY))
    world.keys.settled = True
    assert world.send() == [error_answer(Refusal.UNAUTHORIZED)]
    assert world.counts("verification_failures") == {"unknown_key": 1}


def test_a_wrong_secret_is_looked_into_now_and_then():
    """At most every so often: a stranger can ask as often as they like."""
    world = OneSource(secrets=(Secret("a", b"key"),))
    signed = PLAIN.sign(plain(), Secret("a", b"key"), 0)
    for _ in range(2):
        assert world.send(b"{}\n", headers=signed)[0].status == 401
    assert world.counts("verification_failures") == {"body_modified_suspected": 1, "wrong_secret": 1}
    world.clock.mono += EXPLAIN_EVERY_S
    world.send(b"{}\n", headers=signed)
    assert world.counts("verification_failures")["body_modified_suspected"] == 2
