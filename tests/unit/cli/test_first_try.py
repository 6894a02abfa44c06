"""The line to paste: it is signed, it can be pasted twice, and it never shows a secret."""

from __future__ import annotations

import shlex

import pytest

from sidecar.cli.first_try import paste_line
from sidecar.inbound.source import SourceOptions
from sidecar.inbound.verify import PRESETS, Accepted, Request, Secret, compile_scheme
from sidecar.inbound.verify.options import TokenOptions
from tests.support.providers import secret_of, verifier_of

NOW_MS = 1_795_000_000_000
SECRET = Secret("1", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def source(preset: str = "github", **more) -> SourceOptions:
    return SourceOptions(
        name=preset,
        path=f"/webhooks/{preset}".encode(),
        verifier=more.pop("verifier", None) or compile_scheme(PRESETS[preset].scheme),
        destinations=("echo",),
        secrets=more.pop("secrets", (SECRET,)),
        preset=preset,
        **more,
    )


def parts(line: str) -> tuple[str, dict[bytes, bytes], bytes]:
    """URL, headers by lower-case name and body of the command."""
    words = shlex.split(line)
    assert words[0] == "curl"
    headers = dict(w.split(": ", 1) for i, w in enumerate(words) if words[i - 1] == "-H")
    body = words[words.index("--data-binary") + 1].encode()
    url = next(w for w in words if w.startswith("http://"))
    return url, {n.lower().encode(): v.encode() for n, v in headers.items()}, body


SHOWN = [name for name in PRESETS if verifier_of(name).can_sign and not verifier_of(name).masked]


def tried(name: str) -> SourceOptions:
    """A source of this preset with everything it needs."""
    return source(name, verifier=verifier_of(name), secrets=(secret_of(name),), public_url=b"https://hooks.example.com")


@pytest.mark.parametrize("preset", SHOWN)
def test_the_line_is_a_webhook_that_the_source_accepts(preset):
    made = tried(preset)
    line = paste_line("0.0.0.0:8787", [made], "abc123", NOW_MS)
    assert line is not None
    url, headers, body = parts(line)
    assert url == f"http://127.0.0.1:8787/webhooks/{preset}"
    public = b"https://hooks.example.com" + made.path
    request = Request(method=b"POST", path=made.path, query=b"", headers=headers, body=body, url=public)
    assert isinstance(made.verifier.verify(request, made.secrets, NOW_MS), Accepted)
    assert secret_of(preset).value.decode().removeprefix("whsec_") not in line


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - set(SHOWN)))
def test_where_only_the_provider_can_sign_or_the_secret_would_show_there_is_no_line(preset):
    assert paste_line("0.0.0.0:8787", [tried(preset)], "abc123", NOW_MS) is None


def test_the_same_id_makes_the_same_line():
    """So the second paste is a duplicate."""
    assert paste_line("127.0.0.1:1", [source()], "a", NOW_MS) == paste_line("127.0.0.1:1", [source()], "a", NOW_MS)
    assert paste_line("127.0.0.1:1", [source()], "a", NOW_MS) != paste_line("127.0.0.1:1", [source()], "b", NOW_MS)


@pytest.mark.parametrize(
    ("listen", "where"),
    [
        ("0.0.0.0:8787", "http://127.0.0.1:8787/webhooks/github"),
        ("[::]:8787", "http://[::1]:8787/webhooks/github"),
        ("192.0.2.1:80", "http://192.0.2.1:80/webhooks/github"),
        ("unix:/run/hooks.sock", "--unix-socket /run/hooks.sock http://localhost/webhooks/github"),
    ],
)
def test_the_line_goes_where_webhooks_are_taken(listen, where):
    line = paste_line(listen, [source()], "a", NOW_MS)
    assert line is not None
    assert where in " ".join(shlex.split(line))


@pytest.mark.parametrize(
    "passed_over",
    [
        source(verifier=compile_scheme(TokenOptions(header="X-Token"))),  # its header is the secret
        source(secrets=()),
        source(secrets=(Secret("old", b"x", not_after_ms=NOW_MS - 1),)),
        source(methods=frozenset({b"PUT"})),
    ],
    ids=["token", "no secret", "retired secret", "no POST"],
)
def test_a_source_that_cannot_be_shown_is_passed_over(passed_over):
    assert paste_line("127.0.0.1:1", [passed_over], "a", NOW_MS) is None
    line = paste_line("127.0.0.1:1", [passed_over, source("stripe")], "a", NOW_MS)
    assert line is not None
    assert "/webhooks/stripe" in line


def test_a_source_without_a_preset_has_no_sample_to_send():
    spelled_out = SourceOptions(
        name="x",
        path=b"/x",
        verifier=compile_scheme(PRESETS["github"].scheme),
        destinations=(),
        secrets=(SECRET,),
    )
    assert paste_line("127.0.0.1:1", [spelled_out], "a", NOW_MS) is None
