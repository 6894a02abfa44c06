"""One request goes from its head to its answer; nothing unproven reaches the journal, and nothing is told outside."""

import json

import msgspec
import pytest

from sidecar.inbound import telling
from sidecar.inbound.ack import error_answer
from sidecar.inbound.application import Admit
from sidecar.inbound.dedup import DedupOptions
from sidecar.inbound.verify import PRESETS, HmacOptions, Request, Secret, TokenOptions, compile_scheme, sign_request
from sidecar.inbound.verify.options import BraintreeOptions
from sidecar.journal.types import Duplicate
from sidecar.model import ACK_DEFAULT, AckTemplate, Refusal, RejectReason
from tests.support.receiving import BODY, NOW, OPEN, SECRET, UNAUTHORIZED, World, head, signed, source


@pytest.fixture(autouse=True)
def lines(monkeypatch):
    """What was logged: (key, level, message, fields)."""
    out = []
    monkeypatch.setattr(telling._log, "limited", lambda key, level, msg, **f: out.append((key, level, msg, f)))
    return out


# --- the way in


def test_a_signed_request_is_journaled_and_acknowledged():
    """With its exact bytes, its key and where it goes; the answer carries the event's id."""
    world = World(source())
    h = signed(body=BODY, query=b"a=1")
    answer = world.send(h, BODY)
    assert (answer.status, answer.body) == (200, b'{"status":"accepted","id":"wse_00000000000000000000000001"}')
    assert (b"Webhook-Sidecar-Event-Id", b"wse_00000000000000000000000001") in answer.headers
    ((event, claim, ack),) = world.journal.appended
    assert (event.source, event.destinations, event.method, event.path, event.query) == (
        "s",
        ("app",),
        b"POST",
        b"/in",
        b"a=1",
    )
    assert (event.body, event.headers, event.received_at_ms) == (BODY, h.headers, NOW)
    assert (event.verified, event.key) == (True, "evt_1")
    assert (len(claim.digest), ack) == (16, ACK_DEFAULT)
    assert world.counts() == {("s", "accepted"): 1}
    assert world.counts("key_matched") == {("s", "2026"): 1}
    assert world.counts("last_accepted") == {("s",): NOW / 1000}


def test_nothing_is_answered_before_the_commit():
    """The answer waits for the journal, and its duration is counted when it goes out."""
    world = World(source())
    world.journal.waiting, answers = [], []
    h = signed(body=BODY)
    admitted = world.receiver.head(h)
    world.receiver.complete(h, admitted.context, BODY, answers.append)
    series = world.metrics.request_duration.series("s")
    assert (answers, sum(series.counts), world.counts()) == ([], 0, {})
    world.clock.mono += 0.25
    world.journal.waiting.pop()()
    assert [a.status for a in answers] == [200]
    assert (sum(series.counts), series.sum) == (1, 0.25)


def test_the_head_decides_the_body_limit():
    """The source's own."""
    admitted = World(source(max_body=77)).receiver.head(signed())
    assert isinstance(admitted, Admit)
    assert admitted.max_body == 77


@pytest.mark.parametrize("path", [b"/", b"/in/", b"/IN", b"/in/../in", b"/%69n", b"//in", b"/in;x", b"*"])
def test_paths_are_matched_exactly(path):
    """No decoding, no normalising; an unknown one counts under ``unknown`` and makes no series."""
    world = World(source())
    before = set(world.metrics.received.values)
    assert world.send(head(path)) == error_answer(Refusal.NOT_FOUND)
    assert world.counts() == {("unknown", "not_found"): 1}
    assert set(world.metrics.received.values) == before
    assert world.journal.appended == []


def test_other_methods_are_named_in_allow():
    """405 with what would be right."""
    world = World(source(methods=frozenset({b"POST", b"PUT"})))
    for method in (b"GET", b"TRACE", b"HEAD"):
        answer = world.send(head(method=method))
        assert (answer.status, answer.headers) == (405, ((b"Allow", b"POST, PUT"),))
    assert world.counts() == {("s", "method_not_allowed"): 3}


@pytest.mark.parametrize("name", [b"Stripe-Signature", b"stripe-signature", b"Content-Type"])
def test_a_repeated_header_that_counts_is_refused(name):
    """Before verification, so the 400 says nothing about a secret."""
    h = signed()
    h = head(headers=[*h.headers[1:], (name, b"x")])
    assert World(source()).send(h) == error_answer(Refusal.DUPLICATE_HEADER)


def test_a_repeated_key_header_is_refused_and_others_are_not():
    """Which id would the app see?"""
    world = World(source(preset="github"))
    h = signed("github")
    assert world.send(head(headers=[*h.headers[1:], (b"x-github-delivery", b"8")])).status == 400
    assert world.send(head(headers=[*h.headers[1:], (b"X-Other", b"1"), (b"X-Other", b"2")])).status == 200


@pytest.mark.parametrize("name", ["rfc9421", "contentful"])
def test_a_header_that_the_request_says_is_signed_comes_once(name):
    """Only its first line was verified; the app would have seen the second one, which somebody added on the way."""
    names = "x-contentful-signed-headers,x-contentful-timestamp,x-event"
    extra = [("X-Event", "good"), ("X-Contentful-Signed-Headers", names)]
    scheme = PRESETS[name].scheme
    if name == "rfc9421":
        scheme, secret = msgspec.structs.replace(scheme, covered=("x-event",)), Secret("a", b"c2VjcmV0")
        signer, verifier = compile_scheme(scheme), compile_scheme(PRESETS[name].scheme)
    else:
        signer = verifier = compile_scheme(scheme)
        secret = Secret("a", b"secret")
    sent = sign_request(signer, secret, b"{}", NOW, extra=extra, path=b"/in", url=b"https://h/in")
    receiver = World(source(preset=name, verifier=verifier, secrets=(secret,), public_url=b"https://h"))
    assert receiver.send(head(headers=sent)).status == 200
    for again in (b"evil", b"good"):
        assert receiver.send(head(headers=[*sent, (b"x-event", again)])) == UNAUTHORIZED
    assert receiver.send(head(headers=[*sent, (b"X-Other", b"1"), (b"X-Other", b"2")])).status == 200
    assert receiver.counts("verification_failures") == {("s", RejectReason.MALFORMED_SIGNATURE): 2}


def test_an_underscore_twin_is_never_read():
    """``X_Hub_Signature_256`` is another header."""
    h = signed("github")
    twin = [(n.replace(b"-", b"_"), v) for n, v in h.headers[1:]]
    assert World(source(preset="github")).send(head(headers=twin)) == UNAUTHORIZED


def written_otherwise():
    """One signed webhook each, and what somebody who captured it can make of it without the secret."""
    form = [(b"Content-Type", b"application/x-www-form-urlencoded")]
    braintree = compile_scheme(BraintreeOptions(public_key="ours"))
    body = braintree.sign_body(b"<xml/>", SECRET, NOW)
    yield braintree, DedupOptions(key="body", key_signed=True), [
        (body, form), (body + b"&", form), (b"&&" + body, form), (body.replace(b"%0A", b""), form),
        (b"&".join(reversed(body.split(b"&"))), form), (body.replace(b"bt_payload", b"%62t_payload"), form),
    ]  # fmt: skip
    mailgun = compile_scheme(PRESETS["mailgun"].scheme)
    made = mailgun.sign_body(b'{"signature":{"token":"t"}}', SECRET, NOW)
    fields = "&".join(f"{k}={v}" for k, v in json.loads(made)["signature"].items()).encode()
    yield mailgun, DedupOptions(key="json:/signature/token", key_signed=True), [
        (fields, form), (fields + b"&recipient=evil", form), (fields + b"&recipient=worse", form),
    ]  # fmt: skip
    twilio, by_body = compile_scheme(PRESETS["twilio"].scheme), DedupOptions(key="body")
    sent = sign_request(
        twilio, SECRET, b"b=2&a=1", NOW, extra=[("Content-Type", form[0][1].decode())], url=b"https://h/in"
    )
    yield twilio, by_body, [(text, sent) for text in (b"b=2&a=1", b"a=1&b=2", b"a=%31&b=2&")]
    gitea = compile_scheme(PRESETS["gitea"].scheme)
    (signature,) = gitea.sign(Request(b"POST", b"/in", b"", {}, b"{}"), SECRET, NOW)
    yield gitea, by_body, [
        (b"{}", [signature]), (b"payload=%7B%7D", [signature, *form]), (b"payload=%7b}&", [signature, *form]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("verifier", "dedup", "sent"), [*written_otherwise()], ids=["braintree", "mailgun", "twilio", "gitea"]
)
def test_a_captured_webhook_is_itself_however_it_is_written(verifier, dedup, sent):
    """Where the signature does not cover the very bytes, those cannot tell one event from another."""
    world = World(source(verifier=verifier, dedup=dedup, public_url=b"https://h"))
    for body, headers in sent:
        assert world.send(head(headers=headers), body).status == 200
    assert len({claim.digest for _, claim, _ in world.journal.appended}) == 1


# --- refusals


def refusals():
    good = signed(body=BODY)
    value = good.lower[b"stripe-signature"]
    return {
        "missing": ([], RejectReason.MISSING_HEADER),
        "malformed": ([(b"Stripe-Signature", b"zz")], RejectReason.MALFORMED_SIGNATURE),
        "not ASCII": ([(b"Stripe-Signature", value + ",é=1".encode())], None),
        "not UTF-8": ([(b"Stripe-Signature", value + b",\xff=1")], RejectReason.MALFORMED_SIGNATURE),
        "not UTF-8 elsewhere": ([(b"Stripe-Signature", value), (b"X-Other", b"\xff")], None),
        "bad type": (
            [(b"Stripe-Signature", value), (b"Content-Type", b"\xff")],
            RejectReason.MALFORMED_SIGNATURE,
        ),
        "stale": ([(b"Stripe-Signature", value.replace(b"1700000000", b"1600000000"))], RejectReason.STALE_TIMESTAMP),
        "wrong": ([(b"Stripe-Signature", value.replace(b"v1=", b"v1=0")[:-1])], RejectReason.WRONG_SECRET),
        "weaker": ([(b"Stripe-Signature", value.replace(b"v1=", b"v0="))], RejectReason.UNSUPPORTED_VERSION),
        "many": ([(b"Stripe-Signature", value + b",v0=x" * 8)], RejectReason.TOO_MANY_SIGNATURES),
    }


@pytest.mark.parametrize("name", refusals())
def test_outside_every_refusal_looks_the_same(name, lines):
    """Metric and log have the reason, the answer and the log have no value of the request."""
    headers, reason = refusals()[name]
    world = World(source())
    answer = world.send(head(headers=headers), BODY)
    if reason is None:
        assert answer.status == 200
        return
    assert answer == UNAUTHORIZED
    assert (answer.status, answer.body, answer.close) == (401, b'{"error":{"code":"unauthorized"}}', True)
    assert world.counts() == {("s", "unauthorized"): 1}
    assert world.counts("verification_failures") == {("s", reason): 1}
    assert world.journal.appended == []
    assert world.receiver.refused_since(NOW) == {str(reason): 1}
    ((_, level, _, fields),) = lines
    assert (level, fields["source"], fields["outcome"], fields["reason"]) == ("warning", "s", "unauthorized", reason)
    for _, value in headers:
        assert value.decode("latin-1") not in repr(lines)


def test_what_the_head_decides_is_refused_before_the_body():
    """Nobody has to send 25 MB to hear no."""
    world = World(source())
    assert world.receiver.head(head()) == UNAUTHORIZED
    assert world.receiver.head(signed(now=NOW - 301_000)) == UNAUTHORIZED
    token = World(source(verifier=compile_scheme(TokenOptions(header="X-Token")), dedup=DedupOptions()))
    assert token.receiver.head(head(headers=[(b"X-Token", b"wrong")])) == UNAUTHORIZED


def test_retired_secrets_are_refused_and_told_apart():
    """Inside only."""
    world = World(source(secrets=(Secret("old", b"old", not_after_ms=NOW), SECRET)))
    assert world.send(signed(secret=Secret("old", b"old"))) == UNAUTHORIZED
    assert world.counts("verification_failures") == {("s", "retired_secret"): 1}
    assert world.counts("key_matched") == {}


def test_a_pinned_content_type():
    """Parameters and case do not matter; another one or none is 415, but only to who may know."""
    world = World(source(content_type=b"application/json"))
    assert world.send(signed()).status == 200
    h = signed()
    bare = [x for x in h.headers[1:] if x[0] != b"Content-Type"]
    for headers in (bare, [*bare, (b"Content-Type", b"text/plain")]):
        assert world.send(head(headers=headers)) == error_answer(Refusal.UNSUPPORTED_MEDIA_TYPE)
    assert world.send(head(headers=[(b"Content-Type", b"text/plain")])) == UNAUTHORIZED


def test_an_empty_body_can_be_refused():
    """Where the source says so; else it is an event like any other."""
    assert World(source()).send(signed(body=b""), b"").status == 200
    assert World(source(allow_empty=False)).send(signed(body=b""), b"") == error_answer(Refusal.EMPTY_BODY)
    assert World(source(allow_empty=False)).send(signed()).status == 200


def test_while_draining_nothing_new_is_taken():
    """503 with the code; what was admitted before is finished; after ``resume`` all is as before."""
    world, answers = World(source()), []
    h = signed(body=BODY)
    admitted = world.receiver.head(h)
    world.receiver.stop_accepting()
    assert not world.receiver.accepting
    assert world.send(signed()) == error_answer(Refusal.SHUTTING_DOWN)
    world.receiver.stop_accepting(Refusal.STORAGE_ERROR)
    answer = world.send(signed())
    assert (answer.status, answer.body) == (503, b'{"error":{"code":"storage_error"}}')
    assert world.send(head()) == UNAUTHORIZED
    world.receiver.complete(h, admitted.context, BODY, answers.append)
    assert answers[0].status == 200
    world.receiver.resume()
    assert world.receiver.accepting
    assert world.send(signed()).status == 200
    assert world.counts() == {
        ("s", "shutting_down"): 1,
        ("s", "storage_error"): 1,
        ("s", "unauthorized"): 1,
        ("s", "accepted"): 2,
    }


# --- deduplication


def test_a_duplicate_gets_the_first_answer_again():
    """With the stored ack and id, marked; a conflict is counted."""
    world = World(source())
    world.journal.result = Duplicate("wse_FIRST", AckTemplate(201, "text/plain", b"ok {id}", True), True, 0)
    answer = world.send(signed(body=BODY), BODY)
    assert (answer.status, answer.content_type, answer.body) == (201, b"text/plain", b"ok wse_FIRST")
    assert answer.headers == ((b"Webhook-Sidecar-Event-Id", b"wse_FIRST"), (b"Idempotent-Replayed", b"true"))
    assert world.counts() == {("s", "duplicate"): 1}
    assert world.counts("dedup_conflicts") == {("s",): 1}
    world.journal.result = Duplicate("wse_FIRST", ACK_DEFAULT, False, 0)
    world.send(signed(body=BODY), BODY)
    assert world.counts("dedup_conflicts") == {("s",): 1}


@pytest.mark.parametrize("code", [Refusal.STORAGE_FULL, Refusal.STORAGE_ERROR, Refusal.OVERLOADED])
def test_a_failed_commit_is_never_an_ack(code):
    """503 with Retry-After, counted by its code."""
    world = World(source())
    world.journal.result = code
    answer = world.send(signed(body=BODY), BODY)
    assert answer == error_answer(code)
    assert b"Retry-After" in dict(answer.headers)
    assert world.counts() == {("s", code): 1}
    assert world.counts("last_accepted") == {}


def test_a_missing_key_is_accepted_and_counted():
    """Once, when it is on disk; where no key is wanted nothing is missing."""
    world = World(source(), source("open", b"/open", **OPEN))
    assert world.send(signed(body=b'{"id":NaN}'), b'{"id":NaN}').status == 200
    ((event, claim, _),) = world.journal.appended
    assert (event.key, claim) == ("", None)
    assert world.counts("dedup_key_missing") == {("s",): 1}
    world.send(head(b"/open"))
    assert world.counts("dedup_key_missing") == {("s",): 1}


def test_only_a_providers_id_is_shown_as_key():
    """A body is none."""
    world = World(source(dedup=DedupOptions(key="body")))
    world.send(signed(body=BODY), BODY)
    ((event, claim, _),) = world.journal.appended
    assert event.key == ""
    assert claim is not None


def test_unproven_requests_never_touch_dedup():
    """The key of a forged request cannot push a true one aside."""
    world = World(source())
    forged = signed(body=BODY, secret=Secret("x", b"forged"))
    assert world.send(forged, BODY) == UNAUTHORIZED
    assert world.journal.appended == []


def test_an_unverified_source_says_so():
    """So that nothing of it is ever signed afresh."""
    world = World(source(**OPEN))
    assert world.send(head()).status == 200
    assert world.journal.appended[0][0].verified is False
    assert world.counts("key_matched") == {}


# --- who asked


def test_x_forwarded_is_believed_from_trusted_proxies_only():
    """And the public URL speaks for scheme and host."""
    said = [(b"X-Forwarded-For", b"203.0.113.7"), (b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", b"h.example")]
    world = World(source(**OPEN), source("pub", b"/pub", public_url=b"https://public.example", **OPEN))
    world.send(head(headers=said))
    world.send(head(headers=said, peer="127.0.0.1"))
    world.send(head(headers=[*said, (b"x-forwarded-for", b"127.0.0.9")], peer="127.0.0.1"))
    world.send(head(b"/pub", headers=said))
    seen = [(e.forwarded_for, e.forwarded_proto, e.forwarded_host) for e, _, _ in world.journal.appended]
    assert seen == [
        (b"198.51.100.1", b"http", b"sidecar:8787"),
        (b"203.0.113.7, 127.0.0.1", b"https", b"h.example"),
        (b"203.0.113.7, 127.0.0.9, 127.0.0.1", b"https", b"h.example"),
        (b"198.51.100.1", b"https", b"public.example"),
    ]


def test_a_signed_url_is_the_public_one():
    """What the sender sees, not what reaches us; from a stranger X-Forwarded-Host changes nothing."""
    verifier = compile_scheme(HmacOptions(header="X-Sig", signed="{url}{body}"))
    by_url = {"verifier": verifier, "dedup": DedupOptions()}
    world = World(source(public_url=b"https://public.example/", **by_url), source("t", b"/t", **by_url))

    def by(path, url, *more, **where):
        made = sign_request(verifier, SECRET, BODY, NOW, url=url)
        return world.send(head(path, [*made, *more], query=b"x=1", **where), BODY).status

    assert by(b"/in", b"https://public.example/in?x=1") == 200
    assert by(b"/in", b"http://sidecar:8787/in?x=1") == 401
    assert by(b"/t", b"http://sidecar:8787/t?x=1") == 200
    said = ((b"X-Forwarded-Host", b"h.example"), (b"X-Forwarded-Proto", b"https"))
    assert by(b"/t", b"https://h.example/t?x=1", *said) == 401
    assert by(b"/t", b"https://h.example/t?x=1", *said, peer="127.0.0.1") == 200


# --- bugs


def test_a_bug_costs_a_sender_no_answer(lines):
    """500, so that it tries again; the text of the exception is nowhere."""

    class Broken:
        def __init__(self, verifier):
            self.inner = verifier

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def verify(self, request, secrets, now_ms):
            raise RuntimeError("whsec_test")

        def precheck(self, request, secrets, now_ms):
            if request.query:
                raise RuntimeError("whsec_test")

    world = World(source(verifier=Broken(compile_scheme(PRESETS["stripe"].scheme))))
    assert world.send(signed()) == error_answer(Refusal.INTERNAL_ERROR)
    assert world.send(signed(query=b"x")) == error_answer(Refusal.INTERNAL_ERROR)
    assert world.counts() == {("s", "internal_error"): 2}
    assert "whsec_test" not in repr(lines)
    assert lines[0][3] == {"error": "RuntimeError"}


def test_a_late_commit_after_a_bug_answers_no_second_time():
    """The sender has its 500; the event is on disk and its retry a duplicate."""
    world = World(source())
    world.journal.waiting = []
    true_append = world.journal.append

    def append(*args):
        true_append(*args)
        raise RuntimeError

    world.journal.append = append
    answers = []
    h = signed(body=BODY)
    world.receiver.complete(h, world.receiver.head(h).context, BODY, answers.append)
    world.journal.waiting.pop()()
    assert [a.status for a in answers] == [500]
