"""The table from refusal to answer, the ack, and both as bytes."""

from __future__ import annotations

import json

import pytest

from sidecar.inbound.ack import ERRORS, Answer, ack_answer, error_answer, render
from sidecar.model import ACK_DEFAULT, AckTemplate, Refusal

ID = "wse_0123456789ABCDEFGHJKMNPQRS"
DATE = b"Date: Tue, 24 Nov 2026 04:38:19 GMT\r\n"


def test_every_refusal_has_its_row() -> None:
    """A new refusal without an answer cannot be forgotten."""
    assert set(ERRORS) == set(Refusal)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("bad_framing", 400),
        ("bad_host", 400),
        ("bad_header", 400),
        ("bad_request", 400),
        ("duplicate_header", 400),
        ("empty_body", 400),
        ("too_many_chunks", 400),
        ("unauthorized", 401),
        ("not_found", 404),
        ("method_not_allowed", 405),
        ("timeout", 408),
        ("body_too_large", 413),
        ("target_too_long", 414),
        ("unsupported_media_type", 415),
        ("expectation_failed", 417),
        ("misdirected", 421),
        ("headers_too_large", 431),
        ("internal_error", 500),
        ("unsupported_transfer_coding", 501),
        ("storage_full", 503),
        ("storage_error", 503),
        ("shutting_down", 503),
        ("overloaded", 503),
        ("keys_unavailable", 503),
        ("http_version", 505),
    ],
)
def test_status_of_each_code(code: str, status: int) -> None:
    """The status is the contract's, the body is the code and nothing else."""
    answer = error_answer(Refusal(code))
    assert answer.status == status
    assert json.loads(answer.body) == {"error": {"code": code}}
    assert answer.content_type == b"application/json"


def test_never_410_and_never_a_redirect() -> None:
    """Providers take a 410 for "never send again", and follow redirects elsewhere."""
    assert all(row.status != 410 and row.status >= 400 for row in ERRORS.values())


def test_all_503_and_only_they_ask_to_come_back() -> None:
    """With a default for each, or the caller's own."""
    for code, row in ERRORS.items():
        names = [name for name, _ in error_answer(code, retry_after_s=7).headers]
        assert names == ([b"Retry-After"] if row.status == 503 else [])
    default = {code.value: row.retry_after_s for code, row in ERRORS.items() if row.retry_after_s is not None}
    assert default == {
        "storage_full": 30,
        "storage_error": 5,
        "shutting_down": 5,
        "overloaded": 1,
        "keys_unavailable": 5,
    }
    assert error_answer(Refusal.OVERLOADED).headers == ((b"Retry-After", b"1"),)
    assert error_answer(Refusal.OVERLOADED, retry_after_s=0).headers == ((b"Retry-After", b"0"),)


def test_405_says_what_is_allowed() -> None:
    """RFC 9110, 15.5.6."""
    assert error_answer(Refusal.METHOD_NOT_ALLOWED, allow=b"POST, GET").headers == ((b"Allow", b"POST, GET"),)


def test_most_refusals_close_the_connection() -> None:
    """But for those after which the next request is as good as any: its framing was sound, and the sender may be right."""
    assert {code.value for code in Refusal if not error_answer(code).close} == {
        "empty_body",
        "not_found",
        "method_not_allowed",
        "unsupported_media_type",
        "storage_full",
        "storage_error",
        "overloaded",
        "keys_unavailable",
    }


def test_the_default_ack_names_the_event() -> None:
    """In the body and in the header."""
    answer = ack_answer(ACK_DEFAULT, ID)
    assert json.loads(answer.body) == {"status": "accepted", "id": ID}
    assert answer.headers == ((b"Webhook-Sidecar-Event-Id", ID.encode()),)


def test_a_duplicate_gets_the_same_answer_marked() -> None:
    """Status, type and body are the first one's."""
    template = AckTemplate(202, "text/plain", b"{id} ok")
    first, again = ack_answer(template, ID), ack_answer(template, ID, replayed=True)
    assert (first.status, first.content_type, first.body) == (again.status, again.content_type, again.body)
    assert first.content_type == b"text/plain"
    assert first.body == b"{id} ok"  # this template does not ask for the id
    assert again.headers == (*first.headers, (b"Idempotent-Replayed", b"true"))


def test_rendered() -> None:
    """One message, byte for byte."""
    answer = Answer(200, b"ok", b"text/plain", ((b"A", b"1"), (b"B", b"2")))
    assert render(answer, DATE) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n" + DATE + b"A: 1\r\nB: 2\r\n\r\nok"
    )


def test_a_content_type_is_latin_1() -> None:
    """What that cannot write becomes a question mark."""
    template = AckTemplate(200, "text/plain; a=ä; b=€", b"")
    assert ack_answer(template, ID).content_type == b"text/plain; a=\xe4; b=?"


@pytest.mark.parametrize(("answer_closes", "close"), [(True, False), (False, True), (True, True)])
def test_close_is_announced(answer_closes: bool, close: bool) -> None:
    """Whoever wants it."""
    assert render(Answer(200, close=answer_closes), close=close) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )


def test_the_answer_to_head_has_the_length_and_no_body() -> None:
    """RFC 9110, 9.3.2."""
    out = render(Answer(404, b"four"), bodiless=True)
    assert b"Content-Length: 4\r\n" in out
    assert out.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_no_content_means_no_content(status: int) -> None:
    """RFC 9110, 8.6: not even Content-Length, whatever the configured ack says."""
    out = render(Answer(status, b"dropped"), DATE)
    assert out.lower().count(b"content-") == 0
    assert out.endswith(DATE + b"\r\n")


def test_no_content_type_and_an_unknown_status() -> None:
    """An empty type leaves the header out; a status without a phrase has none."""
    assert render(Answer(299, b"", b"")) == b"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"
