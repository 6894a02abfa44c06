"""A source prepares what a request needs, and its mistakes show when it is made."""

import msgspec
import pytest

from sidecar.inbound.dedup import DedupOptions
from sidecar.inbound.forwarded import Forwarded
from sidecar.inbound.source import Source, SourceOptions
from sidecar.inbound.verify import (
    Handshake,
    HandshakeTerms,
    HmacOptions,
    JwtOptions,
    Secret,
    compile_scheme,
)
from sidecar.inbound.verify.options import AdyenOptions
from sidecar.model import ACK_DEFAULT
from tests.support.receiving import OPEN, head

PLAIN = compile_scheme(HmacOptions(header="X-Sig"))
URL = compile_scheme(HmacOptions(header="X-Sig", signed="{url}{body}"))
FORWARDED = Forwarded(b"", b"https", b"h.example")


def source(**more):
    return Source(SourceOptions(**{"name": "s", "path": b"/in", "verifier": PLAIN, "destinations": ("app",), **more}))


def test_what_is_configured_is_at_hand():
    """What a request needs of it, as it was given, and for handshakes what they may be about."""
    handshake = Handshake(name="h", respond=lambda _request, _secrets, _terms: None)
    options = SourceOptions(
        name="s",
        path=b"/in",
        verifier=PLAIN,
        destinations=("app",),
        secrets=(Secret("a", b"x"),),
        dedup=DedupOptions(key="body"),
        handshake=handshake,
        handshake_token=b"token",
        handshake_allow=frozenset({"topic"}),
    )
    made = Source(options)
    assert (made.options, made.name, made.verifier) == (options, "s", PLAIN)
    assert (made.secrets, made.dedup, made.handshake) == (options.secrets, options.dedup, handshake)
    assert made.terms == HandshakeTerms(PLAIN, b"token", frozenset({"topic"}))


def test_a_source_knows_whether_its_keys_come_from_the_network():
    """Then a request may have to wait for one."""
    jwt = compile_scheme(JwtOptions(header="T", algorithm="RS256", jwks_url="https://k/jwks"))
    assert source(verifier=jwt).fetches
    assert not source().fetches


def test_what_is_covered_of_a_body_is_asked_of_the_scheme():
    """Where it can say so; else there is nobody to ask."""
    adyen = compile_scheme(AdyenOptions())
    assert source(verifier=adyen).covered == adyen.covered
    assert source().covered is None


def test_all_headers_that_count_are_known():
    """Those of the scheme, of the key, and the content type."""
    assert source(dedup=DedupOptions(key="header:X-Id")).reads == {b"x-sig", b"x-id", b"content-type"}


def test_the_media_type_of_a_request_is_compared_without_its_parameters():
    """Where the source names one; else any will do, and none."""
    for value, taken in ((b"Application/JSON ; charset=utf-8", True), (b"text/plain", False), (b"", False)):
        sent = head(headers=[(b"Content-Type", value)])
        assert source(content_type=b"application/json").takes(sent) is taken
        assert source().takes(sent)
    assert not source(content_type=b"application/json").takes(head())


def test_a_handshakes_methods_are_allowed_besides():
    """Its own ones are told apart from the source's."""
    handshake = Handshake(name="h", respond=lambda _request, _secrets, _terms: None, methods=("GET", "POST"))
    made = source(handshake=handshake)
    assert made.handshake_methods == {b"GET"}
    assert made.allow == b"GET, POST"
    assert source().allow == b"POST"


def test_the_url_is_made_only_where_it_is_signed():
    """From the public URL, else from what the proxy or the connection said; the raw target is appended."""
    assert source().url(FORWARDED, b"/in", b"") is None
    assert source(verifier=URL).url(FORWARDED, b"/in", b"") == b"https://h.example/in"
    made = source(verifier=URL, public_url=b"https://public.example/base/")
    assert made.url(FORWARDED, b"/in", b"a=%20") == b"https://public.example/base/in?a=%20"


@pytest.mark.parametrize("more", [{"dedup": DedupOptions(key="x")}, {"public_url": b"public"}])
def test_mistakes_are_value_errors(more):
    """Before anything is swapped."""
    with pytest.raises(ValueError):
        source(**more)


def test_a_pinned_type_is_compared_in_lower_case():
    """Types are case-insensitive."""
    assert source(content_type=b"Application/JSON").content_type == b"application/json"
    assert source().content_type is None


def test_options_have_contract_defaults():
    """POST, 1 MiB, no dedup, the JSON ack, any body, no token for handshakes."""
    made = SourceOptions(name="a", path=b"/a", verifier=OPEN["verifier"], destinations=())
    assert (made.methods, made.max_body, made.dedup.key, made.ack) == ({b"POST"}, 1 << 20, "none", ACK_DEFAULT)
    assert (made.allow_empty, made.handshake_token, made.preset) == (True, b"", "")
    with pytest.raises(AttributeError):
        made.name = "b"
    assert msgspec.structs.replace(made, name="b").name == "b"
