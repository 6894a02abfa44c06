"""Everything the text alone decides is judged, and all of it at once."""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec
import pytest

from sidecar.config import verification as verification_module
from sidecar.config.check import Checked, check, key_is_signed, max_body_of
from sidecar.config.problems import CODES, Problems
from sidecar.config.schema import Config, Source
from sidecar.config.verification import Verification
from sidecar.inbound.verify import PRESETS, HmacOptions, TokenOptions, compile_scheme

GOOD = """
[sources.orders]
path = "/orders"
verify = "github"
secrets = [{ env = "A" }]
destinations = ["app"]
[destinations.app]
url = "http://app:3000/"
"""


def judge(text: str, unknown: list[tuple[str | int, ...]] | None = None) -> tuple[Checked, list[str]]:
    problems = Problems(unknown or [])
    checked = check(tomllib.loads(text), problems)
    assert all(p.code in CODES for p in problems.found)
    return checked, [f"{p.code} {'.'.join(map(str, p.path))}: {p.text}" for p in problems.found]


def only(text: str) -> str:
    problems = judge(text)[1]
    assert len(problems) == 1, problems
    return problems[0]


def source(**changes: str) -> str:
    """The good configuration with keys of its source replaced by TOML texts; "" leaves one out."""
    keys = {"path": '"/orders"', "verify": '"github"', "secrets": '[{ env = "A" }]', "destinations": '["app"]'}
    lines = [f"{k} = {v}" for k, v in (keys | changes).items() if v]
    return "[sources.orders]\n" + "\n".join(lines) + '\n[destinations.app]\nurl = "http://app:3000/"\n'


def test_a_good_configuration_has_no_problem_and_no_warning() -> None:
    checked, problems = judge(GOOD)
    assert problems == []
    assert checked.warnings == []
    assert checked.verifications["orders"].preset is PRESETS["github"]


def test_all_problems_come_at_once() -> None:
    text = """
    servr = 1
    [server]
    listen = "x"
    [sources.Bad]
    path = "/{a}"
    verify = "githb"
    destinations = []
    [destinations.app]
    url = "app"
    """
    codes = {line.split()[0] for line in judge(text)[1]}
    assert codes == {"C101", "C124", "C110", "C128", "C140", "C132", "C120"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (source(destinations='["ap"]'), 'C131 sources.orders.destinations.0: got "ap"; expected the name of a destination; did you mean "app"?'),
        (source(destinations='["app", "app"]'), "C133 sources.orders.destinations.1"),
        (source(destinations="[]"), "C132 sources.orders.destinations: got an empty array; expected at least one"),
        (source(destinations=""), "C102 sources.orders.destinations: missing"),
        (source(destinations="[5]"), "C103 sources.orders.destinations.0"),
        (source(path='"/a{b}"'), "C128 sources.orders.path"),
        (source(methods="[]"), "C129 sources.orders.methods"),
        (source(secrets=""), "C145 sources.orders.secrets: missing"),
        (source(secrets='[{ value = "" }]'), 'C145 sources.orders.secrets.0.value: got an empty string, ""'),
        (source(secrets='[{ env = "A", file = "b" }]'), "C144 sources.orders.secrets.0: got env and file; expected exactly one"),
        (source(secrets='[{ id = "a" }]'), "C144 sources.orders.secrets.0: got none of them"),
        (source(secrets='[{ env = "a b" }]'), "C144 sources.orders.secrets.0.env: got a string (not shown)"),
        (source(secrets='[{ env = "A", id = "2" }, { env = "B" }]'), 'C148 sources.orders.secrets.1.id: got "2"'),
        (source(secrets='[{ env = "A", not_after = 2026-01-01T00:00:00 }]'), "C149 sources.orders.secrets.0.not_after"),
        (source(secrets='[{ env = "A", not_before = 2026-01-01T00:00:00 }]'), "C149 sources.orders.secrets.0.not_before"),
        (
            source(secrets='[{ env = "A", not_before = 2026-01-02T00:00:00Z, not_after = 2026-01-01T00:00:00Z }]'),
            "C149 sources.orders.secrets.0.not_after: got 2026-01-01",
        ),
        (source(verify='{ scheme = "hmac", header = "X", signed = "{url}" }'), "C143 sources.orders.public_url: missing"),
        (source(dedup='{ key = "header:A|" }'), "C150 sources.orders.dedup.key"),
        (source(dedup='{ key = "id" }'), "C150 sources.orders.dedup.key"),
        (source(ack="{ status = 300 }"), "C151 sources.orders.ack.status: got 300; expected 200 to 299"),
        (source(ack='{ status = 204, body = "x" }'), "C151 sources.orders.ack.body"),
        (source(max_body='"18014398509481984KiB"'), "C122 sources.orders.max_body"),
        (source(max_body='"40MiB"'), 'C160 server.max_buffered: got "64MiB"; expected at least twice the largest max_body (of sources.orders, 40MiB): 80MiB'),
        (GOOD + '[journal]\nmax_size = "16MiB"', "C160 journal.max_size"),
        (GOOD + '[dead_letters]\nmax_size = "1MiB"', "C160 dead_letters.max_size"),
        ('[server]\nmax_buffered = "1MiB"', 'C160 server.max_buffered: got "1MiB"; expected at least twice the largest max_body (server.max_body, 1MiB): 2MiB'),
        (GOOD + '[journal]\nmax_size = "15MiB"', "C122 journal.max_size"),
        (GOOD + '[sources.other]\npath = "/orders"\nverify = "github"\nsecrets = [{ env = "A" }]\ndestinations = ["app"]', "C130 sources.other.path: sources.orders has the same path"),
        (GOOD + '[admin]\nlisten = "0.0.0.0:8787"', "C124 admin.listen"),
        (GOOD + "[admin]\ntoken = {}", "C144 admin.token"),
        (GOOD + 'headers = { Host = "x" }', "C127 destinations.app.headers.Host"),
        (GOOD + 'headers = { "a b" = "x" }', "C127 destinations.app.headers.a b"),
        (GOOD + 'headers = { X = "a\\nb" }', "C127 destinations.app.headers.X: got a string (not shown)"),
        (GOOD + 'headers = { X = "a", x = "b" }', "C133 destinations.app.headers.x"),
        (GOOD + "headers = { X = {} }", "C144 destinations.app.headers.X"),
        (GOOD + 'retry = { base = "1h", max_delay = "1s" }', "C121 destinations.app.retry.base"),
        (GOOD + 'retry = { on = ["200"] }', "C170 destinations.app.retry.on.0"),
        (GOOD + "retry = { factor = 0.5 }", "C123 destinations.app.retry.factor"),
        ('[sources.unknown]\npath = "/a"\nverify = "github"\nsecrets = [{ env = "A" }]\ndestinations = ["app"]\n[destinations.app]\nurl = "http://a"', "C110 sources.unknown"),
    ],
)  # fmt: skip
def test_each_problem_is_found_alone(text: str, problem: str) -> None:
    assert only(text).startswith(problem)


def test_a_destination_that_nothing_declares_is_unknown() -> None:
    text = '[sources.a]\npath = "/a"\nverify = "github"\nsecrets = [{ env = "A" }]\ndestinations = ["app"]'
    assert only(text).endswith("; there are no [destinations.NAME] tables")
    assert "C131" in only("destinations = []\n".replace("[]", "{}") + text)
    assert {line.split()[0] for line in judge("destinations = 5\n" + text)[1]} == {"C103", "C131"}


def test_a_url_signing_source_is_content_with_either_public_url() -> None:
    verify = '{ scheme = "hmac", header = "X", signed = "{url}{body}" }'
    assert judge(source(verify=verify, public_url='"https://h.example"'))[1] == []
    assert judge(source(verify=verify) + '[server]\npublic_url = "https://h.example"')[1] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"verify": '"none"', "allow_unverified": "true"},
        {"verify": '{ scheme = "none" }', "allow_unverified": "true"},
        {"verify": '{ scheme = "none", allow_unverified = true }'},
    ],
)
def test_unverified_is_allowed_when_it_is_said(changes: dict[str, str]) -> None:
    checked, problems = judge(source(secrets="", **changes))
    assert problems == []
    assert checked.verifications["orders"].verifier.unverified
    assert checked.warnings == ["sources.orders: nothing is verified (allow_unverified = true)"]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("", "there are no sources"),
        (source(verify='{ scheme = "none", allow_unverified = true }'), "sources.orders.secrets: not used"),
        (source(secrets='[{ value = "x" }]'), "sources.orders.secrets[0]: the secret stands in the file itself"),
        (GOOD + '[admin]\ntoken = { value = "x" }', "admin.token: the secret stands in the file itself"),
        (GOOD + '[destinations.b]\nurl = "http://b"', "destinations.b: no source delivers to it"),
        (GOOD + 'timeout = "55s"', "drain.accept_for and the longest timeout of a destination make 65s"),
    ],
)
def test_what_works_and_is_not_meant_warns(text: str, warning: str) -> None:
    checked, problems = judge(text)
    assert problems == []
    assert any(line.startswith(warning) for line in checked.warnings), checked.warnings


@pytest.mark.parametrize(
    ("more", "problem", "warning"),
    [
        ('handshake = "meto"', 'C154 sources.orders.handshake: got "meto"; expected the name of a handshake, or "none"; did you mean "meta"?', ""),
        ('handshake = "none"', "", ""),
        ('handshake = "cloudevents"', "", ""),
        ('handshake = "meta"', "", "sources.orders: without handshake_token the provider cannot confirm this URL"),
        ('handshake = "meta"\nhandshake_token = { env = "T" }', "", ""),
        ('handshake = "websub"', "", "sources.orders: without handshake_allow no topic is confirmed"),
        ('handshake = "websub"\nhandshake_allow = ["t"]', "", ""),
        ('handshake_token = { value = "" }', "C145 sources.orders.handshake_token.value", ""),
    ],
)  # fmt: skip
def test_handshakes_are_judged(more: str, problem: str, warning: str) -> None:
    """Their name, and what they cannot do without."""
    checked, problems = judge(source(dedup="{}\n" + more))
    assert len(problems) == bool(problem)
    assert all(line.startswith(problem) for line in problems)
    assert checked.warnings == ([warning] if warning else [])


def test_any_topic_of_anybody_is_warned_about() -> None:
    """Until one is named."""
    every = judge(source(verify='"aws-sns"'))[0].warnings
    ours = judge(source(verify='{ preset = "aws-sns", topics = ["t"] }'))[0].warnings
    assert [line for line in every if line not in ours] == [
        (
            "sources.orders: any topic of any AWS account is accepted, and no subscription is confirmed; name yours: "
            'verify = { preset = "aws-sns", topics = ["arn:aws:sns:..."] }'
        )
    ]


def test_an_ephemeral_journal_needs_no_time_to_accept() -> None:
    assert judge(GOOD + 'timeout = "55s"\n[journal]\nephemeral = true')[0].warnings == []


class _CannotSign:
    tolerance_ms = 300_000
    can_sign = False
    needs_url = False
    unverified = False
    fetches = None


@pytest.mark.parametrize(("signature", "warnings"), [("fresh", 1), ("original", 0)])
def test_a_scheme_that_cannot_be_signed_afresh_warns(
    monkeypatch: pytest.MonkeyPatch, signature: str, warnings: int
) -> None:
    monkeypatch.setattr(verification_module, "compile_scheme", lambda _: _CannotSign())
    checked, problems = judge(GOOD + f'signature = "{signature}"')
    assert problems == []
    assert sum("cannot be signed afresh" in line for line in checked.warnings) == warnings


def test_an_option_that_contradicts_another_is_reported_at_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise ValueError("no such combination")

    monkeypatch.setattr(verification_module, "compile_scheme", refuse)
    text = source(verify='{ scheme = "token", header = "X" }')
    assert only(text) == "C141 sources.orders.verify: no such combination"


def test_variables_nobody_looked_up_are_not_judged() -> None:
    text = source(verify='"${V}"', path='"${P}"', destinations='["${D}"]', public_url='"${U}"')
    at = "sources", "orders"
    checked, problems = judge(text, [(*at, "verify"), (*at, "path"), (*at, "destinations", 0), (*at, "public_url")])
    assert problems == []
    assert checked.verifications["orders"].verifier.unverified


def test_a_scheme_with_an_unknown_option_is_not_judged() -> None:
    text = source(verify='{ scheme = "hmac", header = "${H}" }')
    assert judge(text, [("sources", "orders", "verify", "header")])[1] == []


def test_the_largest_body_is_the_sources_else_the_presets_else_the_servers() -> None:
    own = Source(path="/", verify="github", destinations=[])
    assert max_body_of(msgspec.structs.replace(own, max_body="2MiB"), PRESETS["github"], Config()) == 2 << 20
    assert max_body_of(own, PRESETS["github"], Config()) == PRESETS["github"].max_body
    assert max_body_of(own, PRESETS["shopify"], Config()) == 1 << 20
    assert max_body_of(own, None, Config()) == 1 << 20


@pytest.mark.parametrize(
    ("options", "key", "signed"),
    [
        (HmacOptions(header="S"), "json:/id", True),
        (HmacOptions(header="S"), "body", True),
        (HmacOptions(header="S"), "header:X-Id", False),
        (HmacOptions(header="S", signed="{header:x-id}.{body}"), "header:X-Id", True),
        (HmacOptions(header="S", signed="{header:x-id|y-id}.{body}"), "header:X-Id|Y-Id", True),
        (HmacOptions(header="S", signed="{header:x-id|y-id}.{body}"), "header:Y-Id", False),
        (HmacOptions(header="S", signed="{header:x-id}"), "json:/id", False),
        (TokenOptions(header="S"), "json:/id", False),
    ],
)
def test_a_key_counts_as_signed_only_where_the_signature_covers_it(options: Any, key: str, signed: bool) -> None:
    assert key_is_signed(options, key) is signed


def test_presets_agree_on_whether_their_key_is_signed() -> None:
    # These cover some fields, or the key says less than the bytes: their presets know, the options alone do not.
    apart = {"adyen", "mailgun", "braintree", "twilio", "aws-sns", "paypal", "hubspot"}
    for preset in PRESETS.values():
        if preset.name not in apart:
            assert key_is_signed(preset.scheme, preset.dedup_key) == preset.key_signed, preset.name
        assert Verification(preset.scheme, compile_scheme(preset.scheme)).preset is None
    assert key_is_signed(PRESETS["hubspot"].scheme, "json:/0/eventId"), "every form covers the body"
    assert not key_is_signed(PRESETS["hubspot"].scheme, "header:X-Id json:/0/eventId")
