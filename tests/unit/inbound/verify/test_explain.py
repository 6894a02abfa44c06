"""A refusal is explained to the owner: the usual rewriting is recognised, every reason has an advice."""

import json

import msgspec
import pytest

from sidecar.inbound.verify.explain import ADVICE, MAX_SUSPECT_BYTES, outline, suspect
from sidecar.inbound.verify.options import HmacOptions, TokenOptions
from sidecar.inbound.verify.request import Request, Secret
from sidecar.inbound.verify.schemes import compile_scheme
from sidecar.model import RejectReason

NOW = 1_700_000_000_000
SECRET = Secret("a", b"key")
PLAIN = compile_scheme(HmacOptions(header="S"))
URLS = compile_scheme(HmacOptions(header="S", signed="{url}{body}"))


def signed(verifier, body, url=b"https://h/in"):
    request = Request(b"POST", b"/in", b"", {}, body, url)
    request.headers = {n.lower(): v for n, v in verifier.sign(request, SECRET, NOW)}
    return request


@pytest.mark.parametrize(
    ("sent", "seen", "word"),
    [
        (b'{"a":1}', b'{"a":1}\n', "added"),
        (b'{"a":1}\n', b'{"a":1}', "lost"),
        (b"[]\r\n", b"[]", "CR LF"),
        (b"a\r\nb", b"a\nb", "became LF"),
        (b"a\nb", b"a\r\nb", "became CR LF"),
        (b"x", b"\xef\xbb\xbfx", "byte order mark"),
        (b'{"a":1,"b":"\\u00e9"}', '{"a": 1, "b": "é"}'.encode(), "written anew"),
        ('{"a": "é"}'.encode(), b'{"a":"\\u00e9"}', "written anew"),
    ],
)
def test_a_body_that_something_rewrote_is_recognised(sent, seen, word):
    """By the spelling that would have been accepted."""
    request = msgspec.structs.replace(signed(PLAIN, sent), body=seen)
    found = suspect(PLAIN, request, (SECRET,), NOW)
    assert found is not None
    assert found.reason is RejectReason.BODY_MODIFIED_SUSPECTED
    assert word in found.detail


@pytest.mark.parametrize(
    ("url", "word"),
    [(b"http://h/in", "http"), (b"https://h/in/", "slash"), (b"https://other/in", None)],
)
def test_an_address_that_is_not_the_signed_one_is_recognised(url, word):
    """Scheme and slash; another host is simply wrong."""
    request = msgspec.structs.replace(signed(URLS, b"x", url), url=b"https://h/in")
    found = suspect(URLS, request, (SECRET,), NOW)
    assert (found is None) if word is None else (word in found.detail)
    back = msgspec.structs.replace(signed(URLS, b"x", b"https://h/in"), url=b"http://h/in/")
    assert suspect(URLS, back, (SECRET,), NOW) is None


def test_nothing_is_suspected_where_nothing_explains_it():
    """A wrong secret, and a body that is too large to try."""
    request = signed(PLAIN, b"x")
    assert suspect(PLAIN, request, (Secret("b", b"other"),), NOW) is None
    assert (
        suspect(PLAIN, msgspec.structs.replace(request, body=b"x" * MAX_SUSPECT_BYTES + b"\n"), (SECRET,), NOW) is None
    )
    assert suspect(URLS, msgspec.structs.replace(request, url=None), (SECRET,), NOW) is None
    assert suspect(PLAIN, msgspec.structs.replace(request, body=b'{"a": "other JSON"}'), (SECRET,), NOW) is None
    nested = b"[" * 50_000
    assert suspect(PLAIN, msgspec.structs.replace(request, body=nested), (SECRET,), NOW) is None
    assert suspect(PLAIN, msgspec.structs.replace(request, body=b"\xff"), (SECRET,), NOW) is None


def test_the_outline_shows_what_was_signed_and_what_each_secret_makes_of_it():
    """The body as its length and digest, not as itself."""
    request = signed(URLS, json.dumps({"secret": "of the body"}).encode())
    lines = outline(URLS, request, (SECRET, Secret("old", b"x", not_after_ms=1)), NOW)
    assert lines[0].startswith("signed: 'https://h/in' + <body: 25 bytes, SHA-256 ")
    assert "of the body" not in "".join(lines)
    assert lines[1] == f"got: s: {request.headers[b's'].decode()}"
    assert lines[2] == f"expected with secret a: {request.headers[b's'].decode()}"
    assert lines[3].endswith("(not active)")
    after = compile_scheme(HmacOptions(header="S", signed="{body}{url}"))
    assert "> + 'https://h/in'" in outline(after, signed(after, b"x"), (), NOW)[0]
    assert outline(PLAIN, signed(PLAIN, b""), (), NOW)[0] == "signed:   (0 bytes)"
    assert outline(compile_scheme(TokenOptions(header="T")), request, (SECRET,), NOW) == []


def test_the_outline_names_a_signed_header_that_did_not_arrive():
    """Without it nobody can say what was signed."""
    verifier = compile_scheme(HmacOptions(header="S", signed="{header:Id}.{header:At}.{body}"))
    request = Request(b"POST", b"/in", b"", {b"s": b"00", b"at": b"1"}, b"x")
    assert outline(verifier, request, (SECRET,), NOW) == ["missing, and signed: id", "got: s: 00"]


def test_only_the_provider_can_say_what_its_own_key_would_make():
    """There is no expected line for public keys."""
    from sidecar.inbound.verify.options import Ed25519Options

    verifier = compile_scheme(Ed25519Options(header="S", signed="{body}"))
    lines = outline(verifier, Request(b"POST", b"/", b"", {b"s": b"00"}, b"x"), (SECRET,), NOW)
    assert [line.partition(":")[0] for line in lines] == ["signed", "got"]


def test_every_reason_has_an_advice():
    """A new one needs a word as well."""
    assert set(ADVICE) == set(RejectReason)
