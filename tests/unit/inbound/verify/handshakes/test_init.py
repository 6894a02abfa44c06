"""The table of handshakes: each is whole, is found by its name, and tells strangers nothing."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.handshakes import HANDSHAKES, MAX_BYTES, HandshakeAnswer, HandshakeTerms
from sidecar.inbound.verify.presets import PRESETS
from sidecar.inbound.verify.request import Request
from tests.support.handshakes import SECRET


def test_every_handshake_says_what_it_does_and_every_preset_has_one_that_exists():
    """For the page that people read."""
    for name, handshake in HANDSHAKES.items():
        assert handshake.name == name
        assert handshake.about
        assert handshake.signed == (not handshake.methods and handshake.unsigned_head is None)
    assert {p.handshake for p in PRESETS.values()} - {None} <= set(HANDSHAKES)


@given(st.sampled_from(sorted(HANDSHAKES)), st.binary(max_size=100), st.binary(max_size=60), st.binary(max_size=40))
def test_strangers_get_nothing_but_tokens_back(name, body, query, value):
    """Whatever they send: no answer is longer than what it needs, none has a line end or a bracket."""
    keys = (b"x-hook-secret", b"x-okta-verification-challenge", b"webhook-request-origin")
    request = Request(b"POST", b"/", query, dict.fromkeys(keys, value), body)
    said = HANDSHAKES[name].respond(request, (SECRET,), HandshakeTerms(token=b"t"))
    if isinstance(said, HandshakeAnswer):
        assert len(said.body) <= MAX_BYTES
        assert b"<" not in said.body
        assert all(b"\n" not in v and b"\r" not in v for _, v in said.headers)
    assert hashlib.sha256(body)  # the body itself is only read
