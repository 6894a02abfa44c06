"""What handshakes are made of: a small body is read, a challenge is echoed only when it has the shape of one."""

import pytest

from sidecar.inbound.verify.handshakes.handshake import (
    BRAINTREE_CHALLENGE,
    MAX_BYTES,
    Handshake,
    HandshakeAnswer,
    echo,
    field,
    json_answer,
)
from sidecar.inbound.verify.request import Request

SNIFFED_AS_NOTHING_ELSE = ((b"X-Content-Type-Options", b"nosniff"),)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"challenge":"abc"}', "abc"),
        (b'{"challenge":7}', 7),
        (b'{"other":"abc"}', None),
        (b'{"a":{"challenge":"abc"}}', None),
        (b"challenge=abc", None),
        (b"", None),
        (b'{"challenge":"abc"}' + b" " * (MAX_BYTES - 19), "abc"),
        (b'{"challenge":"abc"}' + b" " * (MAX_BYTES - 18), None),
    ],
)
def test_a_member_is_read_from_a_body_of_at_most_8_kib(body, value):
    """Whatever is no JSON, or larger than any handshake, has no members."""
    assert field(Request(b"POST", b"/", b"", {}, body), "challenge") == value


@pytest.mark.parametrize("text", ["a", "x" * 512, "azAZ09_+/=.~:-", "12:34"])
def test_a_challenge_comes_back_as_text(text):
    """That no browser takes for anything else."""
    assert echo(text) == HandshakeAnswer(text.encode(), b"text/plain", SNIFFED_AS_NOTHING_ELSE)


@pytest.mark.parametrize("text", ["", "x" * 513, "<b>", "a b", "a\n", 'a"b', "{}", "é", 7, None, ["a"]])
def test_what_is_not_shaped_like_a_challenge_is_not_echoed(text):
    """So nobody gets a page or a body of his own from us."""
    assert echo(text) is None


def test_members_are_answered_as_json():
    """Escaped, whatever they hold."""
    answer = json_answer(a='<"é', b=1)
    assert (answer.body, answer.content_type) == (b'{"a":"<\\"\\u00e9","b":1}', b"application/json")
    assert answer.headers == SNIFFED_AS_NOTHING_ELSE


def test_a_handshake_is_signed_and_comes_like_a_webhook_unless_it_says_otherwise():
    """The careful choice; and an answer keeps nothing and calls nobody."""
    plain = Handshake(name="x", respond=lambda request, secrets, terms: None)
    assert (plain.signed, plain.methods, plain.unsigned_head, plain.signs) == (True, (), None, None)
    answer = HandshakeAnswer(b"")
    assert (answer.status, answer.learned, answer.confirm) == (200, b"", "")


@pytest.mark.parametrize(
    ("text", "matches"),
    [(b"0" * 20, True), (b"f" * 32, True), (b"0" * 19, False), (b"0" * 33, False), (b"F" * 20, False)],
)
def test_what_braintree_gets_signed_has_one_shape(text, matches):
    """Its verifier refuses a payload of that shape."""
    assert bool(BRAINTREE_CHALLENGE.fullmatch(text)) is matches
