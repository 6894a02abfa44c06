"""Token, Basic and none; and the one table from a scheme's name to its verifier."""

import base64
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify import schemes
from sidecar.inbound.verify.options import (
    BasicOptions,
    Ed25519Options,
    HmacOptions,
    NoneOptions,
    SchemeOptions,
    TokenOptions,
)
from sidecar.inbound.verify.request import Accepted, Rejected, Request, Secret
from sidecar.inbound.verify.schemes import SCHEMES, MissingExtra, compile_scheme
from sidecar.model import RejectReason

NOW = 1_700_000_000_000
TOKEN = compile_scheme(TokenOptions(header="X-Gitlab-Token"))
BEARER = compile_scheme(TokenOptions(header="Authorization", prefix="Bearer "))
BASIC = compile_scheme(BasicOptions())
ALL = [
    TOKEN,
    BEARER,
    BASIC,
    compile_scheme(NoneOptions(allow_unverified=True)),
    compile_scheme(HmacOptions(header="X")),
]


def judge(verifier, header, value, *secrets):
    """Token and Basic decide everything on the head."""
    r = Request(b"POST", b"/", b"", {} if value is None else {header: value})
    verdict = verifier.verify(r, secrets, NOW)
    rejected = verifier.precheck(r, secrets, NOW)
    assert rejected == (verdict if isinstance(verdict, Rejected) else None)
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (b"hunter2", "a"),
        (b"hunter3", "b"),
        (b"old", RejectReason.RETIRED_SECRET),
        (b"hunter", RejectReason.WRONG_SECRET),
        (b"HUNTER2", RejectReason.WRONG_SECRET),
        (b"hunter2 ", RejectReason.WRONG_SECRET),
        (b"\xff\xfe", RejectReason.WRONG_SECRET),
        ("hunter２".encode(), RejectReason.WRONG_SECRET),
        (b"x" * 1025, RejectReason.MALFORMED_SIGNATURE),
        (b"", RejectReason.MISSING_HEADER),
        (None, RejectReason.MISSING_HEADER),
    ],
)
def test_a_token_equals_the_whole_secret(value, verdict):
    """Bytes for bytes, with any active secret."""
    secrets = (Secret("a", b"hunter2"), Secret("b", b"hunter3"), Secret("c", b"old", not_after_ms=1), Secret("d", b""))
    assert judge(TOKEN, b"x-gitlab-token", value, *secrets) == verdict


def test_a_token_may_have_a_prefix():
    """Compared exactly; the bare token is not enough, and an empty secret never matches."""
    secret = Secret("a", b"t0ken")
    assert judge(BEARER, b"authorization", b"Bearer t0ken", secret) == "a"
    for value in (b"t0ken", b"bearer t0ken", b"Basic t0ken"):
        assert judge(BEARER, b"authorization", value, secret) is RejectReason.MALFORMED_SIGNATURE
    assert judge(BEARER, b"authorization", b"Bearer ", Secret("e", b"")) is RejectReason.WRONG_SECRET
    assert judge(BEARER, b"authorization", b"Bearer x") is RejectReason.NO_ACTIVE_SECRET


def basic(text):
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (basic(b"user:pa:ss"), "a"),
        (basic(b"user:pa:ss").replace(b"Basic", b"bAsIc"), "a"),
        (basic(b"user:pa"), RejectReason.WRONG_SECRET),
        (basic(b"user"), RejectReason.WRONG_SECRET),
        (basic(b"\xff:\xff"), RejectReason.WRONG_SECRET),
        (b"Basic dXNlcjpwYTpzcw", RejectReason.MALFORMED_SIGNATURE),
        (b"Basic  dXNlcjpwYTpzcw==", RejectReason.MALFORMED_SIGNATURE),
        (b"Basic dXNl cjpwYTpzcw==", RejectReason.MALFORMED_SIGNATURE),
        (b"Basic", RejectReason.MALFORMED_SIGNATURE),
        (b"Bearer dXNlcjpwYTpzcw==", RejectReason.MALFORMED_SIGNATURE),
        (b"Basic " + b"A" * 1024, RejectReason.MALFORMED_SIGNATURE),
        (None, RejectReason.MISSING_HEADER),
    ],
)
def test_basic_credentials_are_compared_as_a_whole(value, verdict):
    """The password may have colons; base64 is strict; the scheme's name is not."""
    assert judge(BASIC, b"authorization", value, Secret("a", b"user:pa:ss")) == verdict


def test_headers_that_show_a_secret_are_masked_and_read():
    """Displays know which; a hash header is no secret."""
    assert TOKEN.masked == TOKEN.reads == {b"x-gitlab-token"}
    assert BASIC.masked == BASIC.reads == {b"authorization"}


def test_unverified_must_be_meant():
    """``none`` accepts everything, proves nothing, signs nothing and says so."""
    with pytest.raises(ValueError, match="allow_unverified"):
        compile_scheme(NoneOptions())
    verifier = compile_scheme(NoneOptions(allow_unverified=True))
    r = Request(b"POST", b"/", b"", {})
    assert verifier.precheck(r, (), NOW) is None
    assert verifier.verify(r, (), NOW) == Accepted("")
    assert verifier.sign(r, Secret("a", b"x"), NOW) == []
    assert verifier.secret_problem(b"") == ""
    assert verifier.unverified
    assert not verifier.can_sign


def test_token_and_basic_show_the_secret_when_they_sign():
    """So that ``send`` works for them too."""
    r = Request(b"POST", b"/", b"", {})
    for verifier, value in ((TOKEN, b"t0ken"), (BEARER, b"t0ken"), (BASIC, b"user:pass")):
        secret = Secret("a", value)
        signed = Request(b"POST", b"/", b"", {n.lower(): v for n, v in verifier.sign(r, secret, NOW)})
        assert verifier.verify(signed, (secret,), NOW) == Accepted("a")
        assert verifier.tolerance_ms is None


def test_unusable_secrets_are_named():
    """Empty, not sendable, or without a colon; never quoted."""
    assert TOKEN.secret_problem(b"t0ken") == ""
    assert TOKEN.secret_problem(b"") == "is empty"
    for bad in (b"a\nb", "ü".encode(), b"\xff"):
        assert TOKEN.secret_problem(bad) == "has characters that no header carries"
    assert BASIC.secret_problem(b"user:pass") == ""
    for bad in (b"", b"user", b":pass"):
        assert BASIC.secret_problem(bad) == 'is not of the form "user:password"'


def test_the_table_has_every_scheme():
    """The tag of the options is the name in the table."""
    assert set(SCHEMES) == {str(cls.__struct_config__.tag) for cls in get_args(SchemeOptions)}
    for verifier in ALL:
        assert not verifier.needs_url


@given(
    st.sampled_from([TOKEN, BEARER, BASIC]),
    st.binary(max_size=100) | st.binary(max_size=50).map(lambda b: b"Basic " + b) | st.text().map(str.encode),
)
def test_arbitrary_bytes_are_refused_and_never_raise(verifier, value):
    """In the header that is read."""
    r = Request(b"POST", b"/", b"", dict.fromkeys(verifier.reads, value))
    secrets = (Secret("a", b"a secret that nobody: guesses"),)
    assert isinstance(verifier.verify(r, secrets, NOW), Rejected)
    assert isinstance(verifier.precheck(r, secrets, NOW), Rejected)


def test_a_scheme_with_packages_of_its_own_is_loaded_when_it_is_compiled():
    """The verifier is made of the options, by the module that the table names."""
    verifier = compile_scheme(Ed25519Options(header="X-Sig|Y-Sig", signed="{body}"))
    assert type(verifier).__module__ == "sidecar.inbound.verify.public_key"
    assert verifier.reads == {b"x-sig", b"y-sig"}


def test_a_scheme_whose_packages_are_missing_says_what_to_install(monkeypatch):
    """A value error of its own kind, for the one who starts us."""

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name}", name="cryptography")

    monkeypatch.setattr(schemes.importlib, "import_module", missing)
    with pytest.raises(MissingExtra, match=r"cryptography.*webhook-sidecar\[crypto\]"):
        compile_scheme(Ed25519Options(header="S"))
