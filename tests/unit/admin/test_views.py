"""What people see: secrets masked, outside text inert."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.admin.views import (
    MASK,
    attempt_row,
    audit_row,
    body_fields,
    delivery_row,
    event_detail,
    event_row,
    letter_detail,
    listed_row,
    mask_headers,
    mask_query,
    mask_url,
    secret_headers,
)
from sidecar.journal.types import AuditReport, AuditRow, DeliveryView, EventView, Ref
from sidecar.model import Attempt, Event, State
from sidecar.outbound.deadletter import Listed, Problem, Reading


@pytest.mark.parametrize(
    "name",
    ["Authorization", "COOKIE", "Proxy-Authorization", "X-Gitlab-Token", "X-Telegram-Bot-Api-Secret-Token", "Api-Key",
     "X-Own"],
)  # fmt: skip
def test_headers_that_carry_secrets_are_masked(name):
    assert mask_headers([(name.encode(), b"canary")], {b"x-own"}) == [[name, MASK]]


def test_the_headers_of_a_renamed_source_stay_masked():
    """What came under its old name carries the secret that is still in force."""
    of = {"own": frozenset({b"x-own"}), "other": frozenset({b"x-gate"}), "github": frozenset[bytes]()}
    assert secret_headers(of, "own") == {b"x-own"}
    assert secret_headers(of, "github") == frozenset()
    assert secret_headers(of, "former") == {b"x-own", b"x-gate"}
    assert secret_headers({}, "former") == frozenset()


def test_other_headers_are_shown_in_order_with_control_characters_escaped():
    shown = mask_headers([(b"B", b"1"), (b"a", b"x\x1b[31m\xe2\x80\xae\xff"), (b"B", b"2")], ())
    assert shown == [["B", "1"], ["a", "x\\u001b[31m\\u202e\\xff"], ["B", "2"]]


@pytest.mark.parametrize(
    ("query", "shown"),
    [(b"", ""), (b"a=1&b", "a=1&b"), (b"token=canary&x=1", f"token={MASK}&x=1"), (b"My-Key=canary", f"My-Key={MASK}")],
)
def test_query_values_whose_name_says_secret_are_masked(query, shown):
    assert mask_query(query) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://app:3000/in", "http://app:3000/in"),
        ("https://u:canary@app/in?k=canary&z", f"https://{MASK}@app/in?k={MASK}&z={MASK}"),
        ("unix:/run/app.sock:/in", "unix:/run/app.sock:/in"),
    ],
)
def test_a_destinations_url_shows_no_secret(url, shown):
    assert mask_url(url) == shown


def test_a_body_is_text_or_base64_and_cut():
    assert body_fields(b"hi") == {"body_bytes": 2, "body": "hi"}
    assert body_fields(b"\xff") == {"body_bytes": 1, "body_base64": base64.b64encode(b"\xff").decode()}
    assert body_fields(b"abcd", 3) == {"body_bytes": 4, "body_cut": True, "body": "abc"}
    assert body_fields(b"\x80\x80\x80\x80\x80", 4)["body_base64"] == base64.b64encode(b"\x80" * 4).decode()


@given(st.text(min_size=1).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t)), st.integers(0, 50))
def test_a_cut_never_turns_text_into_base64(text, limit):
    fields = body_fields(text.encode(), limit)
    assert text.startswith(fields["body"])


def delivery(state: State = State.DEAD) -> DeliveryView:
    log = (Attempt(1, 1_795_161_600_000, 3, "5xx", 500, "HTTP 500\x1b", 1),)
    return DeliveryView("app", state, 1, 1, 0, None, "expired", log, 1_795_161_600_000)


def event() -> Event:
    return Event(
        source="s", destinations=("app",), received_at_ms=1_795_161_600_000, method=b"POST", path=b"/\x07",
        query=b"sig=canary", headers=[(b"X-Own", b"canary"), (b"A", b"b")], body=b"{}", key="k\u202e", id="wse_x", seq=9,
    )  # fmt: skip


def test_an_event_shows_everything_but_its_secrets():
    shown = event_detail(EventView(event(), [delivery()]), {b"x-own"})
    assert "canary" not in repr(shown)
    assert (shown["path"], shown["key"], shown["body"]) == ("/\\u0007", "k\\u202e", "{}")
    assert shown["deliveries"][0]["log"] == [attempt_row(delivery().log[0])]
    assert shown["deliveries"][0]["log"][0]["error"] == "HTTP 500\\u001b"
    row = event_row(EventView(event(), [delivery()]), 2)
    assert "headers" not in row
    assert row["deliveries"] == [delivery_row(delivery())]


def test_a_dead_letter_that_cannot_be_read_says_why():
    assert listed_row(Listed("app", "wse_x", 7, None, Problem.MALFORMED))["problem"] == "malformed"
    shown = letter_detail("wse_x", "app", Reading(None, Problem.NOT_REGULAR), ())
    assert shown == {"event_id": "wse_x", "destination": "app", "problem": "not_regular"}


def test_the_audit_counts_files_and_those_that_are_gone():
    report = AuditReport(
        [AuditRow("app", 5, 3, 2, 0, 2), AuditRow("b", 1, 0, 0, 0, 0)], [Ref("1", "app"), Ref("2", "app")], 0, 5
    )
    shown = audit_row(report, {("app", "1"), ("app", "9")}, full=True)
    assert shown["ok"] is False
    assert [d["balanced"] for d in shown["destinations"]] == [True, False]
    assert (shown["destinations"][0]["files"], shown["destinations"][0]["gone"]) == (2, 1)
    assert shown["gone"] == [{"event_id": "2", "destination": "app"}]
    assert (shown["gone_count"], shown["files_without_event"]) == (1, 1)
