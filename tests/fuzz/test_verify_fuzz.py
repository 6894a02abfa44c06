"""What strangers can send to every preset: accepted or refused with a reason, soon, and never by a changed byte."""

from __future__ import annotations

import hmac
import os
import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.inbound.verify import HANDSHAKES, PRESETS, Accepted, HandshakeTerms, Rejected, Request, Secret
from sidecar.inbound.verify.explain import suspect
from tests.support.providers import ELSEWHERE, Made, make, secret_of, verifier_of

NOW = 1_800_000_000_000
MADE = {name: make(name, NOW) for name in sorted(set(PRESETS) - ELSEWHERE)}
ALL = {name: (MADE[name].verifier if name in MADE else verifier_of(name)) for name in sorted(PRESETS)}
UNCOVERED = {"gitlab", "okta", "auth0", "telegram", "postmark", "chargebee", "mercadopago"}
PARTLY = {"mailgun", "adyen", "braintree"}
"""Only some fields of their bodies are signed; their own tests know which."""

many = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def judge(made: Made, *, secrets: tuple[Secret, ...] | None = None, now_ms: int = NOW, **changes: Any) -> Any:
    """Head first, then the whole, as the receiver does; a head that is refused is refused as a whole too."""
    request = msgspec.structs.replace(made.request, parsed=None, **changes)
    asked = made.secrets if secrets is None else secrets
    rejected = made.verifier.precheck(request, asked, now_ms)
    verdict = made.verifier.verify(request, asked, now_ms)
    assert rejected is None or isinstance(verdict, Rejected)
    return verdict


def flipped(text: bytes, at: int, by: int) -> bytes:
    at %= len(text)
    return text[:at] + bytes((text[at] ^ by,)) + text[at + 1 :]


@pytest.mark.parametrize("name", sorted(set(MADE) - UNCOVERED - PARTLY))
@settings(max_examples=25, deadline=None)
@given(at=st.integers(0, 1 << 20), by=st.integers(1, 255))
def test_any_changed_byte_of_the_body_is_refused(name: str, at: int, by: int) -> None:
    made = MADE[name]
    changed = flipped(made.body, at, by)
    if name == "twilio" and changed.split(b"&") != made.body.split(b"&"):
        from sidecar.inbound.verify.form import parse_form

        if sorted(parse_form(changed) or ()) == sorted(parse_form(made.body) or ()):
            return  # another spelling of the same fields, which are what is signed
    assert not isinstance(judge(made, body=changed), Accepted)


def test_what_is_not_changed_is_accepted() -> None:
    """Else the test above would prove nothing."""
    for name, made in MADE.items():
        assert isinstance(judge(made), Accepted), name


@pytest.mark.parametrize("name", sorted(set(MADE) - PARTLY))
@settings(max_examples=25, deadline=None)
@given(at=st.integers(0, 1 << 20), by=st.integers(1, 255), which=st.integers(0, 9))
def test_any_changed_byte_of_a_header_that_counts_is_refused(name: str, at: int, by: int, which: int) -> None:
    """Signature, timestamp and id; but for the case of hex digits and of scheme names, which do not count."""
    made = MADE[name]
    counting = sorted(header for header in made.verifier.reads if made.headers.get(header))
    header = counting[which % len(counting)]
    old = made.headers[header]
    new = flipped(old, at, by)
    if new.lower() == old.lower() or (b"," in old and new.replace(b" ", b"") == old.replace(b" ", b"")):
        return
    verdict = judge(made, headers={**made.headers, header: new})
    if name == "pusher" and header == b"x-pusher-key":
        assert isinstance(verdict, Rejected)
    assert not isinstance(verdict, Accepted), (header, old, new)


@many
@given(
    name=st.sampled_from(sorted(ALL)),
    values=st.lists(
        st.binary(max_size=60)
        | st.sampled_from([b"", b"=", b",", b"v1=", b"v1,", b"t=1,t=2", b"\xff\xfe", b"v0=" + b"0" * 64, b"x" * 5000]),
        min_size=1,
        max_size=4,
    ),
    body=st.binary(max_size=200) | st.sampled_from([b"{}", b"[]", b"null", b'{"a":', b"a=1&a=2", b"[" * 500]),
    content_type=st.sampled_from([b"", b"application/json", b"application/x-www-form-urlencoded"]),
    query=st.binary(max_size=40),
)
def test_nothing_that_a_stranger_sends_raises_or_is_accepted(
    name: str, values: list[bytes], body: bytes, content_type: bytes, query: bytes
) -> None:
    """In every header that is read, in the body, in the query; also where somebody looks for a reason."""
    verifier = ALL[name]
    headers = {header: values[n % len(values)] for n, header in enumerate(sorted(verifier.reads))}
    headers[b"content-type"] = content_type
    request = Request(b"POST", b"/in", query, headers, body, b"https://h.example/in")
    secrets = (secret_of(name),) if name not in ELSEWHERE else ()
    rejected = verifier.precheck(request, secrets, NOW)
    verdict = verifier.verify(request, secrets, NOW)
    assert isinstance(verdict, Rejected)
    assert verdict.reason
    assert rejected is None or isinstance(rejected, Rejected)
    assert suspect(verifier, msgspec.structs.replace(request, parsed=None), secrets, NOW) is None
    for handshake in HANDSHAKES.values():
        handshake.respond(request, secrets, HandshakeTerms(verifier, b"t"))


@pytest.mark.parametrize("name", sorted(MADE))
@settings(max_examples=5, deadline=None)
@given(before=st.integers(0, 4), after=st.integers(0, 4))
def test_all_secrets_are_tried(name: str, before: int, after: int) -> None:
    """Wherever the right one stands; the others are of the right form."""
    made = MADE[name]
    wrong = {"adyen": b"00" * 32, "adyen-platform": b"00" * 32}.get(name, b"whsec_AAAA")
    others = [Secret(f"o{n}", wrong) for n in range(before + after)]
    verdict = judge(made, secrets=(*others[:before], *made.secrets, *others[before:]))
    assert verdict == Accepted(made.secrets[0].id)


LISTS = {
    "stripe": (b"stripe-signature", b",v1=" + b"0" * 64),
    "mux": (b"mux-signature", b",v1=" + b"0" * 64),
    "paddle": (b"paddle-signature", b";h1=" + b"0" * 64),
    "pagerduty": (b"x-pagerduty-signature", b",v1=" + b"0" * 64),
    "svix": (b"svix-signature", b" v1," + b"A" * 43 + b"="),
    "standard-webhooks": (b"webhook-signature", b" v1,junk v2," + b"A" * 43 + b"="),
    "standard-webhooks-ed25519": (b"webhook-signature", b" v1," + b"A" * 43 + b"="),
}


@pytest.mark.parametrize("name", sorted(LISTS))
def test_all_listed_signatures_are_tried_in_any_order(name: str) -> None:
    """Wrong, malformed and unknown ones beside the right one do no harm; too many are refused unread."""
    made = MADE[name]
    header, more = LISTS[name]
    value = made.headers[header]
    separator = more[:1]
    turned = separator.join(reversed((value + more).split(separator)))
    for listed in (value + more, turned, value + more * 3):
        assert isinstance(judge(made, headers={**made.headers, header: listed}), Accepted), listed
    flood = judge(made, headers={**made.headers, header: value + more * 9})
    assert flood.reason in {"too_many_signatures", "malformed_signature"}


def test_numbered_headers_are_all_tried() -> None:
    """DocuSign has one for each key."""
    made = MADE["docusign"]
    (signature,) = (v for k, v in made.headers.items() if k.startswith(b"x-docusign"))
    wrong = b"A" * 43 + b"="
    headers = {b"x-docusign-signature-%d" % n: wrong for n in range(1, 100)} | {b"x-docusign-signature-100": signature}
    assert isinstance(judge(made, headers=headers), Accepted)


@pytest.mark.parametrize("name", sorted(set(MADE) - {"discord", "telnyx", "sendgrid", "standard-webhooks-ed25519"}))
def test_secrets_and_signatures_are_compared_in_constant_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole values by ``compare_digest``, also when the first byte already differs."""
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def recording(a: Any, b: Any) -> bool:
        compared.append((len(a), len(b)))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", recording)
    made = MADE[name]
    wrong = {"adyen": b"00" * 32, "adyen-platform": b"00" * 32, "rfc9421": b"AAAA"}.get(name, b"whsec_AAAA")
    assert isinstance(judge(made, secrets=(Secret(made.secrets[0].id, wrong),)), Rejected)
    assert compared, "nothing was compared"
    kind = type(PRESETS[name].scheme).__struct_config__.tag
    assert kind in {"token", "basic"} or all(a == b for a, b in compared)


HOSTILE = {
    "brackets": b"[" * 65_536,
    "objects": b'{"a":' * 13_000,
    "commas": b"[" + b"1," * 32_000 + b"1]",
    "names": b"{" + b",".join(b'"a%d":1' % n for n in range(6_000)) + b"}",
    "escapes": b'{"a":"' + b"\\u0041" * 10_000 + b'"}',
    "fields": b"&".join(b"a%d=%%41" % n for n in range(900)) + b"&x=" + b"%41" * 18_000,
    "lines": b"\r\n" * 32_768,
    "digits": b"1" * 65_536,
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
@pytest.mark.parametrize("name", sorted(ALL))
def test_a_verdict_takes_less_than_a_millisecond_for_a_kibibyte(name: str, kind: str) -> None:
    """CPU time of the best of three: bodies made to be slow to read, before anything is proven."""
    verifier, body = ALL[name], HOSTILE[kind]
    headers = dict(MADE[name].headers) if name in MADE else {}
    for content_type in (b"application/json", b"application/x-www-form-urlencoded"):
        request = Request(
            b"POST", b"/in", b"", {**headers, b"content-type": content_type}, body, b"https://h.example/in"
        )
        best_s = min(spent_s(verifier, request, name) for _ in range(3))
        assert best_s < 0.001 * len(body) / 1024, f"{best_s * 1000:.1f} ms"


def spent_s(verifier: Any, request: Request, name: str) -> float:
    secrets = (secret_of(name),) if name not in ELSEWHERE else ()
    request.parsed = None
    started_s = time.thread_time()
    verifier.precheck(request, secrets, NOW)
    verifier.verify(request, secrets, NOW)
    return time.thread_time() - started_s
