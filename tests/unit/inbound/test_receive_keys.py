"""Keys from the network and secrets that arrive by handshake: the receiver resolves what the verifiers only name."""

import json

import msgspec
import pytest

from sidecar.inbound.ack import Answer, error_answer
from sidecar.inbound.receive import EXPLAIN_EVERY_S, Receiver
from sidecar.inbound.source import SourceOptions
from sidecar.inbound.verify import (
    HANDSHAKES,
    Accepted,
    Fetch,
    Fetched,
    Handshake,
    HandshakeAnswer,
    HmacOptions,
    Rejected,
    Secret,
    compile_scheme,
)
from sidecar.metrics import Metrics
from sidecar.model import Refusal, RejectReason
from tests.unit.inbound.test_receive import FakeClock, Feed, RecordingJournal, head

FETCH = Fetch("k", "https://k/jwks")
PLAIN = compile_scheme(HmacOptions(header="X-Sig"))


class Needy:
    """Accepts what its key says, once the key is there."""

    reads = masked = frozenset()
    tolerance_ms = None
    needs_url = unverified = can_sign = False
    needs_body = True
    fetches = ()

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


class Keys:
    def __init__(self):
        self.snapshot, self.asked, self.settled = {}, [], False

    def ask(self, fetch, done):
        if self.settled:
            return False
        self.asked.append((fetch, done))
        return True


class Book:
    def __init__(self):
        self.known, self.open, self.learned = [], False, []

    def secrets(self, source):
        return tuple(Secret(f"handshake-{n}", v) for n, v in enumerate(self.known, 1))

    def knows(self, source, value):
        return value in self.known

    def expected(self, source):
        return self.open

    def learn(self, source, value, peer, done):
        self.open = False
        self.learned.append((source, value, peer, done))


class World:
    def __init__(self, **options):
        self.journal, self.metrics, self.clock = RecordingJournal(), Metrics(), FakeClock()
        self.keys, self.book, self.confirmed = Keys(), Book(), []
        self.feed = Feed()
        self.receiver = Receiver(
            self.journal, self.metrics, self.feed, self.clock, keys=self.keys, book=self.book,
            confirm=lambda source, url: self.confirmed.append((source, url)),
        )  # fmt: skip
        defaults = {"name": "s", "path": b"/in", "destinations": ("d",), "verifier": PLAIN}
        self.receiver.configure([SourceOptions(**{**defaults, **options})])

    def send(self, body=b"{}", **more):
        h = msgspec.structs.replace(head(**more), length=len(body))
        answers = []
        admitted = self.receiver.head(h)
        if isinstance(admitted, Answer):
            return [admitted]
        self.receiver.complete(h, admitted.context, body, answers.append)
        return answers

    def counts(self, family="received"):
        return {k[1]: v for k, v in getattr(self.metrics, family).values.items() if v}


def test_a_request_whose_key_is_here_never_waits():
    """It is judged by the snapshot."""
    world = World(verifier=Needy())
    world.keys.snapshot["k"] = Fetched(b"good", 1)
    assert [a.status for a in world.send()] == [200]
    assert world.keys.asked == []


@pytest.mark.parametrize(("data", "status"), [(b"good", 200), (b"bad", 401), (b"again", 401)])
def test_a_key_that_must_be_fetched_is_waited_for_once(data, status):
    """Then the request is judged again, and that verdict stands."""
    world = World(verifier=Needy())
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
    world = World(verifier=Needy())
    answers = world.send()
    world.keys.asked[0][1](False)
    assert answers == [error_answer(Refusal.KEYS_UNAVAILABLE)]
    assert answers[0].status == 503
    assert world.counts() == {"keys_unavailable": 1}
    assert world.counts("verification_failures") == {"key_unavailable": 1}
    assert world.journal.appended == []


def test_a_key_that_the_provider_does_not_have_is_refused_at_once():
    """When nothing newer is to be had."""
    world = World(verifier=Needy(RejectReason.UNKNOWN_KEY))
    world.keys.settled = True
    assert world.send() == [error_answer(Refusal.UNAUTHORIZED)]
    assert world.counts("verification_failures") == {"unknown_key": 1}


SECRET = b"b537207f20cbfa02357cf448134da559"
ASANA = {"handshake": HANDSHAKES["asana"]}
HOOK = [(b"X-Hook-Secret", SECRET)]


def test_a_secret_that_nobody_expects_is_refused_like_a_wrong_signature():
    """Inside, the reason says what to do."""
    world = World(**ASANA)
    assert world.send(b"", headers=HOOK) == [error_answer(Refusal.UNAUTHORIZED)]
    assert world.counts("verification_failures") == {"handshake_not_expected": 1}
    assert world.book.learned == []


def test_a_secret_that_is_expected_is_on_disk_before_it_is_answered():
    """Then it verifies; a repeat is answered again without being kept twice."""
    world = World(**ASANA)
    world.book.open = True
    answers = world.send(b"", headers=HOOK)
    assert answers == []
    ((source, value, peer, done),) = world.book.learned
    assert (source, value, peer) == ("s", SECRET, "198.51.100.1")
    world.book.known.append(SECRET)
    done(True)
    assert (answers[0].status, answers[0].headers) == (200, ((b"X-Hook-Secret", SECRET),))
    assert world.counts() == {"handshake": 1}
    signed = PLAIN.sign(msgspec.structs.replace(_request(), body=b"{}"), Secret("x", SECRET), 0)
    assert world.send(headers=signed)[0].status == 200
    assert world.counts("key_matched") == {"handshake-1": 1}
    assert world.send(b"", headers=HOOK)[0].status == 200
    assert len(world.book.learned) == 1


def _request():
    from sidecar.inbound.verify import Request

    return Request(b"POST", b"/in", b"", {})


def test_a_secret_that_could_not_be_kept_is_not_answered_for():
    """503: the provider tries again."""
    world = World(**ASANA)
    world.book.open = True
    answers = world.send(b"", headers=HOOK)
    world.book.learned[0][3](False)
    assert answers == [error_answer(Refusal.STORAGE_ERROR)]


def test_secrets_that_change_are_taken_over():
    """Also forgotten ones; an unknown source is nobody's."""
    world = World(**ASANA)
    world.book.known.append(SECRET)
    world.receiver.secrets_changed("s")
    world.receiver.secrets_changed("nobody")
    signed = PLAIN.sign(msgspec.structs.replace(_request(), body=b"{}"), Secret("x", SECRET), 0)
    assert world.send(headers=signed)[0].status == 200
    world.book.known.clear()
    world.receiver.secrets_changed("s")
    assert world.send(headers=signed)[0].status == 401


def test_an_unsigned_head_lets_a_small_body_in_and_no_other():
    """What turns out to be no handshake is verified; a large one is verified from its head on."""
    world = World(handshake=HANDSHAKES["woocommerce"], content_type=b"application/json")
    form = [(b"Content-Type", b"application/x-www-form-urlencoded")]
    assert world.send(b"webhook_id=7", headers=form)[0].status == 200
    assert world.counts() == {"handshake": 1}
    assert world.send(b"webhook_id=7&x", headers=form)[0].status == 401
    h = msgspec.structs.replace(head(headers=form), length=9000)
    assert isinstance(world.receiver.head(h), Answer)
    assert isinstance(world.receiver.head(msgspec.structs.replace(h, length=None)), Answer)


def test_a_handshake_may_be_refused():
    """As unauthorized, or as not found."""
    world = World(handshake=HANDSHAKES["meta"], handshake_token=b"t0ken")
    query = b"hub.mode=subscribe&hub.challenge=1&hub.verify_token="
    assert world.send(b"", method=b"GET", query=query + b"x")[0].status == 401
    assert world.send(b"", method=b"GET", query=query + b"t0ken")[0].body == b"1"
    world = World(handshake=HANDSHAKES["websub"], handshake_allow=frozenset({"t"}))
    assert world.send(b"", method=b"GET", query=b"hub.mode=subscribe&hub.topic=x&hub.challenge=1")[0].status == 404
    assert world.send(b"", method=b"GET", query=b"hub.mode=subscribe&hub.topic=t&hub.challenge=1")[0].status == 200


def test_the_secret_that_matched_comes_first_and_a_confirmation_is_called():
    """A handshake that signs must use the key that the provider uses."""
    seen = []

    def respond(request, secrets, terms):
        seen.append([s.id for s in secrets])
        return HandshakeAnswer(b"", confirm="https://confirm")

    secrets = (Secret("new", b"new", not_before_ms=1), Secret("old", b"old"))
    world = World(secrets=secrets, handshake=Handshake(name="x", respond=respond))
    world.send(headers=PLAIN.sign(msgspec.structs.replace(_request(), body=b"{}"), secrets[1], 0))
    assert seen == [["old", "new"]]
    assert world.confirmed == [("s", "https://confirm")]


def test_a_wrong_secret_is_looked_into_now_and_then():
    """At most every so often: a stranger can ask as often as they like."""
    world = World(secrets=(Secret("a", b"key"),))
    signed = PLAIN.sign(msgspec.structs.replace(_request(), body=b"{}"), Secret("a", b"key"), 0)
    for _ in range(2):
        assert world.send(b"{}\n", headers=signed)[0].status == 401
    assert world.counts("verification_failures") == {"body_modified_suspected": 1, "wrong_secret": 1}
    world.clock.mono += EXPLAIN_EVERY_S
    world.send(b"{}\n", headers=signed)
    assert world.counts("verification_failures")["body_modified_suspected"] == 2


def test_what_a_handshake_signs_for_anybody_is_no_webhook():
    """The challenge-response check of X signs tokens with the key of the webhooks; a JSON object is no token."""
    verifier = compile_scheme(HmacOptions(header="X-Sig", prefix="sha256=", encoding="base64"))
    world = World(verifier=verifier, secrets=(Secret("a", b"key"),), handshake=HANDSHAKES["x-crc"])
    told = json.loads(world.send(b"", method=b"GET", query=b"crc_token=123")[0].body)["response_token"]
    assert world.send(b"123", headers=[(b"X-Sig", told.encode())])[0].status == 401
    assert world.counts("verification_failures") == {"malformed_body": 1}
    signed = verifier.sign(msgspec.structs.replace(_request(), body=b'{"a":1}'), Secret("a", b"key"), 0)
    assert world.send(b'{"a":1}', headers=signed)[0].status == 200


async def test_whoever_watches_sees_handshakes():
    """Like everything else that comes in."""
    world = World(handshake=HANDSHAKES["meta"], handshake_token=b"t0ken")
    watcher = world.feed.watch()
    world.send(b"", method=b"GET", query=b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=t0ken")
    told, _ = await watcher.next()
    assert [t.row["outcome"] for t in told] == ["handshake"]
