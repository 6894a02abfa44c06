"""A provider that tries the URL gets its answer, and nothing of that is an event; a secret is kept only when expected."""

import json

import msgspec

from sidecar.inbound.ack import Answer, error_answer
from sidecar.inbound.verify import HANDSHAKES, Handshake, HandshakeAnswer, HmacOptions, Secret, compile_scheme
from sidecar.model import Refusal
from tests.support.receiving import BODY, PLAIN, SECRET, UNAUTHORIZED, OneSource, World, head, plain, signed, source

ARRIVED = b"b537207f20cbfa02357cf448134da559"
ASANA = {"handshake": HANDSHAKES["asana"]}
HOOK = [(b"X-Hook-Secret", ARRIVED)]
CHALLENGE = b'{"token":"t","challenge":"c4llenge","type":"url_verification"}'


def test_a_signed_handshake_is_answered_and_not_journaled():
    """Only after its signature was judged."""
    world = World(source(preset="slack", handshake=HANDSHAKES["slack"]))
    answer = world.send(signed("slack", CHALLENGE), CHALLENGE)
    assert (answer.status, answer.content_type, answer.body) == (200, b"text/plain", b"c4llenge")
    assert world.counts() == {("s", "handshake"): 1}
    assert world.send(signed("slack", CHALLENGE, Secret("x", b"forged")), CHALLENGE) == UNAUTHORIZED
    assert world.journal.appended == []
    assert world.send(signed("slack", BODY), BODY).status == 200
    assert len(world.journal.appended) == 1


def test_an_unsigned_handshake_has_a_method_of_its_own():
    """It is answered without a signature; by any other request that method is not allowed."""

    def respond(request, secrets, _terms):
        wanted = b"token=" + secrets[0].value
        return HandshakeAnswer(b"yes") if request.query == wanted else None

    world = World(source(handshake=Handshake(name="x", respond=respond, methods=("GET",), signed=False)))
    assert world.send(head(method=b"GET", query=b"token=whsec_test"), b"").body == b"yes"
    assert world.send(head(method=b"GET", query=b"token=wrong"), b"").status == 405
    assert world.send(head(method=b"POST"), b"") == UNAUTHORIZED
    assert world.send(head(method=b"PUT"), b"").headers == ((b"Allow", b"GET, POST"),)


def test_a_handshake_is_answered_also_where_its_method_is_one_of_the_sources_own():
    """Whoever writes ``methods = ["GET", "POST"]`` means just that; what is no handshake is verified."""
    dropbox = {"preset": "dropbox", "handshake": HANDSHAKES["dropbox"], "methods": frozenset({b"GET", b"POST"})}
    world = World(source(**dropbox))
    asked = msgspec.structs.replace(head(method=b"GET", query=b"challenge=abc"), length=0)
    answer = world.send(asked, b"")
    assert (answer.status, answer.body) == (200, b"abc")
    assert world.send(msgspec.structs.replace(asked, query=b"challenge=%3Cx%3E"), b"") == UNAUTHORIZED
    assert world.send(signed("dropbox", b"", method=b"GET"), b"").status == 200
    assert world.counts() == {("s", "handshake"): 1, ("s", "unauthorized"): 1, ("s", "accepted"): 1}
    for length in (8193, None):  # nobody reads more than a handshake before it is verified
        assert world.send(msgspec.structs.replace(asked, length=length), b"x") == UNAUTHORIZED


def test_what_only_looked_like_a_handshake_needs_the_media_type():
    """A signed webhook is not let past it by a header of a handshake that somebody adds."""
    world = OneSource(content_type=b"application/json", secrets=(SECRET,), **ASANA)
    headers = [*PLAIN.sign(plain(), SECRET, 0), (b"X-Hook-Secret", b"?")]
    assert world.send(headers=[*headers, (b"Content-Type", b"text/plain")])[0].status == 415
    assert world.send(headers=[*headers, (b"Content-Type", b"application/json")])[0].status == 200


def test_a_signed_handshake_by_another_method_is_verified():
    """HEAD requests may be signed too; one that is no handshake is an event like any other."""
    handshake = Handshake(name="x", respond=lambda _r, _s, _t: HandshakeAnswer(b""), methods=("HEAD",))
    world = World(source(handshake=handshake))
    assert world.send(head(method=b"HEAD"), b"") == UNAUTHORIZED
    assert world.send(signed(body=b"", method=b"HEAD"), b"").status == 200


def test_a_secret_that_nobody_expects_is_refused_like_a_wrong_signature():
    """Inside, the reason says what to do."""
    world = OneSource(**ASANA)
    assert world.send(b"", headers=HOOK) == [error_answer(Refusal.UNAUTHORIZED)]
    assert world.counts("verification_failures") == {"handshake_not_expected": 1}
    assert world.book.learned == []


def test_a_secret_that_is_expected_is_on_disk_before_it_is_answered():
    """Then it verifies; a repeat is answered again without being kept twice."""
    world = OneSource(**ASANA)
    world.book.open = True
    answers = world.send(b"", headers=HOOK)
    assert answers == []
    ((source, value, peer, done),) = world.book.learned
    assert (source, value, peer) == ("s", ARRIVED, "198.51.100.1")
    world.book.known.append(ARRIVED)
    done(True)
    assert (answers[0].status, answers[0].headers) == (200, ((b"X-Hook-Secret", ARRIVED),))
    assert world.counts() == {"handshake": 1}
    signed = PLAIN.sign(plain(), Secret("x", ARRIVED), 0)
    assert world.send(headers=signed)[0].status == 200
    assert world.counts("key_matched") == {"handshake-1": 1}
    assert world.send(b"", headers=HOOK)[0].status == 200
    assert len(world.book.learned) == 1


def test_a_secret_that_could_not_be_kept_is_not_answered_for():
    """503: the provider tries again."""
    world = OneSource(**ASANA)
    world.book.open = True
    answers = world.send(b"", headers=HOOK)
    world.book.learned[0][3](False)
    assert answers == [error_answer(Refusal.STORAGE_ERROR)]


def test_an_unsigned_head_lets_a_small_body_in_and_no_other():
    """What turns out to be no handshake is verified; a large one is verified from its head on."""
    world = OneSource(handshake=HANDSHAKES["woocommerce"], content_type=b"application/json")
    form = [(b"Content-Type", b"application/x-www-form-urlencoded")]
    assert world.send(b"webhook_id=7", headers=form)[0].status == 200
    assert world.counts() == {"handshake": 1}
    assert world.send(b"webhook_id=7&x", headers=form)[0].status == 401
    h = msgspec.structs.replace(head(headers=form), length=9000)
    assert isinstance(world.receiver.head(h), Answer)
    assert isinstance(world.receiver.head(msgspec.structs.replace(h, length=None)), Answer)


def test_a_handshake_may_be_refused():
    """As unauthorized, or as not found."""
    world = OneSource(handshake=HANDSHAKES["meta"], handshake_token=b"t0ken")
    query = b"hub.mode=subscribe&hub.challenge=1&hub.verify_token="
    assert world.send(b"", method=b"GET", query=query + b"x")[0].status == 401
    assert world.send(b"", method=b"GET", query=query + b"t0ken")[0].body == b"1"
    world = OneSource(handshake=HANDSHAKES["websub"], handshake_allow=frozenset({"t"}))
    assert world.send(b"", method=b"GET", query=b"hub.mode=subscribe&hub.topic=x&hub.challenge=1")[0].status == 404
    assert world.send(b"", method=b"GET", query=b"hub.mode=subscribe&hub.topic=t&hub.challenge=1")[0].status == 200


def test_the_secret_that_matched_comes_first_and_a_confirmation_is_called():
    """A handshake that signs must use the key that the provider uses."""
    seen = []

    def respond(request, secrets, terms):
        seen.append([s.id for s in secrets])
        return HandshakeAnswer(b"", confirm="https://confirm")

    secrets = (Secret("new", b"new", not_before_ms=1), Secret("old", b"old"))
    world = OneSource(secrets=secrets, handshake=Handshake(name="x", respond=respond))
    world.send(headers=PLAIN.sign(plain(), secrets[1], 0))
    assert seen == [["old", "new"]]
    assert world.confirmed == [("s", "https://confirm")]


def test_what_a_handshake_signs_for_anybody_is_no_webhook():
    """The challenge-response check of X signs tokens with the key of the webhooks; a JSON object is no token."""
    verifier = compile_scheme(HmacOptions(header="X-Sig", prefix="sha256=", encoding="base64"))
    world = OneSource(verifier=verifier, secrets=(Secret("a", b"key"),), handshake=HANDSHAKES["x-crc"])
    told = json.loads(world.send(b"", method=b"GET", query=b"crc_token=123")[0].body)["response_token"]
    assert world.send(b"123", headers=[(b"X-Sig", told.encode())])[0].status == 401
    assert world.counts("verification_failures") == {"malformed_body": 1}
    signed = verifier.sign(plain(b'{"a":1}'), Secret("a", b"key"), 0)
    assert world.send(b'{"a":1}', headers=signed)[0].status == 200


async def test_whoever_watches_sees_handshakes():
    """Like everything else that comes in."""
    world = OneSource(handshake=HANDSHAKES["meta"], handshake_token=b"t0ken")
    watcher = world.feed.watch()
    world.send(b"", method=b"GET", query=b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=t0ken")
    told, _ = await watcher.next()
    assert [t.row["outcome"] for t in told] == ["handshake"]
