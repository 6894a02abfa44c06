"""What the schemes share: how headers are looked up and why nothing matched."""

from sidecar.inbound.verify import verdicts
from sidecar.inbound.verify.request import Rejected, Request, Secret
from sidecar.inbound.verify.verdicts import first_value, no_match, present_name
from sidecar.model import RejectReason


def request(**headers):
    return Request(b"POST", b"/", b"", {k.encode(): v for k, v in headers.items()})


def test_an_empty_header_is_none():
    """The next name gets its turn; nothing at all is empty."""
    assert first_value(request(a=b"", b=b"2"), (b"a", b"b")) == b"2"
    assert first_value(request(a=b"1", b=b"2"), (b"a", b"b")) == b"1"
    assert first_value(request(), (b"a",)) == b""


def test_the_name_that_a_request_uses_is_kept():
    """Else the first one is written."""
    assert present_name(request(b=b"2"), ("A", "B")) == b"B"
    assert present_name(request(), ("A", "B")) == b"A"


def test_why_nothing_matched_is_told_apart():
    """A retired match, no active secret at all, a wrong one."""
    old, now = Secret("old", b"x", not_after_ms=10), Secret("now", b"y")
    assert no_match([old, now], True, 20).reason is RejectReason.RETIRED_SECRET
    assert no_match([old], False, 20).reason is RejectReason.NO_ACTIVE_SECRET
    assert no_match([], False, 20).reason is RejectReason.NO_ACTIVE_SECRET
    assert no_match([old, now], False, 20).reason is RejectReason.WRONG_SECRET


def test_the_fixed_verdicts_have_the_reasons_that_their_names_say():
    """Metrics, log and advice follow the reason."""
    assert {
        name: getattr(verdicts, name).reason
        for name in verdicts.__all__
        if isinstance(getattr(verdicts, name), Rejected)
    } == {
        "MISSING": RejectReason.MISSING_HEADER,
        "MALFORMED": RejectReason.MALFORMED_SIGNATURE,
        "UNSUPPORTED": RejectReason.UNSUPPORTED_VERSION,
        "TOO_MANY": RejectReason.TOO_MANY_SIGNATURES,
        "TWICE": RejectReason.MALFORMED_SIGNATURE,
        "MALFORMED_BODY": RejectReason.MALFORMED_BODY,
        "MISSING_FIELD": RejectReason.MISSING_SIGNATURE,
        "UNCOVERED_BODY": RejectReason.BODY_NOT_COVERED,
        "NO_URL": RejectReason.MISSING_HEADER,
    }
    assert verdicts.MAX_ENTRY_BYTES == 1024
