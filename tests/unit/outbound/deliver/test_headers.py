"""Which headers reach a backend, and what is added."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model import Delivery, Event, format_event_id
from sidecar.outbound.deliver.headers import (
    _LINE_STARTS,
    Template,
    build_head,
    check_header,
    compile_template,
    forward_block,
)
from sidecar.outbound.deliver.url import parse_url

ID = format_event_id(1_700_000_000_123, 7, 1)
Headers = list[tuple[bytes, bytes]]


def event(headers: Headers | None = None, **changes: Any) -> Event:
    made = Event("orders", ("app",), 1_700_000_000_123, b"POST", b"/in", b"", headers or [], b"body", seq=1, id=ID)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def template(url: str = "http://app/x", name: str = "app", host: str | None = None, headers: Any = ()) -> Template:
    return compile_template(parse_url(url), name, host, headers)


def parsed(block: bytes) -> Headers:
    """Take header lines apart; every one must be well-formed."""
    lines = block.split(b"\r\n")
    assert all(b"\r" not in line and b"\n" not in line and b"\0" not in line for line in lines)
    assert all(b": " in line for line in lines if line)
    return [(name, value) for name, sep, value in (line.partition(b": ") for line in lines) if name or sep]


def sent(made: Event, resigned: Any = (), shape: Template | None = None, **changes: Any) -> Headers:
    head = build_head(shape or template(), Delivery(made, "app", **changes), resigned)
    assert head.endswith(b"\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 1
    return parsed(head[:-4].split(b"\r\n", 1)[1])


def theirs(made: Event) -> Headers:
    """What of the sender's headers is sent."""
    return [header for header in sent(made) if not header[0].startswith((b"Webhook-Sidecar-", b"X-Forwarded-"))][2:-1]


def values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for n, value in headers if n.lower() == name.lower()]


# --- what passes -----------------------------------------------------------------------------------


def test_end_to_end_headers_pass_in_order_case_and_repetition() -> None:
    """As the sender wrote them."""
    headers = [(b"x-B", b"1"), (b"User-Agent", b"GitHub-Hookshot/1"), (b"X-A", b""), (b"x-b", b"2"), (b"Date", b"d")]
    assert theirs(event(headers)) == headers


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Authenticate",
        b"Proxy-Authorization",
        b"Proxy-Connection",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
        b"HTTP2-Settings",
        b"Host",
        b"Content-Length",
        b"Expect",
        b"Accept-Encoding",
        b"X-Forwarded-For",
        b"X-Forwarded-Proto",
        b"X-Forwarded-Host",
        b"X-Forwarded-Prefix",
        b"Forwarded",
        b"X-Real-IP",
        b"X-Original-URL",
        b"X-Rewrite-URL",
        b"Webhook-Sidecar-Event-Id",
        b"Webhook-Sidecar-Anything",
        b"X_Signature",
        b"X.Signature",
        b"X-Signature ",
        b"X-S\xc3\xa4",
        b"",
    ],
)
@pytest.mark.parametrize("change", [bytes, bytes.lower, bytes.upper])
def test_these_never_pass(name: bytes, change: Any) -> None:
    """Hop-by-hop, framing, other proxies' words, our own prefix, names that backends fold: in any case."""
    made = event([(b"X-A", b"1"), (change(name), b"forged"), (b"X-B", b"2")])
    assert theirs(made) == [(b"X-A", b"1"), (b"X-B", b"2")]
    assert b"forged" not in b"".join(value for _, value in sent(made))


def test_what_connection_names_does_not_pass() -> None:
    """It was meant for one hop only; in any case, in any of several lines."""
    made = event(
        [
            (b"X-A", b"1"),
            (b"connection", b"keep-alive, X-Hop ,x-hop2"),
            (b"X-HOP", b"2"),
            (b"Connection", b"X-Hop3"),
            (b"X-Hop2", b"3"),
            (b"x-hop3", b"4"),
            (b"X-B", b"5"),
        ]
    )
    assert theirs(made) == [(b"X-A", b"1"), (b"X-B", b"5")]
    other = [(b"Connection", b"X-A~, ~X-A"), (b"X-A", b"1")]
    assert theirs(event(other)) == [(b"X-A", b"1")], "a name that only looks like it"


def test_connection_cannot_take_away_what_is_ours() -> None:
    """A sender names our headers in Connection: they are sent all the same."""
    named = b"X-Forwarded-For, Webhook-Sidecar-Event-Id, Webhook-Sidecar-Source, Idempotency-Key, Content-Length"
    headers = sent(event([(b"Connection", named)], forwarded_for=b"192.0.2.7"))
    assert values(headers, b"X-Forwarded-For") == [b"192.0.2.7"]
    assert values(headers, b"Webhook-Sidecar-Event-Id") == [ID.encode()]
    assert values(headers, b"Idempotency-Key") == [ID.encode() + b"-app"]
    assert values(headers, b"Content-Length") == [b"4"]


@pytest.mark.parametrize("value", [b"keep-alive", b"close", b"Keep-Alive"])
def test_an_ordinary_connection_header_changes_nothing(value: bytes) -> None:
    """Nothing is named by it."""
    assert theirs(event([(b"X-A", b"1"), (b"Connection", value), (b"Close", b"2")])) == [
        (b"X-A", b"1"),
        (b"Close", b"2"),
    ]


def test_values_that_are_not_utf8_are_dropped_and_others_kept() -> None:
    """Umlauts pass, Latin-1 does not."""
    headers = [(b"X-Good", "für".encode()), (b"X-Bad", b"f\xfcr"), (b"X-Plain", b"fur")]
    assert theirs(event(headers)) == [headers[0], headers[2]]


@pytest.mark.parametrize(
    "value", [b"a\r\nX-Evil: 1", b"a\nX-Evil: 1", b"a\rX-Evil: 1", b"\r\n", b"\n", b"a\0b", b"\r\n\r\n"]
)
def test_a_value_cannot_leave_its_line(value: bytes) -> None:
    """Only an event from an edited file can hold such a value: it is dropped, its neighbours stay."""
    made = event([(b"X-A", b"1"), (b"X-Bad", value), (b"X-B", b"2")])
    assert theirs(made) == [(b"X-A", b"1"), (b"X-B", b"2")]
    made = event([(b"X-A", b"1")], forwarded_for=value, forwarded_proto=b"https", forwarded_host=value)
    headers = sent(made)
    assert [name for name, _ in headers if name.startswith(b"X-Forwarded")] == [b"X-Forwarded-Proto"]
    assert values(headers, b"X-Evil") == []


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=6))
def test_whatever_the_headers_the_head_is_well_formed(headers: Headers) -> None:
    """One empty line, at the end; one Host, one length, one id."""
    out = sent(event(headers))
    for name in (b"Host", b"Content-Length", b"Webhook-Sidecar-Event-Id", b"Webhook-Sidecar-Attempt"):
        assert len(values(out, name)) == 1


def test_many_made_up_names_do_not_fill_the_memory() -> None:
    """What is remembered about names is bounded, and still right afterwards."""
    kept = set()
    for n in range(5000):
        forward_block(event([(b"X-Made-Up-%d" % n, b"1")]))
        kept.add(len(_LINE_STARTS))
    assert max(kept) == 2048
    assert b"X-Made-Up-4999" in _LINE_STARTS
    assert theirs(event([(b"X-Made-Up-1", b"1"), (b"Host", b"x")])) == [(b"X-Made-Up-1", b"1")]


# --- what is added ---------------------------------------------------------------------------------


def test_what_the_sender_s_side_looked_like_is_ours_to_say() -> None:
    """X-Forwarded-* come from the event; an empty one is not sent."""
    headers = sent(event([(b"X-Forwarded-For", b"6.6.6.6")], forwarded_for=b"192.0.2.7", forwarded_proto=b"https"))
    assert values(headers, b"X-Forwarded-For") == [b"192.0.2.7"]
    assert values(headers, b"X-Forwarded-Proto") == [b"https"]
    assert values(headers, b"X-Forwarded-Host") == []
    assert values(sent(event(forwarded_host=b"hooks.example")), b"X-Forwarded-Host") == [b"hooks.example"]


def test_the_event_is_named() -> None:
    """Id, source and time of receipt, to the millisecond and in UTC."""
    headers = sent(event())
    assert values(headers, b"Webhook-Sidecar-Event-Id") == [ID.encode()]
    assert values(headers, b"Webhook-Sidecar-Source") == [b"orders"]
    assert values(headers, b"Webhook-Sidecar-Received-At") == [b"2023-11-14T22:13:20.123Z"]
    assert values(sent(event(received_at_ms=5)), b"Webhook-Sidecar-Received-At") == [b"1970-01-01T00:00:00.005Z"]


@pytest.mark.parametrize(("attempts", "number"), [(0, b"1"), (1, b"2"), (31, b"32"), (32, b"33"), (999, b"1000")])
def test_the_attempt_is_numbered(attempts: int, number: bytes) -> None:
    """The try that is being made: one more than were counted."""
    assert values(sent(event(), attempts=attempts), b"Webhook-Sidecar-Attempt") == [number]


def test_a_replay_is_numbered() -> None:
    """Only after a replay."""
    assert values(sent(event()), b"Webhook-Sidecar-Replay") == []
    assert values(sent(event(), round=2), b"Webhook-Sidecar-Replay") == [b"2"]


def test_two_destinations_of_an_event_have_different_idempotency_keys() -> None:
    """An app behind both must not take the second for a repeat of the first; the event's part is shared."""
    made = event()
    assert values(sent(made), b"Idempotency-Key") == [ID.encode() + b"-app"]
    block = made.forward_head
    assert values(sent(made, shape=template(name="billing")), b"Idempotency-Key") == [ID.encode() + b"-billing"]
    assert made.forward_head is block
    assert forward_block(made) is block


@pytest.mark.parametrize("name", [b"Idempotency-Key", b"idempotency-key", b"IDEMPOTENCY-KEY", b"Idempotency-KEY"])
@pytest.mark.parametrize("first", [True, False])
def test_the_sender_s_idempotency_key_stays(name: bytes, first: bool) -> None:
    """Where the sender gave one, there is no other; its name may be spelled our way."""
    headers = [(name, b"their own")] if first else [(b"X-A", b"1"), (name, b"their own")]
    assert values(sent(event(headers)), b"Idempotency-Key") == [b"their own"]


def test_talk_of_an_idempotency_key_is_not_one() -> None:
    """The words inside a value do not count."""
    headers = sent(event([(b"X-Note", b"Idempotency-Key: mine")]))
    assert values(headers, b"Idempotency-Key") == [ID.encode() + b"-app"]


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        (b"POST", b"abc", [b"3"]),
        (b"POST", b"", [b"0"]),
        (b"PURGE", b"", [b"0"]),
        (b"GET", b"", []),
        (b"HEAD", b"", []),
        (b"OPTIONS", b"", []),
        (b"DELETE", b"", []),
        (b"TRACE", b"", []),
        (b"GET", b"abc", [b"3"]),
    ],
)
def test_the_length_is_ours(method: bytes, body: bytes, length: list[bytes]) -> None:
    """The body's own; none where there is no body and none is expected."""
    made = event([(b"Content-Length", b"99"), (b"Transfer-Encoding", b"chunked")], method=method, body=body)
    assert values(sent(made), b"Content-Length") == length


def test_the_request_line() -> None:
    """The same method, the destination's path, HTTP/1.1."""
    head = build_head(template("http://app{path}"), Delivery(event(method=b"PUT", query=b"a=1"), "app"))
    assert head.startswith(b"PUT /in?a=1 HTTP/1.1\r\nHost: app\r\n")
    assert build_head(template(), Delivery(event(method=b"PURGE"), "app")).startswith(b"PURGE /x HTTP/1.1\r\n")


def test_a_method_that_is_none_becomes_post() -> None:
    """Only an edited file can hold it; it cannot write a request of its own."""
    head = build_head(template(), Delivery(event(method=b"GET /evil HTTP/1.1\r\nX: "), "app"))
    assert head.startswith(b"POST /x HTTP/1.1\r\n")


def test_the_host_is_the_url_s_or_the_destination_s() -> None:
    """Never the one that the sender asked for."""
    made = event([(b"Host", b"hooks.example.com")])
    assert values(sent(made, shape=template("http://app:81/")), b"Host") == [b"app:81"]
    assert values(sent(made, shape=template(host="shop.example.com")), b"Host") == [b"shop.example.com"]


# --- the destination's own headers -----------------------------------------------------------------


def test_own_headers_replace_same_named_ones() -> None:
    """Of the sender and of ours, in any case, every repetition; the rest stays."""
    own = [
        (b"X-TOKEN", b"t"),
        (b"X-Forwarded-Proto", b"http"),
        (b"Idempotency-Key", b"k"),
        (b"X-Many", b"1"),
        (b"X-Many", b"2"),
    ]
    made = event(
        [(b"x-token", b"a"), (b"X-Tokens", b"b"), (b"X-Token", b"c"), (b"My-X-Token", b"d")], forwarded_proto=b"https"
    )
    headers = sent(made, shape=template(headers=own))
    assert values(headers, b"X-Token") == [b"t"]
    assert values(headers, b"X-Tokens") == [b"b"]
    assert values(headers, b"My-X-Token") == [b"d"]
    assert values(headers, b"X-Forwarded-Proto") == [b"http"]
    assert values(headers, b"Idempotency-Key") == [b"k"]
    assert values(headers, b"X-Many") == [b"1", b"2"]
    assert values(sent(made), b"X-Token") == [b"a", b"c"]  # another destination of the same event


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Host", b"x"),
        (b"content-length", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"close"),
        (b"Webhook-Sidecar-Event-Id", b"x"),
        (b"", b"x"),
        (b"X Y", b"x"),
        (b"X:", b"x"),
        (b"X-A", b"s3cret\r\nEvil: 1"),
        (b"X-A", b"s3cret\0"),
        (b"X-A", b" s3cret"),
    ],
)
def test_own_headers_that_cannot_be_sent_are_refused(name: bytes, value: bytes) -> None:
    """When the destination is made; the value, perhaps a secret, is not in the text."""
    with pytest.raises(ValueError, match=r"^expected ") as refusal:
        template(headers=[(name, value)])
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("name", [b"X-A", b"X_A", b"Authorization", b"Idempotency-Key"])
def test_own_headers_that_can(name: bytes) -> None:
    """Also with an underscore: the operator knows the backend."""
    check_header(name, "tab\tand ü~".encode())


def test_what_is_said_of_a_header_that_is_ours() -> None:
    """For Host also where it can be set."""
    with pytest.raises(ValueError, match=r"itself; for Host there is the setting host$"):
        check_header(b"HOST", b"x")
    with pytest.raises(ValueError, match=r"itself$"):
        check_header(b"Content-Length", b"1")


def test_a_head_byte_for_byte() -> None:
    """The destination's own header in the place of the sender's, in a line that is gone without a trace."""
    made = event([(b"X-Token", b"a"), (b"X-A", b"1")])
    assert build_head(template(headers=[(b"X-Token", b"t")]), Delivery(made, "app")) == (
        b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\nX-A: 1\r\n"
        b"Webhook-Sidecar-Event-Id: %b\r\nWebhook-Sidecar-Source: orders\r\n"
        b"Webhook-Sidecar-Received-At: 2023-11-14T22:13:20.123Z\r\nIdempotency-Key: %b-app\r\n"
        b"Webhook-Sidecar-Attempt: 1\r\nX-Token: t\r\n\r\n" % (ID.encode(), ID.encode())
    )


@pytest.mark.parametrize("host", ["", "a b", "a\r\nb", "ä"])
def test_a_host_that_cannot_be_sent_is_refused(host: str) -> None:
    """One word of visible ASCII."""
    with pytest.raises(ValueError, match="expected a host"):
        template(host=host)


# --- fresh signatures ------------------------------------------------------------------------------


def test_fresh_signatures_replace_the_old_ones_and_say_so() -> None:
    """By name, in any case; the cached block keeps the originals for other destinations."""
    made = event([(b"stripe-signature", b"old"), (b"X-A", b"1")])
    headers = sent(made, [(b"Stripe-Signature", b"new")])
    assert values(headers, b"Stripe-Signature") == [b"new"]
    assert values(headers, b"Webhook-Sidecar-Resigned") == [b"true"]
    assert values(headers, b"X-A") == [b"1"]
    assert values(headers, b"Idempotency-Key") == [ID.encode() + b"-app"]
    assert values(sent(made), b"Stripe-Signature") == [b"old"]
    assert values(sent(made), b"Webhook-Sidecar-Resigned") == []


def test_a_signature_may_be_several_headers() -> None:
    """Each in a line of its own, as where the time is signed, too."""
    headers = sent(event(), [(b"X-Signature", b"s"), (b"X-Timestamp", b"1")])
    assert [h for h in headers if h[0] in (b"X-Signature", b"X-Timestamp")] == [
        (b"X-Signature", b"s"),
        (b"X-Timestamp", b"1"),
    ]


def test_a_fresh_signature_does_not_undo_the_operator_s_word() -> None:
    """The destination's own header of that name stands."""
    headers = sent(event(), [(b"Authorization", b"fresh")], template(headers=[(b"authorization", b"own")]))
    assert values(headers, b"Authorization") == [b"own"]


def test_a_fresh_signature_cannot_write_lines_or_framing() -> None:
    """A scheme may put parts of the event into it."""
    headers = sent(event(), [(b"X-S", b"a\r\nX-Evil: 1"), (b"Content-Length", b"0"), (b"X-T", b"ok")])
    assert values(headers, b"X-S") == values(headers, b"X-Evil") == []
    assert values(headers, b"Content-Length") == [b"4"]
    assert values(headers, b"X-T") == [b"ok"]


def test_a_fresh_idempotency_key_replaces_ours() -> None:
    """The open line at the end of the event's part goes with it."""
    assert values(sent(event(), [(b"Idempotency-Key", b"fresh")]), b"Idempotency-Key") == [b"fresh"]
