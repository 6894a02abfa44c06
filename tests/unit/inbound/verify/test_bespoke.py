"""A keyed hash whose message and signature a scheme finds itself: every message must hold, by one secret that counts."""

import hmac

import pytest

from sidecar.inbound.verify.bespoke import Claimed, KeyedVerifier
from sidecar.inbound.verify.keys import Keys
from sidecar.inbound.verify.request import Accepted, Rejected, Request, Secret
from sidecar.model import RejectReason

NOW = 1_700_000_000_000
OLD = Secret("old", b"old", not_after_ms=NOW)
NEW = Secret("new", b"new")
EMPTY = Rejected(RejectReason.MALFORMED_BODY)


class Lines(KeyedVerifier):
    """A provider that signs each line of the body on its own, and may have meant it in capitals."""

    def claimed(self, request, now_ms):
        pairs = [line.split(b" ") for line in request.body.splitlines()]
        spelled = [((text, text.upper()), bytes.fromhex(mac.decode())) for text, mac in pairs]
        return [Claimed("sha256", spelled)] if spelled else EMPTY

    def precheck(self, request, secrets, now_ms):
        return None

    def sign(self, request, secret, now_ms):
        return []


LINES = Lines(Keys(lambda value: value or "is empty"))


def test_a_scheme_covers_the_very_bytes_unless_it_says_otherwise():
    """Then they tell one event from another."""
    assert LINES.covered(Request(b"POST", b"/", b"", {}, b"x")) is None


def line(text, key=NEW.value, signed=None):
    return b"%b %b" % (text, hmac.digest(key, text if signed is None else signed, "sha256").hex().encode())


def judge(*lines, secrets=(OLD, NEW)):
    verdict = LINES.verify(Request(b"POST", b"/", b"", {}, b"\n".join(lines)), secrets, NOW)
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ([line(b"a")], "new"),
        ([line(b"a"), line(b"b")], "new"),
        ([line(b"a", signed=b"A")], "new"),
        ([line(b"a", signed=b"c")], RejectReason.WRONG_SECRET),
        ([line(b"a"), line(b"b", signed=b"c")], RejectReason.WRONG_SECRET),
        ([line(b"a"), line(b"b", OLD.value)], RejectReason.WRONG_SECRET),
        ([line(b"a", OLD.value), line(b"b", OLD.value)], RejectReason.RETIRED_SECRET),
        ([line(b"a", b"")], RejectReason.WRONG_SECRET),
        ([], RejectReason.MALFORMED_BODY),
    ],
)
def test_every_message_must_have_its_signature_by_one_secret(lines, verdict):
    """In any of its spellings; what cannot be read is refused before any secret is tried."""
    assert judge(*lines) == verdict


def test_a_secret_that_cannot_be_a_key_matches_nothing():
    """Not even a signature made with an empty key; the operator is told what is wrong."""
    assert judge(line(b"a", b""), secrets=(Secret("empty", b""),)) is RejectReason.WRONG_SECRET
    assert judge(line(b"a"), secrets=(Secret("empty", b""), NEW)) == "new"
    assert LINES.secret_problem(b"") == "is empty"
    assert LINES.secret_problem(b"new") == ""


def test_where_one_of_several_claims_holds_the_request_does():
    """As with a signature that comes in two algorithms."""

    class Twice(Lines):
        def claimed(self, request, now_ms):
            (sha256,) = super().claimed(request, now_ms)
            return [Claimed("sha1", sha256.pairs), sha256]

    request = Request(b"POST", b"/", b"", {}, line(b"a"))
    assert Twice(Keys(lambda value: value)).verify(request, (NEW,), NOW) == Accepted("new")


def test_a_scheme_says_itself_what_it_reads_and_how_it_signs():
    """Until it does it cannot be used; where a body carries no signature it stays as it is."""
    with pytest.raises(TypeError, match="abstract"):
        KeyedVerifier(Keys(lambda value: value))
    assert LINES.sign_body(b"x", NEW, NOW) == b"x"
    assert (LINES.reads, LINES.masked, LINES.fetches, LINES.tolerance_ms) == (frozenset(), frozenset(), None, None)
    assert (LINES.needs_url, LINES.needs_body, LINES.can_sign, LINES.unverified) == (False, True, True, False)
