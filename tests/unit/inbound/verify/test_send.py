"""A made request has what its provider's has, and further headers take part in the signature."""

from sidecar.inbound.verify.options import BraintreeOptions, HmacOptions, NoneOptions
from sidecar.inbound.verify.presets import PRESETS
from sidecar.inbound.verify.request import Accepted, Request, Secret
from sidecar.inbound.verify.schemes import compile_scheme
from sidecar.inbound.verify.send import sample_body, sign_request, signed_body

NOW = 1_700_000_000_000
SECRET = Secret("1", b"key")


def test_the_sample_has_an_id_of_its_own():
    """The same id again is the same event."""
    assert b'"id":"evt_77"' in sample_body(PRESETS["stripe"], "77")


def test_a_signature_that_belongs_into_the_body_is_put_there():
    """And any other body stays as it is."""
    form = signed_body(compile_scheme(BraintreeOptions(public_key="ours")), b"<xml/>", SECRET, NOW)
    assert form.startswith(b"bt_signature=ours%7C")
    assert signed_body(compile_scheme(HmacOptions(header="S")), b"<xml/>", SECRET, NOW) == b"<xml/>"


def test_constant_and_unique_headers_are_there():
    """As GitHub sends them."""
    preset = PRESETS["github"]
    headers = dict(sign_request(compile_scheme(preset.scheme), SECRET, b"{}", NOW, preset=preset, unique_id="7"))
    assert headers[b"Content-Type"] == b"application/json"
    assert headers[b"X-GitHub-Delivery"] == b"7"
    assert headers[b"X-GitHub-Event"] == b"ping"
    assert headers[b"X-Hub-Signature-256"].startswith(b"sha256=")


def test_further_headers_replace_the_presets_and_are_signed():
    """Whatever case they are written in."""
    preset = PRESETS["standard-webhooks"]
    verifier = compile_scheme(preset.scheme)
    secret = Secret("1", b"whsec_a2V5")
    headers = sign_request(verifier, secret, b"{}", NOW, preset=preset, unique_id="7", extra=[("Webhook-Id", "mine")])
    lower = {k.lower(): v for k, v in headers}
    assert len(lower) == len(headers)
    assert lower[b"webhook-id"] == b"mine"
    assert verifier.verify(Request(b"POST", b"/", b"", lower, b"{}"), (secret,), NOW) == Accepted("1")


def test_method_path_query_and_url_are_signed_where_the_scheme_says_so():
    """A source of one's own needs no preset."""
    verifier = compile_scheme(HmacOptions(header="S", signed="{method} {path}?{query} {url} {body}"))
    where = {"path": b"/p", "query": b"q=1", "url": b"https://h/p?q=1"}
    headers = dict(sign_request(verifier, SECRET, b"x", NOW, method="PUT", **where))
    r = Request(b"PUT", b"/p", b"q=1", {b"s": headers[b"S"]}, b"x", b"https://h/p?q=1")
    assert verifier.verify(r, (SECRET,), NOW) == Accepted("1")


def test_where_nothing_can_be_signed_the_rest_is_made_all_the_same():
    """An unverified source still gets a body type."""
    verifier = compile_scheme(NoneOptions(allow_unverified=True))
    assert sign_request(verifier, SECRET, b"x", NOW) == [(b"Content-Type", b"application/json")]
